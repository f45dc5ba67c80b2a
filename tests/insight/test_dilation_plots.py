"""Figures of the search for dilations show what they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from workbench.insight import dilation_plots, field_plots, field_studies
from workbench.insight.mixture_checks import implementation_table, one_convolution
from workbench.search.relaxation import softmax
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import GENOTYPES
from workbench.spaces.published import UNDILATED_SHARES, channel_dilation_stand_in
from workbench.spaces.residual import dilatable_blocks

SPACE = space_named("channel-dilation-resnet50-n2-C")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_kernels_lie_on_one_grid_and_the_composite_is_their_weighted_sum():
    _, mixture = one_convolution(8, 2, GENOTYPES["C"][0], np.random.default_rng(0))
    ax = dilation_plots.plot_kernels(mixture, group=1)
    panels = [panel for panel in ax.figure.axes if panel.images]
    assert len(panels) == 6
    grids = [np.asarray(panel.images[0].get_array()) for panel in panels]
    assert {grid.shape for grid in grids} == {(7, 7)}
    assert [int((grid > 0).sum()) for grid in grids] == [9, 9, 9, 9, 9, 33]
    weight = float(mixture.shares()[1, 0].detach())
    assert f"weight {weight:.2f}" in panels[0].get_title()
    scales = {panel.images[0].get_clim() for panel in panels}
    assert len(scales) == 1  # brightness can be compared


def test_alpha_has_a_row_for_every_group_and_gaps_where_a_layer_lacks_a_genotype():
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(2, 5))] * 10 + [rng.normal(size=(2, 9))] * 3
    ax = dilation_plots.plot_alpha(SPACE, {"first": layers, "last": layers})
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert shown.shape == (26, 9)
    assert np.isnan(shown[:20]).sum() == 20 * 4 and not np.isnan(shown[20:]).any()
    names = [label.get_text() for label in ax.get_xticklabels()]
    columns = [names.index(name) for name in ("1x1", "2x2", "3x3", "1x3", "3x1")]
    assert shown[0, columns] == pytest.approx(softmax(layers[0])[0])
    assert len(ax.figure.axes) == 3  # two epochs and the colour bar


def test_votes_fill_every_bar():
    table = pd.DataFrame({"stage": [2, 3], "block": [5, 9], "channels": [8, 8], "1x1": [0.5, 0.0], "3x1": [0.5, 1.0]})
    ax = dilation_plots.plot_votes({"a": table, "b": table})
    widths = [patch.get_width() for patch in ax.patches]
    assert sum(widths) == pytest.approx(2)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["stage 2, block 5", "stage 3, block 9"]


def test_entropy_shades_the_frozen_epochs():
    frame = pd.DataFrame({"epoch": [1, 2, 3], "entropy": [1, 1, 0.8], "margin": [0, 0, 0.2]})
    ax = dilation_plots.plot_entropy({"n16": frame}, 2)
    assert any("frozen" in text.get_text() for text in ax.texts)
    assert ax.lines[0].get_ydata().tolist() == [1, 1, 0.8]


def test_sweeps_show_seeds_and_an_interval_only_where_there_are_several():
    frame = pd.DataFrame({"groups": ["n1", "n16", "n16"], "gain": [0.0, 0.02, 0.04], "seed": [0, 0, 1]})
    ax = dilation_plots.plot_sweep(frame, "groups", ("n1", "n4", "n16"))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["n1", "n16"]
    assert len(ax.containers) == 1  # one mean with its interval


def test_latency_bars_are_ratios():
    table = pd.DataFrame(
        {
            "groups": ["baseline", "n16"],
            "convolutions in a layer, at most": [1, 5],
            "backbone ratio": [1, 1.4],
            "detector ratio": [1, 1.1],
        }
    )
    ax = dilation_plots.plot_latency(table)
    assert sorted(patch.get_height() for patch in ax.patches) == [1, 1, 1.1, 1.4]


def test_costs_of_both_implementations_are_measured_by_side():
    table = implementation_table({"C": GENOTYPES["C"][0]}, channels=8, groups=4, side=12, batch=2,
                                 rng=np.random.default_rng(0))  # fmt: skip
    assert list(table.columns) == ["C (G = 5)"] and (table > 0).all().all()
    assert len(table) == 6
    kept = table.filter(like="MiB", axis=0)["C (G = 5)"]
    assert kept["composite: MiB kept"] < kept["branches: MiB kept"]


def test_the_stand_in_keeps_the_published_shares_and_the_papers_panels_are_read():
    spec = channel_dilation_stand_in("resnet50")
    for index in dilatable_blocks(spec):
        block = spec.blocks[index]
        if block.stage > 1:
            plain = sum(channels for channels, *rates in block.dilations if rates == [1, 1])
            share = plain / sum(channels for channels, *_ in block.dilations)
            assert share == pytest.approx(UNDILATED_SHARES[block.stage], abs=1 / 32)
    printed = field_studies.printed_area_sides()
    assert printed["NATS-R101"] == {0.0455: 314, 0.1: 198, 0.25: 98, 0.5: 20}
    fields = {"R50": field_studies.structure_field(space_named("channel-dilation-resnet-tiny-n1-C").spec(
        space_named("channel-dilation-resnet-tiny-n1-C").uniform(0)))}  # fmt: skip
    ax = field_plots.plot_area_sides(fields, measured=printed)
    circles = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(circles) == 1 and circles[0].get_ydata().tolist() == list(printed["R50"].values())


def test_a_run_without_a_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no arch.json; name the folder of a finished run"):
        field_studies.found_network(str(tmp_path))
    (tmp_path / "arch.json").write_text("[]")
    with pytest.raises(ValueError, match="A network specification needs name, blocks and taps"):
        field_studies.found_network(str(tmp_path))
