"""Figures of the lesson on DetNAS."""

import numpy as np

from workbench.lessons import detnas as lesson
from workbench.records.ledger import Entry
from workbench.spaces.catalogue import space_named
from workbench.spaces.published import DETNAS

SPACE = space_named("shuffle-tiny")


def test_op_strip_draws_one_square_for_each_block():
    arch = SPACE.arch((0, 1, 2, 3, 0, 1, 2, 3))
    ax = lesson.plot_op_strip(SPACE, {"one": arch, "two": SPACE.uniform(3)})
    letters = [text.get_text() for text in ax.texts if len(text.get_text()) == 1]
    assert letters == list("357X357X") + ["X"] * 8
    assert [text.get_text() for text in ax.texts if "stage" in text.get_text()] == ["stage 1", "stage 2", "stage 3"]


def test_cost_histogram_states_the_share_within_the_limit():
    ax = lesson.plot_cost_histogram({"uniform": np.arange(100.0)}, 68.5, "MMACs")
    assert any("69%" in label for label in ax.get_legend_handles_labels()[1])


def test_shares_sum_to_one_in_each_stage():
    rng = np.random.default_rng(0)
    shares = lesson.operation_shares(SPACE, [SPACE.sample(rng) for _ in range(5)])
    assert shares.shape == (3, 4) and np.allclose(shares.sum(axis=1), 1)
    assert lesson.operation_shares(SPACE, [SPACE.uniform(3)])["xception 3x3"].eq(1).all()


def test_a_small_step_moves_the_weights_of_its_path_alone():
    step = lesson.small_step(0)
    assert len(step.path) == len(SPACE.decisions)
    for (name, before), after in zip(step.model.named_parameters(), step.weights, strict=True):
        parts = name.split(".")  # backbone.blocks.<1 for the first that is searched>.options.<option>...
        if "options" in parts:
            on_path = step.path[int(parts[2]) - 1] == int(parts[4])
            assert bool((before != after).any()) == on_path, name


def test_published_and_found_networks_stand_in_the_same_axes():
    published = space_named("shuffle-20")
    sets = {
        "paper": lesson.operation_shares(published, [net.arch for net in DETNAS if net.arch.space == published.name]),
        "this run": lesson.operation_shares(SPACE, [SPACE.uniform(3)]),
    }
    ax = lesson.plot_operation_shares(sets)
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == [f"paper, stage {n}" for n in range(1, 5)] + [f"this run, stage {n}" for n in range(1, 4)]
    widths = [[bar.get_width() for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(np.sum(widths, axis=0), 1)
    np.testing.assert_allclose(widths[3][-1], 1)  # Xception everywhere


def test_costs_are_shares_of_what_one_found_network_needs():
    """The paper's 12, 12, 20 and 24 GPU-days; of a run not the baselines and not the re-ranking."""
    seconds = {"pretrain supernet": 4, "finetune supernet": 3, "evolution": 2, "random": 9, "finetune detnas": 1}
    entries = [Entry(phase=name, seconds=spent, images=0, forward_macs=0) for name, spent in seconds.items()]
    paper, ours = lesson.cost_shares(entries).to_numpy()
    np.testing.assert_allclose(paper * 68, [12, 12, 20, 24])
    np.testing.assert_allclose(ours, [0.4, 0.3, 0.2, 0.1])
