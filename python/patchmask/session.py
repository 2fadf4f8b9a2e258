"""Segmenting: a session is a model with options, workspace and threads."""

from __future__ import annotations

import ctypes
import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence, Union

import numpy as np

from . import _abi, arrays
from ._exit import inside
from ._library import Owner, call, check, new
from .errors import Busy, InvalidArgument
from .interrupts import Interrupts
from .model import Model, Source

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

STAGES = {
    _abi.STAGE_PLAN: "plan",
    _abi.STAGE_INTENSITY: "intensity",
    _abi.STAGE_NETWORK: "network",
    _abi.STAGE_MASK: "mask",
}

#: Told (fraction from 0 to 1, stage) about every 50 ms, on the calling thread. True cancels; None and False go on.
Progress = Callable[[float, str], Optional[bool]]

_log = logging.getLogger("patchmask")


@dataclass(frozen=True)
class Estimate:
    """Cost of a segmentation, computed beforehand."""

    grid_width: int  #: patch centres along x
    grid_height: int  #: patch centres along y
    classes: int
    patches: int  #: of all slices
    macs: int  #: multiply-accumulates with shared work
    macs_unshared: int  #: multiply-accumulates patch by patch
    peak_bytes: int  #: host memory that the library would hold
    tiles: int
    device_peak_bytes: int  #: device memory; 0 on the CPU
    # In mm; in voxels where the spacing was not given:
    grid_origin_x: float  #: the first patch centre, from the centre of the first voxel
    grid_origin_y: float
    grid_spacing_x: float  #: from patch centre to patch centre
    grid_spacing_y: float
    pixel_width: float  #: of the pixels that patch_size and stride count
    pixel_height: float


@dataclass(frozen=True)
class Result:
    """Counts and times (seconds) of a segmentation that ran."""

    patches: int
    macs: int
    macs_unshared: int
    peak_bytes: int
    nonfinite_voxels: int  #: NaN or infinite, counted as black
    tiles: int
    engine: str  #: "cpu" or "cuda"
    plan_seconds: float
    intensity_seconds: float
    network_seconds: float
    mask_seconds: float
    segment_seconds: float
    device_peak_bytes: int
    body_share: float  #: of the voxels, with `body`; 1 without


@dataclass(frozen=True)
class Segmentation:
    """The outputs that were asked for; None for the others."""

    mask: Optional[NDArray[np.uint8]]  #: [slice][row][column], class numbers
    probability: Optional[NDArray[np.float32]]  #: [slice][row][column], of the lesion class, 0 to 1
    coverage: Optional[NDArray[np.uint8]]  #: [slice][row][column], 1 where patches were evaluated
    logits: Optional[NDArray[np.float32]]  #: [slice][patch row][patch column][class], NaN where not evaluated
    result: Result


