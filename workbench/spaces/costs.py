"""Multiply-accumulates and parameters of a network, computed from its specification alone.

The rule of the whole project: MACs of convolutions and linear layers, biases not counted, at a stated image size.
Batch norm, activations and pooling count nothing. Parameters are all learned numbers: weights, biases, batch norm
scale and shift.
"""

from typing import NamedTuple

from workbench.spaces.branches import Conv, branches
from workbench.spaces.network_spec import BlockSpec, NetworkSpec

ImageSize = int | tuple[int, int]  # a square's side, or (height, width), in pixels


class Cost(NamedTuple):
    """MACs at the stated image size, and learned parameters."""

    macs: int
    params: int


def height_width(image_size: ImageSize) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def backbone_cost(spec: NetworkSpec, image_size: ImageSize) -> Cost:
    """Cost of stem and blocks (no classifier, no detection head)."""
    macs = params = 0
    size = height_width(image_size)
    for block in spec.blocks:
        cost, size = block_cost(block, size)
        macs, params = macs + cost.macs, params + cost.params
    return Cost(macs, params)


def block_cost(block: BlockSpec, size: tuple[int, int]) -> tuple[Cost, tuple[int, int]]:
    """Cost of one block on an input of `size` (height, width), and the size of its output."""
    macs = params = 0
    for chain in branches(block).values():
        inner = size
        for layer in chain:
            inner = (-(-inner[0] // layer.stride), -(-inner[1] // layer.stride))
            if isinstance(layer, Conv):
                weights = layer.out_channels * (layer.in_channels // layer.groups) * layer.kernel**2
                macs += weights * inner[0] * inner[1]
                params += weights + layer.out_channels * (layer.bias + 2 * layer.norm)
    return Cost(macs, params), (-(-size[0] // block.stride), -(-size[1] // block.stride))


def classifier_cost(spec: NetworkSpec, image_size: ImageSize, *, hidden: int = 1024, classes: int = 1000) -> Cost:
    """Cost of DetNAS's ImageNet classifier on the last map: 1x1 convolution to `hidden`, pooling, linear layer.

    Added to `backbone_cost` this is what the paper's pre-training filter calls the full cost.
    """
    height, width = height_width(image_size)
    stride = spec.strides[-1]
    area = -(-height // stride) * -(-width // stride)
    convolution = spec.channels[-1] * hidden
    params = convolution + 3 * hidden + hidden * classes + classes  # bias and batch norm of the 1x1; bias of the linear
    return Cost(convolution * area + hidden * classes, params)
