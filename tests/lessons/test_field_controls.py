"""The positive control: the search finds late dilation where the cue lies beyond the field, and needs none else.

Late is behind the first stage: dilating the first stage alone does not help, dilating the second or third does.
"""

from dataclasses import replace

import pytest

from tests.scores import score_of
from workbench.lessons import field_controls as lesson
from workbench.methods import candidates
from workbench.methods.crnas import method as crnas
from workbench.methods.experiment import start_experiment
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import residual_spec

PLAN = lesson.TINY
SPACE = space_named("dilation-resnet-bottleneck-tiny-2.2.2")


def open_task(root, distance):
    data = lesson.probe_data(PLAN, lesson.dot_task(distance), 0)
    return start_experiment(
        "probe", {"r": distance}, plan=PLAN, data=data, seed=0, device="cpu", runs=str(root), fresh=False
    )


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    return open_task(tmp_path_factory.mktemp("far"), 48)


def alone(experiment, dilations, starts):
    spec = residual_spec(PLAN.backbone, (2, 2, 2), dilations)
    tried = replace(experiment, plan=replace(PLAN, starts=starts))
    return lesson.best_of_starts(tried, f"network {dilations}", spec)


def test_only_a_network_dilated_in_its_last_blocks_sees_48_pixels(far, tmp_path):
    """Undilated stays at chance, so do the first two blocks at 3; the last two at 2 learn to see it.

    They learn from most initial weights within 50 steps, from some not at all: the first success of six starts counts.
    The control for one start: the undilated network learns a cue inside its field from its first one.
    """
    assert alone(open_task(tmp_path, 16), (1, 1, 1, 1, 1, 1), starts=1) > 0.85
    assert abs(alone(far, (1, 1, 1, 1, 1, 1), starts=1) - 0.5) < 0.1  # some 570 fish: 3.5 standard errors are 0.073
    assert alone(far, (1, 1, 1, 1, 2, 2), starts=6) > 0.85
    assert abs(alone(far, (3, 3, 1, 1, 1, 1), starts=1) - 0.5) < 0.1


@pytest.fixture(scope="module")
def supernet(far):
    """One supernet over all dilations, trained on dots at several distances."""
    return lesson.train_supernet(lesson.with_easier_distances(far), "supernet", SPACE, PLAN.supernet)


def beam(experiment, supernet):
    scorer = lesson.probe_scorer(experiment, supernet)
    winner = crnas.beam_winner(crnas.beam(experiment, scorer, phase="beam"), "accuracy")
    return lesson.ablated(experiment, scorer, winner, "ablated"), winner


def test_the_beam_finds_dilation_in_late_blocks_when_the_cue_is_far(far, supernet):
    accuracy, winner = beam(far, supernet)
    assert accuracy["undilated"] < 0.7
    assert accuracy["found"] > accuracy["undilated"] + 0.2
    assert accuracy["late only"] > accuracy["early only"] + 0.1, (winner.arch.choices, accuracy)


def test_the_beam_needs_no_dilation_when_the_cue_is_near(tmp_path, supernet):
    accuracy, _ = beam(open_task(tmp_path, 16), supernet)
    assert accuracy["undilated"] > 0.9
    assert accuracy["found"] < accuracy["undilated"] + 0.06  # of 260 fish; the far dot gains three times that


def test_best_takes_fewer_params_at_equal_scores():
    """The tie-break of the ranking."""
    space = space_named("allocation-resnet-bottleneck-tiny")
    rows = [
        score_of(space.arch(choices), {"accuracy": 0.5}, params=params)
        for choices, params in (((0, 0, 1), 300), ((0, 1, 0), 200), ((1, 0, 0), 200))
    ]
    assert candidates.best(rows, "accuracy").arch.choices == (0, 1, 0)
