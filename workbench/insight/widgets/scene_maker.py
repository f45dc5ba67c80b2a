"""Generated scenes under the reader's hands: the knobs of the world, and how far a network sees in it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ipywidgets import Dropdown, FloatSlider, IntSlider

from workbench.data.scenes.scene import CLASSES, SIZES, Scene, SceneConfig, draw_scene
from workbench.insight.receptive_field import theoretical_field
from workbench.insight.style import GREEN, ORANGE, SKY, VERMILLION
from workbench.insight.widgets.image_svg import Mark, Tile, image_uri, sheet, tile
from workbench.insight.widgets.panel import Values, panel
from workbench.spaces.network_spec import NetworkSpec

SCENES = 3
BY_HAND = "reach by hand"


def scene_maker(config: SceneConfig, seed: int, networks: Mapping[str, NetworkSpec] | None = None) -> Any:
    """Three scenes of the world that the knobs describe, at first `config`; where dots tell classes, who sees them.

    The reach is that of one of `networks`, or set by hand. Headless: the scenes of `config`.
    """
    # Half the theoretical field: the farthest pixel that a unit of the last map can see.
    reaches = {name: (theoretical_field(spec)[-1][0] - 1) // 2 for name, spec in (networks or {}).items()}
    sizes = {str(config.sizes): config.sizes} | {name: name for name in SIZES}
    knobs: dict[str, Any] = {  # fields of the configuration
        "classes": Dropdown(options=CLASSES, value=config.classes),
        "sizes": Dropdown(options=[*sizes]),
        "clutter": IntSlider(value=config.clutter, max=12),
        "occlusion": FloatSlider(value=config.occlusion, max=1, step=0.1),
        "context_distance": IntSlider(value=config.context_distance, min=16, max=58),
        "colours": IntSlider(value=config.colours, min=2, max=4),
    }
    views = {
        "most_objects": IntSlider(value=config.objects[1], min=1, max=12),
        "network": Dropdown(options=[*reaches, BY_HAND]),
        BY_HAND: IntSlider(value=30, max=90),
        "scene": IntSlider(value=0, max=97),
    }

    def draw(state: Values) -> str:
        most = state["most_objects"]
        turned = {name: state[name] for name in knobs} | {"sizes": sizes[state["sizes"]]}
        turned["objects"] = (min(config.objects[0], most), most)
        reach = {**reaches, BY_HAND: state[BY_HAND]}[state["network"]]
        return drawn(replace(config, **turned), seed, state["scene"], reach)

    return panel(knobs | views, draw)


def drawn(config: SceneConfig, seed: int, first: int, reach: float) -> str:
    """Scenes from number `first` on as SVG, and for dots how many of them a network of that reach covers."""
    scenes = [draw_scene(config, seed, first + number) for number in range(SCENES)]
    low, high = config.size_range
    lines = [f"Classes: {', '.join(config.categories)}. Animals are {low:.0f} to {high:.0f} px long."]
    legend: dict[str, Any] = {"animal": SKY}
    if config.dot_distances:
        seen = config.covers(reach, np.concatenate([scene.distances for scene in scenes]))
        right = f"{config.bound(float(seen.mean())):.0%}" if len(seen) else "none"
        lines.append(
            f"A reach of {reach} px covers {seen.sum()} of the {len(seen)} dots here: accuracy at most {right}."
        )
        legend = {"dot in reach": GREEN, "out of reach": VERMILLION, "what a unit at the first animal sees": ORANGE}
    tiles = [scene_tile(config, scene, reach, f"scene {first + number}") for number, scene in enumerate(scenes)]
    return sheet(tiles, lines, legend=legend)


def scene_tile(config: SceneConfig, scene: Scene, reach: float, caption: str) -> Tile:
    """A scene with its boxes, coloured by whether a unit at the animal's centre sees the dot that names its class."""
    marks = []
    if config.dot_distances and len(scene.centres):  # the field of a unit is a square
        x, y = scene.centres[0]
        marks.append(Mark((x - reach, y - reach, x + reach, y + reach), ORANGE, "", f"reach {reach} px", dashed=True))
    rows = (scene.boxes, scene.labels, scene.species, scene.sizes, scene.distances)
    for box, label, species, size, away in zip(*rows, strict=True):
        name, colour, sight = config.categories[label - 1], SKY, ""
        if away:
            colour, word = (GREEN, "in") if config.covers(reach, away) else (VERMILLION, "out of")
            sight = f"; its dot is {away} px away, {word} reach"
        marks.append(Mark(box, colour, name, f"{name}, {config.kinds[species - 1]}, {size:.0f} px long{sight}"))
    return tile(image_uri(scene.image), scene.image.shape[:2], marks, caption)
