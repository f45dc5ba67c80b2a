"""Turns block specifications into layers: one `nn.Module` per kind of block, built from the specification's chains."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.spaces.branches import Chain, Conv, Pool, Subsample, branches
from workbench.spaces.network_spec import BlockSpec, Part


def build_block(spec: BlockSpec) -> nn.Module:
    """The block of `spec`: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
    chains = {name: build_chain(chain, spec.bn_eps) for name, chain in branches(spec).items()}
    if spec.kind in ("shuffle", "xception"):
        return ShuffleUnit(chains["main"]) if spec.stride == 1 else ShuffleDownUnit(**chains)
    if "shortcut" not in chains:
        return chains["main"]
    # The sum of an inverted residual stays linear (MobileNetV2), that of a ResNet block goes through a ReLU.
    return ResidualUnit(chains["main"], chains["shortcut"], nn.Identity() if spec.kind == "mbconv" else nn.ReLU(True))


def build_chain(chain: Chain, bn_eps: float) -> nn.Sequential:
    """Convolutions one after the other, each with its batch norm and activation where the specification says so."""
    layers: list[nn.Module] = []
    for layer in chain:
        if isinstance(layer, Pool):
            layers.append(nn.MaxPool2d(layer.kernel, layer.stride, layer.kernel // 2))
            continue
        if isinstance(layer, Subsample):
            layers.append(SubsampledIdentity(layer.out_channels - layer.in_channels, layer.stride))
            continue
        layers.append(build_conv(layer))
        if layer.norm:
            layers.append(nn.BatchNorm2d(layer.out_channels, eps=bn_eps))
        if layer.activation != "none":
            layers.append(nn.ReLU(inplace=True) if layer.activation == "relu" else nn.ReLU6(inplace=True))
    return nn.Sequential(*layers)


def build_conv(layer: Conv) -> nn.Conv2d:
    """The convolution alone; one whose output channels differ in dilation is a `SplitConv2d`."""
    _, height, width = layer.parts[0]
    conv = SplitConv2d if len(layer.parts) > 1 else nn.Conv2d
    if layer.padding == "same" and layer.stride > 1:
        if conv is SplitConv2d:
            raise ValueError("A strided convolution with padding 'same' takes one dilation for all its channels.")
        conv = SamePaddedConv2d
    built = conv(
        layer.in_channels,
        layer.out_channels,
        layer.kernel,
        stride=layer.stride,
        padding=(height * (layer.kernel // 2), width * (layer.kernel // 2)),
        dilation=(height, width),
        groups=layer.groups,
        bias=layer.bias,
    )
    if isinstance(built, SplitConv2d):
        built.parts = layer.parts
    return built


class SamePaddedConv2d(nn.Conv2d):
    """A strided convolution padded as TensorFlow does: just enough, the odd pixel behind the image."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        margins: list[int] = []
        for axis in (1, 0):  # F.pad counts from the last dimension
            side, stride = input.shape[2 + axis], self.stride[axis]
            reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            total = max(reach - (side % stride or stride), 0)  # a constant for sides that the stride divides
            margins += [total // 2, total - total // 2]
        return F.conv2d(F.pad(input, margins), weight, bias, self.stride, 0, self.dilation, self.groups)


class SplitConv2d(nn.Conv2d):
    """A convolution decomposed along its output channels: one convolution for each part, concatenated.

    (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride)). It keeps the one kernel of the undilated
    convolution, (C_out, C_in / groups, k, k), of which part after part takes the next rows: so it has the same
    parameters under the same names, and pretrained weights load as they are (NATS, section 3.4, equation 6).
    """

    parts: tuple[Part, ...] = ()  # in the order of the channels

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        channels = [part[0] for part in self.parts]
        kernels = weight.split(channels)
        biases = [None] * len(channels) if bias is None else list(bias.split(channels))
        inputs, groups = [input] * len(channels), [1] * len(channels)
        if self.groups > 1:  # each group reads its own inputs only
            groups = [count * self.groups // self.out_channels for count in channels]
            inputs = list(input.split([count * (self.in_channels // self.groups) for count in groups], dim=1))
        outputs = []
        for source, kernel, offset, count, part in zip(inputs, kernels, biases, groups, self.parts, strict=True):
            dilation = (part[1], part[2])
            padding = (part[1] * (self.kernel_size[0] // 2), part[2] * (self.kernel_size[1] // 2))
            outputs.append(F.conv2d(source, kernel, offset, self.stride, padding, dilation, count))
        return torch.cat(outputs, dim=1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, parts={self.parts}"


class SubsampledIdentity(nn.Module):
    """Every `stride`-th pixel, with `added` channels of zeros, half of them in front: a shortcut without weights."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added = added
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        front = self.added // 2
        return F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.added - front))


class TappedChain(nn.Sequential):
    """An inverted residual without shortcut that also gives the map behind its expansion (SSDLite reads it)."""

    @classmethod
    def of(cls, block: nn.Module) -> "TappedChain":
        """The same layers under the same names; ValueError for a block with a shortcut or without an expansion."""
        if not isinstance(block, nn.Sequential) or len(block) < 8:
            raise ValueError("Only an inverted residual that expands and has no shortcut can be read inside.")
        return cls(*block)

    def tapped(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C_in, H, W) -> (N, expansion * C_in, H, W) and the block's own output."""
        expanded = self[:3](features)  # 1x1 convolution, batch norm, ReLU6
        return expanded, self[3:](expanded)


class ResidualUnit(nn.Module):
    """activation(main(x) + shortcut(x)): ResNet, ResNeXt and MobileNetV2 blocks; an empty shortcut is the identity."""

    def __init__(self, main: nn.Sequential, shortcut: nn.Sequential, activation: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.main(features) + self.shortcut(features))


class ShuffleUnit(nn.Module):
    """Stride-1 ShuffleNetV2 block: shuffle and split first, transform one half, concatenate (DetNAS, section 2.2).

    Even-indexed channels pass untouched, odd-indexed ones go through `main`: of eight [0, 2, 4, 6] and [1, 3, 5, 7].
    The original code has a second order ([0, 4, 1, 5] and [2, 6, 3, 7]) in its supernets: weights trained under one
    need their input channels permuted before they mean anything under the other.
    """

    def __init__(self, main: nn.Sequential) -> None:
        super().__init__()
        self.main = main

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat((features[:, 0::2], self.main(features[:, 1::2])), dim=1)


class ShuffleDownUnit(nn.Module):
    """Stride-2 ShuffleNetV2 block: concat(projection(x), main(x)) of all channels, no shuffle after it."""

    def __init__(self, main: nn.Sequential, projection: nn.Sequential) -> None:
        super().__init__()
        self.main = main
        self.projection = projection

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat((self.projection(features), self.main(features)), dim=1)


def initialise_like_detnas(module: nn.Module) -> None:
    """DetNAS's ImageNet initialisation: convolutions N(0, 1 / inputs per group), so depthwise kernels start at sd 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            is_stem = layer.in_channels == 3
            nn.init.normal_(layer.weight, 0.0, 0.01 if is_stem else 1.0 / layer.weight.shape[1])
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.ones_(layer.weight)
            nn.init.constant_(layer.bias, 1e-4)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)
