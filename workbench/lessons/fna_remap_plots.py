"""Figures of the lesson on parameter remapping: depth, width and kernels of real tensors (FNA, figure 2), its grid."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from workbench.evaluation.statistics import smoothed
from workbench.insight.plots import plot_parts
from workbench.insight.style import BLUE, FAINT, ORANGE, QUIET, RIGHT, VERMILLION, new_axes
from workbench.networks.backbone import Backbone
from workbench.networks.remap_report import RemapReport


def plot_depth(seed: Backbone, network: Backbone, stage: int, channels: int = 48) -> Axes:
    """Every layer of a stage as a stripe: L1 norms of its first depthwise kernels. Clones look like their origin."""
    stripes = {}
    for side, model in (("seed", seed), ("network", network)):
        blocks = [block for block, spec in zip(model.blocks, model.spec.blocks, strict=True) if spec.stage == stage]
        for number, block in enumerate(blocks, start=1):
            kernels = depthwise(block).weight.detach()[:channels]
            stripes[f"{side}, layer {number}"] = pd.Series(kernels.abs().sum(dim=(1, 2, 3)).numpy())
    grid = pd.DataFrame(stripes).T  # nan where a layer has fewer channels
    ax = new_axes(7.5, 0.8 + 0.34 * len(stripes))
    image = ax.imshow(grid, aspect="auto", cmap="viridis", interpolation="nearest")
    ax.axhline(grid.index.str.startswith("seed").sum() - 0.5, color="white", linewidth=3)
    ax.set_yticks(range(len(grid)), list(grid.index), fontsize=9)
    ax.set(xlabel=f"channel of the depthwise convolution, stage {stage}")
    ax.grid(False)
    plt.colorbar(image, ax=ax, label="L1 norm of its kernel")
    return ax


def plot_width(norms: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> Axes:
    """Which of a layer's channels each rule keeps: their reference values as bars, kept ones in colour.

    `norms` and `kept` are, for each rule, (channels,) reference values and a mask.
    """
    _, axes = plt.subplots(len(norms), 1, figsize=(8, 1.5 * len(norms)), sharex=True, squeeze=False)
    for panel, (name, values) in zip(axes[:, 0], norms.items(), strict=True):
        colours = [BLUE if chosen else FAINT for chosen in kept[name]]
        panel.bar(np.arange(len(values)), values.numpy(), color=colours, width=0.9)
        panel.set_ylabel(name, fontsize=9)
        panel.grid(False)
    panel.set_xlabel("channel of the seed's expansion (blue: kept when the expansion is halved)")
    return axes[0, 0]


def plot_report(reports: Mapping[str, RemapReport]) -> Axes:
    """Where the numbers of each network come from, in millions."""
    colours = {"copied": BLUE, "duplicated": ORANGE, "zero": FAINT, "own": VERMILLION}
    frame = pd.DataFrame({name: report.totals() for name, report in reports.items()}).T / 1e6
    return plot_parts(frame, colours, "numbers in the network, millions")


def depthwise(block: nn.Module) -> nn.Conv2d:
    """The block's depthwise convolution (of other blocks the one with the largest kernel)."""
    layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    return max(layers, key=lambda layer: (layer.kernel_size[0], layer.groups))


def expansion_rules(block: nn.Module, share: float = 0.5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each rule of FNA's section 4.4 the reference of an expansion's channels, and which are kept at that share."""
    conv = next(layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d))
    rows = conv.weight.detach().flatten(1)
    count, size = round(share * len(rows)), rows.abs().sum(1)
    norms = {"prefix (L1)": size, "Width-BN": norm.weight.detach().abs(), "Width-L1": size, "Width-Std": rows.std(1)}
    kept = {}
    for name, values in norms.items():
        order = torch.arange(len(rows)) if name.startswith("prefix") else values.argsort(descending=True, stable=True)
        kept[name] = torch.zeros(len(rows)).index_fill(0, order[:count], 1)
    return norms, kept


def plot_grid(frame: pd.DataFrame, metric: str) -> Axes:
    """Accuracy by how the supernet and the found network began (table 5): columns supernet, target, and `metric`."""
    ax = new_axes(4.4, 3.2)
    table = frame.pivot(index="supernet", columns="target", values=metric)  # random before remap
    ax.imshow(table, cmap="cividis", vmin=0)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        ink = "black" if value > 0.6 * np.nanmax(table) else "white"
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=ink, fontsize=13)
    ax.set_xticks(range(len(table.columns)), [f"{name}\nweights" for name in table.columns])
    ax.set_yticks(range(len(table.index)), [f"{name}\nsupernet" for name in table.index])
    ax.set(xlabel="found network begins with", ylabel="searched in")
    ax.set_title(f"{metric} on the test split")
    ax.grid(False)
    return ax


def plot_steps_to(losses: Mapping[str, Sequence[float]], window: int = 15) -> Axes:
    """Training losses of several starts, and where each reaches the final loss of the slowest."""
    ax = new_axes(7.0, 3.4)
    smooth = {name: smoothed(values, window) for name, values in losses.items()}
    level = max(values[-1] for values in smooth.values())
    for index, (name, values) in enumerate(smooth.items()):
        reached = int(np.argmax(values <= level))  # the last value of each is there, at the latest
        ax.plot(values, color=f"C{index}", label=f"{name}: step {reached + 1}")
        ax.plot(reached, values[reached], "o", color=f"C{index}")
    ax.axhline(level, color=QUIET, linestyle=":", linewidth=1)
    ax.set(xlabel="step", ylabel=f"loss (mean of {window} steps)")
    ax.legend(title="reaches the dotted loss at", **RIGHT)
    return ax
