"""The positive control: where it is known what must be found, gradient and beam find it, and nothing sees too far."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import StepPatch

from workbench.data.loader import load_data
from workbench.lessons import known_answers as lesson
from workbench.lessons import known_answers_tables as tables
from workbench.lessons.known_answers_plan import TINY
from workbench.methods import compare
from workbench.methods.experiment import start_experiment
from workbench.spaces.catalogue import space_named
from workbench.spaces.layers import seed_spec

SHORT = replace(TINY.data, train_images=1600, search_images=150, test_images=200)
PLAN = replace(
    TINY,
    data=SHORT,
    nats=replace(TINY.nats, data=SHORT),
    crnas=replace(TINY.crnas, data=SHORT, beam=replace(TINY.crnas.beam, width=2, completions=3)),
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    data = load_data(SHORT, "detection", "scenes", seed=0)
    runs = str(tmp_path_factory.mktemp("known"))
    return start_experiment("known", {}, plan=PLAN, data=data, seed=0, device="cpu", runs=runs, fresh=False)


@pytest.fixture(scope="module")
def nats(experiment):
    return lesson.nats_case(experiment)


def test_the_gradient_search_finds_a_larger_field(nats):
    found, baseline, _ = (score.metrics["accuracy"] for score in nats.scores)
    assert found > baseline + 0.05
    assert nats.scores[0].macs == nats.scores[1].macs
    assert tables.gains(nats)["changed"].mean() > 0.5  # of the groups of channels are dilated


def test_nothing_is_seen_beyond_the_reach(nats, experiment):
    """The undilated network reaches 27 pixels: it answers near dots, and only guesses those 50 and 58 px away."""
    (result,) = compare.train_all(nats.experiment, nats.networks[1:2])
    table = tables.network_table([replace(nats, networks=nats.networks[1:2])], [result])
    row = table.iloc[0]
    assert row["reach"] == 27
    assert row["accuracy at 20 px"] > 0.85
    far = np.mean([row["accuracy at 50 px"], row["accuracy at 58 px"]])
    assert abs(far - 0.5) < 0.15  # some 130 animals: 3.5 standard errors
    # The probe reads between units that are 16 px apart.
    assert row["accuracy"] < tables.bound(experiment.data.test, 27 + 16) + 0.05


def test_cases_are_named_before_work_starts():
    assert lesson.cases_named(["CR-NAS", "DetNAS"]) == [lesson.crnas_case, lesson.detnas_case]
    for wrong in ([], ["DARTS"], ["NATS", "NATS"]):
        with pytest.raises(ValueError, match="methods are some of DetNAS, NATS, FNA, CR-NAS, each once"):
            lesson.cases_named(wrong)


def test_the_seed_is_a_network_of_its_space():
    space, seed = space_named(TINY.fna.space), seed_spec("mobilenetv2-shallow")
    arch = lesson.arch_like(space, seed)
    assert compare.spec_identity(space.spec(arch)) == compare.spec_identity(seed)
    with pytest.raises(ValueError, match="is not in"):
        lesson.arch_like(space, seed_spec("mobilenetv2-tiny"))


def test_the_bound_counts_dots_that_the_field_touches(experiment):
    """From chance to certainty; a field that only touches the nearest dots is sure of their share."""
    data = experiment.data.test
    away = np.concatenate([data.scene(index).distances for index in range(len(data))])
    near = np.mean(away == 20)
    assert [tables.bound(data, reach) for reach in (10, 15, 53.5)] == pytest.approx([0.5, 0.5, 1.0])
    assert tables.bound(data, 16) == pytest.approx(near + (1 - near) / 2)


def test_the_matched_control_asks_two_networks_both_questions_from_random_weights(nats):
    plan = nats.experiment.plan
    short = replace(nats.experiment, plan=replace(plan, finetune=replace(plan.finetune, steps=2)))
    results = lesson.both_questions(replace(nats, experiment=short))
    assert [result.network.spec for result in results] == [network.spec for network in nats.networks[:2]]
    for result in results:
        assert {"accuracy", "species accuracy", "accuracy at 20 px"} <= set(result.metrics)
        assert result.losses[0] > 1.2  # two questions of two answers, and nothing is known: 2 log 2


def test_the_bound_is_a_staircase_over_the_trained_networks(experiment):
    scenes = experiment.plan.data.scenes
    bounds = pd.DataFrame({"bound": [tables.bound(experiment.data.test, reach) for reach in (15, *scenes.distances)]})
    rows = {"method": ["NATS"] * 3, "reach": [67, 27, 90], "accuracy": [0.9, 0.7, 0.8]}
    ax = tables.plot_bound(bounds, scenes, pd.DataFrame(rows))
    (steps,) = (patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch))
    assert list(steps.edges[1:-1]) == [15, 25, 35, 45, 53] and list(steps.values) == list(bounds["bound"])
    assert ax.collections[0].get_offsets().tolist() == [[67, 0.9], [27, 0.7], [90, 0.8]]


def test_the_pipelines_say_what_this_notebook_does(experiment):
    told = lesson.pipelines(experiment, ["FNA", "DetNAS"])
    assert list(told) == ["FNA", "DetNAS"]
    assert [step.role for step in told["FNA"]][:2] == ["trained", "given"]
    assert not any(
        "alone" in fact or "300 + " in fact for steps in told.values() for step in steps for fact in step.facts
    )
