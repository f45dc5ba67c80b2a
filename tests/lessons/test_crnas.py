"""Figures of the lesson on CR-NAS: every block, every dilation."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from tests.scores import score_of
from workbench.lessons import crnas as lesson
from workbench.spaces.catalogue import space_named
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import residual_spec


def test_every_block_is_a_square_and_every_dilation_a_number():
    net = next(net for net in CRNAS if net.name == "CR-R50")
    ax = lesson.plot_networks({"before": residual_spec("resnet50"), "after": net.spec})
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 16 + 16
    texts = [text.get_text() for text in ax.texts]
    assert (texts.count("2"), texts.count("3")) == (5, 3)  # the published histogram
    assert "23.5M params" in texts and "39.8M params" in texts
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]


def test_published_networks_moved_to_the_deep_end_and_see_farther():
    """R50: blocks 3.4.6.3 become 1.3.5.7; the spread of the last map goes from 36 to 110 px."""
    pairs = {net.name: (residual_spec(net.backbone), net.spec) for net in CRNAS}
    frame = lesson.moves(pairs).set_index(["network", "when"])
    places = [(1 * 4 + 2 * 6 + 3 * 3) / 48, (1 * 3 + 2 * 5 + 3 * 7) / 48]
    assert frame.loc["CR-R50", "place"].to_list() == pytest.approx(places)
    assert frame.loc["CR-R50", "sigma"].round().to_list() == [36, 110]
    ax = lesson.plot_moves(frame.reset_index())
    assert [label.get_text() for label in ax.get_yticklabels()] == list(pairs)


def test_gains_are_those_of_the_papers_tables_and_of_the_run():
    table = pd.DataFrame({"network": ["CR-NAS", "baseline", "stage only"], "AP": [0.3, 0.2, 0.24]})
    table[["AP_rel_s", "AP_rel_m"]] = [[0.3, 0.1], [0.1, 0.2], [0.0, 0.0]]  # no large objects
    sizes, levels = lesson.gains_by_size(table), lesson.gains_by_level(table)
    np.testing.assert_allclose(sizes.loc["R101"], [-0.001, 0.011, 0.046], atol=1e-9)
    np.testing.assert_allclose(sizes.loc["this run"], [0.2, -0.1, np.nan])
    np.testing.assert_allclose(levels.loc["R50"], [0.010, 0.009], atol=1e-9)
    np.testing.assert_allclose(levels.loc["this run"], [0.04, 0.06])


def test_allocations_are_known_from_a_run_or_from_the_stored_table():
    stored = lesson.known_allocations([], "resnet-tiny")
    assert stored[3, 3, 2].startswith("stored, trained alone: AP of small objects 0.")
    assert lesson.known_allocations([], "resnet50") == {}  # the table is of the narrow network
    space = space_named("allocation-resnet-tiny")
    score = score_of(space.arch((2, 2, 1)), {"AP": 0.25, "AP_error": 0.01})
    other = score_of(space_named("allocation-resnet50").uniform(0), {"AP": 0.9})
    known = lesson.known_allocations([score, other], "resnet-tiny")
    assert known == stored | {(3, 3, 2): "AP 0.250 ± 0.010 (by the supernet)"}
