"""One dilation for each block of a residual network (CR-NAS, section 3.2.2): no weight and no MAC more or less.

A space is named `dilation-<backbone>`, for the network as published, or `dilation-<backbone>-<depths>` for another
allocation of its blocks, for example `dilation-resnet50-1.3.5.7`.
"""

import re
from collections.abc import Sequence
from functools import partial

from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import dilatable_blocks, dilated, layout_named, residual_spec
from workbench.spaces.space import Decision, SearchSpace

PREFIX = "dilation-"
RATES = (1, 2, 3)  # operation codes 0, 1, 2 of the paper
_NAME = re.compile(r"dilation-(?P<backbone>.+?)(?:-(?P<depths>\d+(?:\.\d+)+))?")


def dilation_space_name(backbone: str, depths: Sequence[int] = ()) -> str:
    """The name of the space over `backbone` with these blocks per stage."""
    plain = not depths or tuple(depths) == layout_named(backbone).depths
    return PREFIX + backbone + ("" if plain else "-" + ".".join(map(str, depths)))


def dilation_space(name: str) -> SearchSpace:
    """The space of that name; ValueError when the backbone is unknown or the depths do not fit it."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"A dilation space is named dilation-<backbone> or dilation-<backbone>-1.3.5.7; got {name!r}.")
    backbone = match["backbone"]
    depths = tuple(int(depth) for depth in match["depths"].split(".")) if match["depths"] else ()
    spec = residual_spec(backbone, depths)
    if name != (known := dilation_space_name(backbone, depths)):
        raise ValueError(f"The depths in {name} are those of {backbone} as published; the space is named {known}.")
    decisions: list[Decision] = []
    within = 0
    for index in dilatable_blocks(spec):
        stage = spec.blocks[index].stage
        within = within + 1 if decisions and decisions[-1].stage == stage else 1
        options = tuple(f"dilation {rate}" for rate in RATES)
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
