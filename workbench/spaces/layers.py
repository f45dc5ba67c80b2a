"""Layer by layer around a seed network: kernel, width and depth (FNA; FNA++ also of ResNets).

Stage widths, strides, the first stage's expansion, padding and the taps are the seed's. Of an inverted residual a
layer chooses kernel and expansion (k3e3 to k7e6), of a ResNet block kernel, dilation and inner width; every layer but
the first of a stage may also be skipped, which is how depth is searched. A space is named
`layers-<seed>-<layers of the searched stages>[-<form>]`, for example `layers-mobilenetv2-4.4.4.4.4.1` (detection) and
`layers-mobilenetv2-4.4.6.6.4.1-os16` (segmentation): the forms os16 and os8 dilate instead of striding further, `ssd`
has the maps that SSDLite reads.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from workbench.spaces.branches import spatial_dilation, with_dilation
from workbench.spaces.mbconv import efficientnet_lite0_spec, fna_spec
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.residual import DILATABLE, LAYOUTS, residual_spec
from workbench.spaces.space import SKIP, Decision, SearchSpace

PREFIX = "layers-"
# `-tf` is for weights trained with TensorFlow: its padding and eps; `-front` ends at stride 16.
MOBILE_SEEDS = ("mobilenetv2", "mobilenetv2-tf", "efficientnet-lite0", "efficientnet-lite0-front")
SSD_STAGE = 6  # SSDLite reads the expansion of this stage's first layer
_DEEPEST = 60  # layers of a stage: a name read from a file must not build millions
_NAME = re.compile(rf"{PREFIX}(?P<seed>.+?)-(?P<depths>\d+(?:\.\d+)*)(?:-(?P<form>ssd|os16|os8))?")
# FNA's options in the order of alpha; ours for ResNets, whose searched convolution has a kernel, a dilation (d) and,
# in a bottleneck, an inner width of all or half (h) of the seed's.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "mbconv": ("k3e3", "k3e6", "k5e3", "k5e6", "k7e3", "k7e6"),
    "basic": ("k3", "k3d2", "k5"),
    "bottleneck": ("k3", "k3h", "k3d2", "k3d2h", "k5", "k5h"),
}


# The place of one layer: the block it would be if it were the seed's own, and its options.
Slot = tuple[BlockSpec, tuple[str, ...]]


def seed_spec(name: str, form: str = "") -> NetworkSpec:
    """The seed network of that name, with the maps and strides that `form` asks for; ValueError lists the names."""
    last = 1280 if form == "ssd" else 0
    if name == "mobilenetv2":
        spec = fna_spec("MobileNetV2", last=last)
    elif name == "mobilenetv2-tf":
        spec = fna_spec("MobileNetV2", last=last, padding="same", bn_eps=1e-3)
    elif name in MOBILE_SEEDS:
        spec = efficientnet_lite0_spec(5 if name.endswith("front") else 8 if form == "ssd" else 7)
    elif name in LAYOUTS:
        spec = residual_spec(name)
    else:
        raise ValueError(f"A seed network is one of {', '.join((*MOBILE_SEEDS, *LAYOUTS))}; got {name!r}.")
    if form == "ssd":
        return ssd_form(spec)
    return with_output_stride(spec, int(form.removeprefix("os"))) if form else spec


def ssd_form(spec: NetworkSpec) -> NetworkSpec:
    """`spec` with the two maps that SSDLite reads; ValueError for a network without those stages."""
    starts = [index for index, block in enumerate(spec.blocks) if block.stage == SSD_STAGE]
    if not starts or spec.blocks[-1].kind != "conv":
        raise ValueError(f"SSDLite reads stages that {spec.name} does not have; use mobilenetv2 or efficientnet-lite0.")
    return replace(spec, taps=(starts[0], len(spec.blocks) - 1), expanded=(starts[0],))


def with_output_stride(spec: NetworkSpec, stride: int) -> NetworkSpec:
    """`spec` that strides no further than `stride`; from there on strides become dilations.

    At output stride 16 blocks 6 and 7 of MobileNetV2 get dilation 2, the first layer of block 6 included. Weights fit
    as they are.
    """
    blocks, reached, rate = [], 1, 1
    for block in spec.blocks:
        if reached * block.stride > stride:
            rate *= block.stride
            block = replace(block, stride=1)
        reached *= block.stride
        if rate > 1 and block.kind in DILATABLE:
            height, width = spatial_dilation(block)
            block = with_dilation(block, height * rate, width * rate)
        blocks.append(block)
    return replace(spec, blocks=tuple(blocks))


def layer_space_name(seed: str, depths: Sequence[int], form: str = "") -> str:
    return f"{PREFIX}{seed}-{'.'.join(map(str, depths))}{'-' + form if form else ''}"


def layer_space(name: str) -> SearchSpace:
    """The space of that name; ValueError when the seed is unknown or the depths are not one for each searched stage."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"A space of layers is named {PREFIX}<seed>-<layers of each searched stage>[-ssd|-os16|-os8], for example"
            f" {PREFIX}mobilenetv2-4.4.4.4.4.1; got {name!r}."
        )
    form = match["form"] or ""
    spec = seed_spec(match["seed"], "ssd" if form == "ssd" else "")
    stages = searched_stages(spec)
    depths = [int(depth) for depth in match["depths"].split(".")]
    if len(depths) != len(stages) or not all(1 <= depth <= _DEEPEST for depth in depths):
        raise ValueError(
            f"{match['seed']} has {len(stages)} searched stages ({', '.join(map(str, stages))}), each with 1 to"
            f" {_DEEPEST} layers; got {depths}."
        )
    slots = _slots(spec, dict(zip(stages, depths, strict=True)))
    decisions: list[Decision] = []
    for position, (template, options) in enumerate(slots):
        if options:
            within = sum(decision.stage == template.stage for decision in decisions) + 1
            decisions.append(Decision(f"stage {template.stage} layer {within}", options, position, template.stage))
    layout = LAYOUTS.get(match["seed"])
    side = layout.image_size if layout else 128 if match["seed"].endswith("front") else 224
    build = partial(_build, name, spec, slots, form)
    return SearchSpace(name=name, decisions=tuple(decisions), build=build, image_size=side)


