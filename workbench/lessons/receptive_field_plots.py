"""Figures of the lesson on receptive fields; distances are pixels of the input, counted from the unit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import ScalarFormatter

from workbench.insight.measured_field import Field
from workbench.insight.plots import plot_groups
from workbench.insight.receptive_field import gaussian_fit, smoothed
from workbench.insight.style import FAINT, QUIET, RIGHT, SERIES, VERMILLION, new_axes, plain_ticks
from workbench.insight.tables import paper_table
from workbench.lessons.receptive_fields import log_slope


def plot_cross_sections(
    fields: Mapping[str, Field], ax: Axes | None = None, *, smooth: int = 1, reach: float | None = None
) -> Axes:
    """The row through the unit as a share of the peak (solid), and the Gaussian fitted to the whole map (dashed).

    Earlier curves are drawn thicker, so that equal ones show below each other.
    """
    ax = ax or new_axes(7.0, 3.6)
    for index, (label, field) in enumerate(fields.items()):
        colour, width = SERIES[index % len(SERIES)], max(1.2, 2.6 - 0.7 * index)
        values = smoothed(field.map, smooth)
        fit = gaussian_fit(values, field.centre)
        offset = np.arange(values.shape[1]) - field.centre[1]
        name = f"{label}\nfit: sigma {fit.sigma:.1f} px, R² {fit.r2:.2f}"
        ax.plot(offset, values[round(field.centre[0])] / values.max(), color=colour, linewidth=width, label=name)
        ax.plot(offset, fit.a * np.exp(-(offset**2) / (2 * fit.sigma**2)) + fit.b, "--", color=colour, linewidth=1)
    if reach is not None:
        ax.set_xlim(-reach, reach)
    ax.set(xlabel="pixels from the unit", ylabel="share of the peak")
    ax.set_ylim(0)
    ax.legend(**RIGHT)
    return ax


def plot_depth_law(
    sizes: Mapping[str, Mapping[int, float]],
    ax: Axes | None = None,
    *,
    theoretical: Mapping[int, float] | None = None,
    ylabel: str = "A(0.0455) (px, log)",
) -> Axes:
    """Sizes against depth, both logarithmic; each label carries the slope from depth 5 on."""
    ax = ax or new_axes(5.6, 4.2)
    if theoretical:
        ax.plot(*zip(*sorted(theoretical.items()), strict=True), "--", color=QUIET, label="theoretical field")
    for colour, marker, (label, points) in zip(SERIES, "os^Dvx*", sizes.items(), strict=False):
        slope = log_slope(points)
        style: dict[str, Any] = {"marker": marker, "markersize": 5, "color": colour}
        ax.plot(*zip(*sorted(points.items()), strict=True), label=f"{label}: slope {slope:+.2f}", **style)
    depths = sorted({depth for points in sizes.values() for depth in points})
    ax.set(xscale="log", yscale="log", xlabel="layers (log)", ylabel=ylabel)
    ax.set_xticks(depths, [str(depth) for depth in depths])
    ax.minorticks_off()
    plain_ticks(ax.yaxis, *ax.get_ylim())
    ax.legend(fontsize=8)
    return ax


def plot_sigma_agreement(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Measured against predicted sigma of every map (`sigma_table`); hollow where the input cuts the field off."""
    ax = ax or new_axes(5.0, 4.4)
    for colour, (name, rows) in zip(SERIES, table.groupby("network", sort=False), strict=False):
        faces = ["none" if cut else colour for cut in rows["truncated"]]
        ax.scatter(rows["predicted sigma"], rows["measured sigma"], c=faces, edgecolors=colour, s=40, label=str(name))
    low, high = 0.8 * table["predicted sigma"].min(), 1.25 * table["predicted sigma"].max()
    ax.plot([low, high], [low, high], ":", color=QUIET, linewidth=1)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        plain_ticks(axis, low, high)
    ax.set(xlabel="predicted sigma (px, log)", ylabel="measured sigma (px, log)")
    ax.legend(fontsize=8)
    return ax


def plot_box_shares(shares: pd.DataFrame) -> Axes:
    """The share of each field inside its anchor: a group for each level, a bar for each network of CR-NAS's figure 1.

    Diamonds are read off the pixels of the paper's figure.
    """
    ax, printed = plot_groups(shares, "share of the field inside the anchor", numbers=True), paper_table("crnas_fields")
    style: dict[str, Any] = {"color": VERMILLION, "markerfacecolor": "white", "markersize": 7, "linestyle": ""}
    for bars, name, label in zip(list(ax.containers), shares, ("paper, figure 1", "_"), strict=True):
        values = printed.loc[printed["network"] == name, "share inside the anchor"].astype(float)
        ax.plot([bar.get_x() + bar.get_width() / 2 for bar in bars], values, "D", label=label, **style)
    ax.set_ylim(0, 1.05)
    ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return ax


def plot_fields_and_objects(sides: Sequence[float], fields: Mapping[str, Sequence[float]]) -> Axes:
    """Histogram of object sides, and above it a row for each network with the size of each of its maps."""
    ax = new_axes(7.5, 3.0 + 0.3 * len(fields))
    lengths = np.concatenate([np.asarray(row, dtype=float) for row in (sides, *fields.values())])
    bins = np.geomspace(lengths.min() * 0.9, lengths.max() * 1.1, 45)
    counts, _, _ = ax.hist(sides, bins=bins.tolist(), color=FAINT)
    top = float(np.max(counts))
    for row, (colour, (name, sizes)) in enumerate(zip(SERIES, fields.items(), strict=False)):
        level = top * (1.15 + 0.16 * row)
        ax.plot(sizes, [level] * len(sizes), "-o", color=colour, label=name)
        for number, size in enumerate(sizes, start=1):
            ax.annotate(f"C{number + 1}", (size, level), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)
    label = "side of an object, A(0.0455) of a field (px, log)"
    ax.set(xscale="log", xlabel=label, ylabel=f"objects (n = {len(sides)})")
    plain_ticks(ax.xaxis, bins[0], bins[-1])
    ax.set_ylim(0, top * (1.3 + 0.16 * len(fields)))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= top])
    ax.legend(**RIGHT)
    return ax


def scale_bar(ax: Axes, axes: Sequence[Axes] = ()) -> None:
    """A colour bar for the map on `ax`, next to it or next to all of `axes`."""
    image = next(artist for artist in ax.images if isinstance(artist, AxesImage))
    numbers = ScalarFormatter()
    numbers.set_powerlimits((0, 0))
    bar = ax.figure.colorbar(image, ax=list(axes) or ax, shrink=0.85, pad=0.02, format=numbers)
    bar.set_label("share of the field per pixel")
