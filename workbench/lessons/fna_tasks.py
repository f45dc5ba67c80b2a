"""Test images with what a network found: maps of classes, keypoints of persons; and how two found networks agree."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from IPython.display import HTML
from ipywidgets import Dropdown, IntSlider, Widget
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from workbench.insight.style import BLUE, GREEN, ORANGE, PURPLE, QUIET, SKY, VERMILLION, YELLOW, without_frame
from workbench.insight.widgets.panel import Values, panel
from workbench.records.progress import headless
from workbench.records.run_folder import png_of
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

# Beyond the eight of Okabe and Ito, for data sets with more classes.
CLASS_COLOURS = (SKY, YELLOW, BLUE, ORANGE, GREEN, VERMILLION, PURPLE, QUIET, *plt.get_cmap("tab20").colors)  # type: ignore[attr-defined]
VOID_COLOUR = (0.85, 0.85, 0.85)


def plot_results(data: Any, found: Sequence[Any], task: str, count: int = 4) -> Axes:
    """The first `count` test images: maps for segmentation, keypoints for pose."""
    return plot_masks(data, found, count) if task == "segmentation" else plot_poses(data, found, 2 * count)


def results_viewer(results: Mapping[str, tuple[Any, Sequence[Any]]]) -> HTML | Widget:
    """`plot_results` of each task's data and what was found there, with a menu of tasks and a slider over pages.

    Headless: the second page of the first task.
    """
    tasks, counts = list(results), {"segmentation": 4, "pose": 8}
    pages = max(-(-len(found) // counts[task]) for task, (_, found) in results.items())

    def page_of(task: str, page: int) -> Axes:
        (data, found), count = results[task], counts[task]
        start = min(count * (page - 1), (len(found) - 1) // count * count)
        part = range(start, min(start + count, len(found)))
        return plot_results(data.take(part), [found[index] for index in part], task)

    def draw(values: Values) -> str:
        figure = page_of(values["task"], values["page"]).figure.get_figure(root=True)
        assert figure is not None
        plt.close(figure)
        source = f"data:image/png;base64,{b64encode(png_of(figure)).decode()}"
        return f'<img style="max-width: 100%" alt="{values["task"]}, page {values["page"]}" src="{source}">'

    if headless():
        return HTML(draw({"task": tasks[0], "page": min(2, pages)}))
    return panel({"task": Dropdown(options=tasks), "page": IntSlider(min(2, pages), 1, pages)}, draw)


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


def agreement_sentence(found: Mapping[str, tuple[SearchSpace, Arch]]) -> str:
    """In how many layers that both spaces have the networks of two tasks chose alike, against drawing at random."""
    if len(found) < 2:
        return f"Only {next(iter(found))} was searched for; name both tasks to compare them."
    choices = [{d.name: option for d, option in space.describe(arch)} for space, arch in found.values()]
    shared = [d for d in next(iter(found.values()))[0].decisions if d.name in choices[1]]
    same = sum(choices[0][decision.name] == choices[1][decision.name] for decision in shared)
    chance = sum(1 / len(decision.options) for decision in shared)
    return (
        f"The networks for {' and '.join(found)} have the same operation in {same} of {len(shared)} layers; two random"
        f" networks would in {chance:.1f} on average."
    )


def _colour(number: int) -> Any:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _coloured(classes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    table = np.array([to_rgb(_colour(number)) for number in range(255)] + [VOID_COLOUR])
    return table[classes]
