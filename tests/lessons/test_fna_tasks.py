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
