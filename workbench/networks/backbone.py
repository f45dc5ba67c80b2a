"""A stand-alone network: the blocks of a specification in order, returning the tapped feature maps."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from workbench.networks.blocks import TappedChain, build_block
from workbench.spaces.network_spec import NetworkSpec


@dataclass(frozen=True)
class Prefix:
    """What the blocks before `start` gave for a batch: the features that enter block `start`, and the tapped maps."""

    start: int
    features: Tensor
    maps: tuple[Tensor, ...] = ()


class Backbone(nn.Module):
    """(N, 3, H, W) -> list of (N, channels[i], H / strides[i], W / strides[i]), from high to low resolution."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = spec.channels
        self.strides = spec.strides
        self.blocks = nn.ModuleList(build_block(block) for block in spec.blocks)
        for index in spec.expanded:
            self.blocks[index] = TappedChain.of(self.blocks[index])

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(run_blocks(self.blocks, self.spec.taps, self.spec.expanded, Prefix(0, images)).maps)


def run_blocks(
    blocks: nn.ModuleList, taps: tuple[int, ...], expanded: tuple[int, ...], known: Prefix, stop: int | None = None
) -> Prefix:
    """Goes on from `known` through the blocks before `stop` (None: all), noting the maps behind the tapped ones.

    Of the blocks in `expanded` it is the map behind their expansion instead.
    """
    features, maps = known.features, list(known.maps)
    stop = len(blocks) if stop is None else stop
    for index in range(known.start, stop):
        if index in expanded:
            inside: Any = blocks[index]  # a block with `tapped`
            behind, features = inside.tapped(features)
            maps.append(behind)
            continue
        features = blocks[index](features)
        if index in taps:
            maps.append(features)
    return Prefix(stop, features, tuple(maps))
