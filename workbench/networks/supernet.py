"""The supernet: every option of every decision in one module, one path of it active at a time, or all of them mixed.

One-shot methods train and score it path by path (DetNAS, CR-NAS), gradient methods also mix the options of each
decision by the softmax of its logits alpha (NATS, equation 3; FNA).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from workbench.networks.backbone import Backbone, Prefix, run_blocks
from workbench.networks.blocks import TappedChain, build_block
from workbench.networks.choices import Choice, NestedDepths, SeparateOptions, Sharing, blocks_of
from workbench.networks.dilation_mixture import DilationMixture
from workbench.networks.remap import remap
from workbench.networks.weight_slicing import main_chain, searched_position, sort_channels
from workbench.spaces.arch import Arch
from workbench.spaces.branches import foldable, searched_width, spatial_dilation
from workbench.spaces.channel_dilation import channel_order
from workbench.spaces.costs import ImageSize
from workbench.spaces.network_spec import BlockSpec
from workbench.spaces.space import SKIP, SearchSpace


class Supernet(nn.Module):
    """A `Backbone` whose architecture can be switched: `activate(arch)` runs one network, `mix()` all of them at once.

    Built from the space's specifications alone: what a decision does with an option are the blocks that the space's own
    network with that option has there. `weights="shared"` lets the options of a decision share weights: depths are
    nested, dilations use one kernel. Decisions about groups of a convolution's channels are a `DilationMixture` in its
    place. `pretrained` gives every option its own copy of that network's weights, remapped where shapes differ (FNA's
    parameter remapping); else weights are random. `affine=False` takes scale, shift and statistics from the batch norms
    of searched blocks, which then normalise by the batch (as FNA's code does).

    Unsampled options stay untouched by a training step because their gradients are None (the optimiser skips them, also
    momentum and weight decay); use `zero_grad(set_to_none=True)`, PyTorch's default. While `prefix` is set, `forward`
    goes on from it instead of reading the images.
    """

    def __init__(
        self,
        space: SearchSpace,
        weights: Sharing = "separate",
        *,
        pretrained: Backbone | None = None,
        affine: bool = True,
        temperature: float = 1.0,
        alpha_noise: float = 0.0,
    ) -> None:
        """Alpha, divided by `temperature` before the softmax, starts at normal numbers of spread `alpha_noise`.

        ValueError where options cannot share weights, or cannot be remapped from `pretrained`.
        """
        super().__init__()
        self.space = space
        self.affine = affine
        spec = space.spec(space.uniform(0))
        self.channels, self.strides = spec.channels, spec.strides
        self.prefix: Prefix | None = None
        builder = _Builder(space, weights, pretrained)
        self.blocks = nn.ModuleList()  # one module for each segment of the space
        self.decisions: list[tuple[int, ...]] = []  # that each of them answers
        ends, end = [], -1
        for index, segment in enumerate(builder.segments[0]):
            end += len(segment.blocks)
            ends.append(end)
            block = builder.module(index, tapped=end in spec.expanded)
            self.blocks.append(block if affine or not segment.decisions else without_scale(block))
            self.decisions.append(segment.decisions)
        self.taps = tuple(ends.index(tap) for tap in spec.taps)
        self.expanded = tuple(ends.index(tap) for tap in spec.expanded)
        for choice in self.choices():
            choice.temperature = temperature
            if alpha_noise:
                choice.alpha = nn.Parameter(alpha_noise * torch.randn(choice.alpha.shape))
        self.choose((0,) * len(space.decisions))

    def choices(self) -> list[Choice]:
        """What answers the decisions, in their order."""
        return [module for module in self.modules() if isinstance(module, Choice)]

    def mixtures(self) -> list[DilationMixture]:
        """Those of them that mix dilations inside a block."""
        return [choice for choice in self.choices() if isinstance(choice, DilationMixture)]

    def alphas(self) -> list[nn.Parameter]:
        """The logits of the choices in order, each (decisions, options)."""
        return [choice.alpha for choice in self.choices()]

    def alpha_values(self) -> list[npt.NDArray[np.float64]]:
        """A copy of the logits as plain numbers, for `search.relaxation`."""
        return [alpha.detach().cpu().double().numpy().copy() for alpha in self.alphas()]

    def activate(self, arch: Arch) -> None:
        """Makes `forward` compute the network of `arch` alone."""
        self.choose(self.space.check(arch).choices)

    def choose(self, prefix: Sequence[int]) -> None:
        """`activate` for the first decisions only; a choice that they do not answer wholly stays as it is."""
        for choice, decisions in zip(self.choices(), filter(None, self.decisions), strict=True):
            if decisions[-1] < len(prefix):
                choice.chosen = tuple(prefix[decision] for decision in decisions)

    def mix(self) -> None:
        """Makes `forward` compute the mixture."""
        for choice in self.choices():
            choice.chosen = None

    def sample(self, rng: np.random.Generator) -> Arch:
        """A network drawn from the softmax of alpha, decision by decision (FNA: the step of weights)."""
        rows = [row for choice in self.choices() for row in choice.shares().detach().cpu().double().numpy()]
        return self.space.arch([int(rng.choice(len(row), p=row / row.sum())) for row in rows])

    def expected_macs(self, image_size: ImageSize) -> Tensor:
        """MACs of the searched blocks, expected over the options (FNA's cost loss); alpha gets its gradient."""
        rows = [row for choice in self.choices() for row in choice.shares()]
        pairs = zip(rows, self.space.option_macs(image_size), strict=True)
        return torch.stack([(row * row.new_tensor(costs)).sum() for row, costs in pairs]).sum()

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.advance(self.prefix or Prefix(0, images)).maps)

    def advance(self, known: Prefix, stop: int | None = None) -> Prefix:
        """Goes on from `known` to the segment `stop`, or to the end."""
        return run_blocks(self.blocks, self.taps, self.expanded, known, stop)

    def extract(self, arch: Arch) -> Backbone:
        """A stand-alone network with a copy of the weights of `arch`; it computes what `activate(arch)` computes."""
        backbone = Backbone(self.space.exact_spec(arch))
        place = 0
        for block, decisions in zip(self.blocks, self.decisions, strict=True):
            chosen = tuple(arch.choices[decision] for decision in decisions)
            for source in blocks_of(block, chosen):
                target, spec = backbone.blocks[place], backbone.spec.blocks[place]
                _copy(source, target if self.affine or not decisions else without_scale(target), spec, chosen)
                place += 1
        return backbone.train(self.training)


class _Builder:
    """Makes the modules of a supernet, with random weights or copies of a pretrained network's."""

    def __init__(self, space: SearchSpace, weights: Sharing, pretrained: Backbone | None) -> None:
        self.space, self.weights = space, weights
        self.archs = option_archs(space)
        self.segments = [space.segments(arch) for arch in self.archs]

        @cache
        def given(option: int) -> Backbone:
            assert pretrained is not None
            spec = space.spec(self.archs[option])
            return copy.deepcopy(pretrained) if pretrained.spec.blocks == spec.blocks else remap(pretrained, spec)[0]

        self.given = given if pretrained is not None else None

    def module(self, index: int, tapped: bool) -> nn.Module:
        """The module of segment `index`; `tapped`: also gives the map behind its expansion."""
        segment = self.segments[0][index]
        if not segment.decisions:
            return self._chain(0, index, tapped)[0]
        decision = self.space.decisions[segment.decisions[0]]
        specs = [
            () if name == SKIP else self.segments[option][index].blocks for option, name in enumerate(decision.options)
        ]
        deepest = max(specs, key=len)
        dilated = len(deepest) == 1 and all(same_but_dilation(spec, deepest) for spec in specs)
        if decision.of_channels or (self.weights == "shared" and dilated):
            (block,) = self._chain(0, index, tapped)
            rates = [spatial_dilation(spec[0]) for spec in specs]
            chain, place = main_chain(block), searched_position(block, specs[0][0])
            conv = chain[place]
            assert isinstance(conv, nn.Conv2d)
            chain[place] = DilationMixture(conv, rates, len(segment.decisions), self.weights)
            return block
        if self.weights == "separate":
            return SeparateOptions([self._chain(o, index, tapped) if spec else [] for o, spec in enumerate(specs)])
        if all(spec == deepest[: len(spec)] for spec in specs):
            return NestedDepths(self._chain(specs.index(deepest), index, tapped), [len(spec) for spec in specs])
        raise ValueError(
            f"The options of {decision.name} in {self.space.name} differ in more than depth or dilation: they have no"
            " weights to share. Use separate ones."
        )

    def _chain(self, option: int, index: int, tapped: bool) -> list[nn.Module]:
        """The blocks that stand in segment `index` with that option."""
        segments = self.segments[option]
        if self.given is None:
            blocks = [build_block(block) for block in segments[index].blocks]
            return [TappedChain.of(block) for block in blocks] if tapped else blocks
        start = sum(len(segment.blocks) for segment in segments[:index])
        return list(self.given(option).blocks[start : start + len(segments[index].blocks)])


def option_archs(space: SearchSpace) -> list[Arch]:
    """For each option the deepest network that has it wherever a decision offers it."""
    offered = [sum(name != SKIP for name in decision.options) for decision in space.decisions]
    return [space.arch([min(option, count - 1) for count in offered]) for option in range(max(offered))]


def same_but_dilation(first: Sequence[BlockSpec], second: Sequence[BlockSpec]) -> bool:
    return [replace(block, dilations=()) for block in first] == [replace(block, dilations=()) for block in second]


def without_scale(block: nn.Module) -> nn.Module:
    """The block; its batch norms now normalise by the current batch and have neither scale and shift nor statistics."""
    for parent in block.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                plain = nn.BatchNorm2d(layer.num_features, eps=layer.eps, affine=False, track_running_stats=False)
                setattr(parent, name, plain)
    return block


def _copy(source: nn.Module, target: nn.Module, spec: BlockSpec, chosen: tuple[int, ...]) -> None:
    """Copies a plain block, or the path `chosen` of a block with a mixture of dilations."""
    state = source.state_dict()
    for name, layer in source.named_modules():
        if isinstance(layer, DilationMixture):
            del state[f"{name}.alpha"]
            state[f"{name}.weight"] = layer.plain_kernel(chosen)
    target.load_state_dict(state)
    if len(chosen) > 1 and foldable(spec):
        sort_channels(target, spec, channel_order(chosen, searched_width(spec) // len(chosen)))