def searched_stages(spec: NetworkSpec) -> tuple[int, ...]:
    """Stages of residual blocks; not one whose inverted residuals do not expand (block 1 of MobileNetV2)."""
    searched = (b for b in spec.blocks if b.kind in DILATABLE and (b.kind != "mbconv" or b.expansion != 1))
    return tuple(dict.fromkeys(block.stage for block in searched))


def _slots(spec: NetworkSpec, depths: dict[int, int]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    for index, block in enumerate(spec.blocks):
        first = index == 0 or spec.blocks[index - 1].stage != block.stage
        if block.stage not in depths:
            slots.append((block, ()))
        elif first:
            options = _OPTIONS[block.kind]
            if block.groups > 1:  # half the width in as many groups: no prefix of channels means the same
                options = tuple(option for option in options if not option.endswith("h"))
            # The head reads a fixed number of channels there, so only the kernel is free.
            own = tuple(option for option in options if index not in spec.expanded or option.endswith("e6"))
            slots.append((block, own))
            behind = replace(block, in_channels=block.out_channels, stride=1)
            slots += [(behind, (*options, SKIP))] * (depths[block.stage] - 1)
    return tuple(slots)


def _build(name: str, spec: NetworkSpec, slots: Sequence[Slot], form: str, choices: tuple[int, ...]) -> NetworkSpec:
    answers = iter(choices)
    blocks: list[BlockSpec] = []
    for template, options in slots:
        option = options[next(answers)] if options else ""
        if option != SKIP:
            blocks.append(_layer(template, option) if option else template)
    ends = {block.stage: index for index, block in enumerate(blocks)}
    starts = {block.stage: index for index, block in reversed(list(enumerate(blocks)))}
    places = {tap: (starts if tap in spec.expanded else ends)[spec.blocks[tap].stage] for tap in spec.taps}
    taps, expanded = tuple(places.values()), tuple(places[tap] for tap in spec.expanded)
    built = NetworkSpec(name=name, blocks=tuple(blocks), taps=taps, expanded=expanded)
    return with_output_stride(built, int(form.removeprefix("os"))) if form.startswith("os") else built


def _layer(template: BlockSpec, option: str) -> BlockSpec:
    match = re.fullmatch(r"k(\d)(?:e(\d))?(?:d(\d))?(h?)", option)
    assert match is not None
    kernel, expansion, dilation, half = match.groups()
    inner = float(expansion or template.expansion) / (2 if half else 1)
    rate = int(dilation or 1)
    return with_dilation(replace(template, kernel=int(kernel), expansion=inner), rate, rate)
