"""What a block is made of: its chains of convolutions, as values.

The builder turns each `Conv` into layers, the counter turns it into multiply-accumulates, and receptive fields are
summed over it; so they cannot disagree.
"""

from dataclasses import dataclass, replace
from typing import Literal

from workbench.spaces.network_spec import BlockSpec, Padding, Part


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution with what follows it. Its output is ceil(size / stride) pixels.

    Padding is dilation * (kernel // 2) on each side, or TensorFlow's `same`, which differs where there is a stride.

    `dilations` are parts of its output channels side by side, (channels, dilation_h, dilation_w); () is undilated.
    Every part reads all input channels, of a grouped convolution those of its own groups.
    """

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilations: tuple[Part, ...] = ()
    bias: bool = False
    norm: bool = True
    activation: Literal["none", "relu", "relu6"] = "relu"
    padding: Padding = "symmetric"

    @property
    def parts(self) -> tuple[Part, ...]:
        """`dilations`, spelled out where there are none."""
        return self.dilations or ((self.out_channels, 1, 1),)

    @property
    def largest_dilation(self) -> tuple[int, int]:
        """The largest dilation along height and width."""
        return max(part[1] for part in self.parts), max(part[2] for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Max pooling; no weights, no multiply-accumulates, but it moves the stride and widens the field."""

    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True, kw_only=True)
class Subsample:
    """Every `stride`-th pixel, and new channels of zeros, half of them on each side: the shortcut without weights.

    Option A of He et al. (2015, section 3.3), of the ResNets for CIFAR-10.
    """

    in_channels: int
    out_channels: int
    stride: int = 1
    kernel: int = 1


Chain = tuple[Conv | Pool | Subsample, ...]


def branches(block: BlockSpec) -> dict[str, Chain]:
    """The block's chains by name: `main`, and with it the shortcut where there is one; () is the identity.

    `stem`, `conv` and `pool` have `main` only. ShuffleNetV2 blocks (DetNAS) name
    their second chain `projection`: at stride 1 `main` reads half of the channels and the other half passes. Residual
    blocks (`basic`, `bottleneck`, `mbconv`) name it `shortcut`; an mbconv that changes size or width has none.
    """
    match block.kind:
        case "stem" | "conv":
            # DetNAS keeps a bias in its stem although batch norm follows.
            conv = replace(_conv(block), kernel=block.kernel, stride=block.stride, bias=block.kind == "stem")
            return {"main": (conv,)}
        case "pool":
            return {"main": (Pool(kernel=block.kernel, stride=block.stride),)}
        case "shuffle" | "xception":
            return _shuffle_branches(block)
        case "basic" | "bottleneck" | "mbconv":
            return _residual_branches(block)


def searched_width(block: BlockSpec) -> int:
    """Output channels of the convolution whose dilation is searched: 3x3 (a basic block's second) or depthwise."""
    if block.kind == "mbconv":
        return round(block.in_channels * block.expansion)
    return round(block.out_channels * block.expansion) if block.kind == "bottleneck" else block.out_channels


def searched_place(block: BlockSpec) -> int:
    """Which convolution of `main` that is, counted from 0: the one before the last, of a basic block the last."""
    return len(branches(block)["main"]) - (1 if block.kind == "basic" else 2)


def searched_group(block: BlockSpec) -> int:
    """Output channels of that convolution that read the same part of its input: 1 unless it is grouped (ResNeXt)."""
    return searched_width(block) // block.groups if block.groups > 1 else 1


def foldable(block: BlockSpec) -> bool:
    """Whether only layers within the block touch the channels of its searched convolution, before and behind it.

    A basic block's second 3x3 is added to the shortcut, and an mbconv without expansion reads the block's input.
    """
    return block.kind == "bottleneck" or (block.kind == "mbconv" and block.expansion != 1)


def dilation_parts(block: BlockSpec) -> tuple[Part, ...]:
    """`block.dilations`, checked: the parts are all channels of the searched convolution and cut none of its groups.

    One part at dilation 1 is no dilation: (). ValueError says what does not fit.
    """
    if not block.dilations:
        return ()
    width, group = searched_width(block), searched_group(block)
    if sum(channels for channels, _, _ in block.dilations) != width or min(min(part) for part in block.dilations) < 1:
        raise ValueError(
            f"The searched convolution of this {block.kind} block has {width} output channels, to be shared among"
            f" dilations of at least 1 as (channels, height, width); got {list(block.dilations)}."
        )
    if any(channels % group for channels, _, _ in block.dilations):
        raise ValueError(
            f"This {block.kind} block convolves in {block.groups} groups of {group} channels, and each part must hold"
            f" whole groups; got {list(block.dilations)}. Use parts of a multiple of {group} channels."
        )
    return () if block.dilations == ((width, 1, 1),) else block.dilations


