"""Generated scenes under the reader's hands: every knob of the world, and how far a network sees in it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import SVG

from workbench.data.scenes.scene import CLASSES, SIZES, Scene, SceneConfig, draw_scene
from workbench.insight.receptive_field import theoretical_field
from workbench.insight.style import GREEN, ORANGE, SKY, VERMILLION
from workbench.insight.widgets.image_svg import Mark, Tile, image_uri, sheet, tile
from workbench.insight.widgets.panel import Values, panel
from workbench.spaces.network_spec import NetworkSpec

SCENES = 3


def scene_maker(
    config: SceneConfig, seed: int, networks: Mapping[str, NetworkSpec] | None = None
) -> widgets.VBox | SVG:
    """Three scenes of the world that the knobs describe, at first `config`; with dots also whose reach covers which.

    The reach is that of one of `networks`, or set by hand. Headless: the scenes of `config`.
    """
    reaches = {name: (theoretical_field(spec)[-1][0] - 1) // 2 for name, spec in (networks or {}).items()}
    sizes = config.sizes if isinstance(config.sizes, str) else "mixed"
    controls: dict[str, Any] = {
        "classes": widgets.Dropdown(options=CLASSES, value=config.classes),
        "sizes": widgets.Dropdown(options=[*SIZES], value=sizes),
        "most objects": widgets.IntSlider(value=config.objects[1], min=1, max=12),
        "clutter": widgets.IntSlider(value=config.clutter, min=0, max=12),
        "occlusion": widgets.FloatSlider(value=config.occlusion, min=0, max=1, step=0.1),
        "distance of the dot": widgets.IntSlider(value=config.context_distance, min=16, max=58),
        "colours": widgets.IntSlider(value=config.colours, min=2, max=4),
        "network": widgets.Dropdown(options=["by hand", *reaches], value=next(iter(reaches), "by hand")),
        "reach by hand": widgets.IntSlider(value=30, min=0, max=90),
        "first scene": widgets.IntSlider(value=0, min=0, max=97),
    }

    def draw(state: Values) -> str:
        made = made_of(config, state)
        reach = reaches.get(state["network"], state["reach by hand"])
        drawn = [draw_scene(made, seed, state["first scene"] + number) for number in range(SCENES)]
        tiles = [scene_tile(made, scene, reach, f"scene {state['first scene'] + n}") for n, scene in enumerate(drawn)]
        low, high = made.size_range
        lines = [f"{', '.join(made.categories)}; animals {low:.0f} to {high:.0f} px long"]
        legend: dict[str, Any] = {"animal": SKY}
        if made.dot_distances:
            away = np.concatenate([scene.distances for scene in drawn])
            seen = made.covers(reach, away)
            bound = made.bound(float(seen.mean())) if len(seen) else float("nan")
            covered = f"A reach of {reach} px covers {seen.sum()} of the {len(seen)} dots here"
            lines.append(f"{covered}, so accuracy on these animals is at most {bound:.2f}")
            legend = {"dot in reach": GREEN, "out of reach": VERMILLION, "what a unit at the first animal sees": ORANGE}
        return sheet(tiles, lines, legend=legend, columns=SCENES)

    return panel(controls, draw)


def made_of(config: SceneConfig, state: Values) -> SceneConfig:
    """`config` with the knobs of a state turned; ValueError for a world that there cannot be."""
    return replace(
        config,
        classes=state["classes"],
        sizes=state["sizes"],
        objects=(min(config.objects[0], state["most objects"]), state["most objects"]),
        clutter=state["clutter"],
        occlusion=state["occlusion"],
        context_distance=state["distance of the dot"],
        colours=state["colours"],
    )


def scene_tile(config: SceneConfig, scene: Scene, reach: float, caption: str) -> Tile:
    """A scene with its boxes, coloured by whether a unit at the animal's centre sees the dot that names its class.

    The field of a unit is a square; that of the first animal is drawn.
    """
    marks, seen = [], config.covers(reach, scene.distances)
    for number, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True)):
        name, away, colour = config.categories[label - 1], scene.distances[number], SKY
        sentence = f"{name}, {config.kinds[scene.species[number] - 1]}, {scene.sizes[number]:.0f} px long"
        if away:
            colour = GREEN if seen[number] else VERMILLION
            sentence += f"; its dot is {away} px away: {'in' if seen[number] else 'out of'} reach"
        marks.append(Mark(box, colour, name, sentence))
    if len(marks) and config.dot_distances:
        (x, y), field = scene.centres[0], f"a unit here sees {reach} px far"
        marks.insert(0, Mark((x - reach, y - reach, x + reach, y + reach), ORANGE, "", field, dashed=True))
    return tile(image_uri(scene.image), scene.image.shape[:2], marks, caption)
