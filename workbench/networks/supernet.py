"""The one-shot supernet: every option of every decision in one module, one path of it active at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.networks.backbone import Backbone, run_blocks
from workbench.networks.blocks import ShuffleDownUnit, ShuffleUnit, build_block
from workbench.spaces.arch import Arch
from workbench.spaces.branches import spatial_dilation
from workbench.spaces.network_spec import BlockSpec
from workbench.spaces.space import SearchSpace

Sharing = Literal["separate", "shared"]


class ChoiceBlock(nn.Module):
    """All options of one decision, each a chain of blocks; only the chosen one runs.

    So only it gets gradients and batch statistics.
    """

    def __init__(self, options: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.chosen = 0

    def choose(self, option: int) -> None:
        self.chosen = option

    def blocks_of(self, option: int) -> list[nn.Module]:
        chain = self.options[option]
        assert isinstance(chain, nn.Sequential)
        return list(chain)

    def forward(self, features: Tensor) -> Tensor:
        return self.options[self.chosen](features)


class NestedStage(nn.Module):
    """The blocks of the deepest option; a shallower one runs the first of them (CR-NAS leaves open which it is)."""

    def __init__(self, blocks: Sequence[nn.Module], depths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.depths = tuple(depths)
        self.chosen = 0

    def choose(self, option: int) -> None:
        self.chosen = option

    def blocks_of(self, option: int) -> list[nn.Module]:
        return list(self.blocks)[: self.depths[option]]

    def forward(self, features: Tensor) -> Tensor:
        for block in self.blocks_of(self.chosen):
            features = block(features)
        return features


class SharedDilation(nn.Module):
    """One block for all its dilations: they share the kernel, and the choice moves its taps apart."""

    def __init__(self, options: Sequence[BlockSpec]) -> None:
        super().__init__()
        self.block = build_block(options[0])
        self.dilations = tuple(spatial_dilation(option) for option in options)
        sample = next(option for option in options if spatial_dilation(option) != (1, 1))
        reference = (layer.dilation for layer in build_block(sample).modules() if isinstance(layer, nn.Conv2d))
        pairs = zip(_convolutions(self.block), reference, strict=True)
        (self.place,) = (index for index, (_, dilation) in enumerate(pairs) if dilation != (1, 1))
        self.chosen = 0

    def choose(self, option: int) -> None:
        self.chosen = option
        layer = _convolutions(self.block)[self.place]
        layer.dilation = self.dilations[option]
        reach = layer.kernel_size[0] // 2
        layer.padding = (reach * self.dilations[option][0], reach * self.dilations[option][1])

    def blocks_of(self, option: int) -> list[nn.Module]:
        return [self.block]

    def forward(self, features: Tensor) -> Tensor:
        return self.block(features)


Choice = ChoiceBlock | NestedStage | SharedDilation


@dataclass(frozen=True)
class Prefix:
    """What the first `start` segments gave for a batch: the features that enter the next one, and the tapped maps."""

    start: int
    features: Tensor
    maps: tuple[Tensor, ...]


class Supernet(nn.Module):
    """A `Backbone` whose architecture can be switched: `activate(arch)`, then use it like any backbone.

    Built from the space's specifications alone: what decision d does with option o are the blocks that the space's own
    network with option o there would have. `sharing="shared"` lets the options of a decision share weights: depths are
    nested, dilations use one kernel. Unsampled options stay untouched by a training step because their gradients are
    None (the optimiser skips them, also momentum and weight decay); use `zero_grad(set_to_none=True)`, PyTorch's
    default.

    While `prefix` is set, `forward` goes on from it instead of reading the images.
    """

    def __init__(self, space: SearchSpace, sharing: Sharing = "separate") -> None:
        super().__init__()
        self.space = space
        first = space.uniform(0)
        spec = space.spec(first)
        if spec.expanded:
            raise ValueError(f"{space.name} taps the inside of a block, which only a LayerSupernet can.")
        self.channels = spec.channels
        self.strides = spec.strides
        self.decision_of_block: dict[int, int] = {}
        self.blocks = nn.ModuleList()  # one module for each segment of the space
        self.prefix: Prefix | None = None
        ends, position = [], -1
        for index, segment in enumerate(space.segments(first)):
            position += len(segment.blocks)
            ends.append(position)
            if segment.decision is None:
                self.blocks.append(build_block(segment.blocks[0]))
                continue
            self.decision_of_block[index] = segment.decision
            options = []
            for option in range(len(space.decisions[segment.decision].options)):
                choices = [0] * len(space.decisions)
                choices[segment.decision] = option
                options.append(space.segments(space.arch(choices))[index].blocks)
            self.blocks.append(_choice(options, sharing))
        self.taps = tuple(ends.index(tap) for tap in spec.taps)

    def activate(self, arch: Arch) -> None:
        """Makes `arch` the path that `forward` runs."""
        self.space.check(arch)
        for block, decision in self.decision_of_block.items():
            self.choice(block).choose(arch.choices[decision])

    def choice(self, block: int) -> Choice:
        """The module that decides at that place of `blocks`."""
        module = self.blocks[block]
        assert isinstance(module, ChoiceBlock | NestedStage | SharedDilation)
        return module

    def active_blocks(self) -> list[nn.Module]:
        """The modules that the active path runs, in order."""
        chosen = []
        for index, block in enumerate(self.blocks):
            decides = index in self.decision_of_block
            chosen += self.choice(index).blocks_of(self.choice(index).chosen) if decides else [block]
        return chosen

    def forward(self, images: Tensor) -> list[Tensor]:
        if (known := self.prefix) is None:
            return run_blocks(self.blocks, self.taps, images)
        return run_blocks(self.blocks, self.taps, known.features, start=known.start, maps=known.maps)

    def extract(self, arch: Arch) -> Backbone:
        """A stand-alone network of `arch` with a copy of the supernet's weights and batch statistics for that path."""
        backbone = Backbone(self.space.spec(arch))
        sources: list[nn.Module] = []
        for index, block in enumerate(self.blocks):
            decision = self.decision_of_block.get(index)
            sources += [block] if decision is None else self.choice(index).blocks_of(arch.choices[decision])
        for target, source in zip(backbone.blocks, sources, strict=True):
            target.load_state_dict(source.state_dict())
        return backbone.train(self.training)


