"""Allocation desk: blocks dragged between stages under one budget; params, field, and what is known of the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ipywidgets import Widget
from matplotlib.axes import Axes

from workbench.insight.architecture_plots import Cell, plot_strips
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.style import BLUE
from workbench.insight.widgets.frame import State
from workbench.insight.widgets.touch import Scored, asked, explorable
from workbench.records.files import compiled, fields
from workbench.records.progress import headless
from workbench.records.score import Score
from workbench.spaces.allocation import allocation, allocation_space, depths_of
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import ImageSize, backbone_cost, height_width
from workbench.spaces.residual import DEEPEST, layout_named, residual_spec

Depths = tuple[int, ...]


def widget(
    backbone: str,
    depths: Sequence[int],
    image_size: ImageSize,
    *,
    known: Callable[[], Mapping[Depths, str]] = dict,
    starts: Mapping[str, Sequence[int]] | None = None,
    score: Callable[[Arch], Score] | None = None,
    scored: Scored | None = None,
) -> Axes | Widget:
    """The desk of `backbone` with the budget of `depths`; headless its blocks and numbers.

    `known` says in words what is known of allocations, asked anew at every change. `starts` are named allocations of
    the same budget. `score` asks a supernet for an allocation on its grid; `scored` gets each new score.
    """
    data = desk_data(backbone, depths, image_size)
    named = {"start": tuple(depths), **(starts or {})}
    each = {
        name: checked(backbone, sum(depths), {"backbone": backbone, "depths": list(n)}) for name, n in named.items()
    }
    data |= {
        "starts": {name: state["depths"] for name, state in each.items()},
        "known": _spelled(known()) if headless() else {},
    }
    space = allocation_space(backbone)

    def twin(state: State) -> Axes:
        row = [
            Cell(s["number"], BLUE, "") for s, n in zip(data["stages"], state["depths"], strict=True) for _ in range(n)
        ]
        ax = plot_strips({"allocation": row}, {})
        line = allocation_line(backbone, state["depths"], image_size)
        ax.set_title("\n".join(filter(None, [line, known().get(tuple(state["depths"]), "")])), pad=16)
        return ax

    return explorable(
        "allocation_desk",
        data,
        {"backbone": backbone, "depths": list(depths)},
        label="Allocation desk",
        twin=twin,
        checked=lambda state: checked(backbone, sum(depths), state),
        respond=lambda state: {"known": _spelled(known())},
        ask=asked(lambda state: allocation(space, state["depths"]), score, scored),
        alone=True,
    )


def desk_data(backbone: str, depths: Sequence[int], image_size: ImageSize) -> dict[str, Any]:
    """What the browser needs: the network with one block in each stage, and what one more block adds to it.

    Numbers are sums over blocks, and all but the first block of a stage are alike; variances are in square pixels.
    """
    layout = layout_named(backbone)
    ones = (1,) * len(layout.searched)
    base = desk_numbers(backbone, ones, image_size)
    stages = []
    for place, number in enumerate(layout.searched):
        deeper = desk_numbers(backbone, [n + (i == place) for i, n in enumerate(ones)], image_size)
        more = {name: deeper[name] - base[name] for name in ("params", "macs")}
        more["variance"] = deeper["sigma"][place] ** 2 - base["sigma"][place] ** 2
        stage = layout.stages[number - 1]
        stages.append({"number": number, "options": list(stage.options), "cost": stage.cost, "more": more})
    start = {"params": base["params"], "macs": base["macs"], "variance": [sigma**2 for sigma in base["sigma"]]}
    side = max(height_width(image_size))
    return {"stages": stages, "base": start, "budget": layout.budget(depths), "image_side": side}


def desk_numbers(backbone: str, depths: Sequence[int], image_size: ImageSize) -> dict[str, Any]:
    """`params`, `macs` at `image_size`, nominal `cost`, and the predicted `sigma` (pixels) behind each stage."""
    spec, layout = residual_spec(backbone, depths), layout_named(backbone)
    ends = {block.stage: index for index, block in enumerate(spec.blocks)}
    tapped = replace(spec, taps=tuple(ends[stage] for stage in layout.searched))
    cost = backbone_cost(spec, image_size)
    return {**cost._asdict(), "cost": layout.budget(depths), "sigma": [max(pair) for pair in predicted_sigma(tapped)]}


def allocation_line(backbone: str, depths: Sequence[int], image_size: ImageSize) -> str:
    """Blocks, MACs, params and the predicted spread of the field of an allocation, in words."""
    found = desk_numbers(backbone, depths, image_size)
    costs = f"{found['macs'] / 1e6:.1f} MMACs, {found['params'] / 1e3:.0f}k params"
    return f"{sum(depths)} blocks: {costs}, sigma of the last map {found['sigma'][-1]:.0f} px"


def checked(backbone: str, blocks: int, state: State) -> dict[str, Any]:
    """The state where it is an allocation of so many blocks of this backbone; ValueError says what it is not."""
    count = len(layout_named(backbone).searched)
    depths = {"type": "array", "minItems": count, "maxItems": count}
    depths |= {"items": {"type": "integer", "minimum": 1, "maximum": DEEPEST}}
    found: dict[str, Any] = compiled(fields({"backbone": {"const": backbone}, "depths": depths}), "state")(state)
    if (total := sum(found["depths"])) != blocks:
        raise ValueError(f"This desk has {blocks} blocks; the state has {total}: {found['depths']}.")
    return found


def scores_in_words(scores: Sequence[Score], metric: str, source: str) -> dict[Depths, str]:
    """What a record of scored allocations knows, for `known`."""
    found: dict[Depths, str] = {}
    for score in scores:
        if score.error is None and metric in score.metrics:
            error = score.metrics.get(f"{metric}_error")
            spread = f" ± {error:.3f}" if error is not None else ""
            depths = depths_of(space_named(score.arch.space), score.arch)
            found[depths] = f"{metric} {score.metrics[metric]:.3f}{spread} ({source})"
    return found


def _spelled(known: Mapping[Depths, str]) -> dict[str, str]:
    return {".".join(map(str, depths)): text for depths, text in known.items()}
