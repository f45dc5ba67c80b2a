"""Figures of architectures and of their search: blocks as strips, alpha, rankings of allocations, the beam's trace."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from workbench.evaluation.statistics import Interval
from workbench.insight.style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    RIGHT,
    SKY,
    VERMILLION,
    ink_on,
    new_axes,
    tau_text,
)
from workbench.records.score import Score
from workbench.search.relaxation import Logits, softmax
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SearchSpace

OPERATION_COLOURS = (SKY, GREEN, BLUE, ORANGE)  # op ids 0 to 3 of the shuffle spaces
DILATION_COLOURS = {1: SKY, 2: BLUE, 3: ORANGE}
# How wide a layer is inside: an inverted residual times its input, a bottleneck as a share of its output.
WIDTH_COLOURS = {1: QUIET, 3: SKY, 6: BLUE, 0.125: SKY, 0.25: BLUE}


class Cell(NamedTuple):
    """One block in a strip: `height` as a share of the row."""

    stage: int
    colour: Any
    text: str
    height: float = 0.77


def plot_strips(
    rows: Mapping[str, Sequence[Cell]],
    legend: Mapping[str, Any],
    *,
    notes: Mapping[str, str] | None = None,
    channels: Mapping[int, object] | None = None,
) -> Axes:
    """One row for each network, a bar for each block. Stages start at the same place in all rows, so a gap is a block
    that others have, and blocks can be seen to move. `legend`: colours by their names; `channels` by stage.
    """
    counts = [Counter(cell.stage for cell in row) for row in rows.values()]
    widths = {stage: max(count[stage] for count in counts) for stage in sorted(set().union(*counts))}
    *starts, end = np.cumsum([0.0, *(width + 0.8 for width in widths.values())]).tolist()
    ax = new_axes(min(13.0, max(7.0, 3.0 + 0.3 * end)), 1.1 + 0.52 * len(rows))
    for line, (name, row) in enumerate(rows.items()):
        places = dict(zip(widths, starts, strict=True))
        for cell in row:
            left, top = places[cell.stage], line + 0.9 - cell.height
            places[cell.stage] += 1
            ax.add_patch(Rectangle((left + 0.05, top), 0.9, cell.height, color=cell.colour))
            ax.text(left + 0.5, line + 0.86, cell.text, ha="center", va="bottom", fontsize=8, color=ink_on(cell.colour))
        if notes is not None:
            ax.text(end, line + 0.6, notes[name], va="center", fontsize=9)
    for (stage, width), start in zip(widths.items(), starts, strict=True):
        label = f"stage {stage}" + (f"\n{channels[stage]} ch" if channels else "")
        ax.text(start + width / 2, -0.05, label, ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(-0.2, end * 1.16 + 2), ylim=(len(rows), -0.1), xticks=[])
    ax.set_yticks([line + 0.55 for line in range(len(rows))], list(rows))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in legend.items()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, 0.0), ncols=4, fontsize=9)
    return ax


def plot_layers(specs: Mapping[str, NetworkSpec]) -> Axes:
    """Mobile and residual networks: height and number are the kernel of a layer, its colour the expansion.

    "3:2" is a 3x3 kernel with dilation 2.
    """
    words = {"mbconv": "expansion {:g}", "bottleneck": "inner width {:g}", "basic": "basic block"}
    rows: dict[str, list[Cell]] = {}
    legend, notes, widths = {}, {}, {}
    for name, spec in specs.items():
        blocks = [block for block in spec.blocks if block.kind in words]
        rows[name] = []
        for block in reversed(blocks):  # so that a stage keeps the channels of its first block
            colour = WIDTH_COLOURS.get(block.expansion, PURPLE)
            rate = max((height for _, height, _ in block.dilations), default=1)
            text = f"{block.kernel}:{rate}" if rate > 1 else str(block.kernel)
            rows[name].insert(0, Cell(block.stage, colour, text, 0.11 * block.kernel))
            legend[block.expansion] = words[block.kind].format(block.expansion), colour
            widths[name, block.stage] = block.out_channels
        notes[name] = "depths " + ".".join(str(len(list(run))) for _, run in groupby(b.stage for b in blocks))
    channels: dict[int, str] = {}
    for (_, stage), width in widths.items():  # networks of other families have other widths
        known = channels.get(stage, "")
        channels[stage] = known if str(width) in known.split("/") else f"{known}/{width}".strip("/")
    return plot_strips(rows, dict(legend[key] for key in sorted(legend)), notes=notes, channels=channels)


def plot_alpha(space: SearchSpace, epochs: Mapping[str, Sequence[Logits]]) -> Axes:
    """Weights of the options: a row for each decision, a column for each option, a panel for each epoch.

    Blocks with several decisions (groups of channels) are set apart by lines; of others the heaviest has a dot.
    """
    options = max((decision.options for decision in space.decisions), key=len)
    blocks = [list(run) for _, run in groupby(space.decisions, key=lambda decision: decision.block)]
    ends = np.cumsum([len(block) for block in blocks])
    height = 1.2 + max(0.22 * len(blocks), 0.05 * len(space.decisions))
    figure, axes = plt.subplots(1, len(epochs), figsize=(1.6 + 2.4 * len(epochs), height), sharey=True, squeeze=False)
    grids = {}
    for name, alphas in epochs.items():
        weights = [row for logits in alphas for row in softmax(np.asarray(logits, dtype=float))]
        named = [dict(zip(d.options, row, strict=True)) for d, row in zip(space.decisions, weights, strict=True)]
        grids[name] = pd.DataFrame(named, columns=options).to_numpy()
    low, top = (float(f([f(grid) for grid in grids.values()])) for f in (np.nanmin, np.nanmax))
    for ax, (name, grid) in zip(axes[0], grids.items(), strict=True):
        image = ax.imshow(grid, aspect="auto", cmap="cividis", vmin=low, vmax=max(top, low + 1e-6))
        if len(blocks) == len(grid):
            for row, best in enumerate(np.nanargmax(grid, axis=1)):
                ax.plot(best, row, "o", color=VERMILLION, markersize=4)
        else:
            for end in ends[:-1]:
                ax.axhline(end - 0.5, color="white", linewidth=1.5)
        ax.set_title(name, fontsize=10)
        ax.set_xticks(range(len(options)), options, rotation=60, fontsize=8)
        ax.grid(False)
    names = [block[0].name.split(" group")[0].replace("stage ", "s").replace(" layer ", " l") for block in blocks]
    centres = [end - len(block) / 2 - 0.5 for block, end in zip(blocks, ends, strict=True)]
    axes[0][0].set_yticks(centres, names, fontsize=8)
    figure.colorbar(image, ax=list(axes[0]), label="weight: softmax(alpha)", shrink=0.8)
    return axes[0][0]


def plot_ranking(
    frame: pd.DataFrame, metric: str, tau: Interval, chosen: Mapping[str, tuple[int, ...]], ax: Axes | None = None
) -> Axes:
    """Every allocation's score against its centre of mass, with the standard error of a score, and some named."""
    ax = ax or new_axes(7.5, 4.0)
    x, y = frame["centre of mass"], frame[metric]
    ax.errorbar(x, y, yerr=frame[f"{metric}_error"], fmt="none", ecolor=FAINT, zorder=1)
    ax.scatter(x, y, s=26, color=BLUE, zorder=2)
    places = dict(zip(frame["depths"], zip(x, y, strict=True), strict=True))
    names: dict[tuple[int, ...], list[str]] = {}
    for name, depths in chosen.items():
        if depths in places:
            names.setdefault(depths, []).append(name)
    for (depths, same), colour in zip(names.items(), (ORANGE, VERMILLION, GREEN, PURPLE), strict=False):
        (left, top), label = places[depths], f"{', '.join(same)} {list(depths)}"
        ax.scatter(left, top, s=90, marker="D", facecolor="none", edgecolor=colour, linewidth=2, label=label)
    ax.set(xlabel="centre of mass: mean stage of a block (right is deep)", ylabel=f"{metric} on the search split (0-1)")
    ax.set_title(f"Kendall's tau with depth: {tau_text(tau)}")
    if names:
        ax.legend(**RIGHT)
    return ax


