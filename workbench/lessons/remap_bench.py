"""Remapping under the reader's hands: where every number of a layer comes from, and how far the features move."""

import copy
from typing import Any

import ipywidgets as widgets
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from IPython.display import SVG
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor, nn

from workbench.insight.pipeline import QUIET
from workbench.insight.style import BLUE, ORANGE
from workbench.insight.widgets.image_svg import WIDTH, Tile, sheet, title
from workbench.insight.widgets.panel import Values, panel
from workbench.lessons.fna_remap import changed
from workbench.lessons.fna_remap_plots import depthwise
from workbench.networks.backbone import Backbone, Prefix, run_blocks
from workbench.networks.count import evaluating
from workbench.networks.remap import remap
from workbench.spaces.network_spec import NetworkSpec

CHANNELS = 12  # kernels that are drawn
RULES = ("prefix", "bn", "l1", "std")  # which channels a narrower layer keeps
Numbers = npt.NDArray[np.int64]


def remap_bench(seed: Backbone, images: Tensor) -> widgets.VBox | SVG:
    """One stage of `seed` at other depth, width and kernel: its layers, and the depthwise kernels of one of them.

    `images` (N, 3, H, W), normalised, are what the features are compared on. ValueError for a seed without inverted
    residuals. Headless: one layer more, a wider expansion and a larger kernel.
    """
    stages = sorted({block.stage for block in seed.spec.blocks if block.kind == "mbconv" and block.expansion != 1})
    if not stages:
        raise ValueError(f"The bench takes inverted residuals apart, and {seed.spec.name} has none; use a mobile seed.")
    parts = {stage: stage_alone(seed, stage) for stage in stages}
    entering = {stage: features_before(seed, stage, images) for stage in stages}
    middle = stages[len(stages) // 2]
    controls: dict[str, Any] = {
        "stage": widgets.Dropdown(options=stages, value=middle),
        "layers": widgets.IntSlider(value=len(parts[middle].blocks) + 1, min=1, max=6),
        "expansion": widgets.IntSlider(value=8, min=2, max=10),
        "kernel": widgets.SelectionSlider(options=[3, 5, 7], value=7),
        "layer shown": widgets.IntSlider(value=1, min=1, max=6),
        "first channel": widgets.IntSlider(value=0, min=0, max=1500, step=CHANNELS),
        "channels kept": widgets.Dropdown(options=RULES),
        "larger kernel": widgets.Dropdown(options=("centre", "dilate")),
    }

    def draw(state: Values) -> str:
        stage, own = state["stage"], parts[state["stage"]]
        deeper = state["layers"] - len(own.blocks)
        spec = changed(own.spec, kernel=state["kernel"], expansion=state["expansion"], deeper=deeper)
        rules = {"width": state["channels kept"], "kernel": state["larger kernel"]}
        network, report = remap(own, spec, **rules)
        shown = min(state["layer shown"], state["layers"]) - 1
        kernels = depthwise(network.blocks[shown]).weight.detach()[:, 0].numpy()
        counts = report.tensors[report.tensors["block"] == shown][["copied", "duplicated", "zero"]].sum()
        shares = ", ".join(f"{count / counts.sum():.0%} {name}" for name, count in counts.items() if count)
        lines = [
            f"Stage {stage}, layer {shown + 1}: {len(kernels)} channels in the middle; of all its numbers {shares}",
            f"Before any training the features of this stage change by {change(own, network, entering[stage]):.1%}",
            f"Left: which layer reads which. Right: {CHANNELS} depthwise kernels; rest the mouse on a weight",
        ]
        first = min(state["first channel"], max(0, len(kernels) - CHANNELS))
        drawn = kernel_tile(kernels, origins(own, spec, **rules)[shown], first)
        return sheet([depth_tile(len(own.blocks), report.tensors, shown), drawn], lines, columns=2)

    return panel(controls, draw)


def stage_alone(seed: Backbone, stage: int) -> Backbone:
    """The layers of one stage of the seed, which they share with it; the last map is tapped."""
    places = [index for index, block in enumerate(seed.spec.blocks) if block.stage == stage]
    blocks = tuple(seed.spec.blocks[index] for index in places)
    part = Backbone(NetworkSpec(name=f"stage {stage}", blocks=blocks, taps=(len(blocks) - 1,)))
    part.blocks = nn.ModuleList(seed.blocks[index] for index in places)
    return part.eval()


def features_before(seed: Backbone, stage: int, images: Tensor) -> Tensor:
    """What the seed makes of images before the first layer of a stage."""
    first = [block.stage for block in seed.spec.blocks].index(stage)
    with evaluating(seed), torch.inference_mode():
        return run_blocks(seed.blocks, (), (), Prefix(0, images), first).features


def change(seed: Backbone, network: Backbone, features: Tensor) -> float:
    """Root mean square change of the last map, relative to the seed's, in eval mode."""
    with torch.inference_mode():
        before, after = (each.eval()(features)[-1] for each in (seed, network))
    return float((after - before).norm() / before.norm())


def origins(seed: Backbone, spec: NetworkSpec, **rules: Any) -> list[Numbers]:
    """For each block of a network where the weights of its depthwise kernels come from: (C, k, k, 4).

    The last axis is block, channel, row and column in the seed, -1 for zeros. Found by remapping a copy of the seed
    whose depthwise weights are numbered from 1 on, so it is what `remap` does and not what is said of it.
    """
    numbered, first, table = copy.deepcopy(seed), 1, [np.full((1, 4), -1)]
    with torch.no_grad():
        for index, block in enumerate(numbered.blocks):
            weight = depthwise(block).weight
            weight.copy_(torch.arange(first, first + weight.numel()).reshape(weight.shape))
            places = np.indices((len(weight), weight[0].numel())).reshape(2, -1).T
            side = weight.shape[-1]
            rows = np.column_stack([places[:, 1] // side, places[:, 1] % side])
            table.append(np.column_stack([np.full(len(places), index), places[:, 0], rows]))
            first += weight.numel()
    known = np.concatenate(table)
    network = remap(numbered, spec, **rules)[0]
    return [known[depthwise(block).weight.detach()[:, 0].long().numpy()] for block in network.blocks]


def depth_tile(depth: int, tensors: pd.DataFrame, shown: int) -> Tile:
    """The seed's layers above, the network's below, and from which each of them reads; clones are orange."""
    read = tensors.drop_duplicates("block")
    body, step = "", WIDTH / max(depth, len(read))
    rows = ([(n, False) for n in range(depth)], [*zip(read["seed_block"], read["cloned"], strict=True)])
    for row, (name, layers) in enumerate(zip(("seed", "network"), rows, strict=True)):
        body += f'<text x="0" y="{12 + 128 * row}" font-size="12" fill="{QUIET}">{name}</text>'
        for number, (source, cloned) in enumerate(layers):
            left, colour, thick = step * number + 3, to_hex(ORANGE if cloned else BLUE), 3 * (row and number == shown)
            look = f'fill="{colour}" stroke="{QUIET}" stroke-width="{thick}"'
            body += f'<rect x="{left:.0f}" y="{18 + 76 * row}" width="{step - 8:.0f}" height="32" {look}/>'
            body += f'<text x="{left + 6:.0f}" y="{39 + 76 * row}" font-size="13" fill="#ffffff">{number + 1}</text>'
            if row:
                ends = f'x1="{step * (source + 0.5):.0f}" y1="52" x2="{step * (number + 0.5):.0f}" y2="92"'
                body += f'<line {ends} stroke="{colour}" stroke-width="2"/>'
    return Tile(body, 150)


def kernel_tile(kernels: npt.NDArray[np.float32], source: Numbers, first: int) -> Tile:
    """Kernels from channel `first` on, weights as shares of the kernel's largest; each tells where it comes from."""
    body, cell = "", (WIDTH / 4 - 6) / kernels.shape[-1]
    for (place, row, column), weight in np.ndenumerate(kernels[first : first + CHANNELS]):
        channel, top = first + place, float(np.abs(kernels[first + place]).max()) or 1.0
        layer, theirs, above, left = source[channel, row, column].tolist()
        told = f"the seed's layer {layer + 1}, channel {theirs}, row {above}, column {left}: {weight:+.3f}"
        told = told if layer >= 0 else "zero, the rim of a larger kernel"
        x, y = (place % 4) * WIDTH / 4 + cell * column, (place // 4) * WIDTH / 4 + cell * row
        colour = to_hex(colormaps["PuOr"](0.5 + weight / top / 2)) if layer >= 0 else "#9a9a9a"
        square = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 0.5:.1f}" height="{cell - 0.5:.1f}"'
        body += f'<rect {square} fill="{colour}">{title(f"channel {channel}: {told}")}</rect>'
    return Tile(body, 3 * WIDTH / 4)
