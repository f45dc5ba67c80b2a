"""Figures of the lesson on NATS show what they are given."""

import numpy as np
import pandas as pd
import pytest

from workbench.insight.measured_field import structure_field
from workbench.insight.receptive_field import LUO
from workbench.lessons import nats as lesson
from workbench.lessons import nats_papers
from workbench.lessons.nats_mixture import implementation_table, one_convolution
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import DILATION_SETS, equal_split
from workbench.spaces.residual import residual_spec


def test_kernels_lie_on_one_grid_and_the_composite_is_their_weighted_sum():
    _, mixture = one_convolution(8, 2, DILATION_SETS["C"][0], np.random.default_rng(0))
    maps = lesson.kernel_maps(mixture, group=1)
    assert len(maps) == 6 and {grid.shape for grid in maps.values()} == {(7, 7)}
    assert [int((grid > 0).sum()) for grid in maps.values()] == [9, 9, 9, 9, 9, 33]
    assert f"weight {float(mixture.shares()[1, 0].detach()):.2f}" in next(iter(maps))


def test_assignments_fill_every_bar():
    table = pd.DataFrame({"stage": [2, 3], "block": [5, 9], "channels": [8, 8], "1x1": [0.5, 0.0], "3x1": [0.5, 1.0]})
    ax = lesson.plot_assignments({"a": table, "b": table})
    widths = [patch.get_width() for patch in ax.patches]
    assert sum(widths) == pytest.approx(2)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["stage 2, block 5", "stage 3, block 9"]


def test_sweeps_show_seeds_and_an_interval_only_where_there_are_several():
    frame = pd.DataFrame({"groups": ["n1", "n16", "n16"], "gain": [0.0, 0.02, 0.04], "seed": [0, 0, 1]})
    ax = lesson.plot_sweep(frame, "groups", ("n1", "n4", "n16"))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["n1", "n16"]
    assert len(ax.containers) == 1  # one mean with its interval


def test_costs_of_both_implementations_are_measured_by_side():
    table = implementation_table({"C": DILATION_SETS["C"][0]}, channels=8, groups=4, side=12, batch=2,
                                 rng=np.random.default_rng(0))  # fmt: skip
    assert list(table.columns) == ["C (G = 5)"] and (table > 0).all().all()
    assert len(table) == 6
    kept = table.filter(like="MiB", axis=0)["C (G = 5)"]
    assert kept["composite: MiB kept"] < kept["branches: MiB kept"]


def test_printed_gains_are_those_over_the_baseline_of_their_own_table():
    gains = nats_papers.gains_by_setting("groups")
    assert gains["n16"] == pytest.approx(0.384 - 0.364) and gains["c64"] == pytest.approx(0.378 - 0.364)
    assert nats_papers.printed_gains("detectors").loc["RetinaNet", "APl"] == pytest.approx(0.496 - 0.482)
    assert nats_papers.printed_gains("deeper").index.to_list() == ["R101", "X101-32x4d"]
    assert nats_papers.gains_by_setting("slicing") == {}


def test_the_paper_is_compared_with_itself_number_by_number():
    gaps = nats_papers.contradictions()
    assert len(gaps) == 3 + 4 + 1 + 1
    assert gaps["N = 16, AP75"] == pytest.approx(0.412 - 0.408)
    assert gaps["gain of N = 16 on APs"] == pytest.approx(0.015 - 0.011)


def test_the_largest_gain_and_the_settings_beyond_noise_are_named():
    rows = {"n1": (0.010, 0.011, 0.012), "n4": (-0.05, 0.04), "n16": (0.005,)}
    frame = pd.DataFrame([{"groups": name, "gain": gain} for name, gains in rows.items() for gain in gains])
    told = lesson.gain_sentence(frame, "groups", {"n8": 0.014, "n16": 0.02})
    assert "largest at n1 here (+0.011) and at n16 in the paper (+0.020)" in told
    assert "our 2 settings with several seeds 1 differ" in told


def test_kinds_of_dilation_by_stage_are_shares_of_the_groups():
    space = space_named("channel-dilation-resnet50-n16-C")
    kinds = nats_papers.kinds_by_stage(space, equal_split(space))
    assert kinds.index.to_list() == [2, 3, 4] and kinds.sum(axis=1).to_list() == pytest.approx([1.0] * 3)
    assert kinds.loc[2].to_list() == pytest.approx([4 / 16, 6 / 16, 6 / 16])  # of 16 groups the first dilation has 4
    ax = nats_papers.plot_kinds(kinds.loc[[2, 3]])
    assert [text.get_text() for text in ax.get_yticklabels()][-1] == "stage 4, IC-Conv R50"


def test_ratios_of_fields_stand_with_those_of_the_papers_figure():
    rates = (1, 1, 2, 2, 2, 3, 3, 3)
    wide, narrow = (structure_field(residual_spec("resnet-tiny", (), rate), patch=432) for rate in (rates, ()))
    ax = nats_papers.plot_field_ratios({"here": (wide, narrow)})
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert min(lines["here"][:20, 1]) > 1
    assert lines["paper, R50"][0].tolist() == pytest.approx([LUO, 214 / 120])
    core, skirt = wide.sizes(smooth=9).side_50, wide.sizes(smooth=9).side_05
    told = nats_papers.field_sentence(wide, narrow)
    assert f"{core / narrow.sizes(smooth=9).side_50:.2f} times" in told and "0.62 and 1.78" in told
    assert f"{skirt / narrow.sizes(smooth=9).side_05:.2f} times" in told
