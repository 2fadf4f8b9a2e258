"""One peer evaluating patches one by one on the CPU, in a process of its own: `peers.py` starts it.

    python benches/cpu_peer.py PEER FOLDER THREADS BATCH FIRST END

PEER is onnxruntime, openvino, openvino-bf16, torch or torch-bf16. FOLDER holds model.onnx, model.safetensors and patches.npy
([n][channels][P][P], f32). Prints one line of JSON: version, seconds for each patch, logits of patches FIRST..END. The
first batch is evaluated once before the clock starts.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def with_onnxruntime(folder, threads):
    """(version, patches -> logits) in f32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda patches: session.run(None, {"input": patches})[0]


def with_openvino(folder, threads, precision="f32"):
    """(version, patches -> logits)"""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = openvino.Core().compile_model(folder / "model.onnx", "CPU", settings | {"NUM_STREAMS": 1})
    return openvino.__version__.split("-")[0], lambda patches: np.asarray(compiled([patches])[0], np.float32)


def with_torch(folder, threads, precision="float32"):
    """(version, patches -> logits), channels last."""
    import torch
    from safetensors.torch import load_file

    import torch_vgg

    torch.set_num_threads(threads)
    kind = dict(dtype=getattr(torch, precision), memory_format=torch.channels_last)
    size = np.load(folder / "patches.npy", mmap_mode="r").shape[-1]
    model = torch_vgg.vgg(size)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model = model.to(**kind)

    @torch.inference_mode()
    def run(patches):
        return model(torch.from_numpy(patches).to(**kind)).float().numpy()

    return torch.__version__, run


PEERS = {
    "onnxruntime": with_onnxruntime,
    "openvino": with_openvino,
    "openvino-bf16": lambda *given: with_openvino(*given, "bf16"),
    "torch": with_torch,
    "torch-bf16": lambda *given: with_torch(*given, "bfloat16"),
}

name, where, *numbers = sys.argv[1:]
threads, batch, first, end = map(int, numbers)
all_patches = np.load(Path(where, "patches.npy"), mmap_mode="r")
batches = [np.array(all_patches[at : min(at + batch, end)]) for at in range(first, end, batch)]
version, run = PEERS[name](Path(where), threads)
run(batches[0])
began = time.perf_counter()
logits = np.concatenate([run(part) for part in batches])
seconds = (time.perf_counter() - began) / (end - first)
print(json.dumps(dict(version=version, seconds_per_patch=seconds, logits=logits.tolist())))
