"""Figures of computation reallocation: blocks and dilations of networks, rankings of allocations, the beam's trace."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from workbench.evaluation.statistics import Interval
from workbench.insight.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_axes
from workbench.records.score import Score
from workbench.spaces.allocation import centre_of_mass, depths_of
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import dilatable_blocks

DILATION_COLOURS = {1: SKY, 2: BLUE, 3: ORANGE}
STAGE_COLOURS = (SKY, GREEN, BLUE, ORANGE, VERMILLION, PURPLE)


def plot_networks(specs: Mapping[str, NetworkSpec], image_size: ImageSize = 224, ax: Axes | None = None) -> Axes:
    """One row for each network, a square for each residual block: its place is the stage, its colour the dilation.

    Stages start at the same place in all rows, so that blocks can be seen to move.
    """
    rows = {name: _stages(spec) for name, spec in specs.items()}
    stages = sorted({stage for row in rows.values() for stage in row})
    widths = [max(len(row.get(stage, [])) for row in rows.values()) for stage in stages]
    starts = np.cumsum([0, *(width + 0.8 for width in widths)])
    ax = ax or new_axes(min(13.0, max(7.0, 3.2 + 0.27 * float(starts[-1]))), 1.0 + 0.5 * len(rows))
    for line, (name, row) in enumerate(rows.items()):
        for stage, start in zip(stages, starts, strict=False):
            for index, rate in enumerate(row.get(stage, [])):
                colour = DILATION_COLOURS.get(rate, PURPLE)
                ax.add_patch(Rectangle((start + index + 0.05, line + 0.14), 0.9, 0.72, color=colour))
                if rate > 1:
                    ax.text(
                        start + index + 0.5, line + 0.5, str(rate), ha="center", va="center", color="white", fontsize=8
                    )
        params = backbone_cost(specs[name], image_size).params
        ax.text(float(starts[-1]), line + 0.5, f"{_short(params)} params", va="center", fontsize=9)
    for stage, start in zip(stages, starts, strict=False):
        ax.text(start, -0.1, f"stage {stage}", ha="left", va="bottom", fontsize=9)
    ax.set(xlim=(0, float(starts[-1]) * 1.16 + 2), ylim=(len(rows), -0.1), xticks=[])
    ax.set_yticks([line + 0.5 for line in range(len(rows))], list(rows))
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    handles = [Patch(color=colour, label=f"dilation {rate}") for rate, colour in DILATION_COLOURS.items()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, 0.0), ncols=3, fontsize=9)
    return ax


def plot_params(groups: Mapping[str, tuple[Sequence[float], Sequence[float]]], ax: Axes | None = None) -> Axes:
    """Params (millions) against centre of mass of every allocation of one budget; their MACs are equal."""
    ax = ax or new_axes(7, 3.4)
    for (label, (centres, params)), colour in zip(groups.items(), (SKY, ORANGE, GREEN, BLUE), strict=False):
        ax.scatter(centres, np.asarray(params) / 1e6, s=14, color=colour, alpha=0.7, label=label)
    ax.set(xlabel="centre of mass: mean stage of a block", ylabel="backbone params (millions)")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def plot_ranking(
    frame: pd.DataFrame, metric: str, tau: Interval, chosen: Mapping[str, tuple[int, ...]], ax: Axes | None = None
) -> Axes:
    """Every allocation's score against its centre of mass, with the standard error of a score, and some named."""
    ax = ax or new_axes(7.5, 4.0)
    x, y = frame["centre of mass"], frame[metric]
    ax.errorbar(x, y, yerr=frame[f"{metric}_error"], fmt="none", ecolor="0.8", zorder=1)
    ax.scatter(x, y, s=26, color=BLUE, zorder=2)
    labels: dict[tuple[int, ...], str] = {}
    for name, depths in chosen.items():
        labels[depths] = f"{labels[depths]}, {name}" if depths in labels else name
    for (depths, label), colour in zip(labels.items(), (ORANGE, VERMILLION, GREEN, PURPLE), strict=False):
        row = frame[frame["depths"] == depths]
        if len(row):
            point = (float(row["centre of mass"].iloc[0]), float(row[metric].iloc[0]))
            text = f"{label} {list(depths)}"
            ax.scatter(*point, s=90, marker="D", facecolor="none", edgecolor=colour, linewidth=2, zorder=3, label=text)
    ax.set(xlabel="centre of mass: mean stage of a block (right is deep)", ylabel=f"{metric} on the search split (0-1)")
    ax.set_title(f"Kendall's tau with depth {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}], n = {tau.n}")
    if labels:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_beam(scores: Sequence[Score], metric: str, width: int, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """The candidates of every step, coloured by the dilation they try; filled ones survive into the next step."""
    ax = ax or new_axes(8.5, 4.0)
    steps = sorted({score.step for score in scores})
    for step in steps:
        row = sorted((s for s in scores if s.step == step and not s.error), key=lambda s: -s.metrics[metric])
        for rank, score in enumerate(row):
            option = score.arch.choices[-1]
            colour = DILATION_COLOURS[option + 1]
            face = colour if rank < width else "none"
            ax.scatter(step + 0.18 * (option - 1), score.metrics[metric], s=42, facecolor=face, edgecolor=colour)
    tops = [max(s.metrics[metric] for s in scores if s.step == step and not s.error) for step in steps]
    ax.plot(steps, tops, color="0.5", linewidth=1, zorder=0)
    errors = [s.metrics[f"{metric}_error"] for s in scores if f"{metric}_error" in s.metrics]
    if errors:
        ax.errorbar([-0.7], [float(np.median(tops))], yerr=float(np.median(errors)), color="0.35", capsize=4)
        ax.annotate("standard error\nof one score", (-0.7, float(np.median(tops))), xytext=(4, 10),
                    textcoords="offset points", fontsize=8, color="0.35")  # fmt: skip
    ax.set_xticks(steps, [name.replace("stage ", "s").replace(" block ", "b") for name in names], fontsize=9)
    ax.set(xlabel="block decided (stage and block)", ylabel=f"{metric} on the search split (0-1)")
    handles = [Patch(color=colour, label=f"dilation {rate}") for rate, colour in DILATION_COLOURS.items()]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), title=f"filled: the {width} kept")
    return ax


