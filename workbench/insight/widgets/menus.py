"""Interactive views; each returns a static twin when nobody is watching."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from workbench.records.progress import headless


def editor(
    draw: Callable[[list[int]], Axes], start: Sequence[int], menus: Mapping[str, Sequence[str] | int]
) -> Axes | widgets.Widget:
    """Controls for a list of choices, and the figure that `draw` makes of it, drawn again at every change.

    `menus` has for each choice its name, and its options for a menu or the largest number for a slider from 1 on.
    Headless: the figure of `start`.
    """
    if headless():
        return draw(list(start))
    controls: list[widgets.Widget] = []
    for (name, options), value in zip(menus.items(), start, strict=True):
        if isinstance(options, int):
            controls.append(widgets.IntSlider(value=value, min=1, max=options, description=name))
        else:
            numbered = [(option, index) for index, option in enumerate(options)]
            width = widgets.Layout(width="180px")
            controls.append(widgets.Dropdown(options=numbered, value=value, description=name, layout=width))
    image = widgets.Output()

    def redraw(_change: object = None) -> None:
        with image:
            image.clear_output(wait=True)
            draw([control.value for control in controls])
            plt.show()

    for control in controls:
        control.observe(redraw, names="value")
    redraw()
    return widgets.VBox([widgets.Box(controls, layout=widgets.Layout(flex_flow="row wrap")), image])
