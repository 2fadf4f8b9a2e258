"""Train the modified VGG16 on phantoms and export it for the library.

    python phantom.py data/train --count 300 --first-seed 1 --vary-spacing 0.08
    python phantom.py data/val --count 8 --first-seed 2001 --vary-spacing 0.1
    python train.py data/train data/val --out run

writes run/model.safetensors (the epoch with the best held-out Dice), run/curves.png and run/history.json. Stops
early when the held-out Dice has not risen for --patience epochs. Ctrl-C keeps what has been reached.

    phantoms -> class-balanced patches -> augmentation -> VGG16 with dropout -> prior-corrected loss
                                            held-out slices -> Dice -> best weights -> prior shift -> fp16 file
"""

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

# On a busy machine, threads that spin at every barrier cost four times the work itself. Before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import matplotlib
import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from export import export, load
from intensity import Intensity
from lattice import SparseValidation, weighted_dice
from patches import BalancedSampler, Scan, augmented
from vgg import Vgg16, unfolded

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

WIDTHS = "16,16,32,32,64,64,64,96,96,96,128,128,128"


def numbers(text):
    return [int(word) for word in text.split(",")]


def window(text):
    low, high = (float(word) for word in text.split(","))
    if not low < high:
        raise argparse.ArgumentTypeError(f"window {text}: the first number must be the lower one")
    return low, high


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("train", type=Path, help="folder of training phantoms (*_ct.nrrd, *_truth.nrrd, *_liver.nrrd)")
    parser.add_argument("held_out", type=Path, help="folder of held-out phantoms, other seeds: early stopping")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder for results (default run)")
    parser.add_argument("--patch-size", type=int, default=64, help="pixels (default 64)")
    parser.add_argument("--stride", type=int, default=2, help="pixels; recorded in the model (default 2)")
    parser.add_argument("--widths", type=numbers, default=WIDTHS, help=f"channels of the 13 convolutions ({WIDTHS})")
    parser.add_argument("--dense", type=numbers, default="128,64", help="widths of the hidden dense layers (128,64)")
    parser.add_argument("--dropout", type=float, default=0.5, help="share of dense activations dropped (default 0.5)")
    parser.add_argument("--window", type=window, default="-160,240", metavar="LO,HI", help="HU mapped to 0..1")
    parser.add_argument("--equalize", action="store_true", help="equalise the histogram of every slice")
    parser.add_argument("--start", type=Path, metavar="MODEL",
                        help="go on from an exported model: its patch size, widths, window, mean and deviation are "
                             "kept")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=24, help="at most (default 24)")
    parser.add_argument("--steps", type=int, default=150, help="batches per epoch (default 150)")
    parser.add_argument("--batch", type=int, default=128, help="patches per batch, half of them lesion (default 128)")
    parser.add_argument("--mine", type=int, default=8000,
                        help="patches searched for what the network gets wrong before an epoch (8000)")  # fmt: skip
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak of the schedule (default 1.5e-3)")
    parser.add_argument("--patience", type=int, default=8, help="epochs without a better Dice (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, patches and augmentation (default 1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 arithmetic")
    return parser.parse_args()


def load_scans(folder, intensity, patch_size, strata):
    paths = sorted(folder.glob("*_ct.nrrd"))
    if not paths:
        raise SystemExit(f"{folder}: no *_ct.nrrd here; make some with phantom.py")
    return [Scan(path, intensity, patch_size, strata) for path in tqdm(paths, desc=f"reading {folder}", unit="scan", disable=None)]


def measured(scans, args):
    """The Intensity with mean and deviation of the training voxels."""
    inside = [scan.image[:, scan.pad : -scan.pad, scan.pad : -scan.pad].astype(np.float32) for scan in scans[::4]]
    values = np.concatenate([x[::2, ::3, ::3].ravel() for x in inside])
    return Intensity(args.window, args.equalize, round(float(values.mean()), 4), round(float(values.std()), 4))


def train_epoch(model, sampler, intensity, optimizer, schedule, args, title):
    model.train()
    losses = []
    with tqdm(range(args.steps), desc=title, unit="batch", leave=False, disable=None) as bar:
        for _ in bar:
            patches, labels, offsets = sampler.batch(args.batch)
            patches = (augmented(patches, args.patch_size) - intensity.mean) / intensity.std
            patches = patches.to(args.device, memory_format=torch.channels_last)
            with torch.autocast(args.device, torch.bfloat16, enabled=not args.float32):
                logits = model(patches)
            adjusted = logits.float() + offsets.to(args.device)[:, None] * torch.tensor([0.0, 1.0], device=args.device)
            loss = functional.cross_entropy(adjusted, labels.to(args.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-30:]):.3f}")
    return float(np.mean(losses))


