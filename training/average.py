"""Averages the weights of models that have a start in common: often better than either on what one has not seen.

    python average.py run/model.safetensors start.safetensors --out averaged.safetensors

A model that went on from another keeps more of what that one knew (Wortsman et al., "Robust fine-tuning of zero-shot
models", 2022). Settings are the first one's; the others must see the same numbers for the same HU.
"""

import argparse
from pathlib import Path

import torch

from export import export, load


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", type=Path, nargs="+", help="safetensors files from train.py")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    args = parser.parse_args()
    first, *others = [load(path) for path in args.models]
    states = [first.model.state_dict()]
    for path, other in zip(args.models[1:], others):
        if other.model.config != first.model.config:
            raise ValueError(f"{path}: {other.model.config}, but {args.models[0]} has {first.model.config}")
        seen = other.intensity if first.intensity.equalize else other.intensity.rewindowed(first.intensity.window)
        for name in ("equalize", "mean", "std"):
            if abs(getattr(seen, name) - getattr(first.intensity, name)) > 1e-3:
                raise ValueError(f"{path}: {name} {getattr(seen, name):g} in the window of {args.models[0]}, which has "
                                 f"{getattr(first.intensity, name):g}: not one's start")  # fmt: skip
        states.append(other.model.state_dict())
    first.model.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    export(args.out, first.model, first)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