class Session(Owner):
    """Workspace and threads for segmenting with one model and one set of options; one call at a time.

    `model` is a `Model`, or what one is made from: the path of a safetensors file, or its bytes. Options left at None
    come from the model's metadata, else they are the library's defaults.

    patch_size     side of a patch, 32 to 1024 pixels (default 257)
    stride         pixels between patch centres, 1 to patch_size (default 7)
    padding        "patch": zeros at each patch's border, as trained; "image": zeros at the image's only
    fill           "nearest" or "linear": how classes of patches become voxels
    window         (low, high): HU that become intensity 0 and 1 (default -160, 240)
    mean, std      subtracted from and divided into the intensity: a number, or one per channel of the model
    equalize       histogram equalisation of every slice
    sharing        False: patch by patch, for comparison
    crop           (x0, y0, x1, y1) in voxels of a slice, half-open; outside is black
    body           True: only the body, found in each slice, is evaluated: nothing in the air around it
    lesion_class   whose probability is written
    pixel_mm       side of the pixels that patch_size and stride count; slices of another spacing are resampled
    resample       False: pixels are the volume's voxels, whatever their size
    threshold      probability from which a voxel has the lesion class; 0: where it is the most probable
    device         "auto", "cpu", "cuda", "cuda:N" or "cuda:N,N..." (slices are dealt out to several GPUs)
    threads        of the CPU engine; 0: one per core
    memory_budget  bytes that the library may allocate, packed weights included; 0: automatic
    log            told (level, text), "warning" or "info"; default: the logger "patchmask"
    """

    def __init__(
        self,
        model: Union[Model, Source],
        *,
        patch_size: Optional[int] = None,
        stride: Optional[int] = None,
        padding: str = "patch",
        fill: str = "nearest",
        window: Optional[tuple[float, float]] = None,
        mean: Optional[Union[float, Sequence[float]]] = None,
        std: Optional[Union[float, Sequence[float]]] = None,
        equalize: Optional[bool] = None,
        sharing: bool = True,
        crop: Optional[tuple[int, int, int, int]] = None,
        body: bool = False,
        lesion_class: Optional[int] = None,
        pixel_mm: Optional[float] = None,
        resample: bool = True,
        threshold: Optional[float] = None,
        device: str = "auto",
        threads: int = 0,
        memory_budget: int = 0,
        log: Optional[Callable[[str, str], None]] = None,
    ):
        super().__init__("session")
        self._running = threading.Lock()
        self._progress: Optional[Progress] = None
        self._interrupts = Interrupts()
        self._raised: Optional[BaseException] = None
        model = model if isinstance(model, Model) else Model(model)
        raw = new(_abi.Options, model._handle)
        for name, value, highest in (
            ("patch_size", patch_size, 2**32),
            ("stride", stride, 2**32),
            ("lesion_class", lesion_class, 2**32),
            ("threads", threads, 2**32),
            ("memory_budget", memory_budget, 2**64),
        ):
            if value is not None:
                setattr(raw, name, _whole(name, value, highest))
        raw.padding = _word("padding", padding, ("patch", "image"))
        raw.interpolation = _word("fill", fill, ("nearest", "linear"))
        raw.device, raw.cuda_devices = parse_device(device)
        if window is not None:
            raw.window_low, raw.window_high = _numbers("window", window, (2,), "(low, high) in HU")
        for name, numbers in (("mean", mean), ("std", std)):
            if numbers is not None:
                getattr(raw, name)[:] = _per_channel(name, numbers, model.info.input_channels)
        if equalize is not None:
            raw.equalize = bool(equalize)
        raw.sharing, raw.resample, raw.body = bool(sharing), bool(resample), bool(body)
        for name, number in (("pixel_mm", pixel_mm), ("threshold", threshold)):
            if number is not None:
                setattr(raw, name, _numbers(name, number, (1,), "a number")[0])
        if crop is not None:
            corners = "(x0, y0, x1, y1) in pixels, x0 < x1 and y0 < y1"
            try:
                edges = [_whole("crop", edge, 2**64) for edge in crop]
            except TypeError:  # not a sequence
                edges = []
            if len(edges) != 4 or not any(edges):
                raise InvalidArgument(f"crop {crop!r}: must be {corners}")
            raw.crop_x0, raw.crop_y0, raw.crop_x1, raw.crop_y1 = edges
        self._log = log
        # The library calls these as long as the session lives; ctypes needs them to stay referenced.
        self._callbacks = (_abi.ProgressCallback(self._on_progress), _abi.LogCallback(self._on_log))
        raw.progress, raw.log = self._callbacks
        call("session_new", model._handle, ctypes.byref(raw), ctypes.byref(self._raw))
        self.options = _options(raw)  #: what holds, after the model's metadata
        self.engine = self._library.patchmask_session_engine_name(self._handle).decode("utf-8")  #: for people

    def segment(
        self,
        volume: ArrayLike,
        roi: Optional[ArrayLike] = None,
        *,
        slope: float = 1.0,
        intercept: float = 0.0,
        spacing: Optional[tuple[float, float]] = None,
        mask: Union[bool, NDArray[np.uint8]] = True,
        probability: Union[bool, NDArray[np.float32]] = False,
        coverage: Union[bool, NDArray[np.uint8]] = False,
        logits: Union[bool, NDArray[np.float32]] = False,
        progress: Union[None, bool, Progress] = None,
    ) -> Segmentation:
        """Segments a volume [slice][row][column] whose intensity in HU is `slope * voxel + intercept`.

        `volume` is int8, uint8, int16, uint16, int32, float32 or float64 (bool counts as uint8) with any positive
        strides; nothing is copied. Slices are axial as the model was trained on them (for CT usually: columns run to
        the patient's left, rows to the back). `roi`, of the same shape, limits the work to patches whose footprint
        touches a non-zero voxel. `spacing` is (x, y) in mm within a slice, by which slices are resampled to the model's
        pixels where it has a size; None where it is not known. Each output is wanted (True), unwanted (False) or written to an array of yours.

        `progress` is True for a bar (tqdm), or a function that is told (fraction, stage) and cancels the call by
        returning True. What it raises, and Ctrl-C, cancel the call and are raised again here. After a failure the
        first `slices_done` slices of your arrays are finished.
        """
        array = arrays.voxels(volume, "volume")
        region = None if roi is None else arrays.voxels(roi, "roi")
        raw_volume = arrays.volume(array, slope, intercept, "volume")
        _set_spacing(raw_volume, spacing)
        raw_roi = None if region is None else ctypes.byref(arrays.volume(region, 1.0, 0.0, "roi"))
        if region is not None and region.shape != array.shape:
            raise InvalidArgument(f"roi: shape {region.shape}, must be the volume's {array.shape}")
        buffers: dict[str, Optional[np.ndarray]] = {
            "mask": arrays.output(mask, array.shape, np.uint8, "mask"),
            "probability": arrays.output(probability, array.shape, np.float32, "probability"),
            "coverage": arrays.output(coverage, array.shape, np.uint8, "coverage"),
            "logits": None,
        }
        if logits is not False and logits is not None:
            e = self.estimate(array, spacing=spacing)
            shape = (array.shape[0], e.grid_height, e.grid_width, e.classes)
            buffers["logits"] = arrays.output(logits, shape, np.float32, "logits")
        raw_outputs = self._outputs(buffers)
        raw_result = new(_abi.Result)
        handle = self._handle
        if not self._running.acquire(blocking=False):
            raise Busy("the session is running another call: use one session per thread")
        try:
            with _told(progress) as told, Interrupts() as self._interrupts:
                self._progress, self._raised = told, None
                with inside(lambda: self._library.patchmask_session_cancel(handle)):
                    status = self._library.patchmask_session_segment(
                        handle, ctypes.byref(raw_volume), raw_roi, ctypes.byref(raw_outputs), ctypes.byref(raw_result)
                    )
                if self._raised is not None and status == _abi.CANCELLED and self._interrupts.pending is None:
                    raise self._raised
                if self._interrupts.pending is None:
                    check(status)
        finally:
            self._progress, self._raised = None, None
            self._running.release()
        return Segmentation(**buffers, result=_result(raw_result))

    def estimate(
        self,
        volume: Union[tuple[int, int, int], ArrayLike],
        roi: Optional[ArrayLike] = None,
        *,
        spacing: Optional[tuple[float, float]] = None,
    ) -> Estimate:
        """Cost of segmenting, without running it. `volume` is an array or just its shape; `spacing` as for `segment`."""
        if isinstance(volume, tuple):
            if len(volume) != 3:
                raise InvalidArgument(f"shape {volume}: must be (slices, rows, columns)")
            depth, height, width = (_whole("shape", length, 2**64) for length in volume)
            raw_volume = new(_abi.Volume, None, _abi.VOXEL_I16, width, height, depth)
        else:
            raw_volume = arrays.volume(arrays.voxels(volume, "volume"), 1.0, 0.0, "volume")
        _set_spacing(raw_volume, spacing)
        region = None if roi is None else arrays.voxels(roi, "roi")
        raw_roi = None if region is None else ctypes.byref(arrays.volume(region, 1.0, 0.0, "roi"))
        raw = new(_abi.Estimate)
        handle = self._handle
        with inside(lambda: self._library.patchmask_session_cancel(handle)):
            status = self._library.patchmask_session_estimate(
                handle, ctypes.byref(raw_volume), raw_roi, ctypes.byref(raw)
            )
        check(status)
        return Estimate(**{name: getattr(raw, name) for name in Estimate.__dataclass_fields__})

    def cancel(self) -> None:
        """Asks the current call, or where none is running the next segmentation, to stop: it raises `Cancelled`. From any thread."""
        call("session_cancel", self._handle)

    @property
    def slices_done(self) -> int:
        """Slices that the current or last call has finished. From any thread."""
        done = ctypes.c_uint64()
        call("session_slices_done", self._handle, ctypes.byref(done))
        return done.value

    def trim(self) -> None:
        """Gives back the memory that a call leaves behind for the next one."""
        call("session_trim", self._handle)

    def close(self) -> None:
        """Frees the session and ends its threads. Raises `Busy` while a call runs: cancel that first."""
        if not self._running.acquire(blocking=False):
            raise Busy("the session is running a call: cancel it and wait before closing")
        try:
            super().close()
        finally:
            self._running.release()

    def _outputs(self, buffers: dict[str, Optional[np.ndarray]]) -> _abi.Outputs:
        raw = new(_abi.Outputs)
        for name, buffer in buffers.items():
            if buffer is None:
                continue
            setattr(raw, name, buffer.ctypes.data)
            axes = ("z", "y", "x", "class") if name == "logits" else ("z", "y", "x")
            for axis, stride in zip(axes, arrays.strides(buffer, name)):
                setattr(raw, f"{name}_stride_{axis}", stride)
        return raw

    # No exception may leave these two: the library is their caller.

    def _on_progress(self, fraction: float, stage: int, _: object) -> int:
        try:
            if self._interrupts.pending is not None or self._raised is not None:
                return 1
            if self._progress is not None and self._progress(fraction, STAGES.get(stage, str(stage))):
                return 1
            return int(self._interrupts.pending is not None)
        except BaseException as raised:
            self._raised = raised
            return 1

    def _on_log(self, level: int, message: bytes, _: object) -> None:
        try:
            name = "warning" if level == _abi.LOG_WARNING else "info"
            text = message.decode("utf-8", "replace")
            if self._log is not None:
                self._log(name, text)
            else:
                _log.log(logging.WARNING if name == "warning" else logging.INFO, text)
        except BaseException as raised:
            self._raised = raised


