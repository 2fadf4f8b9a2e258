"""Train the modified VGG16 on scans with lesion labels and export it for the library.

    python phantom.py data/train --count 300 --first-seed 1 --vary-spacing 0.08
    python phantom.py data/val --count 8 --first-seed 2001 --vary-spacing 0.1
    python train.py data/train data/val --out run

writes run/model.safetensors (the epoch with the best held-out Dice), run/curves.png and run/history.json. Stops
early when the held-out Dice has not risen for --patience epochs. Ctrl-C keeps what has been reached.

A folder of CT scans in LiTS' layout works as it is: `python train.py LiTS --out run`, see README.md for the settings of
the original pipeline, several GPUs and going on after a stop.

    scans -> class-balanced patches -> augmentation -> VGG16 with dropout -> prior-corrected loss
                   held-out scans -> the library, with the organ as ROI -> Dice -> the best epoch's fp16 file
"""

import argparse
import os
import re
import sys
from pathlib import Path

# On a busy machine, threads that spin at every barrier cost four times the work itself. Before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch  # noqa: E402

from processes import Group  # noqa: E402
from trainer import PRECISIONS, WIDTHS, Training  # noqa: E402
from vgg import FULL_WIDTHS  # noqa: E402

MINIMUM = dict(patch_size=32, stride=1, pixel_mm=0.05, epochs=1, steps=1, batch=2, mine=0, learning_rate=0, freeze=0,
               weight_decay=0, patience=1, minutes=0, painted=0, mix_share=0.01, validate_every=1, labels=1, outside=0, by_size=0, turn=0, gain=0,
               shift_hu=0, blur=0, noise_hu=0, average=0, threshold=0.01)  # fmt: skip
MAXIMUM = dict(freeze=5, outside=1, mix_share=0.99, average=1, gain=1, threshold=1)
CLASSES = {2: ("background", "lesion"), 3: ("background", "organ", "lesion")}


class Parser(argparse.ArgumentParser):
    """Takes pairs of numbers that begin with a minus, `--window -40,160`, as values."""

    def parse_known_args(self, args=None, namespace=None):
        words = list(sys.argv[1:] if args is None else args)
        for k in range(len(words) - 1, 0, -1):
            if re.fullmatch(r"-[0-9.]+,.*", words[k]) and words[k - 1].startswith("--"):
                words[k - 1 : k + 1] = [f"{words[k - 1]}={words[k]}"]
        return super().parse_known_args(words, namespace)


def numbers(text):
    return list(FULL_WIDTHS) if text == "full" else [int(word) for word in text.split(",")]


def span(text):
    low, high = (float(word) for word in text.split(","))
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text}: the first number must be the lower one")
    return low, high


def zoom(text):
    low, high = (float(word) for word in text.split(","))
    if not 0.1 <= low <= high <= 10:
        raise argparse.ArgumentTypeError(f"{text}: must be two numbers from 0.1 to 10, the lower one first")
    return low, high


def fold(text):
    number, count = (int(word) for word in text.split("/"))
    if not (0 <= number <= count and count >= 2):
        raise argparse.ArgumentTypeError(f"{text}: must be K/N, K from 1 to N and N at least 2, or 0/N to hold none out")
    return number, count


def classes(text):
    if int(text) not in CLASSES:
        raise argparse.ArgumentTypeError(f"{text}: must be 2 or 3")
    return CLASSES[int(text)]


