"""Figures of the lesson on FNA for masks and poses."""

import numpy as np
import torch
from matplotlib import pyplot as plt

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneMasks
from workbench.lessons import fna_tasks as lesson
from workbench.spaces.catalogue import space_named


def test_images_of_masks_colour_void_grey():
    data = SceneMasks(SceneConfig(extras=("semantic",)), 0, "train", 2)
    found = [data[index][1]["semantic"].to(torch.uint8) for index in range(2)]
    found[0][:] = 255
    lesson.plot_results(data, found, "segmentation", 2)
    panels = plt.gcf().axes
    assert np.allclose(panels[4].images[0].get_array(), lesson.VOID_COLOUR)
    assert np.array_equal(panels[3].images[0].get_array(), panels[5].images[0].get_array())


def test_two_tasks_agree_in_the_layers_that_both_spaces_have():
    spaces = [space_named(f"layers-mobilenetv2-{depths}") for depths in ("2.3.4.3.3.1", "2.3.4.3.3.1-os16")]
    first, second = ([0] * len(space.decisions) for space in spaces)
    second[:3] = [1, 1, 1]
    found = {"a": (spaces[0], spaces[0].arch(first)), "b": (spaces[1], spaces[1].arch(second))}
    count, layers = len(first), [len(decision.options) for decision in spaces[0].decisions]
    told = lesson.agreement_sentence(found)
    assert f"in {count - 3} of {count} layers; two random networks would in {sum(1 / n for n in layers):.1f}" in told
    assert "Only a was searched for" in lesson.agreement_sentence({"a": found["a"]})


def test_the_viewer_pages_through_all_images(monkeypatch):
    data = SceneMasks(SceneConfig(extras=("semantic",)), 0, "train", 6)
    found = [data[index][1]["semantic"].to(torch.uint8) for index in range(6)]
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    assert 'alt="segmentation, page 2"' in lesson.results_viewer({"segmentation": (data, found)}).data
    monkeypatch.delenv("WORKBENCH_HEADLESS")
    row, _, image, _ = lesson.results_viewer({"segmentation": (data, found)}).children[0].children
    menu, slider = row.children
    assert (menu.value, slider.value, slider.max) == ("segmentation", 2, 2)
    second = image.value
    slider.value = 1
    assert "page 1" in image.value and image.value != second
