"""Pictures of parameter remapping on real tensors: depth, width, kernel (FNA, figure 2)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from workbench.insight.plots import BLUE, ORANGE, VERMILLION, new_axes
from workbench.networks.backbone import Backbone
from workbench.networks.remap_report import RemapReport


def plot_depth(seed: Backbone, network: Backbone, stage: int, ax: Axes | None = None, channels: int = 48) -> Axes:
    """Every layer of a stage as a stripe: L1 norms of its first depthwise kernels. Clones look like their origin."""
    sides = [("seed", seed), ("network", network)]
    stripes, names = [], []
    for side, model in sides:
        blocks = [block for block, spec in zip(model.blocks, model.spec.blocks, strict=True) if spec.stage == stage]
        for number, block in enumerate(blocks, start=1):
            kernels = depthwise(block).weight.detach()[:channels]
            stripes.append(kernels.abs().sum(dim=(1, 2, 3)).numpy())
            names.append(f"{side}, layer {number}")
    ax = ax or new_axes(7.5, 0.8 + 0.34 * len(stripes))
    grid = np.full((len(stripes), channels), np.nan)
    for row, stripe in enumerate(stripes):
        grid[row, : len(stripe)] = stripe
    image = ax.imshow(grid, aspect="auto", cmap="viridis", interpolation="nearest")
    ax.axhline(sum(name.startswith("seed") for name in names) - 0.5, color="white", linewidth=3)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set(xlabel=f"channel of the depthwise convolution, stage {stage}")
    ax.grid(False)
    plt.colorbar(image, ax=ax, label="L1 norm of its kernel")
    return ax


def plot_width(norms: Mapping[str, Tensor], kept: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Which of a layer's channels each rule keeps: their reference values as bars, kept ones in colour.

    `norms` and `kept` are, for each rule, (channels,) reference values and a mask.
    """
    axes = [ax] if ax is not None else list(plt.subplots(len(norms), 1, figsize=(8, 1.5 * len(norms)), sharex=True)[1])
    for panel, (name, values) in zip(axes, norms.items(), strict=False):
        chosen = kept[name].numpy().astype(bool)
        places = np.arange(len(values))
        panel.bar(places[~chosen], values.numpy()[~chosen], color="0.8", width=0.9)
        panel.bar(places[chosen], values.numpy()[chosen], color=BLUE, width=0.9)
        panel.set_ylabel(name, fontsize=9)
        panel.grid(False)
    axes[-1].set_xlabel("channel of the seed's expansion (blue: kept when the expansion is halved)")
    first: Axes = axes[0]
    return first


def plot_kernels(kernels: Mapping[str, Tensor]) -> Axes:
    """One depthwise kernel as the seed has it and after each rule, on one colour scale; zeros are written."""
    figure, axes = plt.subplots(1, len(kernels), figsize=(2.1 * len(kernels), 2.5), squeeze=False)
    top = max(float(kernel.abs().max()) for kernel in kernels.values())
    image = None
    for ax, (name, kernel) in zip(axes[0], kernels.items(), strict=True):
        side = kernel.shape[-1]
        image = ax.imshow(kernel.numpy(), cmap="PuOr", vmin=-top, vmax=top)
        for row, column in np.ndindex(side, side):
            if float(kernel[row, column]) == 0:
                ax.text(column, row, "0", ha="center", va="center", fontsize=8, color="0.6")
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    assert image is not None
    figure.colorbar(image, ax=list(axes[0]), shrink=0.8, label="weight")
    first: Axes = axes[0][0]
    return first


def plot_report(reports: Mapping[str, RemapReport], ax: Axes | None = None) -> Axes:
    """Where the numbers of each network come from, in millions."""
    ax = ax or new_axes(8, 0.8 + 0.42 * len(reports))
    colours = {"copied": BLUE, "duplicated": ORANGE, "zero": "0.8", "own": VERMILLION}
    for row, report in enumerate(reports.values()):
        left = 0.0
        for kind, count in report.totals().items():
            ax.barh(row, count / 1e6, left=left, color=colours[kind], label=kind if row == 0 else None)
            left += count / 1e6
    ax.set_yticks(range(len(reports)), list(reports), fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="numbers in the network, millions")
    ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return ax


def depthwise(block: nn.Module) -> nn.Conv2d:
    """The block's depthwise convolution (of other blocks the one with the largest kernel)."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    return max(layers, key=lambda layer: (layer.kernel_size[0], layer.groups))


def expansion_rules(block: nn.Module, share: float = 0.5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each rule of section 3.5 the reference of an expansion's channels, and which are kept at that share."""
    conv = next(layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d))
    rows = conv.weight.detach().flatten(1)
    count = round(share * len(rows))
    norms = {"prefix (L1)": rows.abs().sum(1), "Width-BN": norm.weight.detach().abs(), "Width-L1": rows.abs().sum(1)}
    norms["Width-Std"] = rows.std(1)
    kept = {name: torch.zeros(len(rows)) for name in norms}
    for name, values in norms.items():
        chosen = range(count) if name.startswith("prefix") else values.argsort(descending=True, stable=True)[:count]
        kept[name][list(chosen)] = 1
    return norms, kept
