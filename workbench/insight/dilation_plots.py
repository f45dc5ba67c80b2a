"""Figures of the search for dilations by channel: kernels, alpha, votes, and what thin convolutions cost in time."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from workbench.evaluation.statistics import mean_interval
from workbench.insight.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, new_axes
from workbench.networks.dilation_mixture import DilationMixture
from workbench.search.relaxation import Logits, softmax
from workbench.spaces.channel_dilation import genotype_name, searched_layers
from workbench.spaces.space import SearchSpace

# Squares from light to dark, the others in colours that no square has.
GENOTYPE_COLOURS: dict[str, Any] = {
    "1x1": "0.85",
    "2x2": SKY,
    "3x3": BLUE,
    "4x4": PURPLE,
    "5x5": BLACK,
    "1x3": ORANGE,
    "3x1": GREEN,
    "1x5": VERMILLION,
    "5x1": YELLOW,
}


def plot_kernels(layer: DilationMixture, group: int = 0) -> Axes:
    """The taps of every genotype on the common grid, and the composite kernel of one group of channels.

    Colour: root mean square of the weights over the group's channels, one scale for all panels.
    """
    first = group * layer.group_channels
    rows = slice(first, first + layer.group_channels)
    shares = layer.shares().detach()
    panels: dict[str, np.ndarray[Any, Any]] = {}
    for index, genotype in enumerate(layer.dilations):
        alone = shares * 0
        alone[:, index] = 1
        panels[f"{genotype_name(genotype)}\nweight {float(shares[group, index]):.2f}"] = _strength(layer, alone, rows)
    panels["composite\nkernel"] = _strength(layer, shares, rows)
    figure, axes = plt.subplots(1, len(panels), figsize=(1.75 * len(panels), 2.3))
    top = max(values.max() for values in panels.values())
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        height, width = values.shape
        extent = (-(width / 2), width / 2, height / 2, -(height / 2))
        image = ax.imshow(values, cmap="viridis", vmin=0, vmax=top, extent=extent)
        ax.set_title(title, fontsize=9, loc="center")
        ax.set(xticks=[0], yticks=[0])
        ax.tick_params(labelsize=8)
        ax.grid(False)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label("size of the weights", fontsize=8)
    return axes[0]


def _strength(layer: DilationMixture, shares: Any, rows: slice) -> np.ndarray[Any, Any]:
    by_channel = shares.repeat_interleave(layer.group_channels, dim=0)
    kernel = layer.composite_kernel(by_channel).detach()[rows]
    return kernel.square().mean(dim=(0, 1)).sqrt().cpu().numpy()


def plot_alpha(space: SearchSpace, epochs: Mapping[str, Sequence[Logits]]) -> Axes:
    """Weights of the genotypes (columns) in every group (rows, layer after layer), a panel for each epoch."""
    figure, axes = plt.subplots(1, len(epochs), figsize=(2.0 + 2.1 * len(epochs), 5.2), sharey=True, squeeze=False)
    layers = searched_layers(space)
    ends = np.cumsum([layer.groups for layer in layers])
    names = max((layer.genotypes for layer in layers), key=len)
    weights = [softmax(layer) for alphas in epochs.values() for layer in alphas]
    low, top = min(float(w.min()) for w in weights), max(float(w.max()) for w in weights)
    for ax, (title, alphas) in zip(axes[0], epochs.items(), strict=True):
        rows = np.full((int(ends[-1]), len(names)), np.nan)
        for layer, values, end in zip(layers, alphas, ends, strict=True):
            columns = [names.index(genotype) for genotype in layer.genotypes]
            rows[end - layer.groups : end, columns] = softmax(values)
        image = ax.imshow(
            rows, aspect="auto", cmap="cividis", vmin=low, vmax=max(top, low + 1e-6), interpolation="nearest"
        )
        for end in ends[:-1]:
            ax.axhline(end - 0.5, color="white", linewidth=1.5)
        ax.set_xticks(range(len(names)), [genotype_name(name) for name in names], fontsize=8, rotation=90)
        ax.set_title(title, fontsize=10)
        ax.grid(False)
    centres = [end - layer.groups / 2 - 0.5 for layer, end in zip(layers, ends, strict=True)]
    labels = [f"stage {layer.stage}\nblock {layer.block}\nN = {layer.groups}" for layer in layers]
    axes[0][0].set_yticks(centres, labels, fontsize=8)
    figure.colorbar(image, ax=list(axes[0]), shrink=0.6, pad=0.02).set_label("softmax(alpha)")
    return axes[0][0]


def plot_entropy(trajectories: Mapping[str, pd.DataFrame], warm_epochs: int, ax: Axes | None = None) -> Axes:
    """Entropy of the weights (1: nothing decided) and margin of the best one over epochs, mean over all groups."""
    ax = ax or new_axes(6.0, 3.4)
    for colour, (name, frame) in zip((BLUE, ORANGE, GREEN), trajectories.items(), strict=False):
        ax.plot(frame["epoch"], frame["entropy"], "-o", color=colour, markersize=4, label=f"{name}: entropy")
        ax.plot(frame["epoch"], frame["margin"], "--s", color=colour, markersize=4, label=f"{name}: margin")
    if warm_epochs:
        ax.axvspan(0.5, warm_epochs + 0.5, color="0.93", zorder=0)
        ax.text(0.5 + warm_epochs / 2, 0.5, "alpha\nfrozen", ha="center", va="center", fontsize=9, color="0.4")
    ax.set(xlabel="epoch", ylabel="share of the largest possible", ylim=(-0.02, 1.05))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return ax


def plot_votes(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """For each network a row of stacked bars: the share of the groups of every layer that chose each genotype."""
    height = max(len(table) for table in tables.values())
    _, axes = plt.subplots(
        1, len(tables), figsize=(1.5 + 2.6 * len(tables), 0.9 + 0.34 * height), sharey=True, squeeze=False
    )
    used = [name for name in GENOTYPE_COLOURS if any(name in table for table in tables.values())]
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        left = np.zeros(len(table))
        for name in used:
            if name in table:
                ax.barh(range(len(table)), table[name], left=left, color=GENOTYPE_COLOURS[name], height=0.8)
                left += table[name].to_numpy()
        ax.set_title(title, fontsize=10)
        ax.set(xlim=(0, 1), xlabel="share of groups")
        ax.grid(False)
    first = next(iter(tables.values()))
    labels = [f"stage {row.stage}, block {row.block}" for row in first.itertuples()]
    axes[0][0].set_yticks(range(len(first)), labels, fontsize=9)
    axes[0][0].invert_yaxis()
    handles = [Patch(facecolor=GENOTYPE_COLOURS[name], edgecolor="0.6", label=name) for name in used]
    axes[0][-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), title="height x width")
    return axes[0][0]


def plot_latency(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Time of one picture as a ratio to the baseline, for backbones cut into more and thinner convolutions."""
    ax = ax or new_axes(7.0, 3.2)
    places = np.arange(len(table))
    for shift, part, colour in ((-0.2, "backbone", BLUE), (0.2, "detector", SKY)):
        bars = ax.bar(places + shift, table[f"{part} ratio"], 0.38, color=colour, label=part)
        ax.bar_label(bars, fmt="%.2f", fontsize=8)
    ax.axhline(1, color="0.4", linewidth=1, linestyle=":")
    most = table["convolutions in a layer, at most"]
    labels = [f"{name}\n{count} in a layer" for name, count in zip(table["groups"], most, strict=True)]
    ax.set_xticks(places, labels, fontsize=9)
    ax.set(ylabel="time / time of the baseline")
    ax.set_ylim(0, 1.2 * float(table[["backbone ratio", "detector ratio"]].max().max()))
    ax.legend(loc="upper left", ncols=2)
    return ax


def plot_sweep(frame: pd.DataFrame, column: str, order: Sequence[str], ax: Axes | None = None) -> Axes:
    """AP of the found network minus that of its run's baseline, for each value of a swept parameter.

    Dots are seeds; the bar is the mean with its 95 % t-interval, where there are two seeds or more.
    """
    ax = ax or new_axes(4.6, 3.2)
    present = [value for value in order if (frame[column] == value).any()]
    for place, value in enumerate(present):
        gains = frame.loc[frame[column] == value, "gain"].to_numpy()
        ax.plot([place] * len(gains), gains, "o", color=BLUE, alpha=0.5, markersize=5)
        mean = mean_interval(gains)
        if np.isfinite(mean.low):
            ax.errorbar(place, mean.value, [[mean.value - mean.low], [mean.high - mean.value]], fmt="_", color=BLACK,
                        markersize=16, capsize=4)  # fmt: skip
    ax.axhline(0, color="0.4", linewidth=1, linestyle=":")
    ax.xaxis.set_major_locator(FixedLocator(range(len(present))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels(present)
    ax.set_xlim(-0.5, len(present) - 0.5)
    ax.set(xlabel=column, ylabel="AP - AP of the baseline")
    return ax
