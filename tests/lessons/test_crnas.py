"""Figures of the lesson on CR-NAS: every block, every dilation."""

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


def test_allocations_are_known_from_a_run_or_from_the_stored_table():
    stored = lesson.known_allocations([], "resnet-tiny")
    assert stored[3, 3, 2].startswith("stored, trained alone: AP of small objects 0.")
    assert lesson.known_allocations([], "resnet50") == {}  # the table is of the narrow network
    space = space_named("allocation-resnet-tiny")
    score = score_of(space.arch((2, 2, 1)), {"AP": 0.25, "AP_error": 0.01})
    other = score_of(space_named("allocation-resnet50").uniform(0), {"AP": 0.9})
    known = lesson.known_allocations([score, other], "resnet-tiny")
    assert known == stored | {(3, 3, 2): "AP 0.250 ± 0.010 (by the supernet)"}
