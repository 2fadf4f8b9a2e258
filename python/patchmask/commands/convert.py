"""patchmask convert: weights of PyTorch, Keras or ONNX to the safetensors file that the library loads."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Iterator, Optional

from .. import _abi
from ..weights import metadata
from . import UsageError, session_options

PATCH_SIZES = (_abi.PATCH_SIZE_MIN, _abi.PATCH_SIZE_MAX)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "convert",
        help="weights of PyTorch, Keras or ONNX to a model file",
        description="Converts a VGG16 that was trained elsewhere to the safetensors file that the library loads. What "
        "is said here about its training goes into the file and is the default of every program that uses it.",
    )
    parser.add_argument("input", type=Path, help=".pth, .pt (PyTorch), .keras, .h5 (Keras) or .onnx")
    parser.add_argument("output", type=Path, help="where to write the model: .safetensors")
    parser.add_argument("--from", dest="source", choices=("torch", "keras", "onnx"), help="default: by INPUT's name")
    parser.add_argument("--quiet", action="store_true", help="no summary")
    group = parser.add_argument_group("how the network was trained (give what you know)")
    group.add_argument(
        "--patch-size",
        type=session_options.between(*PATCH_SIZES),
        metavar="N",
        help="side of a patch in pixels (default: the model's input, where the file says it)",
    )
    group.add_argument(
        "--stride", type=session_options.between(1, PATCH_SIZES[1]), metavar="N", help="pixels between patch centres"
    )
    group.add_argument(
        "--window", type=session_options.window, metavar="LO,HI", help="HU that become intensity 0 and 1"
    )
    group.add_argument(
        "--equalize", action=argparse.BooleanOptionalAction, help="histogram equalisation of every slice"
    )
    group.add_argument(
        "--mean",
        type=numbers,
        metavar="M[,M,M]",
        help="subtracted from intensities of 0..1: one number or one per channel",
    )
    group.add_argument("--std", type=deviations, metavar="S[,S,S]", help="divided by after that")
    group.add_argument(
        "--preprocess",
        choices=tuple(metadata.PREPROCESS),
        help="instead of --mean and --std: caffe for keras.applications' VGG16 (0..255, BGR means), tf for -1..1, "
        "torch for torchvision's, 255 for pixels as they are",
    )
    group.add_argument("--classes", type=names, metavar="NAMES", help="names of the classes in order, with commas")
    group.add_argument(
        "--lesion-class",
        type=session_options.between(0, 254),
        metavar="N",
        help="class whose probability is the lesion's (the library's default is 1)",
    )
    group.add_argument("--pixel-mm", type=positive, metavar="MM", help="side of the pixels that it was trained on")
    group.add_argument("--threshold", type=share, metavar="P", help="probability from which a voxel is lesion")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    from .. import weights
    from ..pending import Pending
    from ..weights import safetensors_file, vgg

    if given.output.suffix != ".safetensors":
        raise UsageError(f"{given.output}: must end in .safetensors")
    if given.output.resolve() == given.input.resolve():
        raise UsageError(f"{given.output}: is named twice; the output needs a file of its own")
    training = metadata.Training(**{name: getattr(given, name) for name in metadata.Training.__dataclass_fields__})
    notes = []
    with Pending() as pending:
        place = pending.place(given.output)  # a folder that cannot be written is known before the work
        network = weights.read(given.input, given.source)
        side = network.input_side
        if training.patch_size is None and side is not None and PATCH_SIZES[0] <= side <= PATCH_SIZES[1]:
            training = replace(training, patch_size=side)
            notes.append(f"patch size {side}, the model's input")
        if network.dense and len(network.dense[-1].weight) == 1:
            notes.append("one output: two classes, with logits 0 and the output")
        try:
            tensors = vgg.tensors(network, training.patch_size)
            strings = metadata.strings(network, training)
        except vgg.OptionError as wrong:
            raise UsageError(str(wrong)) from None
        safetensors_file.write(place, tensors, strings)
        pending.commit()
    if not given.quiet:
        parameters = sum(value.size for value in tensors.values())
        print(
            f"{given.output}: {len(network.convolutions)} convolutions, {len(network.dense)} dense layers, "
            f"{network.classes} classes, {parameters} parameters"
        )
        said = [f"{key} = {value}" for key, value in sorted(strings.items())]
        for note in (*notes, *said, *_warnings(vgg.patch_sizes(network), vgg.fp16_holds(tensors), strings)):
            print(f"  {note}")


def _warnings(fitting: Optional[range], fp16: bool, strings: dict[str, str]) -> Iterator[str]:
    """Notes for users of the model: a patch size that is needed, what else is assumed, rounding."""
    absent = [f"{key} {value}" for key, value in metadata.DEFAULTS.items() if f"patchmask.{key}" not in strings]
    if absent:
        yield f"not in the file, so the library assumes: {', '.join(absent)}"
    if "patchmask.patch_size" not in strings and fitting is not None:
        sizes = f"{fitting[0]}..={fitting[-1]}" if len(fitting) > 1 else str(fitting[0])
        yield (
            f"the file has no patch size, and the first dense layer fits {sizes} only: give --patch-size here, or to "
            "every program that uses the model"
        )
    if not fp16:
        yield (
            "weights finer than fp16: the library rounds them to fp16 on every engine, which changes logits by about "
            "1e-3 of the largest"
        )


def numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(word) for word in text.split(","))
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or 3 finite numbers separated by commas")
    return values


def deviations(text: str) -> tuple[float, ...]:
    values = numbers(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return values


def positive(text: str) -> float:
    [value, *others] = numbers(text)
    if others or value <= 0:
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
    return value


def share(text: str) -> float:
    if positive(text) > 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1")
    return positive(text)


def names(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(word and word.isprintable() for word in words):
        raise argparse.ArgumentTypeError(f"{text}: must be names separated by commas")
    return words
