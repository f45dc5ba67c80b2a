"""The trust lesson: which rows it reads, how its recipes score, and that its tables hold what they say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.evaluation.test_benchmark import table
from workbench.insight.tables import DATA
from workbench.lessons import trust as lesson
from workbench.lessons import trust_tables as tables
from workbench.methods import candidates
from workbench.methods.experiment import start_experiment
from workbench.methods.plan import shortened
from workbench.spaces.catalogue import space_named

PLAN, SPACE = lesson.SMOKE, space_named("shuffle-81")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    data = lesson.trust_data(PLAN, table()[0], 0)
    runs = str(tmp_path_factory.mktemp("trust"))
    return start_experiment("test", {}, plan=PLAN, data=data, seed=0, device="cpu", runs=runs, fresh=False)


def test_further_rows_are_trained_once_and_kept(tmp_path):
    """Two, then two more, of 2 steps each; the first are not trained again."""
    lacking = replace(lesson.TINY, table=PLAN.table)
    with pytest.raises(ValueError, match="holds 0 networks of shuffle-81 from two seeds, and it takes 8"):
        lesson.benchmark_rows(lacking, tmp_path, 0, 2)
    first = pd.read_csv(tmp_path / "shuffle-81-seed0.csv", dtype={"choices": str})
    with pytest.raises(ValueError, match="Train some with train_rows"):
        lesson.benchmark_rows(lacking, tmp_path, 0, 2)
    whole = pd.read_csv(tmp_path / "shuffle-81-seed0.csv", dtype={"choices": str})
    pd.testing.assert_frame_equal(whole[:2], first)
    assert len(whole) == 4 and whole["accuracy"].between(0, 1).all()
    rows, told = lesson.benchmark_rows(PLAN, tmp_path, 0, 0)  # smoke: not enough, so others take their place
    assert "not there yet" in told and rows["choices"].nunique() == PLAN.stand_in and rows["seed"].nunique() == 2


def test_a_stored_table_is_read_and_counted(tmp_path):
    for seed, part in table(seeds=2)[0].groupby("seed"):
        part[: 81 - 41 * seed].to_csv(tmp_path / f"shuffle-81-seed{seed}.csv", index=False)
    rows, told = lesson.benchmark_rows(lesson.TINY, tmp_path, 0, 0)
    assert len(rows) == 121 and "121 trainings of 81 of the 81 networks" in told and "40 of seed 1" in told


def test_short_trainings_never_come_to_the_stored_table():
    short = shortened(lesson.TINY, 2)
    with pytest.raises(ValueError, match="name another folder"):
        lesson.benchmark_rows(short, DATA / "benchmark", 0, 1)


def test_scores_of_the_batch_need_no_statistics_and_leave_them_alone(experiment):
    """The supernet's statistics are made useless: calibrated or by the batch, scores are what they were."""
    supernet = lesson.train_supernet(experiment, "aligned", lesson.RECIPES["aligned"])
    judge = candidates.scorer(experiment, supernet, experiment.task)
    by_batch = lesson._by_batch(judge)
    norms = [layer for layer in supernet.model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    wanted = [score(SPACE.uniform(1), phase="test", step=0).metrics for score in (judge, by_batch)]
    for norm in norms:
        norm.running_mean.fill_(1e3)
    assert [score(SPACE.uniform(1), phase="test", step=0).metrics for score in (judge, by_batch)] == wanted
    assert all((norm.running_mean == 1e3).all() for norm in norms)


@pytest.mark.parametrize("name", ["uniform", "fair", "sandwich"])
def test_every_recipe_trains_another_supernet(experiment, name):
    recipes = {each: lesson.train_supernet(experiment, each, lesson.RECIPES[each]) for each in (name, "aligned")}
    first, second = (recipe.supernet.state_dict() for recipe in recipes.values())
    assert any(not torch.equal(first[key], second[key]) for key in first)
    updates = lesson.updates_table(recipes[name])
    total = {"fair": 3, "sandwich": 3}.get(name, 1) * PLAN.supernet.steps
    assert (updates.iloc[:, 1:].sum(axis=1) == total).all()


def test_steps_of_equal_seconds_are_measured_once(experiment):
    steps = lesson.steps_of_equal_seconds(experiment)
    assert steps["uniform"] == PLAN.supernet.steps and min(steps.values()) >= 1
    assert lesson.steps_of_equal_seconds(experiment) == steps


def test_tables_of_a_known_truth():
    """A perfect predictor, and scores without noise."""
    rows, truth = table(noise=1e-9)
    scores = lesson.benchmark.scores_by_seed(rows)
    means = scores.mean(axis=1)
    frame = tables.tau_table({"truth": dict(truth)}, scores, 20, 0)
    assert frame["predictor"].tolist() == ["truth", "ridge on 20 networks"]
    assert frame["tau"][0] == frame["tau, top quarter"][0] == 1.0 and abs(frame["tau"][1]) < 0.3
    plan = replace(lesson.TINY, runs=20, evaluations=81)
    macs = tables.cheap_predictors(SPACE)["MACs"]
    regret = tables.regret_ends({"all": tables.regret_table(plan, means, 0.0, 0, max(macs.values()))})
    by_name = regret.set_index("search")
    assert by_name.loc["random search", "regret"] == by_name.loc["evolution", "regret"] == 0.0
    assert by_name.loc["no search", "regret"] == pytest.approx(means.max() - means.mean())
    assert by_name.loc["beam", "evaluations"] == 30
    power = tables.power_table(plan, means, 0.05)
    assert power["seeds needed"].is_monotonic_decreasing and power["pairs that differ more"].is_monotonic_decreasing


def test_the_table_of_noise_holds_on_a_few_rows():
    """Nine networks with one seed each: numbers that cannot be known are nan."""
    rows = table()[0]
    frame = tables.noise_table(lesson.benchmark.scores_by_seed(rows[:9]), 0)
    assert frame["n"].tolist() == [9, 3] and np.isnan(frame["q"]).all()
