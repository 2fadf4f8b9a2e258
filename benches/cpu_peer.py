"""One peer evaluating patches one by one on the CPU, in a process of its own: `peers.py` starts it.

    python benches/cpu_peer.py PEER THREADS BATCH FIRST END

PEER is onnxruntime, openvino, openvino-bf16, torch or torch-bf16. The current folder holds model.onnx,
model.safetensors and patches.npy ([n][channels][P][P], f32). Prints one line of JSON: version, seconds for each patch,
logits of patches FIRST..END. The first batch is evaluated once before the clock starts.
"""

import json
import sys
import time

import numpy as np


def with_onnxruntime(threads, bf16):
    """(version, patches -> logits), in f32 only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda patches: session.run(None, {"input": patches})[0]


def with_openvino(threads, bf16):
    """(version, patches -> logits)"""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": threads}
    settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model("model.onnx", "CPU", settings)
    return openvino.__version__.split("-")[0], lambda patches: np.asarray(compiled([patches])[0], np.float32)


def with_torch(threads, bf16):
    """(version, patches -> logits), channels last."""
    import torch
    from safetensors.torch import load_file

    import torch_vgg

    torch.set_num_threads(threads)
    kind = dict(dtype=torch.bfloat16 if bf16 else torch.float32, memory_format=torch.channels_last)
    model = torch_vgg.vgg(np.load("patches.npy", mmap_mode="r").shape[-1])
    model.load_state_dict(load_file("model.safetensors"))
    model = model.to(**kind)

    @torch.inference_mode()
    def run(patches):
        return model(torch.from_numpy(patches).to(**kind)).float().numpy()

    return torch.__version__, run


name, *numbers = sys.argv[1:]
peer = dict(onnxruntime=with_onnxruntime, openvino=with_openvino, torch=with_torch)[name.removesuffix("-bf16")]
threads, batch, first, end = map(int, numbers)
all_patches = np.load("patches.npy", mmap_mode="r")
batches = [np.array(all_patches[at : min(at + batch, end)]) for at in range(first, end, batch)]
version, run = peer(threads, name.endswith("-bf16"))
run(batches[0])
began = time.perf_counter()
logits = np.concatenate([run(part) for part in batches])
seconds = (time.perf_counter() - began) / (end - first)
print(json.dumps(dict(version=version, seconds_per_patch=seconds, logits=logits.tolist())))
