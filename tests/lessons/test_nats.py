"""Figures of the lesson on NATS show what they are given."""

import numpy as np
import pandas as pd
import pytest

from workbench.lessons import nats as lesson
from workbench.lessons.nats_mixture import implementation_table, one_convolution
from workbench.spaces.channel_dilation import DILATION_SETS


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
