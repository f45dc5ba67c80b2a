"""Figures of receptive fields; distances are pixels of the input, counted from the unit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from workbench.insight.measured_field import Field
from workbench.insight.receptive_field import LUO, area_side, moment_sigma, smoothed
from workbench.insight.style import QUIET, SERIES, new_axes


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
    ax.axvline(LUO, color=QUIET, linewidth=1)
    ax.text(LUO, 0.99, " Luo's 4.55 %", transform=ax.get_xaxis_transform(), va="top", fontsize=9)
    ax.set(xscale="log", xlabel="threshold t (share of the peak, log)", ylabel="A(t): side of the area above t (px)")
    ax.set_xticks([0.01, 0.1, 0.5], ["1 %", "10 %", "50 %"])
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
    circles = "; circles: the paper's figure" if measured else ""
    ax.set_title(f"dotted: Gaussian of the same sigma{circles}", fontsize=9)
    ax.legend(fontsize=8, loc="upper right")
    return ax
