"""Measured milliseconds of every option of every block, so that latency can be limited like MACs."""

from collections.abc import Callable

import torch

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
    first = space.spec(space.uniform(0))
    decision_of_block = {decision.block: index for index, decision in enumerate(space.decisions)}
    fixed, table, size = 0.0, [[0.0]] * len(space.decisions), height_width(image_size)
    for position, block in enumerate(first.blocks):
        features = torch.rand(1, block.in_channels, *size, device=device)
        if position not in decision_of_block:
            fixed += latency_of(build_block(block).to(device), features, repeats=10)
        else:
            decision = decision_of_block[position]
            options = range(len(space.decisions[decision].options))
            specs = [space.spec(space.uniform(option)).blocks[position] for option in options]
            table[decision] = [latency_of(build_block(spec).to(device), features, repeats=10) for spec in specs]
        _, size = block_cost(block, size)
    return lambda arch: fixed + sum(row[choice] for row, choice in zip(table, arch.choices, strict=True))
