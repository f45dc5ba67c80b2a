"""ResNet, ResNeXt and MobileNetV2 as stages of residual blocks: any depth of a stage, any dilation of a block.

The published networks, their half-wide forms that CR-NAS trains its supernets with (its appendix A.1), and narrow ones
of ours: `-tiny` for 128 pixels, with three stages, the last at stride 16, so that its map keeps 8x8 pixels and a
dilated kernel still reads image; `-shallow` also so, but with fields that do not cover the image; `-fine` with such
fields and two stages, the last at stride 8, so that a detector of 1x1 convolutions tells neighbours apart;
`resnet18-quarter` and `resnet26-quarter` for photographs of 256 pixels. `-cifar` are those of 32-pixel images.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import groupby

from workbench.spaces.branches import dilation_parts, with_dilation
from workbench.spaces.mbconv import fna_spec
from workbench.spaces.network_spec import BlockKind, BlockSpec, NetworkSpec, chained

DEEPEST = 200  # blocks in a stage: a name read from a file must not build millions
DILATABLE: tuple[BlockKind, ...] = ("basic", "bottleneck", "mbconv")


@dataclass(frozen=True)
class Stage:
    """Blocks like `block`, of which only the first strides; `options` are the depths a search may choose from."""

    block: BlockSpec
    depth: int
    options: tuple[int, ...] = ()  # () is a stage that keeps its depth
    cost: float = 1.0  # nominal cost of one block, in the allocation rule


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A family of networks: stem, stages numbered from 1, and the stages whose last map is tapped."""

    stem: tuple[BlockSpec, ...]
    stages: tuple[Stage, ...]
    taps: tuple[int, ...]
    image_size: int = 224

    @property
    def searched(self) -> tuple[int, ...]:
        """The numbers of the stages whose depth may change."""
        return tuple(number for number, stage in enumerate(self.stages, start=1) if stage.options)

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths of the searched stages in the network as published."""
        return tuple(stage.depth for stage in self.stages if stage.options)

    def budget(self, depths: Sequence[int]) -> float:
        """Nominal cost of an allocation: the number of blocks, weighted where the paper weights them."""
        stages = [stage for stage in self.stages if stage.options]
        return sum(stage.cost * depth for stage, depth in zip(stages, depths, strict=True))


_T12 = tuple(range(1, 11))
_T3 = (2, 3, 5, 6, 9, 11, 14, 17, 20, 23)
_T4 = (2, 3, 4, 6, 7, 9, 11, 13, 15, 17)
_GRID = (_T12, _T12, _T3, _T4)  # branch depths of ResNet and ResNeXt (CR-NAS, sections 3.2.1 and A.2)


def _resnet(
    block: BlockSpec,
    depths: Sequence[int],
    grid: Sequence[tuple[int, ...]] = _GRID,
    *,
    width: int = 64,
    strides: Sequence[int] = (2, 1, 2, 2, 2),
    stem_kernel: int = 3,
    pool: bool = False,
    image_size: int = 224,
) -> Layout:
    """Stages of blocks like `block` whose width doubles from one to the next; `strides` of the stem, then of each."""
    conv = BlockSpec(kind="conv", out_channels=width, stride=strides[0], kernel=stem_kernel)
    first, pooling = replace(conv, activation=block.activation), replace(conv, kind="pool", stride=2, kernel=3)
    widest = width * (4 if block.kind == "bottleneck" else 1)
    blocks = [replace(block, out_channels=widest * 2**i, stride=stride) for i, stride in enumerate(strides[1:])]
    stem, stages = (first, pooling) if pool else (first,), tuple(map(Stage, blocks, depths, grid))
    return Layout(stem=stem, stages=stages, taps=tuple(range(1, len(depths) + 1)), image_size=image_size)


def _tiny(block: BlockSpec, depths: Sequence[int] = (3, 3, 2), width: int = 16) -> Layout:
    """Stem at stride 2, three stages at strides 4, 8, 16; as `-tiny` eight blocks in all."""
    return _resnet(block, depths, [tuple(range(1, 7))] * 3, width=width, strides=(2, 2, 2, 2), image_size=128)


def _cifar(depth: int) -> Layout:
    """ResNet-20 to -110 for 32-pixel images: strides 1, 2, 4, and shortcuts without weights (He et al. 2015, 4.2)."""
    block, depths = replace(_BLOCK, expansion=1.0, shortcut="pad"), [(depth - 2) // 6] * 3
    return _resnet(block, depths, [tuple(range(1, 10))] * 3, width=16, strides=(1, 1, 2, 2), image_size=32)


def _mobilenet_v2() -> Layout:
    """Ten slots in the paper's code: stem, t=1 bottleneck, m1 to m5, the 320 bottleneck, 1x1 convolution, pooling."""
    spec = fna_spec("MobileNetV2", last=1280)
    depths = {2: range(1, 6), 3: range(1, 6), 4: range(3, 8), 5: range(2, 7), 6: range(2, 7)}  # of m1 to m5
    costs = {2: 1.5, 5: 0.75, 6: 1.25}
    stages = []
    for number, blocks in groupby(spec.blocks[1:], key=lambda block: block.stage):
        first, *rest = blocks
        stages.append(Stage(first, 1 + len(rest), tuple(depths.get(number, ())), costs.get(number, 1.0)))
    return Layout(stem=spec.blocks[:1], stages=tuple(stages), taps=(2, 3, 5, 8))


