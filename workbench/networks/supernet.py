"""The one-shot supernet: every option of every block in one module, one path of it active at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.networks.backbone import Backbone, run_blocks
from workbench.networks.blocks import build_block
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace


class ChoiceBlock(nn.Module):
    """All options of one block; only the chosen one runs, so only it gets gradients and batch statistics."""

    def __init__(self, options: list[nn.Module]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.chosen = 0

    @property
    def active(self) -> nn.Module:
        return self.options[self.chosen]

    def forward(self, features: Tensor) -> Tensor:
        return self.active(features)


class Supernet(nn.Module):
    """A `Backbone` whose architecture can be switched: `activate(arch)`, then use it like any backbone.

    Built from the space's specifications alone: block b of option o is the block that the space's own network with
    option o there would have. Unsampled options stay untouched by a training step because their gradients are None
    (the optimiser skips them, also momentum and weight decay); use `zero_grad(set_to_none=True)`, PyTorch's default.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        first = space.spec(space.uniform(0))
        self.taps = first.taps
        self.channels = first.channels
        self.strides = first.strides
        self.decision_of_block = {decision.block: index for index, decision in enumerate(space.decisions)}
        self.blocks = nn.ModuleList()
        for block, spec in enumerate(first.blocks):
            if block not in self.decision_of_block:
                self.blocks.append(build_block(spec))
                continue
            decision = self.decision_of_block[block]
            options = []
            for option in range(len(space.decisions[decision].options)):
                choices = [0] * len(space.decisions)
                choices[decision] = option
                options.append(build_block(space.spec(space.arch(choices)).blocks[block]))
            self.blocks.append(ChoiceBlock(options))

    def activate(self, arch: Arch) -> None:
        """Makes `arch` the path that `forward` runs."""
        self.space.check(arch)
        for block, decision in self.decision_of_block.items():
            choice_block = self.blocks[block]
            assert isinstance(choice_block, ChoiceBlock)
            choice_block.chosen = arch.choices[decision]

    def active_blocks(self) -> list[nn.Module]:
        """The modules that the active path runs, in order."""
        return [block.active if isinstance(block, ChoiceBlock) else block for block in self.blocks]

    def forward(self, images: Tensor) -> list[Tensor]:
        return run_blocks(self.blocks, self.taps, images)

    def extract(self, arch: Arch) -> Backbone:
        """A stand-alone network of `arch` with a copy of the supernet's weights and batch statistics for that path."""
        self.space.check(arch)
        backbone = Backbone(self.space.spec(arch))
        for index, target in enumerate(backbone.blocks):
            source = self.blocks[index]
            if isinstance(source, ChoiceBlock):
                source = source.options[arch.choices[self.decision_of_block[index]]]
            target.load_state_dict(source.state_dict())
        return backbone.train(self.training)


def align_options(supernet: Supernet) -> None:
    """Starts all options of a ShuffleNetV2 choice block as (nearly) the same function, so that random paths agree.

    Ours, not DetNAS's: with a few hundred steps instead of 300,000 a supernet of unrelated options hardly learns,
    because every layer is fed by another network at each step. Larger kernels hold the 3x3 kernel in their centre and
    zeros around it, which is the same function; the Xception block gets the same three layers with identities between
    them, which is the same up to one more ReLU (correlation 0.8). Training then tells the options apart.
    """
    for block in supernet.blocks:
        if not isinstance(block, ChoiceBlock):
            continue
        plain, *kernels, xception = block.options
        with torch.no_grad():
            for option in kernels:
                for source, target in zip(_convolutions(plain), _convolutions(option), strict=True):
                    margin = (target.kernel_size[0] - source.kernel_size[0]) // 2
                    target.weight.copy_(F.pad(source.weight, [margin] * 4))
            first, depthwise, last = _convolutions(plain.get_submodule("main"))
            chain = _convolutions(xception.get_submodule("main"))
            for identity in (chain[0], chain[3], chain[4]):
                nn.init.dirac_(identity.weight, identity.groups)
            for source, target in ((first, chain[1]), (depthwise, chain[2]), (last, chain[5])):
                target.weight.copy_(source.weight)
            if hasattr(plain, "projection"):
                shortcuts = (_convolutions(option.get_submodule("projection")) for option in (plain, xception))
                for source, target in zip(*shortcuts, strict=True):
                    target.weight.copy_(source.weight)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
