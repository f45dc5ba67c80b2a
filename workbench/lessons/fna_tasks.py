"""Test pictures with what a network found: maps of classes, joints of bodies."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from workbench.insight.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW

# Beyond the eight of Okabe and Ito, for data sets with more classes.
CLASS_COLOURS = (SKY, YELLOW, BLUE, ORANGE, GREEN, VERMILLION, PURPLE, BLACK, *plt.get_cmap("tab20").colors)  # type: ignore[attr-defined]
VOID_COLOUR = (0.85, 0.85, 0.85)


def plot_results(data: Any, found: Sequence[Any], task: str, count: int = 4) -> Axes:
    """The first `count` test pictures: maps for segmentation, joints for pose."""
    return plot_masks(data, found, count) if task == "segmentation" else plot_poses(data, found, 2 * count)


def plot_masks(data: Any, found: Sequence[Any], count: int = 4) -> Axes:
    """Picture, true map and found map, a column for each of `count` pictures; void is light grey."""
    count = min(count, len(data))
    figure, axes = plt.subplots(3, count, figsize=(2.5 * count, 7.2), squeeze=False)
    shown: set[int] = set()
    for column in range(count):
        image, target = data[column]
        axes[0][column].imshow(image.permute(1, 2, 0).numpy())
        for row, classes in ((1, target["semantic"].numpy()), (2, found[column].numpy())):
            axes[row][column].imshow(_coloured(classes))
            shown |= set(np.unique(classes).tolist())
        for row in range(3):
            axes[row][column].set(xticks=[], yticks=[])
            axes[row][column].grid(False)
    for row, name in enumerate(("picture", "truth", "found")):
        axes[row][0].set_ylabel(name)
    names = [number for number in sorted(shown) if number < len(data.categories)]
    handles = [
        Patch(color=CLASS_COLOURS[number % len(CLASS_COLOURS)], label=data.categories[number]) for number in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    first: Axes = axes[0][0]
    return first


def plot_poses(data: Any, found: Sequence[Any], count: int = 8) -> Axes:
    """Crops with the found joints as dots, and a line from each to its true place (white ring) where it is labelled."""
    count = min(count, len(data))
    columns = min(count, 4)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.7 * rows), squeeze=False)
    for index, ax in enumerate(axes.ravel()):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        if index >= count:
            ax.set_visible(False)
            continue
        image, target = data[index]
        ax.imshow(image.permute(1, 2, 0).numpy())
        truth = target["keypoints"].numpy()
        places = data.to_crop(index, found[index]["keypoints"][:, :2])
        for joint, (true, place) in enumerate(zip(truth, places, strict=True)):
            colour = CLASS_COLOURS[joint % len(CLASS_COLOURS)]
            if true[2] > 0:
                ax.plot([true[0], place[0]], [true[1], place[1]], color="white", linewidth=1)
                ax.plot(*true[:2], "o", markerfacecolor="none", markeredgecolor="white", markersize=7)
                ax.plot(*place, "o", color=colour, markersize=4, markeredgecolor="black", markeredgewidth=0.4)
        ax.set(xlim=(0, image.shape[-1]), ylim=(image.shape[-2], 0))
    names = data.categories[:8] if len(data.categories) > 8 else data.categories
    marks = [
        Line2D([], [], marker="o", linestyle="none", color=CLASS_COLOURS[joint % len(CLASS_COLOURS)], label=name)
        for joint, name in enumerate(names)
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=8)
    first: Axes = axes[0][0]
    return first


def _coloured(classes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    palette = ListedColormap(CLASS_COLOURS)
    table = np.array([palette(number % len(CLASS_COLOURS))[:3] for number in range(256)])
    table[255] = VOID_COLOUR
    return table[classes]
