"""The training loop: scans -> balanced patches -> VGG16 -> the best epoch as a file for the library.

    prepare    scans (all processes; the first fills the cache), folds, sampler, network, optimiser
    run        epochs: mine, train, export, validate that file, checkpoint; early stopping

With several processes (processes.Group) each draws its share of every batch, mines its share of candidates and
validates its share of scans; what is decided is decided from everything, in all of them alike. What a caller can
correct is a ValueError.
"""

import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import matplotlib
import numpy as np
import torch
from torch.nn import functional

import checkpoint
import imagenet
import scans
import validation
from augmentation import Augmentation, augmented
from export import Settings, export, load
from folds import split
from intensity import Intensity
from library import Library
from patches import BalancedSampler
from progress import Progress
from vgg import DENSE_STEP, Vgg16, blocks, unfolded

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

CHECKPOINTED = ("model", "average", "optimizer", "scaler")
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}
WARM_UP = 0.05  # of the time budget, where there is one
WIDTHS = [16, 16, 32, 32, 64, 64, 64, 96, 96, 96, 128, 128, 128]
DEFAULTS = dict(patch_size=64, stride=2, widths=WIDTHS, dense=[128, 64], classes=("background", "lesion"),
                window=(-160.0, 240.0), equalize=False, pixel_mm=None)  # fmt: skip