def with_dilation(block: BlockSpec, height: int, width: int) -> BlockSpec:
    """The block with that dilation in all channels of its searched convolution."""
    return with_dilations(block, (searched_width(block), height, width))


def with_dilations(block: BlockSpec, *parts: Part) -> BlockSpec:
    """The block with these parts of its searched convolution; ValueError where they do not fit it."""
    dilated = replace(block, dilations=parts)
    return replace(dilated, dilations=dilation_parts(dilated))


def spatial_dilation(block: BlockSpec) -> tuple[int, int]:
    """The dilation (height, width) of the block's searched convolution; ValueError where channels differ in it."""
    rates = {(height, width) for _, height, width in block.dilations} or {(1, 1)}
    if len(rates) > 1:
        raise ValueError(f"A {block.kind} block takes one dilation for all its channels; got {block.dilations}.")
    return rates.pop()


def _residual_branches(block: BlockSpec) -> dict[str, Chain]:
    """ResNet and ResNeXt, with the stride on the 3x3 as in torchvision, and MobileNetV2's inverted residual.

    A basic block dilates only its second 3x3 (CR-NAS, section 4). `kernel` is that of the searched convolution. An
    mbconv expands (left out at expansion 1), convolves depthwise and projects linearly.
    """
    entry, inner = _conv(block), searched_width(block)
    expand, project = replace(entry, out_channels=inner), replace(entry, in_channels=inner, activation="none")
    searched = replace(
        expand, in_channels=inner, kernel=block.kernel, stride=block.stride, dilations=dilation_parts(block)
    )
    if block.kind == "basic":
        second = replace(searched, stride=1, activation="none")
        main: Chain = (replace(entry, kernel=3, stride=block.stride), second)
    elif block.kind == "bottleneck":
        main = (expand, replace(searched, groups=block.groups), project)
    else:
        depthwise = replace(searched, groups=inner)
        main = (depthwise, project) if block.expansion == 1 else (expand, depthwise, project)
    if block.stride == 1 and block.in_channels == block.out_channels:
        return {"main": main, "shortcut": ()}
    if block.kind == "mbconv":
        return {"main": main}
    if block.shortcut == "pad":
        ends = (block.in_channels, block.out_channels)
        return {"main": main, "shortcut": (Subsample(in_channels=ends[0], out_channels=ends[1], stride=block.stride),)}
    return {"main": main, "shortcut": (replace(entry, stride=block.stride, activation="none"),)}


def _shuffle_branches(block: BlockSpec) -> dict[str, Chain]:
    def pointwise(entering: int, leaving: int) -> Conv:
        return Conv(in_channels=entering, out_channels=leaving)

    def depthwise(width: int, kernel: int = 3, stride: int = 1) -> Conv:
        return replace(pointwise(width, width), kernel=kernel, stride=stride, groups=width, activation="none")

    middle, stride = block.out_channels // 2, block.stride
    entering = block.in_channels // 2 if stride == 1 else block.in_channels
    last = pointwise(middle, block.out_channels - entering)
    if block.kind == "shuffle":
        main: Chain = (pointwise(entering, middle), depthwise(middle, block.kernel, stride), last)
    else:  # three separable 3x3; the first depthwise acts on the input width and carries the stride
        first = (depthwise(entering, stride=stride), pointwise(entering, middle))
        main = (*first, depthwise(middle), pointwise(middle, middle), depthwise(middle), last)
    if stride == 1:
        return {"main": main, "projection": ()}
    # The shortcut takes the kernel of the chosen operation (3 for Xception), so the choice changes it too.
    return {"main": main, "projection": (depthwise(entering, block.kernel, stride), pointwise(entering, entering))}


def _conv(block: BlockSpec) -> Conv:
    """A 1x1 convolution from the block's input to its output, with the block's activation."""
    conv = Conv(in_channels=block.in_channels, out_channels=block.out_channels)
    return replace(conv, activation=block.activation, padding=block.padding)
