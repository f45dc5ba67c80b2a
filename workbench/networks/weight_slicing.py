"""Pretrained kernels cut along their output channels into the parts of a decoded network (NATS, section 3.4).

Which row of the kernel goes to which dilation is not spelled out in the paper; both slicings that keep batch norm and
the next convolution aligned are here. What never happens is the third: rows sorted by dilation, their order forgotten.
"""

import copy

import torch
from torch import nn

from workbench.networks.backbone import Backbone
from workbench.networks.blocks import ResidualUnit
from workbench.spaces.arch import Arch
from workbench.spaces.branches import foldable, searched_place
from workbench.spaces.channel_dilation import Slicing, channel_order, decoded, layer_choices, searched_layers
from workbench.spaces.network_spec import BlockSpec
from workbench.spaces.space import SearchSpace


def reuse_weights(space: SearchSpace, arch: Arch, pretrained: Backbone, slicing: Slicing = "contiguous") -> Backbone:
    """The decoded network of `arch` with every weight and batch statistic of the undilated `pretrained`.

    `contiguous`: each part takes the next rows of the kernel, all channels keep their place. `index`: each channel's
    row goes to the dilation that its group chose; channels are sorted once, in the layers before and behind as
    well, so the order costs nothing when the network runs.
    """
    backbone = Backbone(decoded(space, arch, slicing))
    backbone.load_state_dict(pretrained.state_dict())
    if slicing == "index":
        for layer, chosen in zip(searched_layers(space), layer_choices(space, arch), strict=True):
            spec = backbone.spec.blocks[layer.block]
            if foldable(spec):
                sort_channels(backbone.blocks[layer.block], spec, channel_order(chosen, layer.group_channels))
    return backbone.train(pretrained.training)


def sort_channels(block: nn.Module, spec: BlockSpec, order: list[int]) -> None:
    """Puts the channels behind the searched convolution into `order` (new place -> old), the function kept.

    Its rows and batch norm move, and the next convolution's columns with them. Where it is grouped or depthwise the
    channels before it move as well, as each group reads its own ones.
    """
    chain, position = main_chain(block), searched_position(block, spec)
    convs = [index for index, layer in enumerate(chain) if isinstance(layer, nn.Conv2d)]
    place = convs.index(position)
    index = torch.tensor(order)
    searched = chain[position]
    assert isinstance(searched, nn.Conv2d)
    with torch.no_grad():
        _reorder_rows(chain, position, index)
        after = chain[convs[place + 1]]
        assert isinstance(after, nn.Conv2d)
        after.weight.copy_(after.weight[:, index].clone())
        if searched.groups > 1:
            _reorder_rows(chain, convs[place - 1], index)


def main_chain(block: nn.Module) -> nn.Sequential:
    """The chain of a residual block that holds the searched convolution."""
    chain = block.main if isinstance(block, ResidualUnit) else block
    assert isinstance(chain, nn.Sequential)
    return chain


def searched_position(block: nn.Module, spec: BlockSpec) -> int:
    """Where the searched convolution stands in the chain, batch norms and activations counted."""
    convs = [index for index, layer in enumerate(main_chain(block)) if isinstance(layer, nn.Conv2d)]
    return convs[searched_place(spec)]


def _reorder_rows(chain: nn.Sequential, position: int, order: torch.Tensor) -> None:
    """Reorders the outputs of the convolution at `position` and of the batch norm right behind it."""
    for layer in (chain[position], chain[position + 1]):
        for tensor in copy.copy(layer.state_dict()).values():
            if tensor.ndim:
                tensor.copy_(tensor[order].clone())
