"""`patchmask convert`: weights of PyTorch, Keras or ONNX -> the safetensors file that the library loads.

    patchmask convert model.pth model.safetensors --patch-size 257 --stride 7 --equalize --classes background,lesion
    python -m patchmask.commands.convert ...          the same without the rest of the package

Exit 0; 2 for usage; 1 for a failure, with one line on stderr and nothing written.
"""

import argparse
import sys
from pathlib import Path

from ..weights import WeightsError, metadata, read, safetensors_file, vgg


def register(subparsers):
    """Adds the command `convert`; `arguments.run(arguments)` runs it and gives the exit status."""
    about = "weights of PyTorch, Keras or ONNX -> the safetensors file that the library loads"
    parser = subparsers.add_parser("convert", help=about, description=about)
    _add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments):
    """Converts; 0, or 1 after one line on stderr."""
    try:
        convert(arguments)
    except (WeightsError, OSError) as error:
        print(f"patchmask convert: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def convert(arguments):
    """Reads, checks and writes; raises WeightsError or OSError."""
    if arguments.output.suffix != ".safetensors":
        raise WeightsError(f"{arguments.output}: the output is a safetensors file: end its name with .safetensors")
    if not arguments.output.parent.is_dir():
        raise WeightsError(f"{arguments.output}: the folder {arguments.output.parent} is not there: make it first")
    network = read(arguments.input, arguments.source)
    patch_size, notes = arguments.patch_size, []
    if patch_size is None and network.input_side and network.input_side >= 32:
        patch_size = network.input_side
        notes.append(f"patch size {patch_size}, the model's input")
    if network.dense and len(network.dense[-1].weight) == 1:
        notes.append("one output: two classes, with logits 0 and the output")
    tensors = vgg.tensors(network, patch_size)
    strings = metadata.strings(
        network, patch_size=patch_size, stride=arguments.stride, window=arguments.window, equalize=arguments.equalize,
        mean=arguments.mean, std=arguments.std, classes=arguments.classes, lesion_class=arguments.lesion_class,
        preprocess=arguments.preprocess,
    )  # fmt: skip
    safetensors_file.write(arguments.output, tensors, strings)
    if not arguments.quiet:
        parameters = sum(value.size for value in tensors.values())
        print(f"{arguments.output}: {len(network.convolutions)} convolutions, {len(network.dense)} dense layers, "
              f"{network.classes} classes, {parameters} parameters")  # fmt: skip
        for note in notes:
            print(f"  {note}")
        for key, value in sorted(strings.items()):
            print(f"  {key} = {value}")


def _add_arguments(parser):
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help=".pth, .pt (PyTorch), .keras, .h5 (Keras) or .onnx")
    add("output", type=Path, metavar="OUTPUT.safetensors", help="written complete or not at all")
    add("--from", dest="source", choices=("torch", "keras", "onnx"), help="kind of INPUT (default: by its name)")
    add("--patch-size", type=int, metavar="N", help="side of a patch in pixels (default: the model's input, if it says)")
    add("--stride", type=int, metavar="N", help="pixels between patch centres")
    add("--window", metavar="LO,HI", help="HU that become intensity 0 and 1")
    add("--equalize", action=argparse.BooleanOptionalAction, help="histogram equalisation of every slice")
    add("--mean", metavar="M[,M,M]", help="subtracted from intensities of 0..1, one number or one per channel")
    add("--std", metavar="S[,S,S]", help="divided by after that")
    add("--preprocess", choices=tuple(metadata.PREPROCESS),
        help="instead of --mean and --std: caffe for keras.applications' VGG16 (0..255, BGR means), tf for -1..1, torch for "
             "torchvision's, 255 for pixels as they are")  # fmt: skip
    add("--classes", metavar="NAMES", help="names of the classes in order, with commas")
    add("--lesion-class", type=int, metavar="N", help="class whose probability is the lesion's (the library's default is 1)")
    add("--quiet", action="store_true", help="print nothing")


def main(words=None):
    """The command alone; options with negative numbers need `=`: --window=-160,240."""
    parser = argparse.ArgumentParser(prog="patchmask convert", description=__doc__.split("\n\n")[0])
    _add_arguments(parser)
    return run(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main())
