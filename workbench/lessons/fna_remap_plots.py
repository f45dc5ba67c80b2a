"""Figures of the lesson on parameter remapping: depth, width and kernels of real tensors (FNA, figure 2), its grid."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor, nn

from workbench.evaluation.statistics import smoothed
from workbench.insight.pipeline import INK
from workbench.insight.plots import plot_parts
from workbench.insight.style import BLUE, FAINT, ORANGE, PURPLE, QUIET, RIGHT, VERMILLION, new_axes
from workbench.insight.tables import paper_table
from workbench.lessons.fna_remap import crossed, printed_grid
from workbench.networks.backbone import Backbone
from workbench.networks.remap_report import RemapReport
from workbench.networks.supernet import Supernet
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SearchSpace


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


def plot_two_arrows(seed: NetworkSpec, space: SearchSpace, found: NetworkSpec, names: tuple[str, str, str]) -> Axes:
    """FNA's scheme: the seed's weights go twice, into the supernet and into the found network; the search hands on an
    architecture and no weight. `names` of the three; their parameters are counted.
    """
    with torch.device("meta"):
        supernet = Supernet(space)
    counts = [backbone_cost(spec, 224).params for spec in (seed, found)]
    counts.insert(1, sum(p.numel() for p in supernet.parameters()) - sum(p.numel() for p in supernet.alphas()))
    places, colours = ((0.1, 0.5), (0.62, 0.85), (0.62, 0.15)), (PURPLE, ORANGE, BLUE)
    ax = new_axes(7.6, 3.0)
    for name, count, (left, height), colour in zip(names, counts, places, colours, strict=True):
        box = {"boxstyle": "round,pad=0.6", "edgecolor": colour, "facecolor": [0.35 * c + 0.65 for c in to_rgb(colour)]}
        text = f"{name}\n{count / 1e3:,.0f}k weights"
        ax.text(left, height, text, ha="center", va="center", fontsize=10, color=INK, bbox=box)
    arrows = (
        ((0.2, 0.58), (0.5, 0.82), "1. remapped into\nevery operation", BLUE, "-", (0.33, 0.82)),
        ((0.2, 0.42), (0.5, 0.18), "2. remapped again", BLUE, "-", (0.33, 0.2)),
        ((0.62, 0.7), (0.62, 0.3), "the search: which operations,\nno weights", QUIET, ":", (0.64, 0.5)),
    )
    for start, end, text, colour, style, place in arrows:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linestyle": style, "lw": 1.8})
        ax.text(*place, text, ha="left" if style == ":" else "center", va="center", fontsize=9, color=QUIET)
    ax.set(xlim=(-0.05, 1.0), ylim=(0, 1))
    ax.axis("off")
    return ax


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
    """Accuracy by how the supernet and the found network began: here (columns supernet, target, `metric`) and in the
    paper's table 5, each panel on its own scale of colours.
    """
    panels = {f"{metric} here": frame, "paper, mIoU on Cityscapes": printed_grid(metric)}
    _, axes = plt.subplots(1, 2, figsize=(8.6, 3.3))
    for ax, (title, cells) in zip(axes, panels.items(), strict=True):
        table = crossed(cells, metric)
        image = ax.imshow(table, cmap="cividis")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            ink = "black" if image.norm(value) > 0.6 else "white"
            ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=ink, fontsize=13)
        words = [name.replace("remap", "remapped") for name in table.columns]  # of rows and columns
        ax.set_xticks(range(len(words)), [f"{word}\nweights" for word in words])
        ax.set_yticks(range(len(words)), [f"{word}\nsupernet" for word in words])
        ax.set(xlabel="found network begins with", title=title)
        ax.grid(False)
    return axes[0]


def plot_rules(frame: pd.DataFrame, metric: str) -> Axes:
    """Each rule's accuracy minus that of FNA's own rule: here (`rule`, `metric` and its error) and as printed.

    Bars are two standard errors of one network over test images.
    """
    printed = paper_table("fna_remap_variants").set_index("name")["mIoU"].astype(float) / 100
    ours = frame.set_index("rule").drop(index="random weights")
    ax, rows = new_axes(7.0, 0.9 + 0.42 * len(ours)), np.arange(len(ours))
    gaps = ours[metric] - ours.loc["FNA", metric]
    ax.errorbar(
        gaps, rows, xerr=2 * ours[f"{metric} error"], fmt="o", color=BLUE, capsize=3, label="here, one run each"
    )
    theirs = [printed.get(name, np.nan) - printed["FNA"] for name in ours.index]
    ax.plot(theirs, rows, "D", color=VERMILLION, markerfacecolor="none", label="paper, Cityscapes")
    ax.axvline(0, color=QUIET, linestyle=":", linewidth=1)
    ax.set_yticks(rows, list(ours.index), fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel=f"{metric} minus that of FNA's rule")
    ax.legend(**RIGHT)
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
