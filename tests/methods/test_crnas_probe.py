"""The positive control: the search finds late dilation where the cue lies beyond the field, and needs none else."""

import pytest

from workbench.methods import crnas, crnas_probe, one_shot, phases
from workbench.records.score import Score
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import residual_spec

PLAN = crnas_probe.TINY
SPACE = space_named("dilation-resnet-bottleneck-tiny-2.2.2")


def open_task(root, distance):
    data = crnas_probe.probe_data(PLAN, crnas_probe.dot_task(distance), 0)
    return phases.start_study(
        "probe", {"r": distance}, plan=PLAN, data=data, seed=0, device="cpu", runs=str(root), fresh=False
    )


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    return open_task(tmp_path_factory.mktemp("far"), 48)


def alone(study, dilations):
    spec = residual_spec(PLAN.backbone, (2, 2, 2), dilations)
    return crnas_probe.train_network(study, f"network {dilations}", spec)


def test_only_a_network_dilated_in_its_last_blocks_sees_48_pixels(far):
    """Undilated stays at chance, the last two blocks at dilation 2 do not, the first two at 3 do."""
    assert abs(alone(far, (1, 1, 1, 1, 1, 1)) - 0.5) < 0.08  # some 570 fish: three standard errors are 0.063
    assert alone(far, (1, 1, 1, 1, 2, 2)) > 0.85
    assert abs(alone(far, (3, 3, 1, 1, 1, 1)) - 0.5) < 0.08


def beam(study):
    supernet = crnas_probe.train_supernet(study, "supernet", SPACE)
    scorer = crnas_probe.probe_scorer(study, supernet)
    scores = crnas.beam(study, scorer, phase="beam")
    undilated = scorer(SPACE.uniform(0), phase="undilated", step=0)
    return crnas.beam_winner(scores, "accuracy"), undilated


def test_the_beam_finds_dilation_in_late_blocks_when_the_cue_is_far(far):
    found, undilated = beam(far)
    rates = crnas.dilations_of_score(found)
    assert undilated.metrics["accuracy"] < 0.65
    assert found.metrics["accuracy"] > undilated.metrics["accuracy"] + 0.25
    assert sum(rates[4:]) > 2, rates  # the last stage is dilated


def test_the_beam_needs_no_dilation_when_the_cue_is_near(tmp_path):
    near = open_task(tmp_path, 16)
    found, undilated = beam(near)
    assert undilated.metrics["accuracy"] > 0.9
    assert found.metrics["accuracy"] < undilated.metrics["accuracy"] + 0.08  # far: at least 0.25 better


def test_best_takes_fewer_params_at_equal_scores():
    """Section 12 of the specification: the tie-break of the ranking."""
    space = space_named("allocation-resnet-bottleneck-tiny")
    rows = [
        replace_score(space, choices, params)
        for choices, params in (((0, 0, 1), 300), ((0, 1, 0), 200), ((1, 0, 0), 200))
    ]
    assert one_shot.best(rows, "accuracy").choices == (0, 1, 0)


def replace_score(space, choices, params):
    arch = space.arch(choices)
    return Score(
        arch=arch.key,
        choices=choices,
        space=space.name,
        metrics={"accuracy": 0.5},
        macs=1,
        params=params,
        seconds=0.0,
        seed=0,
        phase="p",
        step=0,
    )