def parser():
    parser = Parser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("train", type=Path, help="folder of training scans: phantoms, LiTS' volume-N.nii, stacks of pictures")
    add("held_out", type=Path, nargs="?", help="folder of held-out scans (default: a fold of TRAIN)")
    add("--out", type=Path, default=Path("run"), help="folder for results (default run)")

    data = parser.add_argument_group("scans").add_argument
    data("--fold", type=fold, default="1/5", metavar="K/N", help="hold out the Kth of N folds of scans, dealt by the size "
         "of their lesions; 0/N holds none out and exports the last epoch (default 1/5)")  # fmt: skip
    data("--leave-out", type=lambda text: text.split(","), default=[], metavar="NAME,...", help="scans set aside")
    data("--mix", type=Path, metavar="FOLDER", help="other scans, such as phantoms, to draw patches from as well")
    data("--painted", type=int, default=0, metavar="N", help="copies of every training scan with lesions painted into its "
         "organ, to draw patches from as well (default 0)")  # fmt: skip
    data("--mix-share", type=float, default=0.4, metavar="X", help="the share of patches from --mix and --painted, every "
         "scan there alike (default 0.4)")  # fmt: skip
    data("--pattern", nargs=2, metavar=("IMAGE", "LABEL"), help="file names of other layouts, * for the scan's name")
    data("--lesion-label", type=int, metavar="N", help="of lesions (default: 2 in LiTS' layout, else any above 0)")
    data("--organ-label", type=int, metavar="N", help="of the organ around them (default: 1 in LiTS' layout)")
    data("--cache", type=Path, metavar="DIR", help="what is computed of scans is kept here, not in memory")
    data("--window", type=span, metavar="LO,HI", help="HU mapped to 0..1 (default -160,240)")
    data("--equalize", action="store_true", default=None, help="equalise the histogram of every slice")
    data("--pixel-mm", type=float, metavar="MM", help="resample slices to this; recorded in the model (default: as they are)")

    net = parser.add_argument_group("network").add_argument
    net("--patch-size", type=int, help="pixels (default 64)")
    net("--stride", type=int, help="pixels; recorded in the model (default 2)")
    net("--threshold", type=float, metavar="P", help="lesion from this probability on; recorded in the model (default: the "
        "most probable class); threshold.py chooses it over folds")  # fmt: skip
    net("--classes", type=classes, metavar="N", help="2: background, lesion; 3: background, organ, lesion (default 2)")
    net("--widths", type=numbers, help=f"channels of the 13 convolutions, or full ({','.join(map(str, WIDTHS))})")
    net("--dense", type=numbers, help="widths of the hidden dense layers (128,64)")
    net("--dropout", type=float, default=0.5, help="share of dense activations dropped (default 0.5)")
    net("--batch-norm", action=argparse.BooleanOptionalAction, default=True, help="in training; folded in the export")
    net("--start", type=Path, metavar="MODEL", help="go on from an exported model; what it says of patches, slices and "
        "widths holds, and options that say otherwise are refused")  # fmt: skip
    net("--imagenet", type=Path, metavar="FILE", help="start from the convolutions of an ImageNet VGG16: torchvision's "
        "(.pth, .safetensors) or Keras' (.onnx, .keras, .h5); narrower ones take the largest filters")  # fmt: skip
    net("--freeze", type=int, default=0, metavar="N", help="the first N of the five blocks stay as they start (default 0)")

    draw = parser.add_argument_group("patches").add_argument
    draw("--labels", type=int, default=1, metavar="N", help="per axis of a crop, 8 pixels apart and evaluated together, "
         "with zeros at the crop's border and not at each patch's (default 1: a patch)")  # fmt: skip
    draw("--outside", type=float, default=0.42, help="share of the background from outside the organ (default 0.42)")
    draw("--by-size", type=float, default=0.0, metavar="X", help="patients are drawn for lesions by the Xth power of their "
         "lesion voxels: 0 all alike, 1 by voxels (default 0)")  # fmt: skip
    draw("--prior", action=argparse.BooleanOptionalAction, default=True, help="correct the loss for the share of lesions "
         "in patches, so that probabilities hold for whole scans")  # fmt: skip
    draw("--mine", type=int, default=8000,
         help="patches searched for what the network gets wrong before an epoch (8000)")  # fmt: skip
    draw("--flip", action="store_true", help="left and right, front and back")
    draw("--turn", type=float, default=15, metavar="DEGREES", help="at most, either way (default 15)")
    draw("--zoom", type=zoom, default="0.89,1.12", metavar="LO,HI", help="factor of size (default 0.89,1.12)")
    draw("--gain", type=float, default=0.06, help="of intensities, 1 - GAIN to 1 + GAIN (default 0.06)")
    draw("--shift-hu", type=float, default=12, metavar="HU", help="at most, either way (default 12)")
    draw("--noise-hu", type=float, default=5, metavar="HU", help="largest deviation (default 5)")
    draw("--blur", type=float, default=0, metavar="PIXELS", help="largest deviation (default 0)")

    run = parser.add_argument_group("training").add_argument
    run("--epochs", type=int, default=24, help="at most (default 24)")
    run("--minutes", type=float, metavar="M", help="end after this time of training, without validation")
    run("--steps", type=int, default=150, help="batches per epoch (default 150)")
    run("--batch", type=int, default=128, help="patches per batch, of all processes, half of them lesion (default 128)")
    run("--learning-rate", type=float, default=1.5e-3, help="peak of the schedule (default 1.5e-3)")
    run("--weight-decay", type=float, default=0.01, help="of AdamW (default 0.01)")
    run("--average", type=float, default=0, metavar="DECAY", help="export the running average of the weights, for example "
        "0.998 (default 0: the last ones)")  # fmt: skip
    run("--patience", type=int, default=8, help="epochs without a better Dice (default 8)")
    run("--validate-every", type=int, default=1, metavar="N", help="epochs, and after the last (default 1)")
    run("--keep-epochs", action="store_true", help="write OUT/epoch-N.safetensors after each")
    run("--seed", type=int, default=1, help="of weights, patches and augmentation (default 1)")
    run("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    run("--precision", choices=tuple(PRECISIONS), help="(default bfloat16; float16 on GPUs without it)")
    run("--float32", action="store_const", dest="precision", const="float32", help="the same as --precision float32")
    run("--resume", action="store_true", help="go on from OUT/checkpoint.pt, if it is there, with the same options")
    run("--stop-after", type=int, metavar="EPOCH", help="stop there, to be resumed: for jobs with a time limit")
    return parser


def checked(args):
    """The arguments, or a ValueError that names what is wrong."""
    if args.start and args.imagenet:
        raise ValueError("--start and --imagenet: choose one")
    for name, minimum in MINIMUM.items():
        if (value := getattr(args, name)) is not None and value < minimum:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least {minimum}")
    for name, maximum in MAXIMUM.items():
        if (value := getattr(args, name)) is not None and value > maximum:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be at most {maximum}")
    if args.labels % 2 == 0:
        raise ValueError(f"--labels {args.labels}: must be odd, so that one is in the middle")
    if not 0 <= args.dropout < 1:
        raise ValueError(f"--dropout {args.dropout}: must be at least 0 and below 1")
    if args.organ_label is not None and args.lesion_label is None:
        raise ValueError("--organ-label: needs --lesion-label, the label of lesions in the same files")
    if args.pattern and any(pattern.count("*") != 1 for pattern in args.pattern):
        raise ValueError(f"--pattern {' '.join(args.pattern)}: each needs one * for the scan's name")
    return args


def train(args):
    group = Group(args.device)
    try:
        training = Training(args, group)
        try:
            training.run()
        except KeyboardInterrupt:
            training.say("interrupted")
        if best := training.best:
            path = args.out / "model.safetensors"
            dice = f", held-out Dice {best['held_out_dice']:.3f}" if training.held_out else ""
            training.say(f"best epoch {best['epoch']}{dice}: {path}")
    finally:
        group.close()


def main():
    args = parser().parse_args()
    try:
        train(checked(args))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
