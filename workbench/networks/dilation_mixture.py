"""The mixture of a convolution's dilations, chosen by group of output channels (NATS, section 3.2).

The mixture is linear in its input, so there are two exact ways to compute it. *Branches*: one convolution for each
dilation, then the weighted sum; every output is kept for the backward pass. *Composite*: the kernels are placed on one
larger grid at their dilated positions, weighted and summed, and one convolution with that sparse kernel gives the
mixture; its output is the only one. Where alpha alone learns, branches have the cheaper gradient: that of a weighted
sum, while the composite's goes through the gradient of the whole kernel. So each side may have its own way.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.networks.choices import Choice, Sharing, mixed
from workbench.spaces.network_spec import Dilation

Implementation = Literal["branches", "composite"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("branches", "composite")
Side = Literal["weights", "alpha"]  # which of the two learns
SIDES: tuple[Side, ...] = ("weights", "alpha")


class DilationMixture(Choice):
    """(N, C_in, H, W) -> (N, C_out, H', W'), every group of output channels its own mixture of the dilations.

    `weight` is (dilations x C_out, C_in / groups, k, k): copies of the given kernel one after the other, one for each
    dilation, that diverge in training; of `shared` weights there is a single one (as in RF-Next, and in supernets that
    share weights between dilations). `alpha` is (N, dilations), N groups of channels; zeros, so a search starts from
    equal shares. `chosen`: a dilation for each group, instead of the mixture.
    """

    def __init__(
        self, conv: nn.Conv2d, dilations: Sequence[Dilation], channel_groups: int = 1, weights: Sharing = "separate"
    ) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        self.copies = len(dilations) if weights == "separate" else 1
        # Four dimensions and not five: `channels_last` is for those only.
        self.weight = nn.Parameter(conv.weight.detach().repeat(self.copies, 1, 1, 1))
        self.alpha = nn.Parameter(torch.zeros(channel_groups, len(dilations), device=conv.weight.device))
        self.group_channels = conv.out_channels // channel_groups  # C
        self.stride = (conv.stride[0], conv.stride[1])
        self.groups = conv.groups
        self.implementation: dict[Side, Implementation] = {"weights": "branches", "alpha": "branches"}
        taps, self.grid = tap_positions(self.dilations, conv.kernel_size[0])
        # (dilations x k x k, grid positions), 1 where a tap goes; where several dilations meet, they are summed.
        placement = F.one_hot(torch.tensor(taps, device="cpu"), self.grid[0] * self.grid[1])
        self.register_buffer("placement", placement.to(conv.weight), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        if self.chosen is not None:
            return self._chosen(features, self.chosen)
        by_channel = self.shares().repeat_interleave(self.group_channels, dim=0)  # (C_out, dilations)
        learning: Side = "alpha" if self.alpha.requires_grad and not self.weight.requires_grad else "weights"
        if self.implementation[learning] == "branches":
            branches = (self._dilated(features, self.kernel_of(index), index) for index in range(len(self.dilations)))
            return mixed(by_channel[:, :, None, None].unbind(1), branches)
        return self._composite(features, by_channel)

    def kernel_of(self, dilation: int) -> Tensor:
        """The kernel that reads at that dilation: its own copy, or the shared one."""
        return self._replicas()[dilation if self.copies > 1 else 0]

    def plain_kernel(self, chosen: Sequence[int]) -> Tensor:
        """For every output channel the kernel of the dilation that its group chose: (C_out, C_in / groups, k, k)."""
        index = torch.tensor(chosen, device=self.weight.device).repeat_interleave(self.group_channels)
        channels = torch.arange(len(index), device=index.device)
        return self._replicas()[index if self.copies > 1 else 0 * index, channels]

    def composite_kernel(self, by_channel: Tensor) -> Tensor:
        """The kernels of all dilations, weighted, summed at their dilated positions: (C_out, C_in / groups, H, W)."""
        weighted = self._replicas() * by_channel.t()[:, :, None, None, None]  # (dilations, C_out, C_in / groups, k, k)
        rows = weighted.flatten(3).permute(1, 2, 0, 3).flatten(2)  # (C_out, C_in / groups, dilations x k x k)
        return (rows @ self.get_buffer("placement")).unflatten(2, self.grid)

    def _replicas(self) -> Tensor:
        """(dilations or 1, C_out, C_in / groups, k, k)"""
        return self.weight.unflatten(0, (self.copies, -1))

    def _dilated(self, features: Tensor, kernel: Tensor, index: int) -> Tensor:
        dilation = self.dilations[index]
        padding = (dilation[0] * (kernel.shape[-2] // 2), dilation[1] * (kernel.shape[-1] // 2))
        return F.conv2d(features, kernel, None, self.stride, padding, dilation, self.groups)

    def _chosen(self, features: Tensor, chosen: Sequence[int]) -> Tensor:
        """One dilation for each group: every used one computes its own channels only (grouped convolutions: all)."""
        used = sorted(set(chosen))
        if len(used) == 1:
            return self._dilated(features, self.kernel_of(used[0]), used[0])
        by_channel = torch.tensor(chosen, device=features.device).repeat_interleave(self.group_channels)
        parts, places = [], []
        for index in used:
            rows = (by_channel == index).nonzero()[:, 0]
            kernel = self.kernel_of(index)
            if self.groups == 1:
                parts.append(self._dilated(features, kernel[rows], index))
            else:
                parts.append(self._dilated(features, kernel, index)[:, rows])
            places.append(rows)
        return torch.cat(parts, dim=1)[:, torch.cat(places).argsort()]

    def _composite(self, features: Tensor, by_channel: Tensor) -> Tensor:
        padding = (self.grid[0] // 2, self.grid[1] // 2)
        return F.conv2d(features, self.composite_kernel(by_channel), None, self.stride, padding, 1, self.groups)

    def extra_repr(self) -> str:
        return f"channel_groups={len(self.alpha)}, dilations={self.dilations}, implementation={self.implementation}"


def usual_implementation(layer: DilationMixture) -> dict[Side, Implementation]:
    """How a layer is computed unless somebody measures: a rule of its size alone, so that one seed gives one result.

    Composite where kernels learn and the common grid has at most a quarter more taps than the kernels together: there
    it takes two thirds of the time of branches. Where alpha alone learns branches are always faster.
    """
    taps, grid = layer.get_buffer("placement").shape
    return {"weights": "composite" if grid <= 1.25 * taps else "branches", "alpha": "branches"}


def use(module: nn.Module, implementations: Implementation | Sequence[Mapping[Side, Implementation]]) -> None:
    """Sets how the mixtures in `module` are computed, all alike or each by side; the function is the same."""
    mixtures = [layer for layer in module.modules() if isinstance(layer, DilationMixture)]
    for index, layer in enumerate(mixtures):
        ways = implementations if isinstance(implementations, str) else implementations[index]
        layer.implementation = dict.fromkeys(SIDES, ways) if isinstance(ways, str) else dict(ways)


def tap_positions(dilations: Sequence[Dilation], kernel: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Where the taps of every dilated kernel fall on the common grid (row-major), and the grid's height and width."""
    reach = kernel // 2
    height, width = (2 * reach * max(pair[axis] for pair in dilations) + 1 for axis in (0, 1))
    steps = range(-reach, reach + 1)
    taps = [(height // 2 + dy * h) * width + width // 2 + dx * w for h, w in dilations for dy in steps for dx in steps]
    return tuple(taps), (height, width)
