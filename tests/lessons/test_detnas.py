"""Figures of the lesson on DetNAS."""

import ipywidgets
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


def test_editor_is_a_widget_for_people_and_a_figure_without(monkeypatch):
    arch = SPACE.uniform(0)
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    assert "MMACs" in lesson.arch_editor(SPACE, arch, 128, 2e7).get_title()
    monkeypatch.delenv("WORKBENCH_HEADLESS")
    editor = lesson.arch_editor(SPACE, arch, 128, 2e7)
    assert isinstance(editor, ipywidgets.VBox)
    menus = editor.children[0].children
    menus[0].value = 3  # a person picks another operation; the observer must not fail
    assert [menu.value for menu in menus] == [3] + [0] * 7
    assert "over the limit of 1.0" in lesson.cost_line(SPACE, arch, 128, 1e6)
