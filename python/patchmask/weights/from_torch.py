"""PyTorch checkpoints: torchvision's vgg16 and vgg16_bn, any widths.

Only weights are loaded (`weights_only=True`): a checkpoint from elsewhere cannot run code. Whatever else it holds
(argparse's Namespace, numpy's numbers, classes of the program that made it) becomes an empty object. Accepted are a
state dict, one inside a training checkpoint ({"state_dict": ...}), and the prefixes that wrappers put before names
(DataParallel's `module.`, torch.compile's `_orig_mod.`, Lightning's `model.` ...).
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from .vgg import (
    CONVOLUTIONS,
    LIBRARY_EPSILON,
    POSITIONS,
    POSITIONS_BATCH_NORM,
    Array,
    BatchNorm,
    Layer,
    Network,
    WeightsError,
)

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "vgg.", "backbone.")
PATTERN = re.compile(r"(features|classifier)\.(\d+)\.(weight|bias|running_mean|running_var)")

Kinds = dict[str, Array]  # of one position of a Sequential: weight, bias, running_mean, running_var
StateDict = dict[str, torch.Tensor]


def read(path: Path) -> Network:
    """The Network of a checkpoint."""
    named = _unprefixed(_state_dict(path))
    parts: dict[str, dict[int, Kinds]] = {"features": {}, "classifier": {}}
    for name, value in named.items():
        if name.endswith(".num_batches_tracked"):
            continue
        match = PATTERN.fullmatch(name)
        if not match:
            raise WeightsError(
                f"{name}: shape {list(value.shape)}: not a name of torchvision's vgg16: expected features.N.weight, "
                "features.N.bias, classifier.N.weight ...; rename the keys of the state dict"
            )
        part, position, kind = match.groups()
        parts[part].setdefault(int(position), {})[kind] = _array(name, value)
    network = Network(adaptive=True)
    norms: list[int] = []
    for position, kinds in sorted(parts["features"].items()):
        name = f"features.{position}"
        if "running_mean" in kinds or "running_var" in kinds:
            _add_norm(network, name, kinds)
            norms.append(position)
        else:
            network.convolutions.append(_layer(name, kinds))
    network.dense = [_layer(f"classifier.{position}", kinds) for position, kinds in sorted(parts["classifier"].items())]
    if network.dense and network.convolutions:
        first, last = network.dense[0].weight, network.convolutions[-1].weight
        # As many inputs as channels: a global average, which for patches below 64 pixels is no change.
        network.global_average = first.ndim == 2 and first.shape[1] == last.shape[0]
    if len(network.convolutions) == CONVOLUTIONS:
        _check_positions(sorted(parts["features"].keys() - norms), norms, sorted(parts["classifier"]))
    return network


def _check_positions(convolutions: list[int], norms: list[int], dense: list[int]) -> None:
    """Refuses layers at other places than torchvision's: the ReLUs and pools between them are not in the file."""
    expected = POSITIONS_BATCH_NORM if norms else POSITIONS
    wrong = [place for place in zip(convolutions, expected) if place[0] != place[1]]
    wrong += [place for place in zip(norms, (position + 1 for position in expected)) if place[0] != place[1]]
    if wrong or (norms and len(norms) != CONVOLUTIONS):
        found, place = wrong[0] if wrong else (norms[-1], "one after every convolution")
        raise WeightsError(
            f"features.{found}: torchvision's vgg16{'_bn' if norms else ''} has this layer at {place}: another "
            "network, or one with other layers in between, which a state dict does not show"
        )
    for one, next_one in zip(dense, dense[1:]):
        if next_one == one + 1:
            raise WeightsError(f"classifier.{next_one}: directly follows classifier.{one}: no ReLU fits between them")


