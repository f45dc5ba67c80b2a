"""ResNet, ResNeXt and MobileNetV2 as stages of residual blocks: any depth of a stage, any dilation of a block.

The published networks, their half-wide forms that CR-NAS trains its supernets with (its appendix A.1), and narrow ones
of ours: `-tiny` for 128 pixels, with three stages, the last at stride 16, so that its map keeps 8x8 pixels and a
dilated kernel still reads image; `resnet18-quarter` and `resnet26-quarter` for photographs of 256 pixels. `-cifar`
are those of 32-pixel images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from workbench.spaces.branches import dilation_parts, searched_width
from workbench.spaces.network_spec import Activation, BlockKind, BlockSpec, NetworkSpec, Shortcut

DEEPEST = 200  # blocks in a stage: a name read from a file must not build millions
DILATABLE: tuple[BlockKind, ...] = ("basic", "bottleneck", "mbconv")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of one width; the first carries the stride. `options` are the depths a search may choose from."""

    kind: BlockKind
    channels: int
    stride: int
    depth: int
    options: tuple[int, ...] = ()  # () is a stage that keeps its depth
    cost: float = 1.0  # nominal cost of one block, in the allocation rule
    expansion: float = 1.0
    groups: int = 1
    shortcut: Shortcut = "projection"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A family of networks: stem, stages numbered from 1, and the stages whose last map is tapped."""

    stem: int
    stem_kernel: int
    pool: bool  # 3x3 max pooling behind the stem
    stages: tuple[Stage, ...]
    taps: tuple[int, ...]
    image_size: int = 224
    activation: Activation = "relu"
    stem_stride: int = 2

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
    kind: BlockKind,
    depths: Sequence[int],
    *,
    width: int = 64,
    inner: float = 0.25,
    groups: int = 1,
    grid: Sequence[tuple[int, ...]] = _GRID,
) -> Layout:
    factor = 4 if kind == "bottleneck" else 1
    stages = tuple(
        Stage(
            kind=kind,
            channels=factor * width * 2**index,
            stride=1 if index == 0 else 2,
            depth=depth,
            options=tuple(options),
            expansion=inner,
            groups=groups,
        )
        for index, (depth, options) in enumerate(zip(depths, grid, strict=True))
    )
    return Layout(stem=width, stem_kernel=7, pool=True, stages=stages, taps=(1, 2, 3, 4))


def _tiny(kind: BlockKind, *, width: int = 16, expansion: float = 1.0) -> Layout:
    """Stem at stride 2, three stages at strides 4, 8, 16, eight blocks in all."""
    factor = 4 if kind == "bottleneck" else 1
    stages = tuple(
        Stage(
            kind=kind,
            channels=factor * width * 2**index,
            stride=2,
            depth=depth,
            options=(1, 2, 3, 4, 5, 6),
            expansion=expansion,
        )
        for index, depth in enumerate((3, 3, 2))
    )
    activation: Activation = "relu6" if kind == "mbconv" else "relu"
    return Layout(
        stem=width, stem_kernel=3, pool=False, stages=stages, taps=(1, 2, 3), image_size=128, activation=activation
    )


def _cifar(depth: int) -> Layout:
    """ResNet-20 to -110 for 32-pixel images: strides 1, 2, 4, and shortcuts without weights (He et al. 2015, 4.2)."""
    stages = tuple(
        Stage(
            kind="basic",
            channels=16 * 2**index,
            stride=1 if index == 0 else 2,
            depth=(depth - 2) // 6,
            options=tuple(range(1, 10)),
            shortcut="pad",
        )
        for index in range(3)
    )
    return Layout(stem=16, stem_kernel=3, stem_stride=1, pool=False, stages=stages, taps=(1, 2, 3), image_size=32)


def _mobilenet_v2() -> Layout:
    """Ten slots in the paper's code: stem, t=1 bottleneck, m1 to m5, the 320 bottleneck, 1x1 convolution, pooling."""

    def stage(channels: int, stride: int, depth: int, options: tuple[int, ...] = (), cost: float = 1.0) -> Stage:
        return Stage(
            kind="mbconv", channels=channels, stride=stride, depth=depth, options=options, cost=cost, expansion=6.0
        )

    one_to_five, two_to_six = (1, 2, 3, 4, 5), (2, 3, 4, 5, 6)
    stages = (
        Stage(kind="mbconv", channels=16, stride=1, depth=1),
        stage(24, 2, 2, one_to_five, 1.5),
        stage(32, 2, 3, one_to_five, 1.0),
        stage(64, 2, 4, (3, 4, 5, 6, 7), 1.0),
        stage(96, 1, 3, two_to_six, 0.75),
        stage(160, 2, 3, two_to_six, 1.25),
        stage(320, 1, 1),
        Stage(kind="conv", channels=1280, stride=1, depth=1),
    )
    return Layout(stem=32, stem_kernel=3, pool=False, stages=stages, taps=(2, 3, 5, 8), activation="relu6")


