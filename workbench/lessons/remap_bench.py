"""Remapping under the reader's hands: where every number of a layer comes from, and how far the features move."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from ipywidgets import Dropdown, IntSlider, SelectionSlider
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor, nn

from workbench.insight.style import BLUE, ORANGE, QUIET
from workbench.insight.widgets.image_svg import WIDTH, Tile, sheet, title
from workbench.insight.widgets.panel import Values, panel
from workbench.lessons.fna_remap import changed
from workbench.lessons.fna_remap_plots import depthwise
from workbench.networks.backbone import Backbone, Prefix, run_blocks
from workbench.networks.count import evaluating
from workbench.networks.remap import remap
from workbench.spaces.network_spec import NetworkSpec

KERNELS = 12  # that are drawn
Numbers = npt.NDArray[np.int64]


def remap_bench(seed: Backbone, images: Tensor) -> Any:
    """One stage of `seed` at other depth, width and kernel: its layers, and the depthwise kernels of one of them.

    On `images` (N, 3, H, W), normalised, features are compared. ValueError for a seed without inverted residuals.
    Headless: one layer more, a wider expansion and a larger kernel.
    """
    stages = sorted({block.stage for block in seed.spec.blocks if block.kind == "mbconv" and block.expansion != 1})
    if not stages:
        raise ValueError(f"The bench takes inverted residuals apart, and {seed.spec.name} has none; use a mobile seed.")
    alone = {stage: stage_alone(seed, stage, images) for stage in stages}
    middle = stages[len(stages) // 2]
    controls = {
        "stage": Dropdown(options=stages, value=middle),
        "layers": IntSlider(value=len(alone[middle][0].blocks) + 1, min=1, max=6),
        "expansion": IntSlider(value=8, min=2, max=10),
        "kernel": SelectionSlider(options=[3, 5, 7], value=7),
        "layer shown": IntSlider(value=1, min=1, max=6),
        "first channel": IntSlider(value=0, max=1500, step=KERNELS),
        "channels kept": Dropdown(options=("prefix", "bn", "l1", "std")),
        "larger kernel": Dropdown(options=("centre", "dilate")),
    }

    def draw(state: Values) -> str:
        own, entering = alone[state["stage"]]
        more = state["layers"] - len(own.blocks)
        spec = changed(own.spec, kernel=state["kernel"], expansion=state["expansion"], deeper=more)
        rules = {"width": state["channels kept"], "kernel": state["larger kernel"]}
        network, report = remap(own, spec, **rules)
        with torch.inference_mode():
            before, after = (each.eval()(entering)[-1] for each in (own, network))
        shown = min(state["layer shown"], len(network.blocks)) - 1
        kernels = depthwise(network.blocks[shown]).weight.detach()[:, 0].numpy()
        first = min(state["first channel"], max(0, len(kernels) - KERNELS))
        counts = report.tensors[report.tensors["block"] == shown][["copied", "duplicated", "zero"]].sum()
        shares = ", ".join(f"{count / counts.sum():.0%} {name}" for name, count in counts.items() if count)
        lines = [
            f"Layer {shown + 1} of stage {state['stage']}: {len(kernels)} channels; of all its numbers {shares}.",
            f"Before training the stage's features change by {float((after - before).norm() / before.norm()):.1%}.",
            f"Right: depthwise kernels from channel {first} on. Rest the mouse on a weight to see where it comes from.",
        ]
        drawn = kernel_tile(kernels, origins(own, spec, **rules)[shown], first)
        return sheet([depth_tile(len(own.blocks), report.tensors, shown), drawn], lines)

    return panel(controls, draw)


def stage_alone(seed: Backbone, stage: int, images: Tensor) -> tuple[Backbone, Tensor]:
    """The layers of one stage, shared with the seed, and the features of the images that enter them."""
    places = [index for index, block in enumerate(seed.spec.blocks) if block.stage == stage]
    blocks = tuple(seed.spec.blocks[index] for index in places)
    part = Backbone(NetworkSpec(name=f"stage {stage}", blocks=blocks, taps=(len(blocks) - 1,)))
    part.blocks = nn.ModuleList(seed.blocks[index] for index in places)
    with evaluating(seed), torch.inference_mode():
        return part, run_blocks(seed.blocks, (), (), Prefix(0, images), places[0]).features


def origins(seed: Backbone, spec: NetworkSpec, **rules: Any) -> list[Numbers]:
    """For each block where its depthwise weights come from: (C, k, k, 4) block, channel, row, column; -1 for zeros.

    Found by remapping a copy of the seed whose weights are numbered from 1 on: it is what `remap` does, not what is
    said of it.
    """
    numbered, known = copy.deepcopy(seed), [np.full((1, 4), -1)]
    with torch.no_grad():
        for index, block in enumerate(numbered.blocks):
            weight = depthwise(block).weight
            first = sum(map(len, known))
            weight.copy_(torch.arange(first, first + weight.numel()).reshape(weight.shape))
            channel, _, row, column = np.indices(weight.shape).reshape(4, -1)
            known.append(np.stack([np.full_like(channel, index), channel, row, column], axis=1))
    table = np.concatenate(known)
    network = remap(numbered, spec, **rules)[0]
    return [table[depthwise(block).weight.detach()[:, 0].long().numpy()] for block in network.blocks]


def depth_tile(depth: int, tensors: pd.DataFrame, shown: int) -> Tile:
    """The seed's layers above, the network's below, and from which each of them reads; clones are orange."""
    read = tensors.drop_duplicates("block")
    body, step = "", WIDTH / max(depth, len(read))
    rows = ([(number, False) for number in range(depth)], [*zip(read["seed_block"], read["cloned"], strict=True)])
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
    for (place, row, column), weight in np.ndenumerate(kernels[first : first + KERNELS]):
        layer, channel, above, left = source[first + place, row, column].tolist()
        told, colour = "zero, the rim of a larger kernel", "#9a9a9a"
        if layer >= 0:
            told = f"the seed's layer {layer + 1}, channel {channel}, row {above}, column {left}: {weight:+.3f}"
            colour = to_hex(colormaps["PuOr"](0.5 + weight / np.abs(kernels[first + place]).max() / 2))
        x, y = (place % 4) * WIDTH / 4 + cell * column, (place // 4) * WIDTH / 4 + cell * row
        square = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 0.5:.1f}" height="{cell - 0.5:.1f}" fill="{colour}"'
        body += f"<rect {square}>{title(f'channel {first + place}: {told}')}</rect>"
    return Tile(body, 3 * WIDTH / 4)
