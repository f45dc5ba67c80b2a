"""Test images with what a network found: maps of classes, keypoints of persons."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from ipywidgets import Widget
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from workbench.insight.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, without_frame
from workbench.insight.widgets.menus import editor

# Beyond the eight of Okabe and Ito, for data sets with more classes.
CLASS_COLOURS = (SKY, YELLOW, BLUE, ORANGE, GREEN, VERMILLION, PURPLE, BLACK, *plt.get_cmap("tab20").colors)  # type: ignore[attr-defined]
VOID_COLOUR = (0.85, 0.85, 0.85)


def plot_results(data: Any, found: Sequence[Any], task: str, count: int = 4) -> Axes:
    """The first `count` test images: maps for segmentation, keypoints for pose."""
    return plot_masks(data, found, count) if task == "segmentation" else plot_poses(data, found, 2 * count)


def results_viewer(results: Mapping[str, tuple[Any, Sequence[Any]]]) -> Axes | Widget:
    """`plot_results` of each task's data and what was found there, with a menu of tasks and a slider over pages.

    Headless: the second page of the first task.
    """
    tasks, counts = list(results), {"segmentation": 4, "pose": 8}
    pages = max(-(-len(found) // counts[task]) for task, (_, found) in results.items())

    def draw(chosen: list[int]) -> Axes:
        task = tasks[chosen[0]]
        (data, found), count = results[task], counts[task]
        start = min(count * (chosen[1] - 1), (len(found) - 1) // count * count)
        part = range(start, min(start + count, len(found)))
        return plot_results(data.take(part), [found[index] for index in part], task)

    return editor(draw, (0, min(2, pages)), {"task": tasks, "page": pages})


def plot_masks(data: Any, found: Sequence[Any], count: int = 4) -> Axes:
    """Image, true map and found map, a column for each of `count` images; void is light grey."""
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
            without_frame(axes[row][column])
    for row, name in enumerate(("image", "truth", "found")):
        axes[row][0].set_ylabel(name)
    named = [number for number in sorted(shown) if number < len(data.categories)]
    handles = [Patch(color=_colour(number), label=data.categories[number]) for number in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    return axes[0][0]


def plot_poses(data: Any, found: Sequence[Any], count: int = 8) -> Axes:
    """Crops with the found keypoints as dots, with lines to their labelled true places (white rings)."""
    count = min(count, len(data))
    columns = min(count, 4)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.7 * rows), squeeze=False)
    for index, ax in enumerate(axes.ravel()):
        without_frame(ax)
        if index >= count:
            ax.set_visible(False)
            continue
        image, target = data[index]
        ax.imshow(image.permute(1, 2, 0).numpy())
        truth = target["keypoints"].numpy()
        places = data.to_crop(index, found[index]["keypoints"][:, :2])
        for keypoint, (true, place) in enumerate(zip(truth, places, strict=True)):
            if true[2] > 0:
                ax.plot([true[0], place[0]], [true[1], place[1]], color="white", linewidth=1)
                ax.plot(*true[:2], "o", markerfacecolor="none", markeredgecolor="white", markersize=7)
                ax.plot(*place, "o", color=_colour(keypoint), markersize=4, mec="black", mew=0.4)
        ax.set(xlim=(0, image.shape[-1]), ylim=(image.shape[-2], 0))
    style: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    named = enumerate(data.categories[:8])
    marks = [Line2D([], [], color=_colour(keypoint), label=name, **style) for keypoint, name in named]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=8)
    return axes[0][0]


def _colour(number: int) -> Any:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _coloured(classes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    table = np.array([to_rgb(_colour(number)) for number in range(255)] + [VOID_COLOUR])
    return table[classes]