_R18, _R50, _R101 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3)
LAYOUTS: dict[str, Layout] = {
    "resnet18": _resnet("basic", _R18),
    "resnet50": _resnet("bottleneck", _R50),
    "resnet101": _resnet("bottleneck", _R101),
    "resnext50": _resnet("bottleneck", _R50, inner=0.5, groups=32),
    "resnext101": _resnet("bottleneck", _R101, inner=0.5, groups=32),
    "mobilenetv2": _mobilenet_v2(),
    "resnet18-half": _resnet("basic", _R18, width=32),
    "resnet50-half": _resnet("bottleneck", _R50, width=32),
    "resnet101-half": _resnet("bottleneck", _R101, width=32),
    "resnext50-half": _resnet("bottleneck", _R50, width=32, inner=0.5, groups=32),
    "resnext101-half": _resnet("bottleneck", _R101, width=32, inner=0.5, groups=32),
    "resnet18-quarter": replace(
        _resnet("basic", _R18, width=16, grid=((1, 2, 3, 4, 5),) * 4), stem_kernel=3, image_size=256
    ),
    "resnet26-quarter": replace(_resnet("bottleneck", _R18, width=16), stem_kernel=3, image_size=256),
    "resnet20-cifar": _cifar(20),
    "resnet56-cifar": _cifar(56),
    "resnet-tiny": _tiny("basic"),
    "resnet-bottleneck-tiny": _tiny("bottleneck", expansion=0.25),
    "mobilenetv2-tiny": _tiny("mbconv", expansion=4.0),
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
    blocks = [
        BlockSpec(
            kind="conv",
            in_channels=3,
            out_channels=layout.stem,
            stride=layout.stem_stride,
            kernel=layout.stem_kernel,
            activation=layout.activation,
        )
    ]
    if layout.pool:
        blocks.append(BlockSpec(kind="pool", in_channels=layout.stem, out_channels=layout.stem, stride=2))
    taps, chosen = [], iter(depths)
    for number, stage in enumerate(layout.stages, start=1):
        for index in range(next(chosen) if stage.options else stage.depth):
            blocks.append(
                BlockSpec(
                    kind=stage.kind,
                    in_channels=blocks[-1].out_channels,
                    out_channels=stage.channels,
                    stride=stage.stride if index == 0 else 1,
                    kernel=1 if stage.kind == "conv" else 3,
                    stage=number,
                    expansion=stage.expansion,
                    groups=stage.groups,
                    shortcut=stage.shortcut,
                    activation=layout.activation,
                )
            )
        if number in layout.taps:
            taps.append(len(blocks) - 1)
    spec = NetworkSpec(name=f"{name} {'.'.join(map(str, depths))}", blocks=tuple(blocks), taps=tuple(taps))
    return dilated(spec, dilations) if dilations else spec


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
        channels = searched_width(blocks[place])
        blocks[place] = replace(blocks[place], dilations=((channels, rate, rate),) if rate > 1 else ())
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
