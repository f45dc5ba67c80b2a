"""Training on several processes: each runs the same path on its share of the batch, and gradients are averaged.

A single-path supernet leaves most gradients None, which `DistributedDataParallel` handles only by searching the graph
at each step; averaging the gradients that exist is simpler and exact, because all processes activate the same
architecture. Call `fit` from processes that share a `torch.distributed` group; it then also shares the batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """SyncBN on CUDA with several processes; it refuses CPU modules, so elsewhere the model stays as it is."""
    if device.type == "cuda" and world()[1] > 1:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Averages the gradients that exist over all processes, in one transfer; nothing to do with one process."""
    _, processes = world()
    if processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    shares = (flat / processes).split([gradient.numel() for gradient in gradients])
    for gradient, share in zip(gradients, shares, strict=True):
        gradient.copy_(share.view_as(gradient))


def mean_of_processes(value: float, device: torch.device) -> float:
    """The mean over all processes; not finite in any is not finite in all, so that they stop together."""
    if world()[1] == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total) / world()[1]


def agree(**facts: Any) -> None:
    """ValueError in every process when one knows other facts than the first: another machine may have other code."""
    if world()[1] == 1:
        return
    known: list[Any] = [None] * world()[1]
    dist.all_gather_object(known, facts)
    for rank, (name, value) in ((rank, fact) for rank, theirs in enumerate(known) for fact in theirs.items()):
        if value != known[0][name]:
            raise ValueError(
                f"Processes that train together must agree, but of {name} process 0 says {known[0][name]} and process"
                f" {rank} says {value}; give their machines the same code, packages and run folder."
            )
