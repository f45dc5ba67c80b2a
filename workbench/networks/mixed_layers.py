"""The supernet of a search over layers: every operation of every layer, one at a time or all of them mixed (FNA).

Weight steps run one operation of each layer, alpha steps the mixture of all (section 4.1 of the specification). In the
paper operations normalise by the current batch and have no scale and shift (section 3.4), so a network is judged after
its own fine-tuning, or by the supernet only batch by batch; `affine` keeps the seed's batch norm instead.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from workbench.networks.backbone import Backbone, run_blocks
from workbench.networks.blocks import TappedChain
from workbench.networks.remap import remap
from workbench.networks.remap_report import RemapReport
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace


class MixedLayer(nn.Module):
    """The operations of one layer: (N, C_in, H, W) -> (N, C_out, H / stride, W / stride).

    `chosen` is the one that runs; None: the sum of all, weighted by the softmax of alpha / `temperature`.
    """

    def __init__(self, options: Sequence[nn.Module], temperature: float = 1.0) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        self.alpha = nn.Parameter(1e-3 * torch.randn(1, len(options)))  # section 2.2
        self.temperature = temperature
        self.chosen: int | None = None

    def weights(self) -> Tensor:
        """(options,), of sum 1."""
        return (self.alpha[0] / self.temperature).softmax(dim=0)

    def forward(self, features: Tensor) -> Tensor:
        if self.chosen is not None:
            return self.options[self.chosen](features)
        return _mixture(self.weights(), [option(features) for option in self.options])

    def tapped(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Also the map behind the expansion, mixed by the same weights (SSDLite)."""
        chains = [option for option in self.options if isinstance(option, TappedChain)]
        if self.chosen is not None:
            return chains[self.chosen].tapped(features)
        inside, outputs = zip(*(chain.tapped(features) for chain in chains), strict=True)
        return _mixture(self.weights(), inside), _mixture(self.weights(), outputs)


class LayerSupernet(nn.Module):
    """A `Backbone` over a space of layers: `activate(arch)` for one network, `mix()` for all of them weighted by alpha.

    Every operation starts from its own remapped copy of the seed's layer (section 3.6); `seed=None` leaves all weights
    random. `affine` keeps scale, shift and statistics in the searched layers, which the paper does not.
    """

    def __init__(
        self, space: SearchSpace, seed: Backbone | None, *, affine: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__()
        networks = [Backbone(spec) if seed is None else remap(seed, spec)[0] for spec in option_specs(space)]
        first = networks[0]
        self.space = space
        self.channels = first.channels
        self.strides = first.strides
        self.taps = first.spec.taps
        self.expanded = first.spec.expanded
        self.blocks = first.blocks
        for decision in space.decisions:
            assert decision.block is not None
            options = [
                nn.Identity() if name == SKIP else networks[place].blocks[decision.block]
                for place, name in enumerate(decision.options)
            ]
            if not affine:
                options = [_without_scale(option) for option in options]
            self.blocks[decision.block] = MixedLayer(options, temperature)

    def layers(self) -> list[MixedLayer]:
        """The searched layers, in the order of the space's decisions."""
        return [block for block in self.blocks if isinstance(block, MixedLayer)]

    def alphas(self) -> list[nn.Parameter]:
        """Their logits in order, each (1, options)."""
        return [layer.alpha for layer in self.layers()]

    def alpha_values(self) -> list[npt.NDArray[np.float64]]:
        """A copy of the logits as plain numbers, for `search.relaxation`."""
        return [alpha.detach().cpu().double().numpy().copy() for alpha in self.alphas()]

    def activate(self, arch: Arch) -> None:
        """Makes `forward` compute the network of `arch` alone."""
        for layer, choice in zip(self.layers(), self.space.check(arch).choices, strict=True):
            layer.chosen = choice

    def mix(self) -> None:
        """Makes `forward` compute the mixture."""
        for layer in self.layers():
            layer.chosen = None

    def sample(self, rng: np.random.Generator) -> Arch:
        """A network drawn from the softmax of alpha, layer by layer (section 4.1, weight step)."""
        choices = []
        for layer in self.layers():
            weights = layer.weights().detach().cpu().double().numpy()
            choices.append(int(rng.choice(len(weights), p=weights / weights.sum())))
        return self.space.arch(choices)

    def expected_macs(self, image_size: ImageSize) -> Tensor:
        """MACs of the searched layers, expected over the operations (section 4.1, step 4); alpha gets its gradient."""
        costs = self.space.option_macs(image_size)
        terms = [
            (layer.weights() * torch.tensor(row, dtype=torch.float32, device=layer.alpha.device)).sum()
            for layer, row in zip(self.layers(), costs, strict=True)
        ]
        return torch.stack(terms).sum()

    def forward(self, images: Tensor) -> list[Tensor]:
        return run_blocks(self.blocks, self.taps, images, expanded=self.expanded)


def cost_penalty(macs: Tensor, *, strength: float, scale: float, base: float) -> Tensor:
    """lambda * log(gamma * cost) / log(tau), cost in billions of MACs (section 4.1, step 5)."""
    return strength * torch.log(scale * macs / 1e9) / math.log(base)


def option_specs(space: SearchSpace) -> list[NetworkSpec]:
    """For each operation the deepest network that has it wherever a layer offers it."""
    offered = [[name for name in decision.options if name != SKIP] for decision in space.decisions]
    most = max(map(len, offered))
    return [space.spec(space.arch([min(index, len(row) - 1) for row in offered])) for index in range(most)]


def supernet_reports(space: SearchSpace, seed: Backbone) -> list[RemapReport]:
    """What remapping does for each operation of the supernet; its batch norms then lose what they were given."""
    return [remap(seed, spec)[1] for spec in option_specs(space)]


def _without_scale(block: nn.Module) -> nn.Module:
    """Batch norms that normalise by the current batch and have neither scale and shift nor statistics."""
    for parent in block.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                plain = nn.BatchNorm2d(layer.num_features, eps=layer.eps, affine=False, track_running_stats=False)
                setattr(parent, name, plain)
    return block


def _mixture(weights: Tensor, maps: Sequence[Tensor]) -> Tensor:
    mixed = weights[0] * maps[0]
    for weight, features in zip(weights[1:], maps[1:], strict=True):
        mixed = mixed + weight * features
    return mixed