class Training:
    """Everything that one training holds. `args` are train.py's."""

    def __init__(self, args, group):
        self.args, self.group, self.device = args, group, group.device
        if args.batch % (2 * group.size):
            raise ValueError(f"--batch {args.batch}: must be even for each of {group.size} processes: half is lesion")
        self.low_precision = PRECISIONS[args.precision or default_precision(self.device)]
        torch.manual_seed(args.seed)
        start = load(args.start) if args.start else None
        settled(args, start)
        self.scans, self.held_out, self.others = self.read()
        if start:
            self.intensity = start.intensity if args.equalize else start.intensity.rewindowed(args.window)
        elif args.imagenet:
            self.intensity = Intensity(args.window, args.equalize, imagenet.MEAN, imagenet.STD)
        else:
            self.intensity = measured(self.scans, args)
        self.how = Augmentation(args.turn, args.zoom, args.flip, args.gain, self.of_window(args.shift_hu), args.blur,
                                self.of_window(args.noise_hu))  # fmt: skip
        self.side = args.patch_size + DENSE_STEP * (args.labels - 1)
        self.sampler = self.new_sampler(args.seed if group.size == 1 else [args.seed, group.rank])
        if args.prior:
            self.say("prior offsets in nats:", {name: round(value, 2) for name, value in self.sampler.offsets.items()})
        mean, std = self.intensity.mean, self.intensity.std
        others = f" and {len(self.others)} others" if self.others else ""
        self.say(f"mean {mean}, std {std}; {len(self.scans)} scans{others}, held out:",
                 " ".join(source.name for source in self.held_out) or "none")  # fmt: skip
        self.model = self.network(start).to(self.device, memory_format=torch.channels_last)
        self.frozen = blocks(self.model)[: args.freeze]
        for layer in self.frozen:
            layer.requires_grad_(False)
        learning = [weights for weights in self.model.parameters() if weights.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=args.learning_rate, weight_decay=args.weight_decay)
        # fp16 gradients underflow without a scale; bfloat16 has the range of float32.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.low_precision is torch.float16)
        self.history, self.best, self.spent = [], None, 0.0
        self.mines_at_once = start is not None
        if group.size > 1:
            torch.manual_seed(args.seed * 1000 + group.rank)  # augmentation and dropout: each process its own
            if self.device.type == "cuda" and args.batch_norm:
                self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.average = copy.deepcopy(self.model).requires_grad_(False) if args.average else self.model
        args.out.mkdir(parents=True, exist_ok=True)
        if args.resume and (args.out / "checkpoint.pt").exists():
            self.go_on(args.out / "checkpoint.pt")
        self.parallel = group.parallel(self.model)

    def say(self, *words):
        if self.group.first:
            print(*words, flush=True)

    def of_window(self, hu):
        """HU as a share of the window, which is what intensities count."""
        low, high = self.args.window
        return hu / (high - low)

    def read(self):
        """(training scans, Sources of held-out ones, others to draw from): held out are a second folder, or a fold of patients."""
        args, group = self.args, self.group
        labels = None if args.lesion_label is None else scans.Labels(args.lesion_label, args.organ_label)
        found = scans.find(args.train, args.pattern, labels)
        held_out = scans.find(args.held_out, args.pattern, labels) if args.held_out else []
        mixed = scans.find(args.mix) if args.mix else []
        sources = scans.choose(found, leave_out=args.leave_out)
        apart(args.train, sources, args.held_out, held_out)
        apart(args.train, found, args.mix, mixed)  # what is set aside, too
        apart(args.held_out, held_out, args.mix, mixed)
        raw = Intensity(args.window, args.equalize)

        def load(which, copies=()):
            if args.cache and group.size > 1:  # each computes its share, then all read everything
                scans.load(which[group.rank :: group.size], raw, args.pixel_mm, args.cache, not group.first, copies)
                group.wait()
            return scans.load(which, raw, args.pixel_mm, args.cache, not group.first, copies)

        training, others = load(sources), load(mixed)
        if mixed and not any(scan.lesions for scan in others):
            raise ValueError(f"{args.mix}: no lesion in any of {len(mixed)} scans: nothing to draw from there")
        if args.held_out is None:
            training, fold = split(training, args.fold)
            names = {scan.name for scan in fold}
            held_out = [source for source in sources if source.name in names]
            sources = [source for source in sources if source.name not in names]
        if args.painted:
            others += load(sources, range(1, args.painted + 1))
        return training, with_lesions(held_out), others

    def new_sampler(self, seed):
        args, margin, rng = self.args, self.how.margin(self.side), np.random.default_rng(seed)
        share = args.mix_share if self.others else 0.0
        return BalancedSampler(self.scans, self.side, margin, rng, args.outside, args.by_size, self.others, share)

    def network(self, start):
        """A fresh network, or one that goes on from `start` or from ImageNet's convolutions."""
        args = self.args
        config = dict(
            patch_size=args.patch_size, widths=list(args.widths), dense=list(args.dense), classes=len(args.classes)
        )
        if not start and not args.imagenet:
            return Vgg16(**config, dropout=args.dropout, batch_norm=args.batch_norm)
        # Their statistics are those that batch norms start with; the same patches in every process.
        sampler, count = self.sampler, 256 if start else 32
        if self.group.size > 1:
            sampler = self.new_sampler(args.seed)
        sample = augmented(sampler.batch(count)[0], self.side, self.how)[0]
        sample = (sample - self.intensity.mean) / self.intensity.std
        if args.imagenet:
            return imagenet.start(args.imagenet, config, args.dropout, args.batch_norm, sample)
        if args.batch_norm:
            return unfolded(start.model, sample, args.dropout)
        model = Vgg16(**start.model.config, dropout=args.dropout, batch_norm=False)
        model.load_state_dict(start.model.state_dict())
        return model

    def run(self, on_epoch=None):
        """Trains; the history of epochs. on_epoch(row) is called after each, in the first process."""
        args = self.args
        last = min(args.epochs, args.stop_after or args.epochs)
        for epoch in range(len(self.history) + 1, last + 1):
            if self.tired() or self.progress(0) >= 1:
                break
            if args.mine and (self.mines_at_once or epoch > 2):  # before that, everything is wrong
                self.mine()
            loss = self.train_epoch(f"epoch {epoch}/{args.epochs}")
            for model in (self.model, self.average):
                self.group.same_buffers(model)
            mined = self.group.gather({pool: len(places) for pool, places in self.sampler.mined.items()})
            row = dict(epoch=epoch, train_loss=float(np.mean(self.group.gather(loss))),
                       missed=sum(m["missed"] for m in mined), mistaken=sum(m["mistaken"] for m in mined),
                       minutes=self.spent / 60)  # fmt: skip
            ends = epoch == last or self.progress(0) >= 1
            if self.held_out and (ends or epoch % args.validate_every == 0):
                row |= self.validated()
            self.history.append(row)
            self.say(" ".join(f"{key} {value:.4g}" for key, value in row.items()))
            if not self.held_out or row.get("held_out_dice", -1) > (self.best or {"held_out_dice": -1})["held_out_dice"]:
                self.best = row
                self.export("model.safetensors")
            if args.keep_epochs:
                self.export(f"epoch-{epoch}.safetensors")
            self.record()
            if on_epoch and self.group.first:
                on_epoch(row)
        if self.tired():
            self.say(f"no better Dice for {args.patience} epochs: stopped")
        return self.history

    def tired(self):
        return self.best is not None and len(self.history) - self.best["epoch"] >= self.args.patience

    def progress(self, step):
        """From 0 to 1, by batches or by time, whichever is further."""
        args = self.args
        done = (len(self.history) * args.steps + step) / (args.epochs * args.steps)
        return max(done, self.spent / 60 / args.minutes) if args.minutes else done

    def rate(self, step):
        """The learning rate: a linear rise, and then half a cosine."""
        args, progress = self.args, self.progress(step)
        risen = (len(self.history) * args.steps + step + 1) / args.steps
        if args.minutes:
            risen = max(risen, progress / WARM_UP)
        return args.learning_rate * (min(1, risen) * 0.5 * (1 + math.cos(math.pi * min(1, progress))) + 1e-3)

    def decay(self, step):
        """Of the average: it forgets the first weights in the beginning, when they are of no use."""
        done = len(self.history) * self.args.steps + step
        return min(self.args.average, done / (done + 10))

    def train_epoch(self, title):
        args, device, intensity = self.args, self.device, self.intensity
        self.model.train()
        for layer in self.frozen:
            layer.eval()  # batch norms keep their statistics
        losses, size, began = [], args.batch // self.group.size, time.monotonic() - self.spent
        steps = Progress(range(args.steps), title, "batches", quiet=not self.group.first)
        with ThreadPoolExecutor(1) as reader:  # cuts the next batch while this one is computed
            coming = reader.submit(self.sampler.batch, size)
            for step in steps:
                windows, classes, offsets = coming.result()
                if step + 1 < args.steps:
                    coming = reader.submit(self.sampler.batch, size)
                for part in self.optimizer.param_groups:
                    part["lr"] = self.rate(step)
                patches, classes = augmented(windows.to(device), self.side, self.how, classes.to(device), args.labels)
                patches = ((patches - intensity.mean) / intensity.std).contiguous(memory_format=torch.channels_last)
                with self.autocast():
                    logits = self.parallel(patches)
                loss = self.loss(logits.float(), classes, offsets.to(device))
                self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                if args.average:
                    averaged(self.average, self.model, self.decay(step))
                losses.append(loss.item())
                steps.note = f"loss {np.mean(losses[-30:]):.3f}"
                self.spent = time.monotonic() - began
                if args.minutes:
                    self.spent = max(self.group.gather(self.spent))  # all stop at the same step
                    if self.progress(step) >= 1:
                        break
        return float(np.mean(losses))

    def loss(self, logits, classes, offsets):
        """Cross-entropy of logits [n][classes] or, of crops, [n][classes][labels][labels], and 0..2 [n][labels][labels].

        offsets: of the prior, for the pixels that were drawn. In crops, labels outside the organ weigh `outside`.
        """
        targets = classes if len(self.args.classes) == 3 else (classes == 2).long()
        if logits.ndim == 2:
            lesion = torch.zeros(logits.shape[1], device=logits.device)
            lesion[-1] = 1.0
            return functional.cross_entropy(logits + offsets[:, None] * lesion * self.args.prior, targets[:, 0, 0])
        weights = torch.where(classes == 0, self.args.outside, 1.0)
        return (functional.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()

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
                margins += (logits[:, -1] - logits[:, :-1].logsumexp(1)).tolist()
            return margins

        self.sampler.mine(margins_of, self.args.mine // self.group.size, self.args.patch_size)

    def validated(self):
        """The scores of the weights as they are, by the library from a file."""
        path = self.export("last.safetensors")
        device = "cpu" if self.device.type == "cpu" else f"cuda:{self.device.index or 0}"
        library = Library(path, device=device, threads=torch.get_num_threads())
        mine = self.held_out[self.group.rank :: self.group.size]
        found = [validation.score(library, source) for source in Progress(mine, "validating", "scans", not self.group.first)]
        scores = [score for part in self.group.gather(found) for score in part]
        if self.group.first:
            (self.args.out / "scores.json").write_text(json.dumps([asdict(score) for score in scores]) + "\n")
        return validation.summary(scores, library.threshold)

    def export(self, name):
        """The path of the averaged weights as a file for the library, the same in every process."""
        path, args = self.args.out / name, self.args
        if self.group.first:
            about = Settings(self.intensity, args.stride, args.classes, args.pixel_mm, args.threshold)
            export(path, self.average, about)
        self.group.wait()
        return path

    def record(self):
        """Curves, history and checkpoint of the epochs so far."""
        states = self.group.gather(checkpoint.random_state(self.sampler, self.scans + self.others, self.device))
        if not self.group.first:
            return
        out = self.args.out
        draw_curves(out / "curves.png", self.history)
        (out / "history.json").write_text(json.dumps(self.history, indent=1) + "\n")
        parts = {name: getattr(self, name).state_dict() for name in CHECKPOINTED}
        settings = checkpoint.settings(self.args, self.scans, self.others)
        checkpoint.save(
            out / "checkpoint.pt",
            dict(settings=settings, **parts, history=self.history, best=self.best, random=states),
        )

    def go_on(self, path):
        """From a checkpoint. With another number of processes the epochs to come draw other patches."""
        content = checkpoint.load(path, checkpoint.settings(self.args, self.scans, self.others))
        for name in CHECKPOINTED:
            getattr(self, name).load_state_dict(content[name])
        self.history, self.best = content["history"], content["best"]
        self.spent = self.history[-1]["minutes"] * 60
        states = content["random"]
        if len(states) == self.group.size:
            checkpoint.set_random_state(states[self.group.rank], self.sampler, self.scans + self.others, self.device)
        else:
            self.say(f"{len(states)} processes before, {self.group.size} now: goes on with other patches")
            self.sampler.rng = np.random.default_rng([self.args.seed, len(self.history), self.group.rank])
        self.say(f"resumed after epoch {len(self.history)}: {path}")


def default_precision(device):
    """bfloat16, except on a GPU without it."""
    native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float16"


def settled(args, start):
    """Fills in what --start's model says or is the default; what is given must be the model's.

    Another window is taken into mean and deviation, except under equalisation.
    """
    known = {} if start is None else start.options()
    for name, default in DEFAULTS.items():
        given = getattr(args, name)
        if given is None:
            setattr(args, name, known.get(name, default))
        elif known.get(name) not in (None, given) and (name != "window" or known["equalize"]):
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} {text(given)}: {args.start} has {text(known[name])}: leave the option out")
    if args.stride > args.patch_size:
        raise ValueError(f"--stride {args.stride}: must be 1..={args.patch_size}, the patch size")


def text(value):
    return ",".join(map(text, value)) if isinstance(value, (list, tuple)) else str(value)


def averaged(average, model, decay):
    """average = decay * average + (1 - decay) * model, weights and running statistics."""
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), model.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def apart(one, ours, other, theirs):
    """A ValueError if the Sources `ours` and `theirs` of two folders have a scan in common."""
    if both := {source.image.resolve() for source in ours} & {source.image.resolve() for source in theirs}:
        raise ValueError(f"{min(both)}: both in {one} and in {other}: must be in one of them")


def with_lesions(sources):
    """The held-out scans as they are, if any of them has lesions."""
    if sources and not any(source.read()[1].any() for source in sources):
        raise ValueError("no lesion in any held-out scan: nothing to validate on")
    return sources


def measured(loaded, args):
    """The Intensity with mean and deviation of the training voxels."""
    values = np.concatenate([scan.image[::2, ::3, ::3].astype(np.float32).ravel() for scan in loaded[::4]])
    return Intensity(args.window, args.equalize, round(float(values.mean()), 4), round(float(values.std()), 4))


def draw_curves(path, history):
    scored = [row for row in history if "held_out_dice" in row]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3))
    left.plot([row["epoch"] for row in history], [row["train_loss"] for row in history])
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for key, label in (("held_out_dice", "mean"), ("held_out_global", "all voxels")):
        right.plot([row["epoch"] for row in scored], [row[key] for row in scored], label=label)
    right.set(xlabel="epoch", ylabel="held-out Dice", ylim=(0, 1))
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
