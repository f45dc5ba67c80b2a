"""What answers a decision of a supernet: options apart, nested depths; a mixture of dilations has its own file."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.networks.blocks import TappedChain

Sharing = Literal["separate", "shared"]  # whether the options of a decision have weights of their own


class Choice(nn.Module):
    """What answers some decisions of a supernet: one option for each of them, or a mixture by the softmax of alpha."""

    alpha: nn.Parameter  # (decisions, options)

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0
        self.chosen: tuple[int, ...] | None = None  # an option for each decision; None: the mixture

    def shares(self) -> Tensor:
        """The weight of each option in each decision (decisions, options), rows of sum 1 (NATS, equation 3)."""
        return (self.alpha / self.temperature).softmax(dim=1)


class SeparateOptions(Choice):
    """All options of one decision, each a chain of blocks with weights of its own; an empty one skips.

    Only the chosen one runs, so only it gets gradients and batch statistics; or the sum of all, weighted by `shares`.
    """

    def __init__(self, options: Sequence[Sequence[nn.Module]]) -> None:
        super().__init__()
        self.options = nn.ModuleList(nn.Sequential(*chain) for chain in options)
        self.alpha = nn.Parameter(torch.zeros(1, len(options)))

    def forward(self, features: Tensor) -> Tensor:
        if self.chosen is not None:
            return self.options[self.chosen[0]](features)
        return mixed(self.shares()[0], (option(features) for option in self.options))

    def tapped(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Also the map behind the expansion, mixed by the same shares (SSDLite reads it)."""
        chains = [chain for option in self.options for chain in option.children() if isinstance(chain, TappedChain)]
        if self.chosen is not None:
            return chains[self.chosen[0]].tapped(features)
        inside, outputs = zip(*(chain.tapped(features) for chain in chains), strict=True)
        return mixed(self.shares()[0], inside), mixed(self.shares()[0], outputs)


class NestedDepths(Choice):
    """The blocks of the deepest option; a shallower one runs the first of them (CR-NAS leaves open which it is)."""

    def __init__(self, blocks: Sequence[nn.Module], depths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.depths = tuple(depths)
        self.alpha = nn.Parameter(torch.zeros(1, len(depths)))

    def forward(self, features: Tensor) -> Tensor:
        behind: list[Tensor] = []  # each depth
        for block in list(self.blocks)[: self.depths[self.chosen[0]] if self.chosen else None]:
            features = block(features)
            behind.append(features)
        return features if self.chosen else mixed(self.shares()[0], [behind[depth - 1] for depth in self.depths])


def mixed(shares: Iterable[Tensor], maps: Iterable[Tensor]) -> Tensor:
    """The sum of the maps, weighted by the shares (NATS, equations 2 and 3; FNA): numbers, or one for each channel.

    Maps are taken one by one, so that without gradients only a few of them are held at once.
    """
    weighted = (share.to(features.dtype) * features for share, features in zip(shares, maps, strict=True))
    total = next(weighted)
    for part in weighted:
        total = total + part
    return total


def blocks_of(block: nn.Module, chosen: Sequence[int]) -> list[nn.Module]:
    """The plain blocks, one after the other, that one of a supernet's modules runs when `chosen` is chosen."""
    if isinstance(block, SeparateOptions):
        return list(block.options[chosen[0]].children())
    if isinstance(block, NestedDepths):
        return list(block.blocks)[: block.depths[chosen[0]]]
    return [block]
