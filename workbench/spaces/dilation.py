"""One dilation for each block of a residual network (CR-NAS, section 3.2.2): no weight and no MAC more or less.

A space is named `dilation-<backbone>`, for the network as published, or `dilation-<backbone>-<depths>` for another
allocation of its blocks, for example `dilation-resnet50-1.3.5.7`.
"""

from collections.abc import Sequence
from functools import partial

from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import blocks_label, dilatable_blocks, dilated, labelled, layout_named
from workbench.spaces.space import Decision, SearchSpace

PREFIX = "dilation-"
RATES = (1, 2, 3)  # operation codes 0, 1, 2 of the paper


def dilation_space_name(backbone: str, depths: Sequence[int] = ()) -> str:
    """The name of the space over `backbone` with these blocks per stage."""
    return PREFIX + blocks_label(backbone, depths)


def dilation_space(name: str) -> SearchSpace:
    """The space of that name; ValueError when the backbone is unknown or the depths do not fit it."""
    backbone, spec = labelled(name.removeprefix(PREFIX), name)
    options = tuple(f"dilation {rate}" for rate in RATES)
    decisions: list[Decision] = []
    for index in dilatable_blocks(spec):
        stage = spec.blocks[index].stage
        within = 1 + sum(decision.stage == stage for decision in decisions)
        decisions.append(Decision(f"stage {stage} block {within}", options, index, stage))
    return SearchSpace(
        name=name,
        decisions=tuple(decisions),
        build=partial(_build, spec),
        image_size=layout_named(backbone).image_size,
        costs="equal",
    )


def _build(spec: NetworkSpec, choices: tuple[int, ...]) -> NetworkSpec:
    return dilated(spec, [RATES[choice] for choice in choices])
