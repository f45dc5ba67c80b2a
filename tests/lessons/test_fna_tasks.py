"""Figures of the lesson on FNA for masks and poses."""

import numpy as np
import torch
from matplotlib import pyplot as plt

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneMasks
from workbench.lessons import fna_tasks as lesson


def test_images_of_masks_colour_void_grey():
    data = SceneMasks(SceneConfig(extras=("semantic",)), 0, "train", 2)
    found = [data[index][1]["semantic"].to(torch.uint8) for index in range(2)]
    found[0][:] = 255
    lesson.plot_results(data, found, "segmentation", 2)
    panels = plt.gcf().axes
    assert np.allclose(panels[4].images[0].get_array(), lesson.VOID_COLOUR)
    assert np.array_equal(panels[3].images[0].get_array(), panels[5].images[0].get_array())


def test_the_viewer_pages_through_all_images(monkeypatch):
    data = SceneMasks(SceneConfig(extras=("semantic",)), 0, "train", 6)
    found = [data[index][1]["semantic"].to(torch.uint8) for index in range(6)]
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    lesson.results_viewer({"segmentation": (data, found)})
    panels = plt.gcf().axes
    assert len(panels) == 3 * 2  # the second page has the last two
    assert np.array_equal(panels[0].images[0].get_array(), data[4][0].permute(1, 2, 0).numpy())
    monkeypatch.delenv("WORKBENCH_HEADLESS")
    menu, slider = lesson.results_viewer({"segmentation": (data, found)}).children[0].children
    assert (menu.value, slider.value, slider.max) == (0, 2, 2)
    slider.value = 1
