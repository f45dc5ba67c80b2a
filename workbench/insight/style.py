"""How figures look, and how one is shown and kept: colours mean the same thing everywhere."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython.display import display
from ipywidgets import Widget
from matplotlib.axes import Axes

from workbench.evaluation.statistics import Interval
from workbench.records.run_folder import RunFolder

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = mpl.color_sequences["okabe_ito"]
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK)
RIGHT: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 9}  # a legend outside


def use_style() -> None:
    """Okabe-Ito colours, legible sizes, light grid; for a notebook's first cell."""
    mpl.rc("axes", prop_cycle=cycler(color=SERIES), grid=True, axisbelow=True, titlesize=11, titlelocation="left")
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", alpha=0.25)
    mpl.rc("font", size=10)
    mpl.rc("text", parse_math=False)  # a "$" in the name of a class is one
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("legend", frameon=False)


def new_axes(width: float = 8.0, height: float = 3.6) -> Axes:
    """One axes of that size in inches."""
    return plt.subplots(figsize=(width, height))[1]


def without_frame(ax: Axes) -> None:
    """For images: no ticks, no grid."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def tau_text(tau: Interval) -> str:
    return f"tau {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}], n = {tau.n}"


def show(run: RunFolder, ax: Axes | Widget, name: str, alt: str) -> None:
    """Saves the figure of `ax` as `figures/<name>.png` of the run and displays it; `alt` is for who cannot see it.

    A widget is displayed and not saved.
    """
    if isinstance(ax, Widget):
        display(ax)
        return
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    run.save_figure(figure, name, alt)
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)
