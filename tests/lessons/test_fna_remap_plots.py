"""Figures of the lesson on remapping: clones, kept channels, where numbers come from, when a loss is reached."""

import numpy as np
import pytest
import torch

from workbench.evaluation.statistics import smoothed
from workbench.lessons import fna_remap_plots as figures
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.spaces.mbconv import fna_spec


def test_the_step_at_which_a_loss_is_reached():
    slow, fast = np.linspace(1, 0.5, 100), np.concatenate([np.linspace(1, 0.4, 40), np.full(60, 0.4)])
    ax = figures.plot_steps_to({"slow": slow.tolist(), "fast": fast.tolist()}, window=1)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "slow: step 100" and labels[1] in ("fast: step 34", "fast: step 33", "fast: step 35")
    assert smoothed([4.0, 2.0, 0.0, 0.0], 2).tolist() == [4, 3, 1, 0]


def test_remap_figures_show_clones_and_what_is_kept():
    torch.manual_seed(0)
    seed = Backbone(fna_spec("MobileNetV2"))
    network, report = remap(seed, fna_spec("FNA DeepLabv3"))
    ax = figures.plot_depth(seed, network, stage=4, channels=16)
    grid = ax.images[0].get_array()
    assert grid.shape == (4 + 6, 16)
    assert np.allclose(grid[3], grid[7]) and not np.allclose(grid[2], grid[3])  # layer 4 is the seed's
    norms, kept = figures.expansion_rules(seed.blocks[3])
    for name, values in norms.items():
        mask = kept[name].bool()
        assert int(mask.sum()) == len(values) // 2
        if not name.startswith("prefix"):
            assert values[mask].min() >= values[~mask].max()
    assert mask.any() and kept["prefix (L1)"][: len(values) // 2].all()
    bar = figures.plot_report({"net": report})
    assert sum(patch.get_width() for patch in bar.patches) == pytest.approx(sum(report.totals().values()) / 1e6)
