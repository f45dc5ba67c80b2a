"""A dilation for every group of output channels (NATS): one pair (height, width) per group, no weight and no MAC more.

The 3x3 convolutions of all stages but the first are searched (stages 3 to 5 in the paper's count, which calls the stem
stage 1). A layer's output channels are cut into equal groups, either N of them in every layer or as many as make C
channels each; N = 1 is the usual search for one operation per layer. A space is named
`channel-dilation-<backbone>[-<depths>]-n<N>-<set>` or `...-c<C>-<set>`, for example `channel-dilation-resnet50-n16-C`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import groupby, islice
from typing import Literal

from workbench.spaces.arch import Arch
from workbench.spaces.branches import foldable, searched_group, searched_width, with_dilations
from workbench.spaces.network_spec import BlockSpec, Dilation, NetworkSpec
from workbench.spaces.residual import blocks_label, dilatable_blocks, labelled, layout_named
from workbench.spaces.space import Decision, SearchSpace

PREFIX = "channel-dilation-"
Slicing = Literal["contiguous", "index"]

_SQUARES: tuple[Dilation, ...] = ((1, 1), (2, 2), (3, 3))
_WIDE_SQUARES: tuple[Dilation, ...] = (*_SQUARES, (4, 4), (5, 5))
# The sets of the ablation (section 4.3, table 5), and one that only tests need; the second of each pair is for maps of
# stride 32, which are the paper's stage 5. Narrower networks end earlier and use the first everywhere.
DILATION_SETS: dict[str, tuple[tuple[Dilation, ...], tuple[Dilation, ...]]] = {
    "A": (((1, 1), (3, 3)), ((1, 1), (3, 3), (5, 5))),
    "B": (_SQUARES, _WIDE_SQUARES),
    "C": ((*_SQUARES, (1, 3), (3, 1)), (*_WIDE_SQUARES, (1, 3), (3, 1), (1, 5), (5, 1))),
    "plain": (((1, 1),), ((1, 1),)),
}
_NAME = re.compile(PREFIX + r"(.+)-([nc][1-9]\d*)-(\w+)")  # backbone with its blocks, groups, set


@dataclass(frozen=True, kw_only=True)
class SearchedLayer:
    """One convolution of the space: its block in the specification and the groups its output channels are cut into."""

    block: int
    stage: int
    channels: int
    groups: int  # N
    dilations: tuple[Dilation, ...]

    @property
    def group_channels(self) -> int:
        """C"""
        return self.channels // self.groups


def channel_dilation_name(backbone: str, groups: str, dilations: str, depths: Sequence[int] = ()) -> str:
    """The name of the space; `groups` is "n16" (groups in each layer) or "c32" (channels in each group)."""
    return f"{PREFIX}{blocks_label(backbone, depths)}-{groups}-{dilations}"


def dilation_name(dilation: Dilation) -> str:
    """Height x width, for example "1x3"."""
    return f"{dilation[0]}x{dilation[1]}"


def channel_dilation_space(name: str) -> SearchSpace:
    """The space of that name; ValueError for an unknown backbone or set, or groups that do not fit the channels."""
    spec, layers = _parsed(name)
    decisions: list[Decision] = []
    within: Counter[int] = Counter()  # of each stage
    for layer in layers:
        within[layer.stage] += 1
        place = f"stage {layer.stage} block {within[layer.stage]}"
        options = tuple(map(dilation_name, layer.dilations))
        for group in range(1, layer.groups + 1):
            decisions.append(Decision(f"{place} group {group}", options, layer.block, layer.stage, of_channels=True))
    return SearchSpace(
        name=name,
        decisions=tuple(decisions),
        build=partial(_built, spec, layers, False),
        build_exact=partial(_built, spec, layers, True),
        image_size=layout_named(spec.name.split()[0]).image_size,
        costs="equal",
    )


def base_spec(space: SearchSpace) -> NetworkSpec:
    """The undilated network that the space starts from."""
    return _parsed(space.name)[0]


def searched_layers(space: SearchSpace) -> tuple[SearchedLayer, ...]:
    """The searched convolutions in order; decisions are their groups, layer after layer."""
    return _parsed(space.name)[1]


def logits(space: SearchSpace) -> int:
    """How many numbers the search learns: one for each dilation of each group (section 3)."""
    return sum(len(decision.options) for decision in space.decisions)


def layer_choices(space: SearchSpace, arch: Arch) -> list[tuple[int, ...]]:
    """For each searched layer the dilation index of each of its groups."""
    return _by_layer(searched_layers(space), space.check(arch).choices)


def channel_order(chosen: Sequence[int], group_channels: int) -> list[int]:
    """For each channel of the decoded layer the one it was: sorted by dilation, else in the old order."""
    groups = sorted(range(len(chosen)), key=lambda group: chosen[group])
    return [group * group_channels + channel for group in groups for channel in range(group_channels)]


def decoded(space: SearchSpace, arch: Arch, slicing: Slicing = "contiguous") -> NetworkSpec:
    """The network of `arch`, to be filled with pretrained weights in one of two slicings of section 3.4.

    `contiguous` (equations 5 and 6): one convolution per dilation, as wide as its assignments, in the order of the set.
    `index` keeps for every group the dilation that it chose. Where the channels can be sorted for good (`foldable`)
    that is the same network with permuted weights; elsewhere every group stays in its place, neighbours of one dilation
    in one convolution: the same cost in more and thinner convolutions.
    """
    return space.exact_spec(arch) if slicing == "index" else space.spec(arch)


def same_everywhere(space: SearchSpace, dilation: Dilation) -> Arch:
    """The architecture with one dilation in all groups; ValueError when a layer does not offer it."""
    choices = []
    for layer in searched_layers(space):
        if dilation not in layer.dilations:
            raise ValueError(
                f"The dilation {dilation} is not among {list(layer.dilations)} of stage {layer.stage} in {space.name}."
            )
        choices += [layer.dilations.index(dilation)] * layer.groups
    return space.arch(choices)


def equal_split(space: SearchSpace) -> Arch:
    """Every dilation in (nearly) equally many groups of each layer; where N is no multiple the first ones get more."""
    choices: list[int] = []
    for layer in searched_layers(space):
        choices += sorted(group % len(layer.dilations) for group in range(layer.groups))
    return space.arch(choices)


@lru_cache(maxsize=64)
def _parsed(name: str) -> tuple[NetworkSpec, tuple[SearchedLayer, ...]]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"A space of dilations by channel is named {PREFIX}<backbone>-n16-C (16 groups in each layer, set C of"
            f" dilations) or {PREFIX}<backbone>-c32-C (32 channels in each group); got {name!r}."
        )
    label, groups, options = match.groups()
    if options not in DILATION_SETS:
        raise ValueError(f"A dilation set is one of {', '.join(DILATION_SETS)}; got {options!r} in {name!r}.")
    _, spec = labelled(label, name)
    stride, layers = 1, []
    first = min(spec.blocks[index].stage for index in dilatable_blocks(spec))
    for index, block in enumerate(spec.blocks):
        stride *= block.stride
        if index in dilatable_blocks(spec) and block.stage > first:
            layers.append(_layer(name, index, block, groups, DILATION_SETS[options][stride >= 32]))
    return spec, tuple(layers)


def _layer(name: str, index: int, block: BlockSpec, groups: str, dilations: tuple[Dilation, ...]) -> SearchedLayer:
    channels, conv_group, number = searched_width(block), searched_group(block), int(groups[1:])
    if channels % number:
        what = f"{number} groups" if groups[0] == "n" else f"groups of {number} channels"
        fitting = [str(size) for size in range(1, channels + 1) if channels % size == 0]
        raise ValueError(
            f"The {channels} channels of block {index} (stage {block.stage}) cannot be cut into {what} as {name} asks;"
            f" use one of {', '.join(fitting)}."
        )
    count = number if groups[0] == "n" else channels // number
    if (channels // count) % conv_group:
        raise ValueError(
            f"Block {index} (stage {block.stage}) convolves in {block.groups} groups of {conv_group} channels, and"
            f" {name} would cut them: it asks for {channels // count} channels together. Use a multiple of"
            f" {conv_group}, at most n{channels // conv_group} here."
        )
    return SearchedLayer(block=index, stage=block.stage, channels=channels, groups=count, dilations=dilations)


def _by_layer(layers: Sequence[SearchedLayer], choices: Sequence[int]) -> list[tuple[int, ...]]:
    answers = iter(choices)
    return [tuple(islice(answers, layer.groups)) for layer in layers]


def _built(spec: NetworkSpec, layers: Sequence[SearchedLayer], exact: bool, choices: Sequence[int]) -> NetworkSpec:
    blocks = list(spec.blocks)
    for layer, chosen in zip(layers, _by_layer(layers, choices), strict=True):
        stay = exact and not foldable(blocks[layer.block])
        runs = [(index, len(list(run))) for index, run in groupby(chosen if stay else sorted(chosen))]
        parts = ((groups * layer.group_channels, *layer.dilations[index]) for index, groups in runs)
        blocks[layer.block] = with_dilations(blocks[layer.block], *parts)
    return replace(spec, blocks=tuple(blocks))
