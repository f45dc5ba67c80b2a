"""Figures are tested by the data they draw."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from tests.scores import score_of
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.statistics import Interval
from workbench.insight import plots, style
from workbench.insight.tables import paper_table, stored_results
from workbench.records.ledger import Entry
from workbench.spaces.arch import Arch


def _score(value):
    known = value is not None
    return score_of(Arch("s", (0,)), {"AP": value} if known else {}, error=None if known else "boom")


def test_trajectory_shows_best_so_far_and_skips_failures():
    ax = plots.plot_trajectory({"evolution": [_score(0.1), _score(None), _score(0.3), _score(0.2)]})
    assert ax.lines[1].get_ydata().tolist() == [0.1, 0.1, 0.3, 0.3]


def test_detections_below_the_threshold_are_not_drawn():
    data = Scenes(SceneConfig(), 0, "train", 1)
    image, target = data[0]
    found = {"boxes": target["boxes"][:1].repeat(2, 1), "labels": target["labels"][:1].repeat(2), "scores": [0.9, 0.1]}
    ax = plots.plot_detections(image, found, data.categories)
    assert len(ax.patches) == 1 and ax.texts[0].get_text().endswith("0.90")


def test_correlations_carry_interval_and_n_and_show_equality():
    points, taus = {"one": ([0.1, 0.2], [0.0, 0.1])}, {"one": Interval(0.5, 0.1, 0.8, 2)}
    ax = plots.plot_correlation(points, taus, ("a", "b"), diagonal=True)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["one: tau 0.50 [0.10, 0.80], n = 2", "equal"] and ax.get_xlim() == ax.get_ylim()


def test_ledger_gathers_the_parts_of_a_network_and_marks_what_was_cached():
    rows = [
        ("pretrain a", 3.0, True),
        ("finetune a", 4.0, False),
        ("search (remap)", 2.0, False),
        ("measure a", 1.0, False),
    ]
    entries = [Entry(phase=name, seconds=s, images=1, forward_macs=1, cached=known) for name, s, known in rows]
    ax = plots.plot_ledger(entries)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "search (remap)"]
    assert [text.get_text() for text in ax.texts] == [" 8 s (partly cached)", " 2 s"]
    assert sorted(bar.get_width() for bar in ax.patches if bar.get_width()) == [1, 2, 3, 4]
    assert [bool(bar.get_hatch()) for bar in ax.patches].count(True) == 1


def test_comparison_draws_errors_of_every_network():
    frame = pd.DataFrame(
        {"network": ["a", "b"], "AP": [0.1, 0.2], "AP error": [0.01, 0.02], "MACs": [1e6, 2e6], "params": [1e3, 2e3]}
    )
    ax = plots.plot_comparison(frame)
    assert [bar.get_width() for bar in ax.patches] == [0.1, 0.2]


def test_groups_have_a_bar_for_every_column():
    shares = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]}, index=["P3", "P4"])
    ax = plots.plot_groups(shares, "share", numbers=True, level=0.25)
    assert [bar.get_height() for bar in ax.patches] == [0.1, 0.2, 0.3, 0.4]
    assert [text.get_text() for text in ax.texts] == ["0.10", "0.20", "0.30", "0.40"]


def test_epochs_shade_what_is_frozen_and_need_a_level_for_every_search():
    frame = pd.DataFrame({"epoch": [1, 2], "expected MACs": [8e7, 7e7], "MACs": [9e7, 6e7]})
    columns = ("expected MACs", "MACs")
    ax = plots.plot_epochs({"a": frame}, columns, 1, "MMACs", scale=1e6, levels={"a": 75_000_000})
    assert [line.get_ydata()[0] for line in ax.lines[:3]] == [80, 90, 75]
    assert any("frozen" in text.get_text() for text in ax.texts)
    with pytest.raises(KeyError):
        plots.plot_epochs({"b": frame}, columns, 1, "MMACs", levels={"a": 1})


def test_maps_share_one_scale_and_write_zeros():
    ax = plots.plot_maps({"a": np.eye(3), "b": np.full((5, 5), -2.0)}, "weight", zeros=True)
    panels = [panel for panel in ax.figure.axes if panel.images and panel.get_title()]
    assert [len(panel.texts) for panel in panels] == [6, 0]
    assert {panel.images[0].get_clim() for panel in panels} == {(-2, 2)}


def test_paper_tables_hold_no_unconfirmed_cells():
    main = paper_table("detnas_main")
    assert main.loc[main["backbone"] == "DetNASNet", "AP"].item() == "0.402"
    assert "ShuffleNetV2-40" not in set(main["backbone"])  # all its cells are unconfirmed
    with pytest.raises(ValueError, match="detnas_cost"):
        paper_table("nothing")


def test_stored_results_count_a_seed_once_for_each_setting():
    settings = ["groups", "dilations", "kernels", "slicing", "warm epochs", "max_steps"]
    frame, source = stored_results("nats_sweep", settings)
    assert "runs, n = " in source and not frame.duplicated([*settings, "preset", "data", "seed"]).any()
    assert len(stored_results("nats_sweep", ["groups"])[0]) < len(frame)  # fewer settings tell fewer rows apart
    networks, source = stored_results("crnas_networks", ["network"])
    assert networks["blocks"].str.count(r"\.").eq(2).all() and networks["run"].nunique() >= 3


def test_names_of_classes_are_drawn_as_they_are_and_not_as_formulas():
    """A figure would else fail when it is drawn, in the last cells of a notebook."""
    names = [r"$\frac{$", "5$ a$ 6", r"\alpha"]
    with mpl.rc_context():
        style.use_style()
        ax = plots.plot_groups(pd.DataFrame({"AP": [0.1, 0.2, 0.3]}, index=names), "AP of $x$_")
        ax.figure.canvas.draw()
        assert [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()] == names
    image, boxes = torch.zeros(3, 40, 40, dtype=torch.uint8), torch.tensor([[1.0, 1.0, 30.0, 30.0]])
    ax = plots.plot_detections(image, {"boxes": boxes, "labels": torch.tensor([1])}, names)  # `predict` has no style
    ax.figure.canvas.draw()
    assert ax.texts[0].get_text() == names[0]