@torch.inference_mode()
def mine(model, sampler, intensity, args):
    """Collect what this model gets wrong, for the batches to come."""
    model.eval()

    def margins_of(patches):
        patches = ((patches - intensity.mean) / intensity.std).to(args.device, memory_format=torch.channels_last)
        with torch.autocast(args.device, torch.bfloat16, enabled=not args.float32):
            logits = model(patches).float().cpu()
        return (logits[:, 1] - logits[:, 0]).tolist()

    sampler.mine(margins_of, args.mine)


def held_out_scores(model, validation, intensity, args):
    margins, weights, labels = validation.evaluate(
        model, intensity, device=args.device, low_precision=not args.float32
    )
    signed = np.where(labels, margins, -margins)
    loss = float((weights * np.logaddexp(0, -signed)).sum() / weights.sum())
    shift = best_shift(margins, weights, labels)
    return {
        "held_out_loss": loss,
        "held_out_dice_unshifted": weighted_dice(margins > 0, labels, weights),
        "shift": shift,
        "held_out_dice": weighted_dice(margins + shift > 0, labels, weights),
    }


def best_shift(margins, weights, labels):
    """What to add to the lesion logit for the best held-out Dice: the last correction of the prior."""
    shifts = np.arange(-4, 4.01, 0.1)
    dice = np.array([weighted_dice(margins + shift > 0, labels, weights) for shift in shifts])
    smooth = np.convolve(np.pad(dice, 3, mode="edge"), np.ones(7) / 7, mode="valid")  # a plateau, not a spike
    return round(float(shifts[smooth.argmax()]), 1)


def draw_curves(path, history):
    epochs = [row["epoch"] for row in history]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3))
    left.plot(epochs, [row["train_loss"] for row in history], label="training (balanced, adjusted)")
    left.plot(epochs, [row["held_out_loss"] for row in history], label="held out (whole slices)")
    left.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
    left.legend()
    right.plot(epochs, [row["held_out_dice"] for row in history], color="tab:green")
    right.set(xlabel="epoch", ylabel="held-out Dice", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    start = None
    if args.start:
        start, intensity, _ = load(args.start)
        args.patch_size, args.window, args.equalize = start.config["patch_size"], intensity.window, intensity.equalize
    raw = Intensity(args.window, args.equalize)
    train_scans = load_scans(args.train, raw, args.patch_size, strata=True)
    validation = SparseValidation(load_scans(args.held_out, raw, args.patch_size, strata=False))
    intensity = intensity if start else measured(train_scans, args)
    sampler = BalancedSampler(train_scans, args.patch_size, np.random.default_rng(args.seed))
    print("prior offsets in nats:", {name: round(value, 2) for name, value in sampler.offsets.items()})
    print(f"mean {intensity.mean}, std {intensity.std}; {validation.count} held-out patches per epoch")

    if start:
        sample = augmented(sampler.batch(256)[0], args.patch_size)
        model = unfolded(start, (sample - intensity.mean) / intensity.std, args.dropout)
    else:
        model = Vgg16(args.patch_size, args.widths, args.dense, dropout=args.dropout)
    model = model.to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01)
    steps, warm_up = args.epochs * args.steps, args.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1, step / steps))) + 1e-3,
    )

    history, best = [], None
    started = time.time()
    try:
        for epoch in range(1, args.epochs + 1):
            if start or epoch > 2:  # before that, everything is wrong
                mine(model, sampler, intensity, args)
            loss = train_epoch(model, sampler, intensity, optimizer, schedule, args, f"epoch {epoch}/{args.epochs}")
            row = dict(epoch=epoch, train_loss=loss, **held_out_scores(model, validation, intensity, args),
                       missed=len(sampler.mined["missed"]), mistaken=len(sampler.mined["mistaken"]),
                       minutes=(time.time() - started) / 60)  # fmt: skip
            history.append(row)
            print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
            if best is None or row["held_out_dice"] > best["held_out_dice"]:
                best = row
                save(args, model, intensity, row["shift"])
            draw_curves(args.out / "curves.png", history)
            (args.out / "history.json").write_text(json.dumps(history, indent=1) + "\n")
            if epoch - best["epoch"] >= args.patience:
                print(f"no better Dice for {args.patience} epochs: stopped")
                break
    except KeyboardInterrupt:
        print("interrupted")
    if best:
        print(f"best epoch {best['epoch']}, held-out Dice {best['held_out_dice']:.3f}: {args.out}/model.safetensors")


def save(args, model, intensity, shift):
    """Export the weights, with the last correction of the prior in the last layer's biases."""
    exported = copy.deepcopy(model).cpu()
    with torch.no_grad():
        exported.classifier[-1].bias += torch.tensor([-0.5 * shift, 0.5 * shift])
    export(args.out / "model.safetensors", exported, intensity, args.stride)


if __name__ == "__main__":
    main()
