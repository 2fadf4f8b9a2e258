"""The training loop: scans -> balanced patches -> VGG16 -> the best epoch as a file for the library.

    prepare    scans (all processes; the first fills the cache), sampler, validation, network, optimiser
    run        epochs: mine, train, validate, checkpoint; early stopping

With several processes (processes.Group) each draws its share of every batch, mines its share of candidates and
validates its share of slices; what is decided is decided from everything, in all of them alike. What a caller can
correct is a ValueError.
"""

import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

import checkpoint
import imagenet
import scans
from export import export, load
from intensity import Intensity
from patch_grid import SparseValidation, weighted_dice
from patches import BalancedSampler, augmented
from vgg import Vgg16, unfolded

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

CHECKPOINTED = ("model", "optimizer", "schedule", "scaler")
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}


class Training:
    """Everything that one training holds. `args` are train.py's."""

    def __init__(self, args, group):
        self.args, self.group, self.device = args, group, group.device
        if args.batch % (2 * group.size):
            raise ValueError(f"--batch {args.batch}: must be even for each of {group.size} processes: half is lesion")
        self.low_precision = PRECISIONS[args.precision or default_precision(self.device)]
        torch.manual_seed(args.seed)
        start = None
        if args.start:
            start, self.intensity, _ = load(args.start)
            args.patch_size = start.config["patch_size"]
            args.window, args.equalize = self.intensity.window, self.intensity.equalize
        if args.stride > args.patch_size:
            raise ValueError(f"--stride {args.stride}: must be 1..={args.patch_size}, the patch size")
        train, held_out = found(args)
        raw = Intensity(args.window, args.equalize)
        if args.cache and group.size > 1:  # each computes its share, then all read everything
            for sources, strata in ((train, True), (held_out, False)):
                scans.load(sources[group.rank :: group.size], raw, strata, args.cache, quiet=not group.first)
            group.wait()
        self.scans = scans.load(train, raw, True, args.cache, quiet=not group.first)
        self.validation = SparseValidation(scans.load(held_out, raw, False, args.cache, quiet=not group.first))
        if args.imagenet:
            self.intensity = Intensity(args.window, args.equalize, imagenet.MEAN, imagenet.STD)
        elif not start:
            self.intensity = measured(self.scans, args)
        seed = args.seed if group.size == 1 else [args.seed, group.rank]
        self.sampler = BalancedSampler(self.scans, args.patch_size, np.random.default_rng(seed))
        self.say("prior offsets in nats:", {name: round(value, 2) for name, value in self.sampler.offsets.items()})
        mean, std = self.intensity.mean, self.intensity.std
        self.say(f"mean {mean}, std {std}; {self.validation.count} held-out patches per epoch")
        self.model = self.network(start).to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay
        )
        steps, warm_up = args.epochs * args.steps, args.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1, step / steps))) + 1e-3,
        )
        # fp16 gradients underflow without a scale; bfloat16 has the range of float32.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.low_precision is torch.float16)
        self.history, self.best = [], None
        self.mines_at_once = start is not None
        if group.size > 1:
            torch.manual_seed(args.seed * 1000 + group.rank)  # augmentation and dropout: each process its own
            if self.device.type == "cuda" and args.batch_norm:
                self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        args.out.mkdir(parents=True, exist_ok=True)
        if args.resume and (args.out / "checkpoint.pt").exists():
            self.go_on(args.out / "checkpoint.pt")
        self.parallel = group.parallel(self.model)

    def say(self, *words):
        if self.group.first:
            print(*words, flush=True)

    def network(self, start):
        """A fresh network, or one that goes on from `start` or from ImageNet's convolutions."""
        args = self.args
        config = dict(patch_size=args.patch_size, widths=list(args.widths), dense=list(args.dense))
        if not start and not args.imagenet:
            return Vgg16(**config, dropout=args.dropout, batch_norm=args.batch_norm)
        # Their statistics are those that batch norms start with; the same patches in every process.
        sampler, count = self.sampler, 256 if start else 32
        if self.group.size > 1:
            sampler = BalancedSampler(self.scans, args.patch_size, np.random.default_rng(args.seed))
        sample = (augmented(sampler.batch(count)[0], args.patch_size) - self.intensity.mean) / self.intensity.std
        if args.imagenet:
            return imagenet.start(args.imagenet, config, args.dropout, args.batch_norm, sample)
        if args.batch_norm:
            return unfolded(start, sample, args.dropout)
        model = Vgg16(**start.config, dropout=args.dropout, batch_norm=False)
        model.load_state_dict(start.state_dict())
        return model

    def run(self, on_epoch=None):
        """Trains; the history of epochs. on_epoch(row) is called after each, in the first process."""
        args, started = self.args, time.time()
        last = min(args.epochs, args.stop_after or args.epochs)
        for epoch in range(len(self.history) + 1, last + 1):
            if self.tired():
                break
            if self.mines_at_once or epoch > 2:  # before that, everything is wrong
                self.mine()
            loss = self.train_epoch(f"epoch {epoch}/{args.epochs}")
            self.group.same_buffers(self.model)
            scores = self.held_out_scores()
            mined = self.group.gather({pool: len(places) for pool, places in self.sampler.mined.items()})
            row = dict(epoch=epoch, train_loss=float(np.mean(self.group.gather(loss))), **scores,
                       missed=sum(m["missed"] for m in mined), mistaken=sum(m["mistaken"] for m in mined),
                       minutes=(time.time() - started) / 60)  # fmt: skip
            self.history.append(row)
            self.say(" ".join(f"{key} {value:.4g}" for key, value in row.items()))
            if self.best is None or row["held_out_dice"] > self.best["held_out_dice"]:
                self.best = row
                if self.group.first:
                    self.save(row["shift"])
            self.record()
            if on_epoch and self.group.first:
                on_epoch(row)
        if self.tired():
            self.say(f"no better Dice for {args.patience} epochs: stopped")
        return self.history

    def tired(self):
        return self.best is not None and len(self.history) - self.best["epoch"] >= self.args.patience

    def train_epoch(self, title):
        args, device, intensity = self.args, self.device, self.intensity
        self.model.train()
        losses, size = [], args.batch // self.group.size
        quiet = None if self.group.first else True
        with (
            ThreadPoolExecutor(1) as reader,  # cuts the next batch while this one is computed
            tqdm(range(args.steps), desc=title, unit="batch", leave=False, disable=quiet) as bar,
        ):
            coming = reader.submit(self.sampler.batch, size)
            for step in bar:
                patches, labels, offsets = coming.result()
                if step + 1 < args.steps:
                    coming = reader.submit(self.sampler.batch, size)
                patches = (augmented(patches.to(device), args.patch_size) - intensity.mean) / intensity.std
                patches = patches.contiguous(memory_format=torch.channels_last)
                with self.autocast():
                    logits = self.parallel(patches)
                adjusted = logits.float() + offsets.to(device)[:, None] * torch.tensor([0.0, 1.0], device=device)
                loss = functional.cross_entropy(adjusted, labels.to(device))
                self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.schedule.step()
                losses.append(loss.item())
                bar.set_postfix(loss=f"{np.mean(losses[-30:]):.3f}")
        return float(np.mean(losses))

    def autocast(self):
        return torch.autocast(self.device.type, self.low_precision, enabled=self.low_precision is not None)

    @torch.inference_mode()
    def mine(self):
        """Collect what this model gets wrong, for the batches to come."""
        self.model.eval()

        def margins_of(patches):
            patches = (patches - self.intensity.mean) / self.intensity.std
            margins = []
            for part in patches.split(max(1, 500 * 64**2 // self.args.patch_size**2)):  # as much memory as 500 of 64 px
                with self.autocast():
                    logits = self.model(part.to(self.device, memory_format=torch.channels_last)).float().cpu()
                margins += (logits[:, 1] - logits[:, 0]).tolist()
            return margins

        self.sampler.mine(margins_of, self.args.mine // self.group.size)

    def held_out_scores(self):
        margins, weights, labels = self.validation.evaluate(
            self.model, self.intensity, part=(self.group.rank, self.group.size), gather=self.group.gather,
            batch=max(1, 512 * 64**2 // max(64, self.args.patch_size) ** 2), device=self.device,
            low_precision=self.low_precision,
        )  # fmt: skip
        signed = np.where(labels, margins, -margins)
        loss = float((weights * np.logaddexp(0, -signed)).sum() / weights.sum())
        shift = best_shift(margins, weights, labels)
        return {
            "held_out_loss": loss,
            "held_out_dice_unshifted": weighted_dice(margins > 0, labels, weights),
            "shift": shift,
            "held_out_dice": weighted_dice(margins + shift > 0, labels, weights),
        }

    def save(self, shift):
        """Export the weights, with the last correction of the prior in the last layer's biases."""
        exported = copy.deepcopy(self.model).cpu()
        with torch.no_grad():
            exported.classifier[-1].bias += torch.tensor([-0.5 * shift, 0.5 * shift])
        export(self.args.out / "model.safetensors", exported, self.intensity, self.args.stride)

    def record(self):
        """Curves, history and checkpoint of the epochs so far."""
        states = self.group.gather(checkpoint.random_state(self.sampler, self.scans, self.device))
        if not self.group.first:
            return
        out = self.args.out
        draw_curves(out / "curves.png", self.history)
        (out / "history.json").write_text(json.dumps(self.history, indent=1) + "\n")
        parts = {name: getattr(self, name).state_dict() for name in CHECKPOINTED}
        settings = checkpoint.settings(self.args, self.scans)
        checkpoint.save(
            out / "checkpoint.pt",
            dict(settings=settings, **parts, history=self.history, best=self.best, random=states),
        )

    def go_on(self, path):
        """From a checkpoint. With another number of processes the epochs to come draw other patches."""
        content = checkpoint.load(path, checkpoint.settings(self.args, self.scans))
        for name in CHECKPOINTED:
            getattr(self, name).load_state_dict(content[name])
        self.history, self.best = content["history"], content["best"]
        states = content["random"]
        if len(states) == self.group.size:
            checkpoint.set_random_state(states[self.group.rank], self.sampler, self.scans, self.device)
        else:
            self.say(f"{len(states)} processes before, {self.group.size} now: goes on with other patches")
            self.sampler.rng = np.random.default_rng([self.args.seed, len(self.history), self.group.rank])
        self.say(f"resumed after epoch {len(self.history)}: {path}")


def default_precision(device):
    """bfloat16, except on a GPU without it."""
    native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float16"


def found(args):
    """(training, held-out) sources: two folders, or one of which every --hold-out-every-th scan is held out."""
    labels = None if args.lesion_label is None else scans.Labels(args.lesion_label, args.organ_label)
    train = scans.find(args.train, args.pattern, labels)
    if args.held_out is not None:
        held_out = scans.find(args.held_out, args.pattern, labels)
        if both := {source.image.resolve() for source in train} & {source.image.resolve() for source in held_out}:
            raise ValueError(f"{min(both)}: both in {args.train} and in {args.held_out}, which is to be held out")
        return train, held_out
    held_out = train[args.hold_out_every - 1 :: args.hold_out_every]
    if not held_out:
        raise ValueError(
            f"{args.train}: {len(train)} scans, every {args.hold_out_every}th held out: leaves none; give a second "
            "folder of held-out scans, or --hold-out-every"
        )
    return [source for source in train if source not in held_out], held_out


def measured(loaded, args):
    """The Intensity with mean and deviation of the training voxels."""
    values = np.concatenate([scan.image[::2, ::3, ::3].astype(np.float32).ravel() for scan in loaded[::4]])
    return Intensity(args.window, args.equalize, round(float(values.mean()), 4), round(float(values.std()), 4))


def best_shift(margins, weights, labels):
    """The shift of the lesion logit with the best held-out Dice: the last correction of the prior."""
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
