"""Turns block specifications into layers: one `nn.Module` per kind of block, built from the specification's chains."""

import torch
from torch import Tensor, nn

from workbench.spaces.branches import Chain, Pool, branches
from workbench.spaces.network_spec import BlockSpec


def build_block(spec: BlockSpec) -> nn.Module:
    """The block of `spec`: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
    chains = {name: build_chain(chain, spec.bn_eps) for name, chain in branches(spec).items()}
    if spec.kind in ("shuffle", "xception"):
        return (
            ShuffleUnit(chains["main"]) if spec.stride == 1 else ShuffleDownUnit(chains["main"], chains["projection"])
        )
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
        padding = tuple(dilation * (layer.kernel // 2) for dilation in layer.dilation)
        layers.append(
            nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                stride=layer.stride,
                padding=(padding[0], padding[1]),
                dilation=layer.dilation,
                groups=layer.groups,
                bias=layer.bias,
            )
        )
        if layer.norm:
            layers.append(nn.BatchNorm2d(layer.out_channels, eps=bn_eps))
        if layer.activation != "none":
            layers.append(nn.ReLU(inplace=True) if layer.activation == "relu" else nn.ReLU6(inplace=True))
    return nn.Sequential(*layers)


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

    Even-indexed channels pass untouched, odd-indexed ones go through `main`. The original code has a second,
    incompatible order ([0, 4, 1, 5] and [2, 6, 3, 7] of eight channels) in its supernets; `grouped_shuffle_order`
    gives the permutation between the two.
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


def grouped_shuffle_order(channels: int) -> Tensor:
    """Channel indices in the order in which the original supernets read them: the half that passes, then the other.

    For 8 channels [0, 4, 1, 5, 2, 6, 3, 7]; ours would be [0, 2, 4, 6, 1, 3, 5, 7]. Weights trained under one order
    need their input channels permuted before they mean anything under the other.
    """
    return torch.arange(channels).reshape(2, channels // 2).t().reshape(-1)


def alternating_shuffle_order(channels: int) -> Tensor:
    """Channel indices in the order in which our blocks read them: even ones pass, odd ones are transformed."""
    return torch.arange(channels).reshape(channels // 2, 2).t().reshape(-1)


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
