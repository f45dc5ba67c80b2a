"""Figures of the lesson on DetNAS."""

import numpy as np

from workbench.lessons import detnas as lesson
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-tiny")


def test_op_strip_draws_one_square_for_each_block():
    arch = SPACE.arch((0, 1, 2, 3, 0, 1, 2, 3))
    ax = lesson.plot_op_strip(SPACE, {"one": arch, "two": SPACE.uniform(3)})
    letters = [text.get_text() for text in ax.texts if len(text.get_text()) == 1]
    assert letters == list("357X357X") + ["X"] * 8
    assert [text.get_text() for text in ax.texts if "stage" in text.get_text()] == ["stage 1", "stage 2", "stage 3"]


def test_cost_histogram_states_the_share_within_the_limit():
    ax = lesson.plot_cost_histogram({"uniform": np.arange(100.0)}, 68.5, "MMACs")
    assert any("69%" in text.get_text() for text in ax.texts)


def test_shares_sum_to_one_in_each_stage():
    rng = np.random.default_rng(0)
    shares = lesson.operation_shares(SPACE, [SPACE.sample(rng) for _ in range(5)])
    assert shares.shape == (3, 4) and np.allclose(shares.sum(axis=1), 1)
    assert lesson.operation_shares(SPACE, [SPACE.uniform(3)])["xception 3x3"].eq(1).all()