def _choice(options: Sequence[tuple[BlockSpec, ...]], sharing: Sharing) -> Choice:
    if sharing == "separate":
        return ChoiceBlock([nn.Sequential(*map(build_block, option)) for option in options])
    deepest = max(options, key=len)
    if all(option == deepest[: len(option)] for option in options):
        return NestedStage([build_block(block) for block in deepest], [len(option) for option in options])
    return SharedDilation([block for option in options for block in option])


def align_options(supernet: Supernet) -> None:
    """Starts the options of a choice block as (nearly) the same function, so that random paths agree.

    Ours, not the papers': with a few hundred steps instead of 300,000 a supernet of unrelated options hardly learns,
    because every layer is fed by another network at each step. Training then tells the options apart.
    """
    for block in supernet.blocks:
        if not isinstance(block, ChoiceBlock):
            continue
        options = [block.blocks_of(option) for option in range(len(block.options))]
        if isinstance(options[0][0], ShuffleUnit | ShuffleDownUnit):
            _align_shuffle([option[0] for option in options])
            continue
        deepest = max(options, key=len)  # depths and dilations: equal shapes, so equal weights
        for option in options:
            for target, source in zip(option, deepest, strict=False):
                target.load_state_dict(source.state_dict())


def _align_shuffle(options: Sequence[nn.Module]) -> None:
    """Gives kernels of ShuffleNetV2 blocks one function.

    Larger kernels hold the 3x3 kernel in their centre and zeros around it, which is the same function; the Xception
    block gets the same three layers with identities between them, which is the same up to one more ReLU (correlation
    0.8).
    """
    plain, *kernels, xception = options
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
        if isinstance(plain, ShuffleDownUnit):
            shortcuts = (_convolutions(option.get_submodule("projection")) for option in (plain, xception))
            for source, target in zip(*shortcuts, strict=True):
                target.weight.copy_(source.weight)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
