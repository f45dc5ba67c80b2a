"""Interactive views; each returns a static twin when nobody is watching."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from workbench.insight.allocation_plots import plot_networks
from workbench.insight.plots import plot_op_strip
from workbench.insight.receptive_field import predicted_sigma
from workbench.records.progress import headless
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.residual import layout_named, residual_spec
from workbench.spaces.space import SearchSpace


def cost_line(space: SearchSpace, arch: Arch, image_size: ImageSize, limit: float) -> str:
    """MACs and params of `arch` in words, and whether it keeps the limit."""
    macs = space.macs(arch, image_size)
    verdict = "within" if macs <= limit else "over"
    return f"{macs / 1e6:.2f} MMACs ({verdict} the limit of {limit / 1e6:.1f}), {space.params(arch) / 1e3:.0f}k params"


def allocation_line(backbone: str, depths: Sequence[int], image_size: ImageSize) -> str:
    """Blocks, MACs, params and the predicted spread of the field of an allocation, in words."""
    spec = residual_spec(backbone, depths)
    cost, sigma = backbone_cost(spec, image_size), predicted_sigma(spec)[-1][0]
    return (
        f"{sum(depths)} blocks: {cost.macs / 1e6:.1f} MMACs, {cost.params / 1e3:.0f}k params, sigma of the last map"
        f" {sigma:.0f} px"
    )


def allocation_editor(backbone: str, depths: Sequence[int], image_size: ImageSize) -> Axes | widgets.Widget:
    """A slider for the depth of each stage; blocks, costs and field follow. Headless: the picture of `depths`."""
    if headless():
        return _draw_allocation(backbone, depths, image_size)
    sliders = [
        widgets.IntSlider(value=depth, min=1, max=max(12, *depths), description=f"stage {stage}")
        for stage, depth in zip(layout_named(backbone).searched, depths, strict=True)
    ]
    picture = widgets.Output()

    def redraw(_change: Any = None) -> None:
        with picture:
            picture.clear_output(wait=True)
            _draw_allocation(backbone, [slider.value for slider in sliders], image_size)
            plt.show()

    for slider in sliders:
        slider.observe(redraw, names="value")
    redraw()
    return widgets.VBox([*sliders, picture])


def _draw_allocation(backbone: str, depths: Sequence[int], image_size: ImageSize) -> Axes:
    ax = plot_networks({"your allocation": residual_spec(backbone, depths)}, image_size)
    ax.set_title(allocation_line(backbone, depths, image_size), pad=16)
    return ax


def arch_editor(space: SearchSpace, arch: Arch, image_size: ImageSize, limit: float) -> Axes | widgets.Widget:
    """One menu for each block; the strip and the costs follow. Headless: the strip of `arch` with its costs."""
    if headless():
        ax = plot_op_strip(space, {"architecture": arch})
        ax.set_title(cost_line(space, arch, image_size, limit), pad=16)
        return ax
    menus = [
        widgets.Dropdown(
            options=[(option, index) for index, option in enumerate(decision.options)],
            value=choice,
            description=decision.name.replace("stage ", "s").replace(" block ", "b"),
            layout=widgets.Layout(width="180px"),
        )
        for decision, choice in zip(space.decisions, arch.choices, strict=True)
    ]
    picture = widgets.Output()

    def redraw(_change: Any = None) -> None:
        edited = space.arch([menu.value for menu in menus])
        with picture:
            picture.clear_output(wait=True)
            ax = plot_op_strip(space, {"architecture": edited})
            ax.set_title(cost_line(space, edited, image_size, limit), pad=16)
            plt.show()

    for menu in menus:
        menu.observe(redraw, names="value")
    redraw()
    return widgets.VBox([widgets.Box(menus, layout=widgets.Layout(flex_flow="row wrap")), picture])
