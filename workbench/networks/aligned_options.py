"""One function for all options of a supernet at the start of its training: ours, for short trainings."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from workbench.networks.blocks import ShuffleDownUnit, ShuffleUnit
from workbench.networks.choices import SeparateOptions
from workbench.networks.supernet import Supernet


def align_options(supernet: Supernet) -> None:
    """Starts the options of a choice block as (nearly) the same function, so that random paths agree.

    Ours, not the papers': with a few hundred steps instead of 300,000 a supernet of unrelated options hardly learns,
    because every layer is fed by another network at each step. Training then tells the options apart.
    """
    for block in supernet.blocks:
        if not isinstance(block, SeparateOptions):
            continue
        options = [list(option.children()) for option in block.options]
        if isinstance(options[0][0], ShuffleUnit | ShuffleDownUnit):
            _align_shuffle([option[0] for option in options])
            continue
        deepest = max(options, key=len)  # depths and dilations: equal shapes, so equal weights; others stay apart
        for option in options:
            for target, source in zip(option, deepest, strict=False):
                if [p.shape for p in target.parameters()] == [p.shape for p in source.parameters()]:
                    target.load_state_dict(source.state_dict())


def _align_shuffle(options: Sequence[nn.Module]) -> None:
    """Gives ShuffleNetV2 blocks one function, that of the first.

    Larger kernels hold its 3x3 kernel in their centre and zeros around it, which is the same function; the Xception
    block gets the same three layers with identities between them, which is the same up to one more ReLU (correlation
    0.8).
    """
    plain, *others = options
    with torch.no_grad():
        for option in others:
            chain = _convolutions(option.get_submodule("main"))
            if len(chain) == 3:  # the Xception block has six
                for source, target in zip(_convolutions(plain), _convolutions(option), strict=True):
                    margin = (target.kernel_size[0] - source.kernel_size[0]) // 2
                    target.weight.copy_(F.pad(source.weight, [margin] * 4))
                continue
            for identity in (chain[0], chain[3], chain[4]):
                nn.init.dirac_(identity.weight, identity.groups)
            for source, target in zip(
                _convolutions(plain.get_submodule("main")), (chain[1], chain[2], chain[5]), strict=True
            ):
                target.weight.copy_(source.weight)
            if isinstance(plain, ShuffleDownUnit):
                shortcuts = (_convolutions(block.get_submodule("projection")) for block in (plain, option))
                for source, target in zip(*shortcuts, strict=True):
                    target.weight.copy_(source.weight)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