def plot_two_accuracies(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    correlations: Mapping[str, Interval],
    labels: tuple[str, str],
    ax: Axes | None = None,
) -> Axes:
    """Classification against detection of networks of equal MACs, with Kendall's tau, its interval and n per group."""
    ax = ax or new_axes(5.6, 4.0)
    for (name, (x, y)), colour in zip(groups.items(), (BLUE, ORANGE, GREEN), strict=False):
        tau = correlations[name]
        text = f"{name}: tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}], n = {tau.n}"
        ax.scatter(x, y, s=34, color=colour, label=text)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9)
    return ax


def plot_sizes(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test AP of each network by size of the objects (thirds of the data set's own sizes)."""
    ax = ax or new_axes(9, 3.6)
    columns = {"AP_rel_s": "small", "AP_rel_m": "middle", "AP_rel_l": "large"}
    for index, (column, label) in enumerate(columns.items()):
        places = np.arange(len(frame)) + 0.26 * (index - 1)
        ax.bar(places, frame[column], 0.24, color=(SKY, GREEN, BLUE)[index], label=f"{label} objects")
    ax.set_xticks(range(len(frame)), [fill(str(name), 11) for name in frame["network"]], fontsize=9)
    ax.set(ylabel="AP on the test split (0-1)")
    ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    return ax


def _stages(spec: NetworkSpec) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for index in dilatable_blocks(spec):
        block = spec.blocks[index]
        rows.setdefault(block.stage, []).append(block.dilations[0][1] if block.dilations else 1)
    return rows


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k"


def ranking_table(scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """One row for each allocation that was scored, best by `metric` first: depths, centre of mass, metrics, costs."""
    rows = []
    for score in scores:
        if score.error is None:
            depths = depths_of(space_named(score.arch.space), score.arch)
            cost = {"MACs": score.macs, "params": score.params}
            rows.append({"depths": depths, "centre of mass": centre_of_mass(depths), **score.metrics, **cost})
    frame = pd.DataFrame(rows)
    return frame.sort_values([metric, "params"], ascending=[False, True]).reset_index(drop=True)