def segment(
    volume: ArrayLike, model: Union[Model, Source], *, roi: Optional[ArrayLike] = None, **given: Any
) -> Segmentation:
    """Segments one volume: `Session(model, ...).segment(volume, roi, ...)` in one call.

    `model` is a `Model`, the path of one or its bytes; other arguments are those of `Session` and `Session.segment`.
    """
    of_call = ("slope", "intercept", "spacing", "mask", "probability", "coverage", "logits", "progress")
    call = {name: given.pop(name) for name in of_call if name in given}
    with Session(model, **given) as session:
        return session.segment(volume, roi, **call)


def parse_device(text: str) -> tuple[int, int]:
    """("auto" | "cpu" | "cuda" | "cuda:N[,N...]") -> the library's number of the device, and a bit for each GPU."""
    kind, colon, numbers = str(text).partition(":")
    kinds = {"auto": _abi.DEVICE_AUTO, "cpu": _abi.DEVICE_CPU, "cuda": _abi.DEVICE_CUDA}
    gpus = numbers.split(",") if colon else []
    if kind not in kinds or (gpus and kind != "cuda") or not all(re.fullmatch("[0-9]|[1-5][0-9]|6[0-3]", n) for n in gpus):
        raise InvalidArgument(f"device {text}: must be auto, cpu, cuda or cuda:N[,N...], N from 0 to 63")
    return kinds[kind], sum(1 << number for number in set(map(int, gpus)))