def _published(width: int, suffix: str) -> dict[str, Layout]:
    layouts = {
        "resnet18": (_BLOCK, _R18),
        "resnet50": (_BOTTLENECK, _R50),
        "resnet101": (_BOTTLENECK, _R101),
        "resnext50": (_RESNEXT, _R50),
        "resnext101": (_RESNEXT, _R101),
    }
    return {
        name + suffix: _resnet(block, depths, width=width, stem_kernel=7, pool=True)
        for name, (block, depths) in layouts.items()
    }


_R18, _R50, _R101 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3)
_BLOCK = BlockSpec(kind="basic", out_channels=0, expansion=0.25)
_BOTTLENECK = BlockSpec(kind="bottleneck", out_channels=0, expansion=0.25)
_INVERTED = BlockSpec(kind="mbconv", out_channels=0, expansion=4.0, activation="relu6")
_RESNEXT = replace(_BOTTLENECK, expansion=0.5, groups=32)
LAYOUTS: dict[str, Layout] = {
    **_published(64, ""),
    "mobilenetv2": _mobilenet_v2(),
    **_published(32, "-half"),
    "resnet18-quarter": _resnet(_BLOCK, _R18, [(1, 2, 3, 4, 5)] * 4, width=16, pool=True, image_size=256),
    "resnet26-quarter": _resnet(_BOTTLENECK, _R18, width=16, pool=True, image_size=256),
    "resnet20-cifar": _cifar(20),
    "resnet56-cifar": _cifar(56),
    "resnet-tiny": _tiny(replace(_BLOCK, expansion=1.0)),
    "resnet-bottleneck-tiny": _tiny(_BOTTLENECK),
    "mobilenetv2-tiny": _tiny(_INVERTED),
    "resnet-bottleneck-shallow": _tiny(_BOTTLENECK, (2, 2, 1), width=8),
    "resnet-bottleneck-fine": _resnet(
        _BOTTLENECK, (2, 3), [tuple(range(1, 7))] * 2, width=8, strides=(2, 2, 2), image_size=128
    ),
    "mobilenetv2-shallow": _tiny(replace(_INVERTED, expansion=3.0), (1, 1, 1)),
}


