"""Pictures of allocations show what they are given: every block, every dilation, the kept candidates."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle

from workbench.evaluation.statistics import Interval
from workbench.insight import allocation_plots, field_studies, widgets
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import residual_spec


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_block_is_a_square_and_every_dilation_a_number():
    net = next(net for net in CRNAS if net.name == "CR-R50")
    ax = allocation_plots.plot_networks({"before": residual_spec("resnet50"), "after": net.spec})
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 16 + 16
    texts = [text.get_text() for text in ax.texts]
    assert (texts.count("2"), texts.count("3")) == (5, 3)  # the published histogram
    assert "23.5M params" in texts and "39.8M params" in texts
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]


def rows():
    """Three steps of a beam of two, scored by their last option."""
    for step in range(3):
        prefixes = [(0,) * step] if step == 0 else [(0,) * step, (0,) * (step - 1) + (1,)]
        for prefix in prefixes:
            for option in range(3):
                choices = (*prefix, option)
                yield Score(
                    arch=Arch("s", choices),
                    metrics={"AP": 0.1 * option + 0.01 * sum(prefix), "AP_error": 0.02},
                    macs=1,
                    params=1,
                    seconds=0.0,
                    seed=0,
                    phase="beam",
                    step=step,
                )


def test_kept_candidates_are_filled():
    scores = list(rows())
    ax = allocation_plots.plot_beam(scores, "AP", 2, [f"stage 1 block {n}" for n in (1, 2, 3)])
    dots = [dots for dots in ax.collections if isinstance(dots, PathCollection)]
    assert len(dots) == len(scores) == 15
    assert sum(len(dot.get_facecolor()) > 0 for dot in dots) == 3 * 2  # an unfilled marker has no face colour


def test_a_layout_with_two_names_is_marked_once():
    frame = pd.DataFrame({"depths": [(1, 2), (2, 1)], "centre of mass": [1.7, 1.3], "AP": [0.2, 0.1], "AP_error": 0.01})
    tau = Interval(1.0, np.nan, np.nan, 2)
    ax = allocation_plots.plot_ranking(frame, "AP", tau, {"best": (1, 2), "by hand": (1, 2), "elsewhere": (3, 3)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["best, by hand [1, 2]"]


def test_the_editor_follows_its_sliders(monkeypatch):
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    monkeypatch.setattr(widgets, "headless", lambda: False)
    box = widgets.allocation_editor("resnet-tiny", (3, 3, 2), 128)
    sliders = box.children[:3]
    assert [slider.value for slider in sliders] == [3, 3, 2]
    sliders[2].value = 3
    line = widgets.allocation_line("resnet-tiny", [slider.value for slider in sliders], 128)
    assert line.startswith("9 blocks: 42.4 MMACs")
    monkeypatch.setattr(widgets, "headless", lambda: True)
    ax = widgets.allocation_editor("resnet-tiny", (1, 2, 5), 128)
    assert ax.get_title().startswith("8 blocks: 37.7 MMACs, 392k params")


def test_searched_networks_come_from_a_run_or_from_the_stored_study(tmp_path):
    frame, source = field_studies.searched_networks("")
    assert {"network", "sigma", "AP_rel_s", "AP_rel_m", "AP_rel_l", "run"} <= set(
        frame
    ) and "stored experiment" in source
    assert frame["run"].nunique() >= 3 and len(frame) >= 20
    with pytest.raises(ValueError, match="crnas_run names the folder of a finished 40_crnas run"):
        field_studies.searched_networks(str(tmp_path))
