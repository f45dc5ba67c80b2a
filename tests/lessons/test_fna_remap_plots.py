"""Figures of the lesson on remapping: clones, kept channels, where numbers come from, when a loss is reached."""

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.evaluation.statistics import smoothed
from workbench.lessons import fna_remap_plots as figures
from workbench.lessons.fna_remap import as_fna, worth_sentence
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.records.ledger import Entry
from workbench.spaces.catalogue import space_named
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


GRID = pd.DataFrame({"supernet": ["random", "random", "remap", "remap"], "target": ["random", "remap"] * 2})


def test_the_grid_stands_next_to_the_papers_with_rows_and_columns_in_one_order():
    frame = GRID.assign(mIoU=[0.1, 0.3, 0.2, 0.7])
    ax = figures.plot_grid(frame, "mIoU")
    assert [text.get_text() for text in ax.texts] == ["0.100", "0.300", "0.200", "0.700"]  # row by row
    theirs = ax.figure.axes[1]
    assert [text.get_text() for text in theirs.texts] == ["0.724", "0.760", "0.730", "0.766"]
    assert [text.get_text() for text in theirs.get_yticklabels()] == ["random\nsupernet", "remapped\nsupernet"]
    told = worth_sentence(frame, "mIoU")
    assert "are +0.250 mIoU better where the supernet was remapped" in told and "are worth +0.350" in told
    assert "+0.006 and +0.036" in told


def test_rules_are_drawn_as_differences_from_fnas_own_here_and_in_the_paper():
    rules = pd.DataFrame({"rule": ["FNA", "Width-L1", "random weights"], "mIoU": [0.5, 0.45, 0.1], "mIoU error": 0.01})
    ax = figures.plot_rules(rules, "mIoU")
    lines = {line.get_label(): line.get_xdata() for line in ax.lines}
    assert lines["paper, Cityscapes"].tolist() == pytest.approx([0, 0.753 - 0.766])
    assert ax.containers[0][0].get_xdata().tolist() == pytest.approx([0, -0.05])


def test_two_arrows_count_the_weights_of_seed_supernet_and_found_network():
    space = space_named("layers-mobilenetv2-2.3.4.3.3.1")
    seed = fna_spec("MobileNetV2")
    ax = figures.plot_two_arrows(seed, space, seed, ("seed", "supernet", "found"))
    counts = {text.get_text().split("\n")[0]: text.get_text() for text in ax.texts}
    assert "1,812k weights" in counts["seed"] and "1,812k weights" in counts["found"]  # as the paper's code counts it
    assert int(counts["supernet"].split("\n")[1].split("k")[0].replace(",", "")) > 3 * 1812


def test_the_cell_that_is_fna_itself_has_its_phases():
    names = ["search (random)", "search (remap)", "score search (remap)", "finetune remap-supernet,-remap-target"]
    names += ["finetune random-supernet,-remap-target", "measure remap-supernet,-remap-target"]
    entries = [Entry(phase=name, seconds=1.0, images=0, forward_macs=0) for name in names]
    assert [entry.phase for entry in as_fna(entries)] == ["search", "score search", "finetune fna"]
