"""Figures. Every function draws values on an axes and returns it; colours mean the same thing everywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor
from torchvision.ops import nms

from workbench.evaluation.statistics import Interval, best_so_far
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = mpl.color_sequences["okabe_ito"]
OPERATION_COLOURS = (SKY, GREEN, BLUE, ORANGE)  # op ids 0 to 3 of the shuffle spaces
LEDGER_COLOURS = {"pretrain": SKY, "refresh": GREEN, "finetune": BLUE, "train": BLUE, "test": BLACK, "search": ORANGE}
PHASE_COLOURS = {"evolution": BLUE, "random": ORANGE, "DetNAS": BLUE, "FNA": BLUE, "best-scored random": ORANGE}


def use_style() -> None:
    """Okabe-Ito colours, legible sizes, light grid; for a notebook's first cell."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
        }
    )


def new_axes(width: float = 8.0, height: float = 3.6) -> Axes:
    """One axes of that size in inches."""
    return plt.subplots(figsize=(width, height))[1]


def plot_op_strip(space: SearchSpace, archs: Mapping[str, Arch], ax: Axes | None = None) -> Axes:
    """One row of squares for each architecture, a square for each block, coloured by its operation."""
    ax = ax or new_axes(max(6.0, 1.8 + 0.34 * len(space.decisions)), 1.1 + 0.42 * len(archs))
    for row, arch in enumerate(archs.values()):
        for column, (decision, option) in enumerate(space.describe(arch)):
            colour = OPERATION_COLOURS[decision.options.index(option) % len(OPERATION_COLOURS)]
            ax.add_patch(Rectangle((column + 0.06, row + 0.12), 0.88, 0.76, color=colour))
            label = {"shuffle 3x3": "3", "shuffle 5x5": "5", "shuffle 7x7": "7"}.get(option, "X")
            ax.text(column + 0.5, row + 0.5, label, ha="center", va="center", fontsize=9, color="white", weight="bold")
    stages = [decision.stage for decision in space.decisions]
    starts = [index for index, stage in enumerate(stages) if index == 0 or stage != stages[index - 1]]
    for start, end in zip(starts, [*starts[1:], len(stages)], strict=True):
        ax.text((start + end) / 2, -0.12, f"stage {stages[start]}", ha="center", va="bottom", fontsize=9)
        if start:
            ax.axvline(start, color="0.4", linewidth=1)
    ax.set(xlim=(0, len(stages)), ylim=(len(archs), -0.1), xticks=[])
    ax.set_yticks([row + 0.5 for row in range(len(archs))], list(archs))
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    handles = [Patch(color=c, label=o) for o, c in zip(space.decisions[0].options, OPERATION_COLOURS, strict=False)]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=9)
    return ax


def plot_cost_histogram(
    samples: Mapping[str, Sequence[float]], limit: float | None, xlabel: str, ax: Axes | None = None
) -> Axes:
    """Distributions of a cost over random architectures, with the limit of the search and the share within it."""
    ax = ax or new_axes()
    values = np.concatenate([np.asarray(sample) for sample in samples.values()])
    bins = np.linspace(values.min(), values.max(), 60).tolist()
    for label, sample in samples.items():
        ax.hist(sample, bins=bins, density=True, histtype="step", linewidth=1.8, label=label)
    if limit is not None:
        first = np.asarray(next(iter(samples.values())))
        share = float((first <= limit).mean())
        ax.axvline(limit, color=VERMILLION, linestyle="--")
        ax.annotate(
            f"limit: {share:.0%} of uniform\npaths are within",
            (limit, 0.94),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
            va="top",
            color=VERMILLION,
            fontsize=9,
        )
    ax.set(xlabel=xlabel, ylabel="density", yticks=[])
    ax.legend(loc="upper left")
    return ax


