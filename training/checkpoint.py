"""The state that lets a training go on as if it had never stopped: OUT/checkpoint.pt, after every epoch.

Weights, optimiser, schedule, epochs so far, every process' random generators and mined patches. Written under a
temporary name and renamed: a job that is killed meanwhile leaves the one before.
"""

import os
import pickle
from pathlib import Path

import numpy as np
import torch

# These may differ between the run that stopped and the one that goes on. Scans may have moved: names are compared.
FREE = {"out", "resume", "stop_after", "device", "cache", "patience", "train", "held_out", "mix"}


def settings(args, scans, others):
    """The settings that decide the result, as plain values."""
    decisive = {key: value for key, value in sorted(vars(args).items()) if key not in FREE}
    names = {"scans": [scan.name for scan in scans], "mix": [scan.name for scan in others]}
    return {key: _plain(value) for key, value in decisive.items()} | names


def _plain(value):
    return value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def random_state(sampler, scans, device):
    """The state of one process: generators, and the mined patches as [n][2] of scan and voxel."""
    number = {id(scan): k for k, scan in enumerate(scans)}
    mined = {
        pool: torch.tensor([[number[id(scan)], int(voxel)] for scan, voxel in places], dtype=torch.int64).reshape(-1, 2)
        for pool, places in sampler.mined.items()
    }
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return dict(numpy=sampler.rng.bit_generator.state, torch=torch.get_rng_state(), cuda=cuda, mined=mined)


def set_random_state(state, sampler, scans, device):
    sampler.rng.bit_generator.state = state["numpy"]
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    sampler.mined = {
        pool: [(scans[k], np.int64(voxel)) for k, voxel in places.tolist()] for pool, places in state["mined"].items()
    }


def save(path, content):
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def load(path, now):
    """The content of a checkpoint that was made with the settings `now`, else an error that names what differs."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        then = content["settings"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a checkpoint of train.py: remove it to start anew") from error
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            option = key if key == "scans" else "--" + key.replace("_", "-")
            raise ValueError(
                f"{path}: made with {option} {then.get(key)}, now {now.get(key)}: resume with the same, or start anew "
                "with another --out"
            )
    return content
