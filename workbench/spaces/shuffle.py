"""Chains of ShuffleNetV2 blocks with four operations to choose from in every block (DetNAS, section 2).

The published spaces are `shuffle-20` (about 300 MMACs at 224), `shuffle-40` (1.3 GMACs) and its widened form
`shuffle-40-wide` (3.8 GMACs). The others are ours, for a laptop: `shuffle-20-narrow` (half as wide, for photographs of
256 pixels) and `shuffle-tiny` for 128 pixels: three stages, the last at stride 16, so that a 7x7 kernel still reads
image and not padding there. The rest are shallow, so that kernels decide how far a network sees at all: `shuffle-81`
has few enough networks to train each of them, `shuffle-seven` ends at stride 8; both leave the Xception block out.
`shuffle-five` has it, and two blocks less than `shuffle-seven`.
"""

from functools import partial
from typing import NamedTuple

from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import BlockKind, BlockSpec, NetworkSpec, chained
from workbench.spaces.space import Decision, SearchSpace

OPERATIONS = ("shuffle 3x3", "shuffle 5x5", "shuffle 7x7", "xception 3x3")  # op ids 0 to 3, DetNAS's order


class Layout(NamedTuple):
    """Widths of the stem and the stages, blocks in each stage."""

    stem: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    image_size: int = 224
    operations: tuple[str, ...] = OPERATIONS  # the first of them


LAYOUTS: dict[str, Layout] = {
    "shuffle-20": Layout(16, (64, 160, 320, 640), (4, 4, 8, 4)),
    "shuffle-40": Layout(48, (96, 240, 480, 960), (8, 8, 16, 8)),
    "shuffle-40-wide": Layout(72, (172, 432, 864, 1728), (8, 8, 16, 8)),
    "shuffle-20-narrow": Layout(16, (32, 80, 160, 320), (4, 4, 8, 4), 256),
    "shuffle-tiny": Layout(16, (48, 96, 192), (2, 3, 3), 128),
    "shuffle-81": Layout(8, (32, 64), (2, 2), 128, OPERATIONS[:3]),
    "shuffle-seven": Layout(8, (32, 64), (2, 5), 128, OPERATIONS[:3]),
    "shuffle-five": Layout(8, (32, 64), (2, 3), 128),
}


def shuffle_space(name: str) -> SearchSpace:
    """One of the spaces of `LAYOUTS`: an operation for each block, the stride-2 ones included."""
    layout = LAYOUTS[name]
    places = [(stage, block) for stage, depth in enumerate(layout.depths, start=1) for block in range(1, depth + 1)]
    decisions = [
        Decision(f"stage {stage} block {block}", layout.operations, index, stage)
        for index, (stage, block) in enumerate(places, start=1)
    ]
    build = partial(shuffle_spec, name, layout)
    return SearchSpace(name=name, decisions=tuple(decisions), build=build, image_size=layout.image_size)


def shuffle_spec(name: str, layout: Layout, choices: tuple[int, ...]) -> NetworkSpec:
    """The network of one operation id per block. Stem and the first block of each stage halve the resolution."""
    blocks = [BlockSpec(kind="stem", out_channels=layout.stem, stride=2)]
    for stage, (width, depth) in enumerate(zip(layout.widths, layout.depths, strict=True), start=1):
        for index in range(depth):
            operation = choices[len(blocks) - 1]
            kind: BlockKind = "xception" if operation == 3 else "shuffle"
            kernel, stride = (3, 5, 7, 3)[operation], 1 if index else 2
            blocks.append(BlockSpec(kind=kind, out_channels=width, stride=stride, kernel=kernel, stage=stage))
    return chained(name, blocks, range(1, len(layout.depths) + 1))


def widened_spec(name: str, choices: tuple[int, ...], macs: int, image_size: ImageSize) -> NetworkSpec:
    """The network of `choices` with all widths scaled by one factor to as many backbone MACs as `macs` allows.

    This is DetNAS's control: does the search find more than the same multiply-accumulates spent on width would give?
    """
    layout = LAYOUTS[name]

    def scaled(factor: float) -> NetworkSpec:
        # Both halves of a ShuffleNetV2 block need an integer width: round to multiples of 4.
        stem, *widths = (4 * round(width * factor / 4) for width in (layout.stem, *layout.widths))
        wide = layout._replace(stem=stem, widths=tuple(widths))
        return shuffle_spec(f"{name} x{factor:.2f}", wide, choices)

    candidates = [scaled(1 + step / 100) for step in range(-50, 151)]
    legal = [spec for spec in candidates if backbone_cost(spec, image_size).macs <= macs]
    return max(legal, key=lambda spec: backbone_cost(spec, image_size).macs)