@contextmanager
def _told(progress: Union[None, bool, Progress]) -> Iterator[Optional[Progress]]:
    """The progress function to use; for True one that moves a bar of tqdm, removed at the end."""
    if progress is not True:
        yield progress or None
        return
    from tqdm.auto import tqdm

    with tqdm(total=100, unit="%", leave=False, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:

        def move(fraction: float, stage: str) -> None:
            bar.set_postfix_str(stage, refresh=False)
            bar.update(100 * fraction - bar.n)

        yield move


def _whole(name: str, value: Any, end: int) -> int:
    """ctypes would cut a number that does not fit to its low bits."""
    number = value.__index__() if hasattr(value, "__index__") else None
    if number is None or not 0 <= number < end:
        raise InvalidArgument(f"{name} {value!r}: must be a whole number from 0 to {end - 1}")
    return int(number)


def _word(name: str, value: str, words: tuple[str, ...]) -> int:
    if value not in words:
        raise InvalidArgument(f"{name} {value!r}: must be {' or '.join(words)}")
    return words.index(value)


def _numbers(name: str, value: Any, counts: tuple[int, ...], what: str) -> list[float]:
    """`value` as one of `counts` numbers; `what` says which they must be."""
    try:
        numbers = [float(number) for number in np.ravel(value)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in counts:
        raise InvalidArgument(f"{name} {value!r}: must be {what}")
    return numbers


def _set_spacing(raw: _abi.Volume, spacing: Optional[tuple[float, float]]) -> None:
    if spacing is not None:
        raw.spacing_x, raw.spacing_y = _numbers("spacing", spacing, (2,), "(x, y) in mm")


def _per_channel(name: str, value: Any, channels: int) -> list[float]:
    """Three, as the library wants them."""
    per_channel = f", or {channels}, one per channel" if channels > 1 else ": the model has one channel"
    numbers = _numbers(name, value, (1, channels), f"a number{per_channel}")
    return numbers * 3 if len(numbers) == 1 else numbers


def _options(raw: _abi.Options) -> dict[str, Any]:
    crop = [raw.crop_x0, raw.crop_y0, raw.crop_x1, raw.crop_y1]
    return {
        "patch_size": raw.patch_size,
        "stride": raw.stride,
        "padding": ("patch", "image")[raw.padding],
        "fill": ("nearest", "linear")[raw.interpolation],
        "window": [raw.window_low, raw.window_high],
        "mean": list(raw.mean),
        "std": list(raw.std),
        "equalize": bool(raw.equalize),
        "sharing": bool(raw.sharing),
        "crop": crop if any(crop) else None,
        "body": bool(raw.body),
        "lesion_class": raw.lesion_class,
        "pixel_mm": raw.pixel_mm,
        "resample": bool(raw.resample),
        "threshold": raw.threshold,
        "device": ("auto", "cpu", "cuda")[raw.device],
        "cuda_devices": raw.cuda_devices,
        "threads": raw.threads,
        "memory_budget": raw.memory_budget,
    }


def _result(raw: _abi.Result) -> Result:
    values = {name: getattr(raw, name) for name in Result.__dataclass_fields__}
    values["engine"] = {_abi.DEVICE_CPU: "cpu", _abi.DEVICE_CUDA: "cuda"}.get(raw.engine, str(raw.engine))
    return Result(**values)
