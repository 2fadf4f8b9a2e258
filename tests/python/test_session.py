"""Arrays in and out: layouts, options, errors, progress and Ctrl-C."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import DEMO, MODEL

import patchmask
from patchmask.session import _per_channel


@pytest.fixture(scope="module")
def session(model):
    with patchmask.Session(model, stride=8, device="cpu") as session:
        yield session


@pytest.fixture(scope="module")
def expected(session, voxels):
    return session.segment(voxels, probability=True, coverage=True, logits=True)


def same(have, want):
    """Equal arrays; a mismatch names the first bad place."""
    if not np.array_equal(have, want, equal_nan=True):
        at = tuple(int(i) for i in np.argwhere(have != want)[0]) if have.shape == want.shape else None
        pytest.fail(f"shapes {have.shape}, {want.shape}; first difference at {at}: {at and (have[at], want[at])}")


def test_outputs(expected, voxels):
    assert expected.mask.shape == expected.probability.shape == expected.coverage.shape == voxels.shape
    assert expected.mask.dtype == np.uint8 and expected.probability.dtype == np.float32
    assert 0 < expected.mask.sum() < expected.mask.size / 2
    assert expected.logits.shape == (5, 10, 12, 2)
    # Nearest fill: a voxel's class is that of the nearest centre, and its probability the softmax there.
    centre = expected.logits[:, 3, 4]
    softmax = 1 / (1 + np.exp(centre[:, 0] - centre[:, 1]))
    assert np.allclose(softmax, expected.probability[:, 24, 32], atol=1e-5)
    same(expected.mask[:, 24, 32], (centre[:, 1] > centre[:, 0]).astype(np.uint8))
    assert expected.coverage.all()
    assert expected.result.engine == "cpu" and expected.result.patches == 600


def test_same_as_the_command_line_program(model, tmp_path):
    """The C program and this package are two wrappers of one library."""
    import SimpleITK as sitk

    ct, mask = sitk.ReadImage(str(DEMO / "ct.nrrd")), tmp_path / "mask.nrrd"
    line = ["build/segment", "--quiet", "--device", "cpu", "--model", MODEL, "--stride", "16", DEMO / "ct.nrrd", mask]
    subprocess.run(line, check=True, cwd=DEMO.parent.parent)
    have = patchmask.segment(sitk.GetArrayViewFromImage(ct), model, stride=16, device="cpu")
    same(have.mask, sitk.GetArrayFromImage(sitk.ReadImage(str(mask))))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_signed_types(session, voxels, expected, dtype):
    same(session.segment(voxels.astype(dtype)).mask, expected.mask)


@pytest.mark.parametrize("dtype, offset", [(np.uint16, 1024), (np.uint8, 0), (np.int8, -128)])
def test_rescaled_types(session, voxels, dtype, offset):
    """Stored numbers with a slope and an intercept, as DICOM has them."""
    slope = 1 if dtype is np.uint16 else 4
    intercept = -1024 if dtype is np.uint16 else -512 - slope * offset
    stored = np.clip((voxels.astype(np.float64) - intercept) / slope, *_limits(dtype)).astype(dtype)
    hu = slope * stored.astype(np.float64) + intercept
    same(session.segment(stored, slope=slope, intercept=intercept).mask, session.segment(hu).mask)


def _limits(dtype):
    return np.iinfo(dtype).min, np.iinfo(dtype).max


LAYOUTS = {
    "column-major": lambda a: np.asfortranarray(a),
    "slices fastest": lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1),
    "every second of a larger array": lambda a: np.repeat(np.repeat(np.repeat(a, 2, 0), 2, 1), 3, 2)[::2, ::2, ::3],
    "a window of a larger array": lambda a: np.pad(a, 3)[3:-3, 3:-3, 3:-3],
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(session, voxels, expected, layout):
    array = LAYOUTS[layout](voxels)
    same(array, voxels)
    same(session.segment(array).mask, expected.mask)


def test_one_slice_of_odd_strides(session, voxels, expected):
    """numpy gives axes of one element any stride."""
    one = np.lib.stride_tricks.as_strided(voxels, (1, 80, 96), (0, *voxels.strides[1:]))
    same(session.segment(one).mask, expected.mask[:1])


def test_own_buffers(session, voxels, expected):
    mask = np.full((80, 96, 5), 77, np.uint8).transpose(2, 0, 1)
    probability = np.zeros((5, 80, 96, 2), np.float32)[..., 1]
    done = session.segment(voxels, mask=mask, probability=probability)
    assert done.mask is mask and done.probability is probability
    same(mask, expected.mask)
    same(probability, expected.probability)
    alone = session.segment(voxels, mask=False, probability=True)
    assert alone.mask is None
    same(alone.probability, expected.probability)


def test_nothing_is_copied(session, voxels):
    """The library gets the array's own address."""
    seen = []
    raw = session._library.patchmask_session_segment

    class Spy:
        def __getattr__(self, name):
            return getattr(type(self).library, name)

        def patchmask_session_segment(self, handle, volume, roi, outputs, result):
            seen.append(volume._obj.data)
            return raw(handle, volume, roi, outputs, result)

    Spy.library, session._library = session._library, Spy()
    try:
        session.segment(voxels.transpose(0, 2, 1))
    finally:
        session._library = Spy.library
    assert seen == [voxels.ctypes.data]


