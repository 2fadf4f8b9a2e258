"""Train the modified VGG16 on scans with lesion labels and export it for the library.

    python phantom.py data/train --count 300 --first-seed 1 --vary-spacing 0.08
    python phantom.py data/val --count 8 --first-seed 2001 --vary-spacing 0.1
    python train.py data/train data/val --out run

writes run/model.safetensors (the epoch with the best held-out Dice), run/curves.png and run/history.json. Stops
early when the held-out Dice has not risen for --patience epochs. Ctrl-C keeps what has been reached.

A folder of CT scans in LiTS' layout works as it is: `python train.py LiTS --out run`, see README.md for the settings of
the original pipeline, several GPUs and going on after a stop.

    scans -> class-balanced patches -> augmentation -> VGG16 with dropout -> prior-corrected loss
                                         held-out slices -> Dice -> best weights -> prior shift -> fp16 file
"""

import argparse
import os
from pathlib import Path

# On a busy machine, threads that spin at every barrier cost four times the work itself. Before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch  # noqa: E402

from processes import Group  # noqa: E402
from trainer import PRECISIONS, Training  # noqa: E402
from vgg import FULL_WIDTHS  # noqa: E402

WIDTHS = "16,16,32,32,64,64,64,96,96,96,128,128,128"
MINIMUM = dict(patch_size=32, stride=1, epochs=1, steps=1, batch=2, mine=0, learning_rate=0, weight_decay=0, patience=1,
             hold_out_every=2)  # fmt: skip


def numbers(text):
    return list(FULL_WIDTHS) if text == "full" else [int(word) for word in text.split(",")]


def window(text):
    low, high = (float(word) for word in text.split(","))
    if not low < high:
        raise argparse.ArgumentTypeError(f"window {text}: the first number must be the lower one")
    return low, high


def parser():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("train", type=Path, help="folder of training scans: phantoms, or volume-N.nii with segmentation-N.nii")
    add("held_out", type=Path, nargs="?", help="folder of held-out scans: early stopping (default: some of TRAIN)")
    add("--out", type=Path, default=Path("run"), help="folder for results (default run)")

    data = parser.add_argument_group("scans").add_argument
    data("--hold-out-every", type=int, default=5, metavar="N", help="scan, without a second folder (default 5)")
    data("--pattern", nargs=2, metavar=("IMAGE", "LABEL"), help="file names of other layouts, * for the scan's name")
    data("--lesion-label", type=int, metavar="N", help="of lesions (default: 2 in LiTS' layout, else any above 0)")
    data("--organ-label", type=int, metavar="N", help="of the organ around them (default: 1 in LiTS' layout)")
    data("--cache", type=Path, metavar="DIR", help="what is computed of scans is kept here, not in memory")
    data("--window", type=window, default="-160,240", metavar="LO,HI", help="HU mapped to 0..1 (default -160,240)")
    data("--equalize", action="store_true", help="equalise the histogram of every slice")

    net = parser.add_argument_group("network").add_argument
    net("--patch-size", type=int, default=64, help="pixels (default 64)")
    net("--stride", type=int, default=2, help="pixels; recorded in the model (default 2)")
    net("--widths", type=numbers, default=WIDTHS, help=f"channels of the 13 convolutions, or full ({WIDTHS})")
    net("--dense", type=numbers, default="128,64", help="widths of the hidden dense layers (128,64)")
    net("--dropout", type=float, default=0.5, help="share of dense activations dropped (default 0.5)")
    net("--batch-norm", action=argparse.BooleanOptionalAction, default=True, help="in training; folded in the export")
    net("--start", type=Path, metavar="MODEL",
        help="go on from an exported model: its patch size, widths, window, mean and deviation are kept")  # fmt: skip
    net("--imagenet", type=Path, metavar="FILE", help="start from the convolutions of a torchvision vgg16 (.pth or "
        ".safetensors); with --widths full")  # fmt: skip

    run = parser.add_argument_group("training").add_argument
    run("--epochs", type=int, default=24, help="at most (default 24)")
    run("--steps", type=int, default=150, help="batches per epoch (default 150)")
    run("--batch", type=int, default=128, help="patches per batch, of all processes, half of them lesion (default 128)")
    run("--mine", type=int, default=8000,
        help="patches searched for what the network gets wrong before an epoch (8000)")  # fmt: skip
    run("--learning-rate", type=float, default=1.5e-3, help="peak of the schedule (default 1.5e-3)")
    run("--weight-decay", type=float, default=0.01, help="of AdamW (default 0.01)")
    run("--patience", type=int, default=8, help="epochs without a better Dice (default 8)")
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
        if getattr(args, name) < minimum:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least {minimum}")
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
            training.say(f"best epoch {best['epoch']}, held-out Dice {best['held_out_dice']:.3f}: {path}")
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
