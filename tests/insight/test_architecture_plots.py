"""Figures of architectures show what they are given: every layer, every weight of alpha, the kept candidates."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from tests.scores import score_of
from workbench.evaluation.statistics import Interval
from workbench.insight.architecture_plots import plot_alpha, plot_beam, plot_layers, plot_ranking
from workbench.search.relaxation import softmax
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.layers import seed_spec
from workbench.spaces.mbconv import FNA_LAYERS, fna_spec


def bars(ax):
    return [patch for patch in ax.patches if patch.get_height() < 1]


def test_a_network_has_a_bar_for_every_layer_as_high_as_its_kernel():
    specs = {name: fna_spec(name) for name in FNA_LAYERS}
    ax = plot_layers(specs)
    layers = [block for spec in specs.values() for block in spec.blocks if block.kind == "mbconv"]
    assert sorted(round(bar.get_height() / 0.11) for bar in bars(ax)) == sorted(block.kernel for block in layers)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"expansion 1", "expansion 3", "expansion 6"}


def test_resnets_show_dilation_and_inner_width():
    space = space_named("layers-resnet50-3.4.6.3")
    choices = [decision.options.index("k3d2h") for decision in space.decisions]
    ax = plot_layers({"seed": seed_spec("resnet50"), "found": space.spec(space.arch(choices))})
    written = {text.get_text() for text in ax.texts}
    assert {"3", "3:2"} <= written
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert labels == {"inner width 0.125", "inner width 0.25"}


def test_alpha_marks_the_heaviest_operation_of_every_layer():
    space = space_named("layers-efficientnet-lite0-front-2.2.2.2")
    alphas = [np.zeros((1, len(decision.options))) for decision in space.decisions]
    for row, alpha in enumerate(alphas):
        alpha[0, row % 5] = 1.0
    ax = plot_alpha(space, {"end": alphas})
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    assert dots == [(row % 5, row) for row in range(len(alphas))]


def test_alpha_has_a_row_for_every_group_and_gaps_where_a_layer_lacks_a_dilation():
    space = space_named("channel-dilation-resnet50-n2-C")
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(2, 5))] * 10 + [rng.normal(size=(2, 9))] * 3
    ax = plot_alpha(space, {"first": layers, "last": layers})
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert shown.shape == (26, 9)
    assert np.isnan(shown[:20]).sum() == 20 * 4 and not np.isnan(shown[20:]).any()
    names = [label.get_text() for label in ax.get_xticklabels()]
    columns = [names.index(name) for name in ("1x1", "2x2", "3x3", "1x3", "3x1")]
    assert shown[0, columns] == pytest.approx(softmax(layers[0])[0])
    assert len(ax.figure.axes) == 3  # two epochs and the colour bar


def rows():
    """Three steps of a beam of two, scored by their last option."""
    for step in range(3):
        prefixes = [(0,) * step] if step == 0 else [(0,) * step, (0,) * (step - 1) + (1,)]
        for prefix in prefixes:
            for option in range(3):
                metrics = {"AP": 0.1 * option + 0.01 * sum(prefix), "AP_error": 0.02}
                yield score_of(Arch("s", (*prefix, option)), metrics, step=step)


def test_kept_candidates_are_filled():
    scores = list(rows())
    ax = plot_beam(scores, "AP", 2, [f"stage 1 block {n}" for n in (1, 2, 3)])
    dots = [dots for dots in ax.collections if isinstance(dots, PathCollection)]
    assert sum(len(dot.get_offsets()) for dot in dots) == len(scores) == 15
    filled = [dot for dot in dots if len(dot.get_facecolor())]  # an unfilled marker has no face colour
    assert sum(len(dot.get_offsets()) for dot in filled) == 3 * 2


def test_a_layout_with_two_names_is_marked_once():
    frame = pd.DataFrame({"depths": [(1, 2), (2, 1)], "centre of mass": [1.7, 1.3], "AP": [0.2, 0.1], "AP_error": 0.01})
    tau = Interval(1.0, np.nan, np.nan, 2)
    ax = plot_ranking(frame, "AP", tau, {"best": (1, 2), "by hand": (1, 2), "elsewhere": (3, 3)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["best, by hand [1, 2]"]
