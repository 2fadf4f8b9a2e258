"""Search for hyper-parameters with Optuna: short trainings in as many processes as there are GPUs.

    python sweep.py SWEEP --trials 40 -- data/train data/val --cache cache --epochs 12

Options after -- are train.py's and hold for every trial. The study is kept in SWEEP/study.journal: processes started
with the same command, on one machine or as jobs of a cluster with a common file system, share it, and the command given
again goes on. SWEEP/trial-N has what train.py writes. A trial that is behind the median of the others at the same
epoch, or that runs out of GPU memory, is stopped; one whose process was killed is made up for by another.
"""

import argparse
import os
import sys
from pathlib import Path

import train  # first: it says how threads wait, before torch is loaded
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from processes import Group
from trainer import Training
from vgg import FULL_WIDTHS

SEARCHED = ("--learning-rate", "--weight-decay", "--dropout", "--batch", "--widths")


def values(kind):
    def parse(text):
        return [kind(word) for word in text.split(",")]

    return parse


def span(text):
    low, high = (float(word) for word in text.split(","))
    return low, high


def parser():
    usage = "%(prog)s SWEEP [options] -- TRAIN [options of train.py]"
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], usage=usage)
    parser.add_argument("sweep", type=Path, help="folder of the study, made if missing")
    parser.add_argument("--trials", type=int, default=40, help="in all, of all processes (default 40)")
    space = parser.add_argument_group("what is searched; LO,LO keeps a value").add_argument
    space("--learning-rate", type=span, default="1e-5,3e-3", metavar="LO,HI", help="logarithmic (default 1e-5,3e-3)")
    space("--weight-decay", type=span, default="1e-5,1e-1", metavar="LO,HI", help="logarithmic (default 1e-5,1e-1)")
    space("--dropout", type=span, default="0,0.6", metavar="LO,HI", help="(default 0,0.6)")
    space("--batch", type=values(int), default="64,128,256", metavar="N,...", help="(default 64,128,256)")
    space("--width", type=values(float), default="0.25,0.5,1", metavar="X,...",
          help="share of VGG16's channels (default 0.25,0.5,1; only 1 goes with --imagenet)")  # fmt: skip
    return parser


def drawn(trial, given):
    """A trial's options of train.py."""
    width = trial.suggest_categorical("width", given.width)
    return dict(
        learning_rate=trial.suggest_float("learning_rate", *given.learning_rate, log=True),
        weight_decay=trial.suggest_float("weight_decay", *given.weight_decay, log=True),
        dropout=trial.suggest_float("dropout", *given.dropout),
        batch=trial.suggest_categorical("batch", given.batch),
        widths=[max(1, round(width * channels)) for channels in FULL_WIDTHS],
    )


def held_out_dice(trial, given, options):
    """One training; the best epoch's held-out Dice."""
    args = train.parser().parse_args(options)
    out = given.sweep / f"trial-{trial.number}"
    vars(args).update(drawn(trial, given), out=out, resume=False, stop_after=None)

    def on_epoch(row):
        if "held_out_dice" not in row:  # --validate-every
            return
        trial.report(row["held_out_dice"], row["epoch"])
        if trial.should_prune():
            raise optuna.TrialPruned(f"behind the others after epoch {row['epoch']}")

    try:
        training = Training(train.checked(args), Group(args.device))
        training.run(on_epoch)
    except torch.OutOfMemoryError as error:
        raise optuna.TrialPruned("out of memory") from error
    return training.best["held_out_dice"]


def study_of(given, options):
    """The study in the folder, made or gone on with; another command's is refused."""
    given.sweep.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(given.sweep / "study.journal"))), study_name="sweep",
        load_if_exists=True, direction="maximize",
        sampler=optuna.samplers.TPESampler(constant_liar=True),  # processes keep away from one another's trials
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=3),
    )  # fmt: skip
    space = {key: list(value) for key, value in vars(given).items() if key not in ("sweep", "trials")}
    made_with = study.user_attrs.get("made_with", now := {"options": options, **space})
    for key, value in now.items():
        if made_with[key] != value:
            raise ValueError(f"{given.sweep}: made with {key} {made_with[key]}, now {value}: give another folder")
    study.set_user_attr("made_with", now)
    return study


def finished(study):
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def main():
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    given, options = parser().parse_args(words[:end]), words[end + 1 :]
    args = train.parser().parse_args(options)  # wrong options end here, before there is a study
    try:
        if args.held_out is None and args.fold[0] == 0:
            raise ValueError("--fold 0/N: holds out nothing by which trials could be compared")
        if "WORLD_SIZE" in os.environ:
            raise ValueError("a trial is one process: start sweep.py itself several times instead of with torchrun")
        for option in (word.split("=")[0] for word in options):
            if option in SEARCHED:
                raise ValueError(f"{option}: is searched; say the range before --")
        study = study_of(given, options)
        while finished(study) < given.trials:
            study.optimize(lambda trial: held_out_dice(trial, given, options), n_trials=1)
        best = study.best_trial
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
    print(f"{finished(study)} trials; best {best.number}, held-out Dice {best.value:.3f}: {best.params}")
    print(given.sweep / f"trial-{best.number}" / "model.safetensors")


if __name__ == "__main__":
    main()