def plot_losses(losses: Mapping[str, Sequence[float]], ax: Axes | None = None, window: int = 20) -> Axes:
    """Training losses: every step faint, a running mean over `window` steps bold, labelled at its end."""
    ax = ax or new_axes()
    for index, (label, values) in enumerate(losses.items()):
        colour = f"C{index}"
        width = max(1, min(window, len(values) // 5))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        ax.plot(values, color=colour, alpha=0.2, linewidth=0.8)
        ax.plot(np.arange(len(smooth)) + width - 1, smooth, color=colour, linewidth=1.8, label=label)
    low = min(min(values) for values in losses.values())
    high = max(float(np.percentile(values, 98)) for values in losses.values())
    ax.set(xlabel="step", ylabel="loss", ylim=(0.95 * low, 1.05 * high))
    ax.legend()
    return ax


def plot_trajectory(searches: Mapping[str, Sequence[Score]], metric: str = "AP", ax: Axes | None = None) -> Axes:
    """Every evaluation as a dot and the best so far as a line, with one score's standard error at the left."""
    ax = ax or new_axes()
    for index, (label, scores) in enumerate(searches.items()):
        colour = PHASE_COLOURS.get(label, f"C{index}")
        values = [score.metrics.get(metric, np.nan) for score in scores]
        count = np.arange(1, len(values) + 1)
        ax.plot(count, values, ".", color=colour, alpha=0.45)
        ax.step(count, best_so_far(np.nan_to_num(values, nan=0.0).tolist()), where="post", color=colour, label=label)
    most = max([2, *(len(scores) for scores in searches.values())])
    good = [score for scores in searches.values() for score in scores if f"{metric}_error" in score.metrics]
    if good:  # how far one score would move with other search pictures
        error = float(np.median([score.metrics[f"{metric}_error"] for score in good]))
        level = float(np.median([score.metrics[metric] for score in good]))
        left = 1 - max(0.4, 0.03 * most)
        ax.errorbar([left], [level], yerr=error, color="0.35", capsize=4, label="median score ± its standard error")
    ax.set_xticks([tick for tick in MaxNLocator(integer=True).tick_values(1, most) if 1 <= tick <= most])
    ax.set(xlabel="architectures evaluated", ylabel=f"{metric} on the search split (0-1)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_agreement(
    frame: pd.DataFrame, x: str, y: str, tau: Interval, labels: tuple[str, str], ax: Axes | None = None
) -> Axes:
    """The same architectures scored in two ways, with Kendall's tau, its interval and n."""
    ax = ax or new_axes(4.6, 4.4)
    ax.scatter(frame[x], frame[y], color=BLUE, s=36)
    values = frame[[x, y]].to_numpy()
    margin = 0.12 * float(np.nanmax(values) - np.nanmin(values)) + 1e-6
    low, high = float(np.nanmin(values)) - margin, float(np.nanmax(values)) + margin
    ax.plot([low, high], [low, high], color="0.6", linestyle=":", linewidth=1, label="equal")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="upper left")
    ax.set_title(f"Kendall's tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}], n = {tau.n}")
    return ax


def plot_detections(
    image: Tensor,
    found: Mapping[str, Any],
    categories: Sequence[str],
    *,
    truth: Mapping[str, Any] | None = None,
    threshold: float = 0.3,
    ax: Axes | None = None,
) -> Axes:
    """A uint8 picture (3, H, W) with detections of at least `threshold` (solid boxes) and the truth (white, dotted).

    Where boxes of several classes share a place (IoU above 0.7) only the surest is drawn.
    """
    ax = ax or new_axes(4, 4)
    ax.imshow(image.permute(1, 2, 0).numpy())
    palette = [ORANGE, YELLOW, SKY, GREEN, VERMILLION, PURPLE, BLUE, BLACK]
    if truth is not None:
        for box in truth["boxes"].tolist():
            ax.add_patch(_box(box, "white", 0.8, ":"))
    scores = found.get("scores")
    kept = list(range(len(found["boxes"])))
    if scores is not None:
        order = nms(found["boxes"], torch.as_tensor(scores), 0.7).tolist()
        kept = [index for index in reversed(order) if float(scores[index]) >= threshold]  # the surest on top
    for index in kept:
        box, label = found["boxes"][index].tolist(), int(found["labels"][index])
        colour = palette[(label - 1) % len(palette)]
        ax.add_patch(_box(box, colour, 1.6, "-"))
        text = categories[label - 1] + ("" if scores is None else f" {float(scores[index]):.2f}")
        ax.text(
            box[0],
            max(box[1] - 1, 7),
            text,
            fontsize=6.5,
            color="black",
            va="bottom",
            clip_on=True,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
        )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def plot_comparison(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Test AP of each network with its bootstrap error over test images, MACs and params beside the name."""
    ax = ax or new_axes(8, 0.9 + 0.5 * len(frame))
    rows = np.arange(len(frame))
    colours = [PHASE_COLOURS.get(str(name), "0.45") for name in frame["network"]]
    ax.barh(rows, frame["AP"], color=colours, height=0.6)
    ax.errorbar(frame["AP"], rows, xerr=frame["AP error"], fmt="none", ecolor="black", capsize=3)
    names = [
        f"{name}\n{macs / 1e6:.1f} MMACs, {params / 1e3:.0f}k params"
        for name, macs, params in zip(frame["network"], frame["MACs"], frame["params"], strict=True)
    ]
    ax.set_yticks(rows, names, fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="AP on the test split (0-1); bar: bootstrap standard error over test images, one training seed")
    return ax


def plot_operation_shares(space: SearchSpace, archs: Sequence[Arch], ax: Axes | None = None) -> Axes:
    """Share of each operation in each stage, over a set of architectures; uniform choice would give equal bars."""
    ax = ax or new_axes(7, 3.2)
    stages = sorted({decision.stage for decision in space.decisions})
    options = space.decisions[0].options
    for index, option in enumerate(options):
        shares = []
        for stage in stages:
            picks = [o for arch in archs for d, o in space.describe(arch) if d.stage == stage]
            shares.append(picks.count(option) / len(picks))
        positions = np.arange(len(stages)) + (index - (len(options) - 1) / 2) * 0.2
        ax.bar(positions, shares, 0.18, color=OPERATION_COLOURS[index], label=option)
    ax.axhline(1 / len(options), color="0.4", linestyle=":", linewidth=1)
    ax.set_xticks(range(len(stages)), [f"stage {stage}" for stage in stages])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set(ylabel="share of blocks")
    ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.2), fontsize=9)
    return ax


def plot_ledger(entries: Sequence[Entry], ax: Axes | None = None) -> Axes:
    """Where the time went: a bar for each network or search, in parts; hatched parts were taken from the cache."""
    bars: dict[str, list[tuple[str, Entry]]] = {}
    for entry in entries:
        verb, _, name = entry.phase.partition(" ")
        named = verb in LEDGER_COLOURS and name and not name.startswith("(")  # "search (remap)" is one name
        part, label = (verb, name) if named else ("search", entry.phase)
        bars.setdefault(label, []).append((part, entry))
    ax = ax or new_axes(8, 0.9 + 0.26 * len(bars))
    for row, parts in enumerate(bars.values()):
        left = 0.0
        for part, entry in parts:
            hatch = "///" if entry.cached else None
            ax.barh(row, entry.seconds, left=left, color=LEDGER_COLOURS[part], hatch=hatch, edgecolor="white")
            left += entry.seconds
        cached = " (partly cached)" if any(entry.cached for _, entry in parts) else ""
        ax.text(left, row, f" {left:.0f} s{cached}", va="center", fontsize=9)
    ax.set_yticks(range(len(bars)), list(bars), fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set(xlabel="seconds")
    used = {part for parts in bars.values() for part, _ in parts}
    handles = [Patch(color=colour, label=part) for part, colour in LEDGER_COLOURS.items() if part in used]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return ax


def _box(box: Sequence[float], colour: Any, width: float, style: str) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle(
        (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=width, linestyle=style
    )
