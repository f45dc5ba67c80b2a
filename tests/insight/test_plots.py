"""Figures are tested by the data they draw."""

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from workbench.insight.papers import paper_table

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.statistics import Interval
from workbench.insight import plots
from workbench.insight.widgets import arch_editor, cost_line
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-tiny")


@pytest.fixture(autouse=True)
def _close():
    yield
    plots.plt.close("all")


def _score(value):
    metrics = {} if value is None else {"AP": value}
    return Score(
        arch=Arch("s", (0,)),
        metrics=metrics,
        macs=1,
        params=1,
        seconds=0.0,
        seed=0,
        phase="p",
        step=0,
        error=None if value is not None else "boom",
    )


def test_op_strip_draws_one_square_for_each_block():
    arch = SPACE.arch((0, 1, 2, 3, 0, 1, 2, 3))
    ax = plots.plot_op_strip(SPACE, {"one": arch, "two": SPACE.uniform(3)})
    letters = [text.get_text() for text in ax.texts if len(text.get_text()) == 1]
    assert letters == list("357X357X") + ["X"] * 8
    assert [text.get_text() for text in ax.texts if "stage" in text.get_text()] == ["stage 1", "stage 2", "stage 3"]


def test_trajectory_shows_best_so_far_and_skips_failures():
    ax = plots.plot_trajectory({"evolution": [_score(0.1), _score(None), _score(0.3), _score(0.2)]})
    assert ax.lines[1].get_ydata().tolist() == [0.1, 0.1, 0.3, 0.3]


def test_cost_histogram_states_the_share_within_the_limit():
    ax = plots.plot_cost_histogram({"uniform": np.arange(100.0)}, 68.5, "MMACs")
    assert any("69%" in text.get_text() for text in ax.texts)


def test_detections_below_the_threshold_are_not_drawn():
    data = Scenes(SceneConfig(), 0, "train", 1)
    image, target = data[0]
    found = {"boxes": target["boxes"][:1].repeat(2, 1), "labels": target["labels"][:1].repeat(2), "scores": [0.9, 0.1]}
    ax = plots.plot_detections(image, found, data.categories)
    assert len(ax.patches) == 1 and ax.texts[0].get_text().endswith("0.90")


def test_shares_sum_to_one_in_each_stage():
    rng = np.random.default_rng(0)
    ax = plots.plot_operation_shares(SPACE, [SPACE.sample(rng) for _ in range(5)])
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(4, 3)
    assert np.allclose(heights.sum(axis=0), 1)


def test_agreement_title_carries_interval_and_n():
    frame = pd.DataFrame({"a": [0.1, 0.2], "b": [0.0, 0.1]})
    ax = plots.plot_agreement(frame, "a", "b", Interval(0.5, 0.1, 0.8, 2), ("a", "b"))
    assert ax.get_title(loc="left") + ax.get_title() == "Kendall's tau 0.50 [0.10, 0.80], n = 2"


def test_ledger_gathers_the_parts_of_a_network_and_marks_what_was_cached():
    rows = [
        ("pretrain a", 3.0, True),
        ("finetune a", 4.0, False),
        ("search (remap)", 2.0, False),
        ("test a", 1.0, False),
    ]
    entries = [Entry(phase=name, seconds=s, images=1, forward_macs=1, cached=known) for name, s, known in rows]
    ax = plots.plot_ledger(entries)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "search (remap)"]
    assert [text.get_text() for text in ax.texts] == [" 8 s (partly cached)", " 2 s"]
    assert sorted(bar.get_width() for bar in ax.patches) == [1, 2, 3, 4]
    assert [bool(bar.get_hatch()) for bar in ax.patches].count(True) == 1


def test_comparison_draws_errors_of_every_network():
    frame = pd.DataFrame(
        {"network": ["a", "b"], "AP": [0.1, 0.2], "AP error": [0.01, 0.02], "MACs": [1e6, 2e6], "params": [1e3, 2e3]}
    )
    ax = plots.plot_comparison(frame)
    assert [bar.get_width() for bar in ax.patches] == [0.1, 0.2]


def test_editor_is_a_widget_for_people_and_a_picture_without(monkeypatch):
    arch = SPACE.uniform(0)
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    assert "MMACs" in arch_editor(SPACE, arch, 128, 2e7).get_title()
    monkeypatch.delenv("WORKBENCH_HEADLESS")
    editor = arch_editor(SPACE, arch, 128, 2e7)
    assert isinstance(editor, ipywidgets.VBox)
    menus = editor.children[0].children
    menus[0].value = 3  # a person picks another operation; the observer must not fail
    assert [menu.value for menu in menus] == [3] + [0] * 7
    assert "over the limit of 1.0" in cost_line(SPACE, arch, 128, 1e6)


def test_paper_tables_hold_no_unconfirmed_cells():
    main = paper_table("detnas_main")
    assert main.loc[main["backbone"] == "DetNASNet", "AP"].item() == "0.402"
    assert "ShuffleNetV2-40" not in set(main["backbone"])  # all its cells are unconfirmed
    with pytest.raises(ValueError, match="detnas_cost"):
        paper_table("nothing")
