"""Measured milliseconds of every option of every block, so that latency can be limited like MACs."""

from collections.abc import Callable

import torch
from torch import nn

from workbench.networks.blocks import build_block
from workbench.networks.count import latency_of
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize, block_cost, height_width
from workbench.spaces.space import SearchSpace


def latency_table(space: SearchSpace, image_size: ImageSize, device: torch.device) -> Callable[[Arch], float]:
    """Measures each block option once at batch 1; the returned function adds up the blocks of an architecture, in ms.

    A sum over blocks leaves out what running them together costs or saves; it is the usual proxy of hardware-aware
    search.
    """
    first = space.segments(space.uniform(0))
    fixed, table, size = 0.0, [[0.0]] * len(space.decisions), height_width(image_size)
    for position, segment in enumerate(first):
        features = torch.rand(1, segment.blocks[0].in_channels, *size, device=device)
        if segment.decision is None:
            fixed += latency_of(build_block(segment.blocks[0]).to(device), features, repeats=10)
        else:
            options = range(len(space.decisions[segment.decision].options))
            chains = [space.segments(space.uniform(option))[position].blocks for option in options]
            modules = [nn.Sequential(*map(build_block, chain)).to(device) for chain in chains]
            table[segment.decision] = [latency_of(module, features, repeats=10) for module in modules]
        for block in segment.blocks:
            _, size = block_cost(block, size)
    return lambda arch: fixed + sum(row[choice] for row, choice in zip(table, arch.choices, strict=True))
