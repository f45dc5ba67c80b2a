"""Composite kernel: a group's mixture of dilations as one kernel, the field of a stack of such layers, and A(t)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Widget
from matplotlib.axes import Axes
from scipy.signal import convolve2d

from workbench.insight.receptive_field import LUO, Map, Pair, area_side
from workbench.insight.style import BLUE, QUIET
from workbench.insight.widgets.frame import State
from workbench.insight.widgets.touch import explorable
from workbench.networks.dilation_mixture import tap_positions
from workbench.records.files import compiled, fields
from workbench.search.relaxation import softmax
from workbench.spaces.channel_dilation import dilation_name
from workbench.spaces.network_spec import Dilation

FLAT = ((1 / 9,) * 3,) * 3
THRESHOLDS = np.geomspace(0.01, 0.9, 40)  # as in `field_plots.plot_area_sides`
MOST_LAYERS = 8
STEEPEST = 4.0  # of the sliders: exp(4) is 55 times the share of alpha 0


class Composite(NamedTuple):
    """What one state of the sliders makes."""

    shares: Map  # (dilations,), of sum 1
    kernel: Map  # (H, W)
    field: Map  # (H', W') of sum-normalised absolute kernels, convolved with one another
    sides: Map  # A(t) at `THRESHOLDS`, pixels
    sigma: Pair  # height, width


def widget(dilations: Sequence[Dilation], *, kernel: Sequence[Sequence[float]] = FLAT) -> Axes | Widget:
    """Sliders for alpha of one group that mixes `dilations` of a k x k `kernel`; headless the equal mixture."""
    taps, grid = tap_positions(dilations, len(kernel))
    plain = np.asarray(kernel, dtype=float)
    data: dict[str, Any] = {"names": [dilation_name(pair) for pair in dilations], "taps": list(taps)}
    data |= {"grid": list(grid), "kernel": plain.ravel().tolist(), "thresholds": THRESHOLDS.tolist()}
    start = {"dilations": [list(pair) for pair in dilations], "alpha": [0.0] * len(dilations), "layers": 3}
    alpha = {"type": "array", "minItems": len(dilations), "maxItems": len(dilations)}
    alpha |= {"items": {"type": "number", "minimum": -STEEPEST, "maximum": STEEPEST}}
    layers = {"type": "integer", "minimum": 1, "maximum": MOST_LAYERS}
    schema = {"dilations": {"const": start["dilations"]}, "alpha": alpha, "layers": layers, "decoded": "boolean"}

    def twin(state: State) -> Axes:
        return plot_composite(composite(dilations, plain, state["alpha"], state["layers"], decoded=state["decoded"]))

    return explorable(
        "composite_kernel",
        data,
        {**start, "decoded": False},
        label="Composite kernel",
        twin=twin,
        checked=compiled(fields(schema), "state"),
        alone=True,
    )


def composite(
    dilations: Sequence[Dilation], kernel: Map, alpha: Sequence[float], layers: int, *, decoded: bool = False
) -> Composite:
    """The mixture of the dilated copies of `kernel` (k, k) by the softmax of `alpha` (NATS, equation 3).

    `decoded`: the heaviest alone (equation 4). The field is that of `layers` such convolutions without anything
    between, and its variance the sum of theirs.
    """
    logits = np.asarray(alpha, dtype=float)
    shares = np.eye(len(logits))[logits.argmax()] if decoded else softmax(logits)
    taps, grid = tap_positions(dilations, len(kernel))
    whole = np.zeros(grid)
    np.add.at(whole.reshape(-1), list(taps), np.outer(shares, kernel).ravel())
    size = np.abs(whole)
    field = size
    for _ in range(layers - 1):
        field = convolve2d(field, size)
    sides = np.array([area_side(field, threshold) for threshold in THRESHOLDS])
    return Composite(shares, whole, field, sides, (_spread(size, 0, layers), _spread(size, 1, layers)))


def _spread(size: Map, axis: int, layers: int) -> float:
    """Standard deviation along one axis of the sum of `layers` independent steps."""
    mass = size.sum(axis=1 - axis) / size.sum()
    place = np.arange(len(mass))
    return float(layers * ((place - mass @ place) ** 2 @ mass)) ** 0.5


def plot_composite(found: Composite) -> Axes:
    """Composite kernel, field of the stack and A(t), with that of a Gaussian of the same sigma (dotted)."""
    axes = plt.subplots(1, 3, figsize=(11, 3.2))[1]
    names = ("composite kernel", f"field, sigma {found.sigma[0]:.2f} x {found.sigma[1]:.2f} px")
    for ax, name, values in zip(axes, names, (found.kernel, found.field), strict=False):
        height, width = values.shape
        extent = (-width / 2, width / 2, height / 2, -height / 2)
        ax.imshow(np.abs(values), cmap="viridis", vmin=0, extent=extent, interpolation="nearest")
        ax.set(title=name, xlabel="pixels")
        ax.grid(False)
    spread = (found.sigma[0] * found.sigma[1]) ** 0.5
    axes[2].plot(THRESHOLDS, found.sides, color=BLUE)
    axes[2].plot(THRESHOLDS, spread * np.sqrt(2 * np.pi * np.log(1 / THRESHOLDS)), ":", color=QUIET)
    axes[2].axvline(LUO, color=QUIET, linewidth=1)
    axes[2].set(xscale="log", xlabel="share t of the peak", ylabel="A(t) (px)", title="dotted: Gaussian", ylim=0)
    axes[2].set_xticks([0.01, 0.1, 0.5], ["1 %", "10 %", "50 %"])
    return axes[0]
