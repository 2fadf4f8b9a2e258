"""PyTorch checkpoints: torchvision's vgg16 and vgg16_bn, any widths.

Only weights are loaded (`weights_only=True`): a checkpoint from elsewhere cannot run code. Accepted are a state dict,
one inside a training checkpoint ({"state_dict": ...}), and the prefixes that wrappers put before names
(DataParallel's `module.`, torch.compile's `_orig_mod.`, Lightning's `model.` ...).
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import torch

from .vgg import LIBRARY_EPSILON, Array, BatchNorm, Layer, Network, WeightsError

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "vgg.", "backbone.")
PATTERN = re.compile(r"(features|classifier)\.(\d+)\.(weight|bias|running_mean|running_var)")

Kinds = dict[str, Array]  # of one position of a Sequential: weight, bias, running_mean, running_var


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
    for position, kinds in sorted(parts["features"].items()):
        name = f"features.{position}"
        if "running_mean" in kinds or "running_var" in kinds:
            _add_norm(network, name, kinds)
        else:
            network.convolutions.append(_layer(name, kinds))
    network.dense = [_layer(f"classifier.{position}", kinds) for position, kinds in sorted(parts["classifier"].items())]
    if network.dense and network.convolutions:
        first, last = network.dense[0].weight, network.convolutions[-1].weight
        # As many inputs as channels: a global average, which for patches below 64 pixels is no change.
        network.global_average = first.ndim == 2 and first.shape[1] == last.shape[0]
    return network


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than weights (a whole module?), which would run its code: in the program that made "
            "it, torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{path}: not a PyTorch checkpoint, or truncated: {reason[0][:200]}") from error
    while isinstance(content, dict) and not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
            raise WeightsError(f"{path}: no state dict in it: found {keys}; expected tensors, or one of {CONTAINERS}")
        content = inner
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}: expected a state dict")
    odd = next((key for key, value in content.items() if not isinstance(value, torch.Tensor)), None)
    if odd is not None:
        raise WeightsError(f"{path}: {odd} is a {type(content[odd]).__name__}: a state dict holds tensors only")
    return content


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
