"""What NATS's paper reports, in the same axes as ours: gains by setting, kinds of dilation by stage, fields, tables."""

import re
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.insight.measured_field import Field
from workbench.insight.plots import plot_parts
from workbench.insight.receptive_field import area_side, smoothed
from workbench.insight.style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    QUIET,
    RIGHT,
    SERIES,
    SKY,
    VERMILLION,
    new_axes,
    plain_ticks,
)
from workbench.insight.tables import paper_table
from workbench.lessons.receptive_fields import printed_area_sides
from workbench.spaces.arch import Arch
from workbench.spaces.published import IC_CONV_SHARES
from workbench.spaces.space import SearchSpace

TABLES = {
    "fixed_n": "Table 2: N groups in each layer",
    "fixed_c": "Table 3: C channels in each group",
    "dilations": "Table 5: sets of dilations",
    "deeper": "Table 4: deeper backbones",
    "detectors": "Table 6: other detectors, N = 16",
    "cost": "Table 1: cost of the search",
    "inconsistencies": "Where the paper contradicts itself",
}
AP_SIZES = {"AP": QUIET, "APs": SKY, "APm": GREEN, "APl": BLUE}
KINDS = {"undilated": FAINT, "square": BLUE, "oblong": ORANGE}


def printed_gains(name: str) -> pd.DataFrame:
    """AP minus that of the baseline of the same table of the paper, overall and by object size; a row per setting."""
    frame = paper_table(f"nats_{name}")
    values = frame[list(AP_SIZES)].astype(float).to_numpy()
    if name in ("deeper", "detectors"):  # every network is printed behind its own baseline
        return pd.DataFrame(values[1::2] - values[::2], frame.iloc[::2, 0].to_list(), list(AP_SIZES))
    return pd.DataFrame(values[1:] - values[0], frame.iloc[1:, 0].to_list(), list(AP_SIZES))


def gains_by_setting(column: str) -> dict[str, float]:
    """The paper's gain in AP for each value of a swept parameter, named as ours; empty where it printed none."""
    if column == "groups":
        tables = {"n": printed_gains("fixed_n"), "c": printed_gains("fixed_c")}
        return {f"{letter}{row}": float(gain) for letter, frame in tables.items() for row, gain in frame["AP"].items()}
    sets = printed_gains("dilations")["AP"].items() if column == "dilations" else ()
    return {str(row): float(gain) for row, gain in sets}


def plot_tables() -> Axes:
    """Tables 1 to 6: gains over the table's own baseline, overall and by size of the objects, and days of search."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4))
    for ax, name in zip(axes.flat, TABLES, strict=False):
        ax.set_title(TABLES[name], fontsize=10)
        if name == "cost":
            cost = paper_table("nats_cost").set_index("method")["GPU-days"].astype(float)
            ax.barh(range(len(cost)), cost, color=[ORANGE if "NATS" in method else FAINT for method in cost.index])
            ax.set_yticks(range(len(cost)), list(cost.index), fontsize=8)
            ax.invert_yaxis()
            ax.set(xscale="log", xlabel="GPU-days (log)")
            plain_ticks(ax.xaxis, *ax.get_xlim())
            continue
        gains = printed_gains(name)
        joined = "-" if name in ("fixed_n", "fixed_c") else ""
        for size, colour in AP_SIZES.items():
            face = "none" if size == "AP" else colour  # a ring, so that an equal value shows within it
            style: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 8 if size == "AP" else 5}
            ax.plot(gains[size].to_numpy(), f"o{joined}", label=size, **style)
        ax.axhline(0, color=QUIET, linestyle=":", linewidth=1)
        ax.set_xticks(range(len(gains)), [re.sub(r" |-(?=32)", "\n", label) for label in gains.index], fontsize=8)
        ax.set(xlim=(-0.4, len(gains) - 0.6), ylim=(-0.005, 0.042))
    axes[0, 0].set_ylabel("gain in AP (0-1), COCO")
    axes[1, 0].set_ylabel("gain in AP (0-1), COCO")
    axes[0, 0].legend(ncols=2, fontsize=8, loc="upper left")
    figure.align_ylabels()
    return axes[0, 0]


def contradictions() -> pd.Series:
    """How far apart two statements of the paper on one and the same number are, by what it is."""
    gaps: dict[str, float] = {}
    for row in paper_table("nats_inconsistencies").to_dict("records"):
        said, elsewhere = (re.findall(r"(AP\w*)? ?([+-]?0\.\d+)", row[key]) for key in list(row)[1:3])
        for (metric, first), (_, second) in zip(said, elsewhere, strict=False):
            gaps[f"{row['where']}{', ' if metric else ''}{metric}"] = abs(float(first) - float(second))
    return pd.Series(gaps)


def plot_contradictions() -> Axes:
    """How far the paper's two values for one number are apart, against its steps from one N to the next (dotted)."""
    gaps, steps = contradictions(), printed_gains("fixed_n")["AP"].diff().abs()
    ax = new_axes(7.0, 3.4)
    ax.barh(range(len(gaps)), gaps, color=QUIET)
    ax.axvline(steps.median(), color=VERMILLION, linestyle=":", label="median step in AP from N to N (table 2)")
    ax.set_yticks(range(len(gaps)), list(gaps.index), fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="difference between two places of the paper, AP (0-1)", title=TABLES["inconsistencies"])
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), fontsize=9)
    return ax


