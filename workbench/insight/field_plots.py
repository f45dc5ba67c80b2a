"""Figures of receptive fields; distances are pixels of the input, counted from the unit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import ScalarFormatter

from workbench.evaluation.statistics import Interval
from workbench.insight.field_studies import log_slope
from workbench.insight.measured_field import Field
from workbench.insight.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_axes
from workbench.insight.receptive_field import LUO, area_side, gaussian_fit, moment_sigma, smoothed

SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)


def density(field: Field, smooth: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of the whole field in each pixel: what makes maps of different networks comparable in brightness."""
    values = smoothed(field.map, smooth)
    return values / values.sum()


def plot_field(
    field: Field,
    ax: Axes | None = None,
    *,
    boxes: Sequence[float] = (),
    brightest: float | None = None,
    smooth: int = 1,
    reach: float | None = None,
) -> Axes:
    """The map as densities, from 0 to its own peak or to `brightest`, with squares of the given sides on it.

    `smooth` is the box that it is averaged over; `reach` cuts the view to that many pixels around the unit.
    """
    ax = ax or new_axes(3.6, 3.4)
    values = density(field, smooth)
    (row, column), (height, width) = field.centre, values.shape
    extent = (-column - 0.5, width - column - 0.5, height - row - 0.5, -row - 0.5)
    ax.imshow(values, cmap="viridis", vmin=0, vmax=brightest or values.max(), extent=extent, interpolation="nearest")
    for side in boxes:
        ax.add_patch(Rectangle((-side / 2, -side / 2), side, side, fill=False, edgecolor="white", linewidth=1.1))
    if reach is not None:
        ax.set(xlim=(-reach, reach), ylim=(reach, -reach))
    ax.grid(False)
    ax.tick_params(labelsize=8)
    return ax


def scale_bar(ax: Axes, axes: Sequence[Axes] = ()) -> None:
    """A colour bar for the map on `ax`, beside it or beside all of `axes`."""
    image = next(artist for artist in ax.images if isinstance(artist, AxesImage))
    numbers = ScalarFormatter()
    numbers.set_powerlimits((0, 0))
    bar = ax.figure.colorbar(image, ax=list(axes) or ax, shrink=0.85, pad=0.02, format=numbers)
    bar.set_label("share of the field per pixel")


def plot_area_sides(
    fields: Mapping[str, Field],
    ax: Axes | None = None,
    *,
    smooth: int = 1,
    measured: Mapping[str, Mapping[float, float]] | None = None,
) -> Axes:
    """A(t) of each field against the threshold t (solid), and that of a Gaussian of the same sigma (dotted).

    `measured` are values of A(t) read off a published figure, for the fields of the same labels (circles).
    """
    ax = ax or new_axes(6.2, 3.8)
    thresholds = np.geomspace(0.01, 0.9, 40)
    for colour, (label, field) in zip(SERIES, fields.items(), strict=False):
        values = smoothed(field.map, smooth)
        ax.plot(thresholds, [area_side(values, t) for t in thresholds], color=colour, label=label)
        if points := (measured or {}).get(label):
            ax.plot(list(points), list(points.values()), "o", color=colour, markersize=6, markerfacecolor="none")
        sigma = float(np.mean(moment_sigma(values)))
        ax.plot(thresholds, sigma * np.sqrt(2 * np.pi * np.log(1 / thresholds)), ":", color=colour, linewidth=1.2)
    ax.axvline(LUO, color="0.6", linewidth=1)
    ax.annotate(
        "Luo's 4.55 %",
        (LUO, 0.03),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        fontsize=8,
        color="0.35",
    )
    ax.set(
        xscale="log", xlabel="threshold t as a share of the peak (log)", ylabel="A(t): side of the area above t (px)"
    )
    ax.set_xticks([0.01, 0.1, 0.5], ["1 %", "10 %", "50 %"])
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
    circles = "; circles: the paper's figure" if measured else ""
    ax.set_title(f"dotted: Gaussian of the same sigma{circles}", fontsize=9)
    ax.legend(fontsize=8, loc="upper right")
    return ax


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
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
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
        ax.plot(*_sorted(theoretical), "--", color="0.5", label="theoretical field")
    for colour, marker, (label, points) in zip(SERIES, "os^Dvx*", sizes.items(), strict=False):
        slope = log_slope(points)
        ax.plot(*_sorted(points), marker=marker, markersize=5, color=colour, label=f"{label}: slope {slope:+.2f}")
    depths = sorted({depth for points in sizes.values() for depth in points})
    ax.set(xscale="log", yscale="log", xlabel="layers (log)", ylabel=ylabel)
    ax.set_xticks(depths, [str(depth) for depth in depths])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200) if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.legend(fontsize=8)
    return ax