class _Nothing:
    """In place of whatever a checkpoint holds that is neither a tensor nor plain data."""

    def __new__(cls, *_: Any) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Mapping:
    """Likewise, for dicts of other classes, which a pickle fills item by item."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def _names(path: Path) -> set[str]:
    """What a checkpoint's pickles call by name, as PyTorch's reader spells it."""
    names: set[str] = set()
    pickles: list[IO[bytes]] = []
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                inside = archive.namelist()
                if any("/code/" in name for name in inside):
                    raise WeightsError(f"{path}: TorchScript: save the state_dict() of the model that it was made of")
                pickles += [archive.open(name) for name in inside if name.endswith("/data.pkl")]
        else:
            file.seek(0)
            pickles += 4 * [file]  # before PyTorch 1.6: a magic number, a version, facts of the machine, the content
        for stream in pickles:
            names |= {str(words) for code, words, _ in pickletools.genops(stream) if code.name == "GLOBAL"}
    python_3 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
    return {f"{python_3.get(module, module)}.{name}" for module, name in (words.split(" ", 1) for words in names)}


def _load(path: Path) -> Any:
    """The content, with an empty object in place of what is neither a tensor nor plain data."""
    names = _names(path)
    # A pickle fills a dict of another class item by item, any other object at once; names tell them apart, mostly.
    mappings = {name for name in names if name.lower().endswith("dict")}
    for mapped in (mappings, {name for name in names if not name.startswith("numpy.")}):
        classes = {
            name: type(name.rpartition(".")[2], (_Mapping if name in mapped else _Nothing,), {}) for name in names
        }
        try:
            # PyTorch's own safe names come before these.
            with torch.serialization.safe_globals([(kind, name) for name, kind in classes.items()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, TypeError) as error:
            failed = error
    reason = re.search(r"error:\s*(.*)", str(failed))
    raise WeightsError(
        f"{path}: holds more than weights and plain data ({reason[1][:200] if reason else type(failed).__name__}): "
        "in the program that made it, torch.save(model.state_dict(), ...)"
    ) from failed


def _state_dict(path: Path) -> StateDict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _load(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{path}: not a PyTorch checkpoint, or truncated: {reason[0][:200]}") from error
    found = _state_dicts(content)
    if len(found) > 1:
        raise WeightsError(f"{path}: {len(found)} state dicts in it, named as one of {CONTAINERS}: save one alone")
    if not found:
        items = list(content.items())[:8] if isinstance(content, dict) else [("a", content)]
        kinds = ", ".join(f"{key} {type(value).__name__}" for key, value in items) or "nothing"
        raise WeightsError(
            f"{path}: no state dict in it, but {kinds}: expected tensors, or those in one of {CONTAINERS}; where it is "
            "more than weights (a whole module?): torch.save(model.state_dict(), ...) in the program that made it"
        )
    for key, value in found[0].items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: {key} is a {type(value).__name__}: a state dict holds named tensors only")
    return found[0]


def _state_dicts(content: Any) -> list[StateDict]:
    """Dicts with tensors: those that CONTAINERS name at any depth, else the content itself."""
    if not isinstance(content, dict):
        return []
    inner = [found for key in CONTAINERS for found in _state_dicts(content.get(key))]
    return inner or ([content] if any(isinstance(value, torch.Tensor) for value in content.values()) else [])


def _unprefixed(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    while named:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in named)), None)
        if prefix is None:
            break
        named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _array(name: str, tensor: torch.Tensor) -> Array:
    if not tensor.is_floating_point():
        raise WeightsError(
            f"{name}: dtype {tensor.dtype}: expected floating point; quantised models cannot be converted"
        )
    tensor = tensor.detach()
    # numpy has no bfloat16, and float32 holds it exactly.
    tensor = tensor if tensor.dtype in (torch.float16, torch.float32, torch.float64) else tensor.float()
    array: Array = np.ascontiguousarray(tensor.numpy())
    return array


def _layer(name: str, kinds: Kinds) -> Layer:
    if "weight" not in kinds:
        raise WeightsError(f"{name}.weight is missing")
    return Layer(f"{name}.weight", kinds["weight"], kinds.get("bias"))


def _add_norm(network: Network, name: str, kinds: Kinds) -> None:
    missing = [kind for kind in ("weight", "bias", "running_mean", "running_var") if kind not in kinds]
    if missing:
        raise WeightsError(f"{name}.{missing[0]} is missing: a batch norm needs its statistics and its affine part")
    if not network.convolutions or network.convolutions[-1].norm:
        raise WeightsError(f"{name}: a batch norm that follows no convolution: only conv, norm, ReLU can be converted")
    network.convolutions[-1].norm = BatchNorm(
        name, kinds["weight"], kinds["bias"], kinds["running_mean"], kinds["running_var"], LIBRARY_EPSILON
    )
