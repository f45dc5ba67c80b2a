"""Figures of the search over layers say what they should: bars, fronts, the step where a loss is reached."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneMasks
from workbench.insight import layer_plots, remap_plots, task_pictures
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.spaces.catalogue import space_named
from workbench.spaces.layers import seed_spec
from workbench.spaces.mbconv import FNA_LAYERS, fna_spec


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def bars(ax):
    return [patch for patch in ax.patches if patch.get_height() < 1]


def test_a_network_has_a_bar_for_every_layer_as_high_as_its_kernel():
    specs = {name: fna_spec(name) for name in FNA_LAYERS}
    ax = layer_plots.plot_layers(specs)
    layers = [block for spec in specs.values() for block in spec.blocks if block.kind == "mbconv"]
    assert sorted(round(bar.get_height() / 0.11) for bar in bars(ax)) == sorted(block.kernel for block in layers)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"expansion 1", "expansion 3", "expansion 6"}


def test_resnets_show_dilation_and_inner_width():
    space = space_named("layers-resnet50-3.4.6.3")
    choices = [decision.options.index("k3d2h") for decision in space.decisions]
    ax = layer_plots.plot_layers({"seed": seed_spec("resnet50"), "found": space.spec(space.arch(choices))})
    written = {text.get_text() for text in ax.texts}
    assert {"3", "3:2"} <= written
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert labels == {"inner width 0.125", "inner width 0.25"}


def test_alpha_marks_the_heaviest_operation_of_every_layer():
    space = space_named("layers-efficientnet-lite0-front-2.2.2.2")
    alphas = [np.zeros((1, len(decision.options))) for decision in space.decisions]
    for row, alpha in enumerate(alphas):
        alpha[0, row % 5] = 1.0
    ax = layer_plots.plot_alpha(space, {"end": alphas})
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    assert dots == [(row % 5, row) for row in range(len(alphas))]


def test_the_step_at_which_a_loss_is_reached():
    slow, fast = np.linspace(1, 0.5, 100), np.concatenate([np.linspace(1, 0.4, 40), np.full(60, 0.4)])
    ax = layer_plots.plot_steps_to({"slow": slow.tolist(), "fast": fast.tolist()}, window=1)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "slow: step 100" and labels[1] in ("fast: step 34", "fast: step 33", "fast: step 35")
    assert layer_plots.smoothed([4.0, 2.0, 0.0, 0.0], 2).tolist() == [4, 3, 1, 0]


def test_only_what_nothing_beats_is_on_the_front():
    rows = [(0.0, 90e6, 0.30), (0.1, 80e6, 0.28), (0.5, 85e6, 0.20)]
    frame = pd.DataFrame(rows, columns=["strength", "MACs", "AP"])
    for column in ("seed network", "best-scored random"):
        frame[f"{column} MACs"], frame[f"{column} AP"] = 70e6, 0.25
    ax = layer_plots.plot_front(frame)
    (front,) = (line for line in ax.lines if line.get_linestyle() == "-")
    assert front.get_xdata().tolist() == pytest.approx([80, 90])


def test_costs_need_a_seed_for_every_search():
    frame = pd.DataFrame({"epoch": [1, 2], "expected MACs": [8e7, 7e7], "MACs": [9e7, 6e7]})
    ax = layer_plots.plot_costs({"a": frame}, 1, {"a": 75_000_000})
    assert [line.get_ydata()[0] for line in ax.lines[:3]] == [80, 90, 75]
    with pytest.raises(KeyError):
        layer_plots.plot_costs({"b": frame}, 1, {"a": 1})


def test_remap_pictures_show_clones_and_what_is_kept():
    torch.manual_seed(0)
    seed = Backbone(fna_spec("MobileNetV2"))
    network, report = remap(seed, fna_spec("FNA DeepLabv3"))
    ax = remap_plots.plot_depth(seed, network, stage=4, channels=16)
    grid = ax.images[0].get_array()
    assert grid.shape == (4 + 6, 16)
    assert np.allclose(grid[3], grid[7]) and not np.allclose(grid[2], grid[3])  # layer 4 is the seed's
    norms, kept = remap_plots.expansion_rules(seed.blocks[3])
    for name, values in norms.items():
        mask = kept[name].bool()
        assert int(mask.sum()) == len(values) // 2
        if not name.startswith("prefix"):
            assert values[mask].min() >= values[~mask].max()
    assert mask.any() and kept["prefix (L1)"][: len(values) // 2].all()
    bar = remap_plots.plot_report({"net": report})
    assert sum(patch.get_width() for patch in bar.patches) == pytest.approx(sum(report.totals().values()) / 1e6)
    remap_plots.plot_kernels({"a": torch.eye(3), "b": torch.zeros(5, 5)})


def test_pictures_of_masks_colour_void_grey():
    data = SceneMasks(SceneConfig(), 0, "train", 2)
    found = [data[index][1]["semantic"].to(torch.uint8) for index in range(2)]
    found[0][:] = 255
    task_pictures.plot_results(data, found, "segmentation", 2)
    panels = plt.gcf().axes
    assert np.allclose(panels[4].images[0].get_array(), task_pictures.VOID_COLOUR)
    assert np.array_equal(panels[3].images[0].get_array(), panels[5].images[0].get_array())