def test_roi(session, voxels, expected):
    roi = np.zeros(voxels.shape, bool)
    roi[1:3, 20:40, 30:50] = True
    done = session.segment(voxels, roi, coverage=True)
    assert done.result.patches < expected.result.patches
    assert done.coverage[roi].all() and not done.coverage[0].any()
    same(done.mask[roi], expected.mask[roi])
    assert not done.mask[done.coverage == 0].any()


def test_options(model, voxels, expected):
    with patchmask.Session(model) as session:
        assert session.options["patch_size"] == 64 and session.options["stride"] == 2  # the metadata's
    given = dict(stride=16, fill="linear", window=(-100, 200), mean=0.5, std=[0.25], equalize=True, threads=1)
    with patchmask.Session(model, device="cpu", crop=(8, 8, 72, 72), memory_budget=1 << 28, **given) as session:
        o = session.options
        assert o["window"] == [-100, 200] and o["mean"] == [0.5] * 3 and o["equalize"] and o["crop"] == [8, 8, 72, 72]
        assert "1 thread" in session.engine
        estimate = session.estimate(voxels.shape)
        done = session.segment(voxels)
        assert estimate.patches == done.result.patches and estimate.macs == done.result.macs
        assert not done.mask[:, :8].any()
    with patchmask.Session(model, stride=8, sharing=False, device="cpu") as session:
        done = session.segment(voxels[:1])
        assert done.result.macs == done.result.macs_unshared
        same(done.mask, expected.mask[:1])


def test_a_model_by_its_path(voxels, expected):
    """A session keeps what it needs of a model that nobody else holds."""
    for model in (str(MODEL), MODEL, MODEL.read_bytes()):
        with patchmask.Session(model, stride=8, device="cpu") as session:
            same(session.segment(voxels).mask, expected.mask)
    with pytest.raises(patchmask.ModelFileError, match="none.safetensors"):
        patchmask.Session("none.safetensors")


def test_one_number_per_channel():
    """A model of three channels takes three."""
    assert _per_channel("mean", (1, 2, 3), 3) == [1, 2, 3] and _per_channel("mean", 2, 3) == [2, 2, 2]
    with pytest.raises(patchmask.InvalidArgument, match=r"mean \(1, 2\): must be a number, or 3, one per channel"):
        _per_channel("mean", (1, 2), 3)


BAD_OPTIONS = {
    "stride 0": dict(stride=0),
    "stride -1": dict(stride=-1),
    "patch_size 1.5": dict(patch_size=1.5),
    "threads 4294967296": dict(threads=2**32),
    "padding 'zero'": dict(padding="zero"),
    "fill 'cubic'": dict(fill="cubic"),
    "device tpu": dict(device="tpu"),
    "device cuda:": dict(device="cuda:"),
    "device 5": dict(device=5),
    "mean (0, 0): must be a number: the model has one channel": dict(mean=(0, 0)),
    "std (1, 1, 1): must be a number: the model has one channel": dict(std=(1, 1, 1)),
    "mean 'x'": dict(mean="x"),
    "window 10,-10": dict(window=(10, -10)),
    "window (5,): must be (low, high) in HU": dict(window=(5,)),
    "window 5": dict(window=5),
    "window 'ab'": dict(window="ab"),
    "crop (0, 0, 0, 0)": dict(crop=(0, 0, 0, 0)),
    "crop 5": dict(crop=5),
    "crop 1.5": dict(crop=(1.5, 2, 3, 4)),
}


@pytest.mark.parametrize("text", BAD_OPTIONS)
def test_bad_options(model, text):
    with pytest.raises(patchmask.InvalidArgument) as caught:
        patchmask.Session(model, **{"device": "cpu", **BAD_OPTIONS[text]})
    assert text in str(caught.value) and isinstance(caught.value, ValueError)


def test_bad_arrays(session, voxels):
    def refused(text, *arguments, **given):
        with pytest.raises(patchmask.InvalidArgument, match=text):
            session.segment(*arguments, **given)

    refused("type <i8.*astype", voxels.astype(np.int64))
    refused("type >i2.*native byte order", voxels.astype(">i2"))
    refused("2 axes", voxels[0])
    refused("ascontiguousarray", voxels[:, ::-1])
    refused("ascontiguousarray", np.broadcast_to(np.int16(5), (4, 64, 64)))
    refused("roi: shape", voxels, np.ones((1, 2, 3), np.uint8))
    refused("mask: array uint8 .*must be", voxels, mask=np.zeros((1, 2, 3), np.uint8))
    refused("probability: array float64", voxels, probability=np.zeros(voxels.shape))
    frozen = np.zeros(voxels.shape, np.uint8)
    frozen.flags.writeable = False
    refused("read-only", voxels, mask=frozen)
    refused("overlap", voxels.view(np.uint8)[:, :, ::2], mask=voxels.view(np.uint8)[:, :, ::2])
    refused("output", voxels, mask=False)
    refused("depth|slice|extent|0", voxels[:0])
    with pytest.raises(TypeError, match="mask: list"):
        session.segment(voxels, mask=[1])


