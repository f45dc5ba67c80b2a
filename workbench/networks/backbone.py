"""A stand-alone network: the blocks of a specification in order, returning the tapped feature maps."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from workbench.networks.blocks import TappedChain, build_block
from workbench.spaces.network_spec import NetworkSpec


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
        return run_blocks(self.blocks, self.spec.taps, images, expanded=self.spec.expanded)


def run_blocks(
    blocks: nn.ModuleList,
    taps: tuple[int, ...],
    features: Tensor,
    *,
    start: int = 0,
    maps: Sequence[Tensor] = (),
    expanded: tuple[int, ...] = (),
) -> list[Tensor]:
    """Applies the blocks from `start` on, in order, and returns the maps after the tapped ones.

    With `start` > 0 `features` are what enters that block and `maps` those tapped before it. Of the blocks in
    `expanded` the map behind their expansion is returned instead.
    """
    tapped = list(maps)
    for index in range(start, len(blocks)):
        if index in expanded:
            inside: Any = blocks[index]  # a block with `tapped`
            behind, features = inside.tapped(features)
            tapped.append(behind)
            continue
        features = blocks[index](features)
        if index in taps:
            tapped.append(features)
    return tapped
