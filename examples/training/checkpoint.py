"""What a training needs to go on as if it had never stopped: OUT/checkpoint.pt, after every epoch.

Weights, optimiser, schedule, epochs so far, every process' random generators and mined patches. Written under a temporary
name and renamed: a job that is killed meanwhile leaves the one before.
"""

import os

import numpy as np
import torch

# What may differ between the run that stopped and the one that goes on.
FREE = {"out", "resume", "stop_after", "device", "cache", "patience", "train", "held_out"}


def settings(args):
    """The options that decide the result, as plain values."""
    plain = lambda value: list(value) if isinstance(value, tuple) else str(value) if hasattr(value, "parts") else value  # noqa: E731
    return {key: plain(value) for key, value in sorted(vars(args).items()) if key not in FREE}


def random_state(sampler, scans, device):
    """Of one process: generators, and the mined patches as [n][2] of scan and voxel."""
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


def load(path, args):
    """The content of a checkpoint made with the same settings, else an error that names what differs."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    now, then = settings(args), content["settings"]
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            option = "--" + key.replace("_", "-")
            raise SystemExit(f"{path}: made with {option} {then.get(key)}, now {now.get(key)}: resume with the same options")
    return content