def plot_beam(scores: Sequence[Score], metric: str, width: int, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """The candidates of every step, coloured by the dilation they try; filled ones survive into the next step."""
    ax = ax or new_axes(8.5, 4.0)
    rows = [{"step": s.step, "option": s.arch.choices[-1], **s.metrics} for s in scores if not s.error]
    frame = pd.DataFrame(rows)
    kept = frame.groupby("step")[metric].rank(ascending=False, method="first") <= width
    for option, (rate, colour) in enumerate(DILATION_COLOURS.items()):
        for face, part in ((colour, frame[kept]), ("none", frame[~kept])):
            part = part[part["option"] == option]
            ax.scatter(part["step"] + 0.18 * (rate - 2), part[metric], s=42, facecolor=face, edgecolor=colour)
    tops = frame.groupby("step")[metric].max()
    ax.plot(tops, color=QUIET, linewidth=1, zorder=0)
    if f"{metric}_error" in frame:
        place = (-0.7, float(tops.median()))
        ax.errorbar(*place, yerr=frame[f"{metric}_error"].median(), color=QUIET, capsize=4)
        ax.annotate("standard error\nof one score", place, xytext=(4, 10), textcoords="offset points", fontsize=8,
                    color=QUIET)  # fmt: skip
    short = [name.replace("stage ", "s").replace(" block ", "b") for name in names]
    ax.set_xticks(range(len(names)), short, fontsize=9)
    ax.set(xlabel="block decided (stage and block)", ylabel=f"{metric} on the search split (0-1)")
    handles = [Patch(color=colour, label=f"dilation {rate}") for rate, colour in DILATION_COLOURS.items()]
    ax.legend(handles=handles, title=f"filled: the {width} kept", **RIGHT)
    return ax