def layout_named(name: str) -> Layout:
    """The layout of that name; ValueError lists the names there are."""
    if name not in LAYOUTS:
        near = get_close_matches(name, LAYOUTS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A residual backbone is one of {', '.join(LAYOUTS)}; got {name!r}.{hint}")
    return LAYOUTS[name]


def residual_spec(name: str, depths: Sequence[int] = (), dilations: Sequence[int] = ()) -> NetworkSpec:
    """The network `name` with `depths` blocks in its searched stages and one dilation for each residual block.

    Empty `depths` are the published ones and empty `dilations` are all 1. Any positive depths are accepted, also such
    that no search grid holds: a published code needs no space to exist.
    """
    layout = layout_named(name)
    depths = tuple(depths) or layout.depths
    if len(depths) != len(layout.searched) or any(not 1 <= depth <= DEEPEST for depth in depths):
        raise ValueError(
            f"{name} has {len(layout.searched)} searched stages, each with 1 to {DEEPEST} blocks;"
            f" got depths {list(depths)}."
        )
    blocks, chosen = list(layout.stem), iter(depths)
    for number, stage in enumerate(layout.stages, start=1):
        first = replace(stage.block, stage=number)
        depth = next(chosen) if stage.options else stage.depth
        blocks += [first, *[replace(first, stride=1)] * (depth - 1)]
    spec = chained(f"{name} {'.'.join(map(str, depths))}", blocks, layout.taps)
    return dilated(spec, dilations) if dilations else spec


def blocks_label(backbone: str, depths: Sequence[int] = ()) -> str:
    """`backbone`, with its blocks per stage where they are not the published ones: "resnet50-1.3.5.7"."""
    plain = not depths or tuple(depths) == layout_named(backbone).depths
    return backbone if plain else f"{backbone}-{'.'.join(map(str, depths))}"


def labelled(label: str, space: str) -> tuple[str, NetworkSpec]:
    """Backbone and network of such a label within the name `space`; ValueError when they do not fit."""
    match = re.fullmatch(r"(.+?)(?:-(\d+(?:\.\d+)+))?", label)
    backbone, text = match.groups() if match else (label, None)
    depths = tuple(map(int, text.split("."))) if text else ()
    spec = residual_spec(backbone, depths)
    if label != (known := blocks_label(backbone, depths)):
        known = space.replace(label, known)
        raise ValueError(f"The depths in {space} are those of {backbone} as published; the space is named {known}.")
    return backbone, spec


def dilated(spec: NetworkSpec, dilations: Sequence[int]) -> NetworkSpec:
    """`spec` with these dilations in its residual blocks, in order; params and MACs stay what they are."""
    places = dilatable_blocks(spec)
    if len(dilations) != len(places) or any(rate < 1 for rate in dilations):
        raise ValueError(
            f"{spec.name} has {len(places)} blocks that can be dilated, by at least 1;"
            f" got {len(dilations)} dilations {list(dilations)}."
        )
    blocks = list(spec.blocks)
    for place, rate in zip(places, dilations, strict=True):
        blocks[place] = with_dilation(blocks[place], rate, rate)
    return replace(spec, blocks=tuple(blocks))


def dilatable_blocks(spec: NetworkSpec) -> tuple[int, ...]:
    """Indices of the blocks whose 3x3 (or depthwise) convolution can be dilated."""
    return tuple(index for index, block in enumerate(spec.blocks) if block.kind in DILATABLE)


def check_dilations(spec: NetworkSpec, image_size: tuple[int, int]) -> None:
    """ValueError when a dilated kernel would read only padding around its centre, at `image_size` (height, width)."""
    size = image_size
    for index, block in enumerate(spec.blocks):
        behind = (-(-size[0] // block.stride), -(-size[1] // block.stride))
        # A basic block dilates its second 3x3, which stands behind the stride; the others the strided one itself.
        read = behind if block.kind == "basic" else size
        for _, *dilation in dilation_parts(block):
            for axis, (rate, side) in enumerate(zip(dilation, read, strict=True)):
                if rate >= side:
                    raise ValueError(
                        f"Block {index} of {spec.name} reads a map of {side} pixels {('height', 'width')[axis]} at"
                        f" image size {image_size}: a 3x3 kernel dilated by {rate} sees only padding around its centre."
                        f" Use dilations up to {side - 1} or larger images."
                    )
        size = behind
