"""One peer evaluating patches one by one on the CPU, in a process of its own: `peers.py` starts it.

    python benches/cpu_peer.py PEER FOLDER --threads N --batch N --first N --end N

PEER is onnxruntime, openvino, openvino-bf16, torch or torch-bf16. FOLDER holds model.onnx and patches.npy ([n][channels][P][P],
f32). Writes PEER.npy there, the logits of patches first..end, and prints one line of JSON: version, seconds for each patch. The
first batch is evaluated once before the clock starts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np


def with_onnxruntime(path, threads):
    """(version, patches -> logits) in f32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda patches: session.run(None, {"input": patches})[0]


def with_openvino(path, threads, precision):
    """(version, patches -> logits); precision f32 or bf16."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT"}
    settings["NUM_STREAMS"] = 1
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    version = openvino.__version__.split("-")[0]
    return version, lambda patches: np.asarray(compiled([patches])[0], np.float32)


def with_torch(path, threads, precision):
    """(version, patches -> logits): the layers of the ONNX file, channels last; precision float32 or bfloat16."""
    import onnx
    import torch
    from onnx import numpy_helper
    from torch.nn import functional

    torch.set_num_threads(threads)
    graph = onnx.load(path).graph
    dtype = getattr(torch, precision)
    tensor = lambda weight: torch.from_numpy(numpy_helper.to_array(weight).copy()).to(dtype)
    weights = {weight.name: tensor(weight) for weight in graph.initializer}
    for name, weight in weights.items():
        if weight.dim() == 4:
            weights[name] = weight.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(patches):
        x = torch.from_numpy(patches).to(dtype).contiguous(memory_format=torch.channels_last)
        for node in graph.node:
            given = [weights[name] for name in node.input[1:]]
            x = {
                "Conv": lambda x, *given: functional.conv2d(x, *given, padding=1),
                "Relu": functional.relu,
                "MaxPool": lambda x: functional.max_pool2d(x, 2),
                "Flatten": lambda x: x.flatten(1),
                "Gemm": functional.linear,
            }[node.op_type](x, *given)
        return x.float().numpy()

    return torch.__version__, run


PEERS = {
    "onnxruntime": with_onnxruntime,
    "openvino": lambda path, threads: with_openvino(path, threads, "f32"),
    "openvino-bf16": lambda path, threads: with_openvino(path, threads, "bf16"),
    "torch": lambda path, threads: with_torch(path, threads, "float32"),
    "torch-bf16": lambda path, threads: with_torch(path, threads, "bfloat16"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    for name in ("threads", "batch", "first", "end"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    patches = np.load(given.folder / "patches.npy", mmap_mode="r")
    batches = [
        np.array(patches[first : min(first + given.batch, given.end)])
        for first in range(given.first, given.end, given.batch)
    ]
    version, run = PEERS[given.peer](given.folder / "model.onnx", given.threads)
    run(batches[0])
    began = time.perf_counter()
    logits = [run(batch) for batch in batches]
    seconds = (time.perf_counter() - began) / (given.end - given.first)
    np.save(given.folder / f"{given.peer}.npy", np.concatenate(logits))
    print(json.dumps(dict(version=version, seconds_per_patch=seconds)))


if __name__ == "__main__":
    main()