def kinds_by_stage(space: SearchSpace, arch: Arch) -> pd.DataFrame:
    """Shares of the groups of each stage that stay undilated, are dilated alike both ways, or one way more."""
    rows = []
    for decision, dilation in space.describe(arch):
        height, width = dilation.split("x")
        kind = "oblong" if height != width else "undilated" if height == "1" else "square"
        rows.append((decision.stage, kind))
    frame = pd.DataFrame(rows, columns=["stage", "kind"])
    return pd.crosstab(frame["stage"], frame["kind"], normalize="index").reindex(columns=list(KINDS), fill_value=0.0)


def plot_kinds(found: pd.DataFrame) -> Axes:
    """Kinds of dilation by stage: this run's network, and IC-Conv's ResNet-50, the nearest published relative."""
    rows = {}
    for stage, shares in IC_CONV_SHARES.items():
        if stage in found.index:
            rows[f"stage {stage}, found here"] = found.loc[stage]
        rows[f"stage {stage}, IC-Conv R50"] = pd.Series(dict(zip(KINDS, shares, strict=True)))
    ax = plot_parts(pd.DataFrame(rows).T, KINDS, "share of the channels")
    ax.set_xlim(0, 1)
    return ax


def plot_field_ratios(pairs: Mapping[str, tuple[Field, Field]], smooth: int = 9) -> Axes:
    """A(t) of a network with mixed dilations over that of its baseline, by threshold t.

    Lines: `pairs` of found network and baseline, by name. Circles: the paper's figure 4.
    """
    ax, thresholds = new_axes(6.4, 3.6), np.geomspace(0.02, 0.8, 30)
    for colour, (label, pair) in zip(SERIES, pairs.items(), strict=False):
        found, plain = (smoothed(field.map, smooth) for field in pair)
        ax.plot(thresholds, [area_side(found, t) / area_side(plain, t) for t in thresholds], color=colour, label=label)
    printed = printed_area_sides()
    for marker, name in (("o", "R50"), ("s", "R101")):
        ratios = {t: side / printed[name][t] for t, side in printed[f"NATS-{name}"].items()}
        style: dict[str, Any] = {"color": QUIET, "markerfacecolor": "none", "linewidth": 0.8}
        ax.plot(list(ratios), list(ratios.values()), f"{marker}:", **style, label=f"paper, {name}")
    ax.axhline(1, color=QUIET, linewidth=1)
    ax.set(xscale="log", xlabel="threshold t (share of the peak, log)", ylabel="A(t) / A(t) of the baseline")
    ax.set_xticks([0.05, 0.1, 0.25, 0.5], ["5 %", "10 %", "25 %", "50 %"])
    ax.minorticks_off()
    ax.legend(**RIGHT)
    return ax


def field_sentence(found: Field, plain: Field, smooth: int = 9) -> str:
    """How much wider core and skirt of a field are than the baseline's, here and in the paper's ResNet-50."""
    sizes = [field.sizes(smooth=smooth) for field in (found, plain)]
    core, skirt = sizes[0].side_50 / sizes[1].side_50, sizes[0].side_05 / sizes[1].side_05
    printed = printed_area_sides()
    theirs = [printed["NATS-R50"][t] / printed["R50"][t] for t in (0.5, 0.0455)]
    return (
        f"The core, A(0.5), is {core:.2f} times that of the baseline and the skirt, A(0.0455), {skirt:.2f} times;"
        f" the paper's ResNet-50 has {theirs[0]:.2f} and {theirs[1]:.2f}."
    )
