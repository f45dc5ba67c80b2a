"""The scene maker: knobs change the world, an impossible world is told in place, reach decides which dots are seen."""

import pytest

from workbench.data.scenes.scene import SceneConfig, draw_scene
from workbench.insight.widgets.scene_maker import scene_maker
from workbench.methods.presets import LADDER
from workbench.spaces.catalogue import space_named


def test_reach_covers_the_dots_that_are_near_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    space = space_named("shuffle-seven")
    box = scene_maker(LADDER, 0, {"plain": space.spec(space.uniform(0)), "large": space.spec(space.uniform(2))})
    row, message, image, _ = box.children[0].children
    controls = {control.description: control for control in row.children}
    assert "A reach of 43 px" in image.value
    controls["network"].value = "large"
    assert "A reach of 43 px" not in image.value
    away = [int(number) for scene in range(3) for number in draw_scene(LADDER, 0, scene).distances]
    for reach in (0, 30, 90):
        controls["network"].value, controls["reach by hand"].value = "reach by hand", reach
        seen = sum(distance - LADDER.dot_radius < reach for distance in away)
        bound = seen / len(away) + (1 - seen / len(away)) / LADDER.colours
        assert f"covers {seen} of the {len(away)} dots here: accuracy at most {bound:.0%}" in image.value
        assert image.value.count("px away, in reach") == seen
    controls["classes"].value = "species"
    assert "dots here" not in image.value and "jellyfish" in image.value and message.value == ""


def test_an_impossible_world_is_told_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    row, message, image, _ = scene_maker(SceneConfig(classes="dot"), 0).children[0].children
    controls = {control.description: control for control in row.children}
    before = image.value
    controls["context_distance"].value = 16  # nearer than half the longest animal and its dot may be
    controls["sizes"].value = "large"
    assert message.value.startswith("Expected") or image.value != before
    controls["context_distance"].value = 58
    assert message.value == "" and image.value != before
