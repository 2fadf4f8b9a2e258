"""Several processes of one training, started by torchrun: one per GPU (NCCL), or on CPUs (gloo).

Each process draws its own patches, from a generator of its own; gradients are averaged after every batch, so all hold
the same weights. One process alone is a group of 1, and nothing of torch.distributed is used.
"""

import os
from datetime import timedelta

import torch
from torch import distributed

PATIENCE = timedelta(hours=2)  # for one another: scans of different sizes are read first


class Group:
    def __init__(self, device):
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = torch.device(device)
        if self.size > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            cuda = self.device.type == "cuda"
            distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE,
                                           device_id=self.device if cuda else None)  # fmt: skip

    @property
    def first(self):
        """True in the process that prints and writes."""
        return self.rank == 0

    def parallel(self, model):
        """The model whose gradients are averaged over the group."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def same_buffers(self, model):
        """The first process' running statistics for all: batch norm's differ, as each sees its own patches."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def gather(self, thing):
        """[thing of each process], in all of them."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size
        distributed.all_gather_object(things, thing)
        return things

    def wait(self):
        """For the others."""
        if self.size > 1:
            distributed.barrier()

    def close(self):
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
