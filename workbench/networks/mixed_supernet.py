"""The supernet of a gradient search over dilations: a pretrained backbone whose searched convolutions are mixtures."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from workbench.networks.backbone import Backbone, run_blocks
from workbench.networks.mixed_dilation import (
    IMPLEMENTATIONS,
    SIDES,
    Implementation,
    Kernels,
    MixedDilation,
    Side,
    step_ms,
)
from workbench.networks.weight_reuse import main_chain, reuse_weights, searched_position
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import Reading, base_spec, layer_choices, searched_layers
from workbench.spaces.space import SearchSpace

Alpha = Sequence[npt.NDArray[np.float64]]  # for each searched layer (groups, genotypes)


class MixedSupernet(nn.Module):
    """A `Backbone` that computes a mixture of the space's networks, each group of channels its own (`mix`).

    Built from a pretrained network of the space's base specification: every convolution that is searched becomes a
    `MixedDilation` of its kernel; its batch norm and ReLU stand once, behind the mixture. `activate(arch)` switches to
    one genotype per group, with the weights that the mixture has learned.
    """

    def __init__(self, space: SearchSpace, pretrained: Backbone, kernels: Kernels = "replicated") -> None:
        super().__init__()
        spec = base_spec(space)
        if pretrained.spec.blocks != spec.blocks:
            raise ValueError(f"{space.name} starts from {spec.name}; got weights of {pretrained.spec.name}.")
        self.space = space
        self.channels = spec.channels
        self.strides = spec.strides
        self.taps = spec.taps
        self.blocks = copy.deepcopy(pretrained.blocks)
        for layer in searched_layers(space):
            chain = main_chain(self.blocks[layer.block])
            position = searched_position(self.blocks[layer.block], spec.blocks[layer.block])
            conv = chain[position]
            assert isinstance(conv, nn.Conv2d)
            chain[position] = MixedDilation(conv, layer, kernels)

    def mixtures(self) -> list[MixedDilation]:
        """The searched layers in order."""
        return [layer for layer in self.modules() if isinstance(layer, MixedDilation)]

    def alphas(self) -> list[nn.Parameter]:
        """Their logits in order, each (groups, genotypes)."""
        return [layer.alpha for layer in self.mixtures()]

    def alpha_values(self) -> list[npt.NDArray[np.float64]]:
        """A copy of the logits as plain numbers, for `search.relaxation`."""
        return [alpha.detach().cpu().double().numpy().copy() for alpha in self.alphas()]

    def mix(self, alpha: Alpha | None = None) -> None:
        """Makes `forward` compute the mixture, with these logits when they are given."""
        for layer in self.mixtures():
            layer.chosen = None
        if alpha is not None:
            with torch.no_grad():
                for logits, values in zip(self.alphas(), alpha, strict=True):
                    logits.copy_(torch.from_numpy(np.asarray(values)))

    def activate(self, arch: Arch) -> None:
        """Makes `forward` compute the network of `arch`: one genotype for each group."""
        for layer, chosen in zip(self.mixtures(), layer_choices(self.space, arch), strict=True):
            layer.chosen = chosen

    def use(self, implementations: Implementation | Sequence[Mapping[Side, Implementation]]) -> None:
        """Sets how the searched layers are computed, all alike or each by side; the function is the same."""
        layers = self.mixtures()
        if isinstance(implementations, str):
            implementations = [dict.fromkeys(SIDES, implementations) for _ in layers]
        for layer, names in zip(layers, implementations, strict=True):
            layer.implementation = dict(names)

    def forward(self, images: Tensor) -> list[Tensor]:
        return run_blocks(self.blocks, self.taps, images)

    def extract(self, arch: Arch, weights_from: Backbone | None = None, reading: Reading = "index") -> Backbone:
        """A stand-alone network of `arch` that takes its weights from a pretrained one, as NATS does (section 3.4).

        None: from the supernet itself, which `index` keeps equal to `activate(arch)`.
        """
        source = self._plain(arch) if weights_from is None else weights_from
        return reuse_weights(self.space, arch, source, reading)

    def _plain(self, arch: Arch) -> Backbone:
        """The base network with the kernels that `arch` chose from the replicas, still undilated."""
        backbone = Backbone(base_spec(self.space)).train(self.training)
        own, taken = self.state_dict(), {}
        kernels = dict(zip(self._searched_names(), self._chosen_kernels(arch), strict=True))
        for name, tensor in backbone.state_dict().items():
            taken[name] = kernels[name] if name in kernels else own[name]
            assert taken[name].shape == tensor.shape
        backbone.load_state_dict(taken)
        return backbone

    def _searched_names(self) -> Iterator[str]:
        return (f"{name}.weight" for name, layer in self.named_modules() if isinstance(layer, MixedDilation))

    def _chosen_kernels(self, arch: Arch) -> list[Tensor]:
        pairs = zip(self.mixtures(), layer_choices(self.space, arch), strict=True)
        return [layer.plain_kernel(chosen).detach() for layer, chosen in pairs]


def measure_implementations(supernet: MixedSupernet, images: Tensor) -> list[dict[Side, dict[Implementation, float]]]:
    """Milliseconds of one step of every searched layer, by side and implementation, on the maps that `images` give."""
    inputs: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, args: inputs.append(args[0].detach()))
        for layer in supernet.mixtures()
    ]
    try:
        with torch.no_grad():
            copy.deepcopy(supernet)(images)
    finally:
        for handle in handles:
            handle.remove()
    times: list[dict[Side, dict[Implementation, float]]] = []
    for layer, features in zip(supernet.mixtures(), inputs, strict=True):
        before = layer.implementation
        row: dict[Side, dict[Implementation, float]] = {side: {} for side in SIDES}
        for name in IMPLEMENTATIONS:
            layer.implementation = dict.fromkeys(SIDES, name)
            for side in SIDES:
                row[side][name] = step_ms(layer, features, side)
        layer.implementation = before
        times.append(row)
    return times
