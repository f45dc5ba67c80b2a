"""Batch-norm statistics for one path of a supernet.

A supernet's running statistics mix all paths that were trained, so before an architecture is scored they are
recomputed for it on a fixed set of training images (DetNAS, section 5). The original forgets all but the last batches
(momentum 0.1); here it is the exact cumulative average over all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.data.prefetch import workers_for
from workbench.networks.count import evaluating
from workbench.networks.supernet import Supernet
from workbench.tasks.task import Task


@dataclass(frozen=True)
class ImageBatches:
    """Batches of the same images at every iteration, made when they are needed: 4,000 of COCO are 15 GB."""

    task: Task
    data: Any
    indices: Sequence[int]
    batch_size: int
    device: torch.device

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        starts = range(0, len(self.indices), self.batch_size)
        cuts = [self.indices[start : start + self.batch_size] for start in starts]
        # Asked of a view: so few images may stay in memory, where the whole data set does not.
        if (workers := workers_for(self.data.take(self.indices))) is None:
            yield from (self.task.batch(self.data, cut, self.device)[0] for cut in cuts)
            return
        jobs = ([(index, None) for index in cut] for cut in cuts)
        with closing(self.task.batches(self.data, jobs, self.device, workers=workers)) as made:
            yield from (images for images, _ in made)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)


def recalibrate(
    model: nn.Module,
    task: Task,
    batches: Iterable[list[Tensor]],
    before_batch: Callable[[int], None] | None = None,
) -> None:
    """Replaces the running statistics of every norm layer that runs by their average over `batches` of images.

    `before_batch` is called with the index of each batch; it may switch the path of a supernet. Layers that do not run
    (other options of a supernet) keep their statistics. Only statistics change; all modes are restored. As soon as the
    last norm layer is known nothing is computed behind it: in a detector that may be most of the head.
    """
    norms = batch_norms(model)
    ran: list[nn.Module] = []  # by the first batch in its order, then whatever other layers run
    handles = [norm.register_forward_pre_hook(lambda layer, _: ran.append(layer)) for norm in norms]
    before = _statistics(norms)
    searched = {layer for part in model.modules() if isinstance(part, Supernet) for layer in part.modules()}
    # Which of the other norms is the last only a pass can tell.
    last = _last(model, norms) if norms and searched.issuperset(norms) else nullcontext
    try:
        with evaluating(model), torch.no_grad(), averaging(norms):
            for index, images in enumerate(batches):
                if before_batch is not None:
                    before_batch(index)
                with last():
                    task.run_layers(model, images)
                if index == 0:
                    last = _last(model, ran)
            # A detector drops boxes with NaN scores, so a broken network would look like one that finds nothing.
            if not all(bool(buffer.isfinite().all()) for norm in set(ran) for buffer in norm.buffers()):
                raise FloatingPointError("the features of this network are not finite")
    finally:
        for handle in handles:
            handle.remove()
        _restore({norm: kept for norm, kept in before.items() if norm not in ran})


def _last(model: nn.Module, ran: Sequence[nn.Module]) -> Callable[[], AbstractContextManager[None]]:
    """Contexts that end a pass of the model where its last norm layer has run, given all that ran in one pass.

    Where that is one of a supernet's, the next batch may have another path: then the pass ends behind the supernet.
    """
    ending = ran[-1] if ran else model
    for part in model.modules():
        if isinstance(part, Supernet) and ending in set(part.modules()):
            ending = part
    times = max(1, ran.count(ending))  # a tower runs once for each map

    @contextmanager
    def ended() -> Iterator[None]:
        calls = 0

        def stop(*_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == times:
                raise _Enough

        with ending.register_forward_hook(stop), suppress(_Enough):
            yield

    return ended


class _Enough(Exception):
    """Every norm layer has run."""


@contextmanager
def averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Inside, each of these layers normalises by its batch and averages the statistics of all batches it sees.

    At the end they normalise by that average.
    """
    momenta = [norm.momentum for norm in norms]
    modes = [norm.training for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # PyTorch's cumulative average
            norm.train()
        yield
    finally:
        for norm, momentum, mode in zip(norms, momenta, modes, strict=True):
            norm.momentum = momentum
            norm.train(mode)


@contextmanager
def keeping_statistics(model: nn.Module) -> Iterator[None]:
    """Puts all running statistics back at the end, so that scoring one architecture leaves no trace for the next."""
    before = _statistics(batch_norms(model))
    try:
        yield
    finally:
        _restore(before)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The layers with running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def _statistics(norms: Iterable[_BatchNorm]) -> dict[_BatchNorm, list[Tensor]]:
    return {norm: [buffer.clone() for buffer in norm.buffers()] for norm in norms}


@torch.no_grad()
def _restore(statistics: Mapping[_BatchNorm, Sequence[Tensor]]) -> None:
    for norm, kept in statistics.items():
        for buffer, value in zip(norm.buffers(), kept, strict=True):
            buffer.copy_(value)
