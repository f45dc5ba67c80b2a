"""The one-shot supernet: every option of every block in one module, one path of it active at a time."""

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
