"""How figures look, and how one is shown and kept: colours mean the same thing everywhere.

Figures have no ground of their own, because a page may be light or dark. So every line and every text has a contrast of
at least 3:1 on white and on #111, which leaves a band of middle lightness: the hues of Okabe and Ito moved into it, as
far from each other as three kinds of colour blindness allow (the test of this file has the numbers).
"""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython.display import display
from ipywidgets import Widget
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.ticker import NullLocator

from workbench.evaluation.statistics import Interval
from workbench.records.run_folder import RunFolder

BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = "#016CE7", "#BA8E00", "#1AA459", "#9E4811", "#179CEA", "#A1369F"
QUIET = "#767676"  # text, axes, baselines: what is not the subject
FAINT = (QUIET, 0.3)  # areas that lie behind
YELLOW = "#CFC400"  # for areas alone: lines of it would be lost on white
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, QUIET)
RIGHT: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 9}  # a legend outside


def use_style() -> None:
    """Colours, legible sizes, light grid, no ground; for a notebook's first cell."""
    mpl.rc("figure", facecolor="none")
    mpl.rc("axes", facecolor="none", edgecolor=QUIET, labelcolor=QUIET, titlecolor=QUIET)
    mpl.rc("axes", prop_cycle=cycler(color=SERIES), grid=True, axisbelow=True, titlesize=11, titlelocation="left")
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("xtick", color=QUIET, labelcolor=QUIET)
    mpl.rc("ytick", color=QUIET, labelcolor=QUIET)
    mpl.rc("text", color=QUIET)
    mpl.rc("grid", color=QUIET, alpha=0.25)
    mpl.rc("font", size=10)
    mpl.rc("text", parse_math=False)  # a "$" in the name of a class is one
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("legend", frameon=False)


def new_axes(width: float = 8.0, height: float = 3.6) -> Axes:
    """One axes of that size in inches."""
    return plt.subplots(figsize=(width, height))[1]


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5 and their tenfolds, as plain numbers; its own labels would be TeX.

    Over more than three powers of ten those of the powers alone, which do not run into each other.
    """
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    ticks = [step * 10.0**power for power in range(-2, 4) for step in steps if low <= step * 10.0**power <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def without_frame(ax: Axes) -> None:
    """For images: no ticks, no grid."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def contrast(first: Any, second: Any) -> float:
    """The contrast of two opaque colours as WCAG 2 defines it, from 1 to 21."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def ink_on(colour: Any) -> str:
    """Black or white, whichever can be read better on an area of that colour."""
    return max(("black", "white"), key=lambda ink: contrast(ink, colour))


def tau_text(tau: Interval) -> str:
    return f"tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}], n = {tau.n}"


def show(run: RunFolder | None, ax: Axes | Widget, name: str, alt: str) -> None:
    """Saves the figure of `ax` as `figures/<name>.png` of the run and displays it; `alt` is for who cannot see it.

    A widget is displayed and not saved, and so is a figure that comes before there is a run.
    """
    if isinstance(ax, Widget):
        display(ax)
        return
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    if run is not None:
        run.save_figure(figure, name, alt)
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def _luminance(colour: Any) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