def test_bad_models(tmp_path):
    with pytest.raises(OSError, match="no-such-file") as caught:
        patchmask.Model(tmp_path / "no-such-file.safetensors")
    assert isinstance(caught.value, patchmask.ModelFileError) and caught.value.status == 200
    blob = MODEL.read_bytes()
    assert patchmask.Model(blob).info == patchmask.Model(MODEL).info
    for bad in (b"", b"not a model", blob[:-100]):
        with pytest.raises(patchmask.BadModel):
            patchmask.Model(bad)
    with pytest.raises(MemoryError):
        patchmask.Session(patchmask.Model(MODEL), device="cpu", memory_budget=1)


def test_closed(model, voxels):
    session = patchmask.Session(model, device="cpu")
    session.close()
    session.close()
    for use in (lambda: session.segment(voxels), session.cancel, session.trim, lambda: session.slices_done):
        with pytest.raises(patchmask.InvalidArgument, match="closed"):
            use()
    other = patchmask.Model(MODEL)
    other.close()
    with pytest.raises(patchmask.InvalidArgument, match="closed"):
        patchmask.Session(other)


def test_collected(model):
    """A forgotten session goes with its threads."""
    session = patchmask.Session(model, device="cpu")
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


def test_progress_and_cancel(session, voxels, expected):
    told = []
    done = session.segment(voxels, progress=lambda fraction, stage: told.append((fraction, stage)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert {stage for _, stage in told} <= {"plan", "intensity", "network", "mask"}
    same(done.mask, expected.mask)
    with pytest.raises(patchmask.Cancelled):
        session.segment(voxels, progress=lambda *_: True)
    with pytest.raises(ZeroDivisionError):
        session.segment(voxels, progress=lambda *_: 1 / 0)
    session.cancel()
    with pytest.raises(patchmask.Cancelled):
        session.segment(voxels)
    same(session.segment(voxels).mask, expected.mask)
    assert session.slices_done == 5
    session.trim()


def test_busy(model, phantom_voxels, voxels):
    """A second call, closing and a call from the callback while one runs."""
    session = patchmask.Session(model, stride=2, device="cpu", threads=1)
    running, seen = threading.Event(), []

    def inside(*_):
        if not running.is_set():
            with pytest.raises(patchmask.Busy) as caught:
                session.segment(voxels)
            seen.append(caught.value)
            running.set()

    thread = threading.Thread(target=_cancelled, args=(session, phantom_voxels, inside))
    thread.start()
    assert running.wait(30) and seen
    with pytest.raises(patchmask.Busy):
        session.close()
    session.cancel()
    thread.join(5)
    assert not thread.is_alive()
    session.close()


def _cancelled(session, voxels, progress):
    with pytest.raises(patchmask.Cancelled):
        session.segment(voxels, progress=progress)


@pytest.fixture(scope="module")
def phantom_voxels(phantom):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(phantom)


def test_bar(session, phantom_voxels, capsys):
    session.segment(phantom_voxels, progress=True)
    assert "network" in capsys.readouterr().err


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.5])
def test_interrupt(model, phantom_voxels, delay):
    """Ctrl-C comes out of the call, soon, and the session is as good as before."""
    with patchmask.Session(model, stride=2, device="cpu") as session:
        before = signal.getsignal(signal.SIGINT)
        sent = []
        timer = threading.Timer(delay, lambda: (sent.append(time.monotonic()), os.kill(os.getpid(), signal.SIGINT)))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            session.segment(phantom_voxels)
        assert time.monotonic() - sent[0] < 1
        assert signal.getsignal(signal.SIGINT) is before
        session.segment(phantom_voxels[:1, :64, :64])


def test_other_handlers(model, phantom_voxels):
    """A host's own handler that raises nothing lets the call go on."""
    caught = []
    before = signal.signal(signal.SIGINT, lambda *_: caught.append(1))
    try:
        with patchmask.Session(model, stride=16, device="cpu") as session:
            threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            assert session.segment(phantom_voxels).mask is not None
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [1]


def test_fork(model):
    """A child of fork() is told, not frozen; in another process, for pytest itself has threads."""
    program = f"""
import os, numpy as np, patchmask
session = patchmask.Session(patchmask.Model({str(MODEL)!r}), device="cpu", stride=16)
if os.fork() == 0:
    try:
        session.segment(np.zeros((1, 64, 64), np.int16))
    except patchmask.WrongProcess:
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_log(model):
    told = []
    patchmask.Session(model, device="auto", log=lambda level, text: told.append((level, text))).close()
    assert told and all(level in ("warning", "info") and text for level, text in told)
