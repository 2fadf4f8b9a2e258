"""A batch on Dask: an existing scheduler, or a local cluster.

Each worker process has one session, used by one scan at a time. A scan of a worker that dies goes to another one
(Dask's scheduler sees to that); since a finished scan is known by its record, none is done twice. Dask blames every
scan that waited on workers that died, so those it gives up are tried again at the end, alone: who kills a worker then
has done it himself.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any, Iterator, Optional

from .batch import Fatal, Setup, Task, Worker, is_finished, record_of, write_failure

_keys = itertools.count()
_workers: dict[str, Worker] = {}
_making = threading.Lock()


def run_here(setup: Setup, task: Task) -> dict[str, Any]:
    """A Dask worker's task: a scan, with the session of this process."""
    with _making:
        worker = _workers.setdefault(repr(setup), Worker(setup))
    return worker.run(task)


def run(
    setup: Setup, tasks: list[Task], address: Optional[str], workers: int, resources: Optional[dict[str, float]]
) -> Iterator[dict[str, Any]]:
    """Records of `tasks` as they come. `address` None: a cluster of `workers` processes on this machine.

    `resources` are what a scan occupies, such as {"GPU": 1}; workers of an existing scheduler must offer them.
    """
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if address is None:
            # A worker that is killed is started again. On a busy machine that takes longer than the 15 s after which
            # the cluster would give it up for good, and wait for ever without one.
            stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}))
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                resources=resources,
                memory_limit=0,  # the library keeps its own budget
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        else:
            client = stack.enter_context(Client(address, timeout=30))
        suspects: list[Task] = []
        yield from _each(client, setup, tasks, resources, suspects)
        for task in suspects:
            killed: list[Task] = []
            yield from _each(client, setup, [task], resources, killed)
            if killed:
                yield write_failure(task, "every worker that tried it was killed (out of memory?)")


def _each(
    client: Any, setup: Setup, tasks: list[Task], resources: Optional[dict[str, float]], killed: list[Task]
) -> Iterator[dict[str, Any]]:
    """Records of the tasks as they come, apart from those whose workers were `killed`."""
    from distributed import KilledWorker, as_completed

    futures = client.map(
        partial(run_here, setup),
        tasks,
        key=[f"patchmask-{os.getpid()}-{next(_keys)}" for _ in tasks],
        pure=False,
        resources=resources,
    )
    task_of = {future.key: task for future, task in zip(futures, tasks)}
    try:
        for future in as_completed(futures):
            task = task_of[future.key]
            failed = future.exception()
            if failed is None:
                yield future.result()
            elif isinstance(failed, Fatal):
                raise failed
            elif is_finished(task):  # the worker died after the last rename
                yield record_of(task) or {}
            elif isinstance(failed, KilledWorker):
                killed.append(task)
            else:
                yield write_failure(task, f"{type(failed).__name__}: {failed}")
    finally:
        client.cancel(futures)
