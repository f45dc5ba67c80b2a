"""Figures that several lessons draw. Every function draws values on an axes and returns it."""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchvision.ops import nms

from workbench.evaluation.statistics import Interval, losses_at, smoothed
from workbench.insight.style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    QUIET,
    RIGHT,
    SERIES,
    SKY,
    ink_on,
    new_axes,
    tau_text,
    without_frame,
)
from workbench.records.ledger import Entry
from workbench.records.score import Score

LEDGER_COLOURS = {"pretrain": SKY, "refresh": GREEN, "finetune": BLUE, "train": BLUE}
LEDGER_COLOURS |= {"measure": QUIET, "search": ORANGE}
SIZES = {"AP_rel_s": "small objects", "AP_rel_m": "medium objects", "AP_rel_l": "large objects"}
PHASE_COLOURS = {"evolution": BLUE, "random": ORANGE, "DetNAS": BLUE, "FNA": BLUE, "best-scored random": ORANGE}


def plot_losses(losses: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """Training losses: every step faint, a running mean over at most 20 steps bold."""
    ax = ax or new_axes()
    for index, (label, values) in enumerate(losses.items()):
        ax.plot(values, color=f"C{index}", alpha=0.2, linewidth=0.8)
        window = max(1, min(20, len(values) // 5))
        ax.plot(smoothed(values, window), color=f"C{index}", linewidth=1.8, label=label)
    low = min(min(values) for values in losses.values())
    high = max(float(np.percentile(values, 98)) for values in losses.values())
    ax.set(xlabel="step", ylabel="loss", ylim=(0.95 * low, 1.05 * high))
    ax.legend()
    return ax


def losses_text(losses: Mapping[str, Sequence[float]]) -> str:
    """Training losses in words, for a caption: before the first step, and the mean of the last tenth of the steps."""
    rows = {name: losses_at(values) for name, values in losses.items()}
    ends = {name: (row["loss at step 0"], row["loss at end"]) for name, row in rows.items()}
    return ", ".join(f"{name} {first:.2f} at first and {last:.2f} in the end" for name, (first, last) in ends.items())


def plot_trajectory(searches: Mapping[str, Sequence[Score]], metric: str = "AP", ax: Axes | None = None) -> Axes:
    """Every evaluation as a dot and the best so far as a line, with one score's standard error at the left."""
    ax = ax or new_axes()
    for index, (label, scores) in enumerate(searches.items()):
        colour = PHASE_COLOURS.get(label, f"C{index}")
        values = [score.metrics.get(metric, np.nan) for score in scores]
        count = np.arange(1, len(values) + 1)
        ax.plot(count, values, ".", color=colour, alpha=0.7)
        ax.step(count, np.fmax.accumulate([0.0, *values])[1:], where="post", color=colour, label=label)
    most = max([2, *(len(scores) for scores in searches.values())])
    good = pd.DataFrame([score.metrics for scores in searches.values() for score in scores])
    if f"{metric}_error" in good:  # how far one score would move with other search images
        level, error = good[[metric, f"{metric}_error"]].median()
        left = 1 - max(0.4, 0.03 * most)
        ax.errorbar([left], [level], yerr=error, color=QUIET, capsize=4, label="median score ± its standard error")
    ax.set_xticks([tick for tick in MaxNLocator(5, integer=True).tick_values(1, most) if 1 <= tick <= most])
    ax.set(xlabel="architectures evaluated", ylabel=f"{metric} on the search split (0-1)")
    ax.legend(**RIGHT)
    return ax


def plot_epochs(
    trajectories: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    warm_epochs: int,
    ylabel: str,
    *,
    scale: float = 1.0,
    levels: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Columns of the tables of one search or several by epoch, over `scale`; epochs in which alpha stands still shaded.

    `levels` is a dotted line for each search: what its seed network has.
    """
    ax = ax or new_axes(6.0, 3.3)
    for colour, (name, frame) in zip(SERIES, trajectories.items(), strict=False):
        for column, style in zip(columns, ("-", "o--"), strict=False):
            values = frame[column] / scale
            ax.plot(frame["epoch"], values, style, color=colour, markersize=4, label=f"{name}: {column}")
        if levels is not None:
            ax.axhline(levels[name] / scale, color=colour, ls=":", lw=1, label=f"{name}: seed network")
    if warm_epochs:
        ax.axvspan(0.5, warm_epochs + 0.5, color=FAINT, zorder=0)
        place = (0.5 + warm_epochs / 2, 1.01)  # above the axes, where no curve is
        ax.text(*place, "alpha frozen", transform=ax.get_xaxis_transform(), ha="center", color=QUIET, fontsize=9)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend(**RIGHT)
    return ax


def plot_correlation(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    taus: Mapping[str, Interval],
    labels: tuple[str, str],
    ax: Axes | None = None,
    *,
    diagonal: bool = False,
    skipped: int = 0,
) -> Axes:
    """Two numbers of the same networks, for each group with Kendall's tau, its interval and n; `diagonal`: equality.

    The first colours and markers are `skipped`, so that a group looks the same in figures of several axes.
    """
    ax = ax or new_axes(5.6, 4.2)
    for colour, marker, (name, (x, y)) in zip(SERIES[skipped:], "os^Dvx*"[skipped:], groups.items(), strict=False):
        ax.scatter(x, y, s=34, color=colour, marker=marker, label=f"{name}: {tau_text(taus[name])}")
    if diagonal:
        ends = np.array([min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])])
        ax.plot(ends, ends, color=QUIET, linestyle=":", linewidth=1, label="equal")
        ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9)
    return ax


def plot_groups(
    frame: pd.DataFrame,
    ylabel: str,
    *,
    colours: Sequence[Any] = SERIES,
    numbers: bool = False,
    level: float | None = None,
) -> Axes:
    """Grouped bars: a group for each row, a bar for each column, numbers on top if wanted, and a dotted `level`."""
    ax = new_axes(max(6.0, 1.0 + 1.05 * len(frame)), 3.5)
    frame.plot.bar(ax=ax, width=0.8, color=list(colours[: len(frame.columns)]), xlabel="", ylabel=ylabel)
    for bars in ax.containers if numbers else ():
        ax.bar_label(bars, fmt="%.2f", fontsize=8)  # type: ignore[arg-type]
    if level is not None:
        ax.axhline(level, color=QUIET, linestyle=":", linewidth=1)
    ax.set_xticks(range(len(frame)), [fill(str(name), 12) for name in frame.index], fontsize=9, rotation=0)
    ax.grid(False, axis="x")
    ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return ax


def plot_by_object(frame: pd.DataFrame) -> Axes:
    """Test AP of each network by kind of object: on the ladder by the distance of the dot that tells its class.

    Elsewhere by size: below 0.1, 0.1 to 0.3, above 0.3 of the image's side, as far as there are such objects.
    """
    rows, label = frame.set_index("network"), "AP on the test split (0-1)"
    if not (distances := distances_of(frame)):
        sizes = rows[[name for name in SIZES if name in rows]].rename(columns=SIZES)
        return plot_groups(sizes, label, colours=(SKY, GREEN, BLUE))
    ax = new_axes(7.0, 3.6)
    for (name, row), marker in zip(rows.iterrows(), cycle("osD^v<>PX*hd"), strict=False):
        ax.plot(list(distances), row[list(distances.values())], marker=marker, label=str(name), alpha=0.9)
    ax.set(xlabel="distance from an object to the dot that tells its class (px)", ylabel=label, xticks=[*distances])
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def distances_of(frame: pd.DataFrame) -> dict[int, str]:
    """The columns of AP on the ladder by their distance in pixels; none where there is no ladder."""
    return {int(name.split()[2]): name for name in frame if str(name).startswith("AP at ")}


def plot_parts(
    frame: pd.DataFrame,
    colours: Mapping[str, Any],
    xlabel: str,
    *,
    notes: Sequence[str] = (),
    hatched: Collection[tuple[str, str]] = (),
    ax: Axes | None = None,
) -> Axes:
    """A bar for each row, made of a coloured part for each column, with a note behind it; some parts are hatched."""
    ax = ax or new_axes(8.0, 0.9 + 0.36 * len(frame))
    parts = frame[[part for part in colours if part in frame]].fillna(0.0)
    parts.plot.barh(ax=ax, stacked=True, width=0.8, edgecolor="white", linewidth=0, color=dict(colours), ylabel="")
    for bars, part in zip(ax.containers, parts, strict=True):
        for bar, name in zip(bars, parts.index, strict=True):
            bar.set_hatch("///" if (name, part) in hatched else None)
    for place, (total, note) in enumerate(zip(parts.sum(axis=1), notes, strict=False)):
        ax.text(total, place, f" {note}", va="center", fontsize=9)
    ax.tick_params(axis="y", labelsize=9)
    ax.margins(x=max(0.25, 0.02 * max(map(len, notes))) if notes else 0)
    ax.set(xlabel=xlabel, ylim=(len(parts) - 0.4, -0.6))
    ax.grid(False, axis="y")
    ax.legend(**RIGHT)
    return ax


def plot_ledger(entries: Sequence[Entry]) -> Axes:
    """Where the time went: a bar for each network or search, in parts; hatched parts were taken from the cache."""
    rows = []
    for entry in entries:
        verb, _, name = entry.phase.partition(" ")
        named = verb in LEDGER_COLOURS and name and not name.startswith("(")  # "search (remap)" is one name
        part, label = (verb, name) if named else ("search", entry.phase)
        rows.append({"label": label, "part": part, "seconds": entry.seconds, "cached": entry.cached})
    sums = pd.DataFrame(rows).groupby(["label", "part"], sort=False)[["seconds", "cached"]].sum()
    seconds = sums["seconds"].unstack(sort=False)
    cached = set(sums.index[sums["cached"] > 0])
    known = {label for label, _ in cached}
    words = {True: " (partly cached)", False: ""}
    notes = [f"{total:.0f} s{words[label in known]}" for label, total in seconds.sum(axis=1).items()]
    return plot_parts(seconds, LEDGER_COLOURS, "seconds", notes=notes, hatched=cached)


def plot_comparison(frame: pd.DataFrame) -> Axes:
    """Test AP of each network with its bootstrap error over test images, MACs and params below the name."""
    ax = new_axes(8, 0.9 + 0.5 * len(frame))
    rows = np.arange(len(frame))
    colours = [PHASE_COLOURS.get(str(name), QUIET) for name in frame["network"]]
    ax.barh(rows, frame["AP"], xerr=frame["AP error"], color=colours, height=0.6, capsize=3)
    costs = zip(frame["network"], frame["MACs"] / 1e6, frame["params"] / 1e3, strict=True)
    names = [f"{name}\n{macs:.1f} MMACs, {params:.0f}k params" for name, macs, params in costs]
    ax.set_yticks(rows, names, fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="AP on the test split (0-1); bar: bootstrap standard error over test images, one training seed")
    return ax


def plot_maps(
    maps: Mapping[str, Any], label: str, *, cmap: str = "viridis", low: float | None = None, zeros: bool = False
) -> Axes:
    """Small maps (H, W) next to each other on one colour scale from `low` to the largest value; `zeros` are written."""
    figure, axes = plt.subplots(1, len(maps), figsize=(1.9 * len(maps), 2.4), squeeze=False)
    top = max(float(np.abs(values).max()) for values in maps.values())
    for ax, (title, values) in zip(axes[0], maps.items(), strict=True):
        image = ax.imshow(values, cmap=cmap, vmin=-top if low is None else low, vmax=top)
        for row, column in zip(*np.nonzero(np.asarray(values) == 0), strict=True) if zeros else ():
            ax.text(column, row, "0", ha="center", va="center", fontsize=8, color=ink_on(image.cmap(image.norm(0))))
        ax.set_title(title, fontsize=9)
        without_frame(ax)
    figure.colorbar(image, ax=list(axes[0]), shrink=0.8, pad=0.02, label=label)
    return axes[0][0]


def plot_detections(
    image: Tensor,
    found: Mapping[str, Any],
    categories: Sequence[str],
    *,
    truth: Mapping[str, Any] | None = None,
    threshold: float = 0.3,
    ax: Axes | None = None,
) -> Axes:
    """A uint8 image (3, H, W) with detections of at least `threshold` (solid boxes) and the truth (white, dotted).

    Where boxes of several classes share a place (IoU above 0.7) only the surest is drawn.
    """
    ax = ax or new_axes(4, 4)
    ax.imshow(image.permute(1, 2, 0).numpy())
    dotted: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.8, "linestyle": ":"}
    styles = [(box, dotted) for box in truth["boxes"]] if truth is not None else []
    scores, kept = found.get("scores"), list(range(len(found["boxes"])))
    if scores is not None:
        order = nms(found["boxes"], torch.as_tensor(scores), 0.7).tolist()
        kept = [index for index in reversed(order) if float(scores[index]) >= threshold]  # the surest on top
    for index in kept:
        box, label = found["boxes"][index], int(found["labels"][index])
        colour = SERIES[(label - 1) % len(SERIES)]
        styles.append((box, {"edgecolor": colour, "linewidth": 1.6}))
        text = categories[label - 1] + ("" if scores is None else f" {float(scores[index]):.2f}")
        patch = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        left, top = float(box[0]), max(float(box[1]) - 1, 7)
        ax.text(
            left, top, text, fontsize=6.5, color=ink_on(colour), va="bottom", clip_on=True, bbox=patch, parse_math=False
        )
    for (left, top, right, bottom), style in ((box.tolist(), style) for box, style in styles):
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
    without_frame(ax)
    return ax
