"""Batches made ahead by other processes, with the same bytes whoever makes them.

What an image becomes depends on its job alone (its index, and the seed of what is drawn for it), so that neither the
number of workers nor a kill changes a batch. Workers come from a fork server, as in Python 3.14: a fork of the training
process would copy the locks that other threads (torch's, CUDA's, Jupyter's, Ray's) hold at that moment.
"""

import math
import multiprocessing
import os
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from workbench.records.environment import machine_setting

Job = tuple[int, int | None]  # the index of an image, and the seed of what is drawn for it
Read = Callable[[int, int | None], tuple[Tensor, Any]]  # of a job: the image and its target
MOST_WORKERS = 8  # without a setting
AHEAD = 2  # batches that each worker holds ready: more would only fill memory


class Joined(NamedTuple):
    """Tensors in one piece of memory: each piece costs a shared file and a transfer, however small it is."""

    flat: Tensor
    shapes: list[list[int]]


Column = Joined | list[Any]  # what is no tensor stays as it is


class Batch(NamedTuple):
    """Images and targets of some jobs; targets that are dicts are joined name by name."""

    images: Column
    targets: Column | dict[str, Column]


def workers_for(data: Any) -> int | None:
    """How many processes read the images of `data` ahead; None where they lie in memory, so that nobody has to.

    WORKBENCH_LOADER_WORKERS says it; else there is one for each core of this training process, at most 8.
    """
    if getattr(data, "in_memory", True):
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = min(MOST_WORKERS, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))  # torchrun and Ray set it
    return int(machine_setting("WORKBENCH_LOADER_WORKERS", usual))


def prefetched(
    read: Read, data: Any, jobs: Iterable[Sequence[Job]], *, workers: int, pinned: bool = False
) -> Generator[Batch, None, None]:
    """The batch of each list of jobs in order, read by so many processes of one thread; with 0 it is read here.

    ValueErrors of `read` are raised as they are (a `DamagedImage` names its file); RuntimeError names the image that
    was being read when a worker died. Close the iterator to end its workers: they end with it, however it ends.
    """
    reader = _Reader(read, data, torch.full((max(1, workers), 2), -1).share_memory_())
    if workers == 0:
        yield from (reader[job] for job in jobs)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.data.augmentation", "PIL.Image"])  # imported once, not by each worker
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores, if one says so
        loader: DataLoader[Any] = DataLoader(
            reader,  # type: ignore[arg-type]  # of lists of jobs, not of indices
            batch_size=None,
            sampler=jobs,
            num_workers=workers,
            prefetch_factor=AHEAD,
            collate_fn=_as_it_is,
            worker_init_fn=_begin,
            pin_memory=pinned,
            multiprocessing_context=context,
            generator=torch.Generator(),  # else the loader draws from the caller's
        )
        batches: Any = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, ValueError):
                raise batch
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        message = str(error)
        if not isinstance(error, RuntimeError):  # a batch lay ready in a worker that then died
            for worker in batches._workers:
                worker.join(0.5)
            message = "".join(f"DataLoader worker (pid {w.pid})" for w in batches._workers if w.exitcode is not None)
        if "DataLoader worker (pid" not in message:  # an error in the code of a data set
            raise
        raise RuntimeError(reader.told(message)) from error
    finally:
        batches._shutdown_workers()  # a traceback that somebody keeps would keep them alive


def join(values: list[Any]) -> Column:
    """Tensors of one type joined; anything else as it is."""
    if not all(isinstance(value, Tensor) for value in values):
        return values
    return Joined(torch.cat([value.reshape(-1) for value in values]), [list(value.shape) for value in values])


def parts(column: Column, device: torch.device | str = "cpu") -> list[Any]:
    """What was joined, on `device`: one transfer for all."""
    if not isinstance(column, Joined):
        return column
    pieces = column.flat.to(device, non_blocking=True).split([math.prod(shape) for shape in column.shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, column.shapes, strict=True)]


def rows(targets: Column | dict[str, Column], device: torch.device | str = "cpu") -> list[Any]:
    """The targets of a batch, image by image."""
    if not isinstance(targets, dict):
        return parts(targets, device)
    columns = (parts(column, device) for column in targets.values())
    return [dict(zip(targets, row, strict=True)) for row in zip(*columns, strict=True)]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread inside, as in a worker: sums over an image depend on the number in last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Reader:
    """What a worker gets: `reader[jobs]` is their batch, or the ValueError that one of them ended in.

    `at` (workers, 2) is shared: each worker's process id, and the index that it is reading, or -1.
    """

    def __init__(self, read: Read, data: Any, at: Tensor) -> None:
        self.read, self.data, self.at, self._sent = read, data, at, b""

    def __getstate__(self) -> tuple[bytes, Tensor]:
        self._sent = self._sent or pickle.dumps((self.read, self.data))  # once for all workers: seconds, for COCO
        return self._sent, self.at

    def __setstate__(self, state: tuple[bytes, Tensor]) -> None:
        (self.read, self.data), self.at, self._sent = pickle.loads(state[0]), state[1], b""

    def __getitem__(self, jobs: Sequence[Job]) -> Any:
        info = get_worker_info()
        mine, samples = self.at[info.id if info else 0], []
        mine[0] = os.getpid()
        try:
            with one_thread():
                for index, seed in jobs:
                    mine[1] = index
                    samples.append(self.read(index, seed))
        except ValueError as error:
            if info is None:
                raise
            return error
        mine[1] = -1
        images, targets = (list(column) for column in zip(*samples, strict=True))
        named = isinstance(targets[0], dict)
        return Batch(join(images), {n: join([t[n] for t in targets]) for n in targets[0]} if named else join(targets))

    def told(self, message: str) -> str:
        """One sentence from the message that names the processes that died."""
        message, dead = message.strip().rstrip("."), set(map(int, re.findall(r"\d+", message)))
        reading = [index for process, index in self.at.tolist() if process in dead]
        if not reading:
            return (
                f"The processes that read images ahead did not start ({message}); put data sets and tasks of your own"
                " into a module, and what a script does under if __name__ == '__main__', or read in one process with"
                " WORKBENCH_LOADER_WORKERS=0."
            )
        named = getattr(self.data, "named", "image {}".format)
        where = f"while it read {named(reading[0])}" if reading[0] >= 0 else "while it waited"
        return (
            f"A process that reads images ahead died {where} ({message}); look at that image and at the free memory"
            " (also of /dev/shm), or read in one process with WORKBENCH_LOADER_WORKERS=0."
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(worker: int) -> None:
    """A worker keeps no image: it reads each once in a long while. And it ends with the training, even with a kill.

    torch's workers end with their parent process, but that is the fork server, which in turn waits for them.
    """
    training = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(training,), daemon=True).start()
    info = get_worker_info()
    data = getattr(info.dataset, "data", None) if info else None
    while data is not None:  # a data set of crops has the images that they are cut from
        if hasattr(data, "memory"):
            data.memory.limit = 0
        data = getattr(data, "source", None)


def _end_with(training: Any) -> None:
    training.join()
    os._exit(1)