def plot_sigma_agreement(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Measured against predicted sigma of every map (`field_studies.sigma_table`); hollow where the plate cuts."""
    ax = ax or new_axes(5.0, 4.4)
    for colour, (name, rows) in zip(SERIES, table.groupby("network", sort=False), strict=False):
        faces = ["white" if cut else colour for cut in rows["truncated"]]
        ax.scatter(rows["predicted sigma"], rows["measured sigma"], c=faces, edgecolors=colour, s=40, label=str(name))
    low, high = 0.8 * table["predicted sigma"].min(), 1.25 * table["predicted sigma"].max()
    ax.plot([low, high], [low, high], ":", color="0.5", linewidth=1)
    ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 200) if low <= tick <= high]
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="predicted sigma (px, log)", ylabel="measured sigma (px, log)")
    ax.legend(fontsize=8)
    return ax


def plot_box_shares(shares: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Grouped bars: one group for each row (a pyramid level with its anchor), one bar for each column (a network)."""
    ax = ax or new_axes(6.4, 3.4)
    width = 0.8 / len(shares.columns)
    for index, (colour, name) in enumerate(zip(SERIES, shares.columns, strict=False)):
        places = np.arange(len(shares)) + (index - (len(shares.columns) - 1) / 2) * width
        bars = ax.bar(places, shares[name], 0.92 * width, color=colour, label=str(name))
        ax.bar_label(bars, fmt="%.2f", fontsize=8)
    ax.set_xticks(range(len(shares)), [str(label) for label in shares.index])
    ax.set(ylim=(0, 1.08), ylabel="share of the field inside the anchor")
    ax.grid(False, axis="x")
    ax.legend(fontsize=8, loc="upper left")
    return ax


def plot_fields_and_objects(
    sides: Sequence[float], fields: Mapping[str, Sequence[float]], ax: Axes | None = None
) -> Axes:
    """Histogram of object sides, and above it a row for each network with the size of each of its maps."""
    ax = ax or new_axes(7.5, 3.0 + 0.3 * len(fields))
    lengths = np.asarray(sides, dtype=float)
    last = max(lengths.max(), *(max(row) for row in fields.values()))
    bins = np.geomspace(min(lengths.min(), *(min(row) for row in fields.values())) * 0.9, last * 1.1, 45)
    counts, _, _ = ax.hist(lengths, bins=bins.tolist(), color="0.78")
    top = float(np.max(counts))
    for row, (colour, (name, sizes)) in enumerate(zip(SERIES, fields.items(), strict=False)):
        level = top * (1.15 + 0.16 * row)
        ax.plot(sizes, [level] * len(sizes), "-o", color=colour, label=name)
        for number, size in enumerate(sizes, start=1):
            ax.annotate(f"C{number + 1}", (size, level), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)
    ax.set(
        xscale="log", xlabel="side of an object, A(0.0455) of a field (px, log)", ylabel=f"objects (n = {len(sides)})"
    )
    ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if bins[0] <= tick <= bins[-1]]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(0, top * (1.3 + 0.16 * len(fields)))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= top])
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.6))
    return ax


def plot_size_against_ap(
    frame: pd.DataFrame, size: str, correlations: Mapping[str, Interval], ax: Axes | None = None
) -> Axes:
    """Metrics of searched networks against the size of their field, with Kendall's tau of each and its interval."""
    ax = ax or new_axes(6.0, 4.0)
    for colour, marker, (metric, tau) in zip(SERIES, "os^Dvx*", correlations.items(), strict=False):
        label = f"{metric}: tau {tau.value:+.2f} [{tau.low:+.2f}, {tau.high:+.2f}]"
        ax.scatter(frame[size], frame[metric], color=colour, marker=marker, s=34, label=label)
    ax.set(xlabel=f"{size} (px)", ylabel="AP (0-1)", title=f"n = {len(frame)} networks")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _sorted(points: Mapping[int, float]) -> tuple[list[int], list[float]]:
    depths = sorted(points)
    return depths, [points[depth] for depth in depths]
