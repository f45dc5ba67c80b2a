"""The scorer leaves no trace, a bad candidate does not end a search, and a killed search repeats its trajectory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.evaluation.scoring import Scorer, run_search
from workbench.networks.supernet import Supernet
from workbench.records.run_folder import RunFolder
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification

SPACE = space_named("shuffle-tiny")
TASK = Classification(categories=("a", "b"), hidden=16, dropout=0.0)
CONFIG = EvolutionConfig(population=4, parents=2, mutants=2, crossings=1, mutation_probability=0.3)


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    model = TASK.build(Supernet(SPACE))
    images = list(torch.rand(8, 3, 32, 32))

    def measure(candidate, _before_batch):
        with torch.no_grad():
            candidate.eval()
            return {"AP": float(candidate.logits(images).softmax(dim=1)[:, 0].mean())}

    return Scorer(
        model=model,
        supernet=model.backbone,
        task=TASK,
        calibration=[images],
        scored=[images],
        measure=measure,
        image_size=32,
        seed=0,
    )


def test_scores_do_not_depend_on_the_order_of_candidates(scorer):
    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(3)]
    first = [scorer(arch, phase="p", step=0).metrics for arch in archs]
    again = [scorer(arch, phase="p", step=0).metrics for arch in reversed(archs)][::-1]
    assert first == again


def test_a_score_carries_costs_of_its_own_network(scorer):
    arch = SPACE.uniform(3)
    score = scorer(arch, phase="p", step=2)
    assert (score.macs, score.params) == (SPACE.macs(arch, 32), SPACE.params(arch))
    assert (score.arch, score.step, score.error) == (arch, 2, None)


def test_without_recalibration_the_stale_statistics_are_used(scorer):
    arch = SPACE.uniform(0)
    assert (
        scorer(arch, phase="p", step=0).metrics != replace(scorer, recalibrated=False)(arch, phase="p", step=0).metrics
    )


@pytest.mark.parametrize("value", [float("nan"), RuntimeError("out of memory")])
def test_a_candidate_that_fails_becomes_a_row_and_the_search_goes_on(scorer, tmp_path, value):
    calls = []

    def measure(model, before_batch):
        calls.append(1)
        if len(calls) == 2:
            if isinstance(value, Exception):
                raise value
            return {"AP": value}
        return scorer.measure(model, before_batch)

    run = RunFolder.open(tmp_path, "t", {}, seed=0, data_digest="d")
    scores = search(replace(scorer, measure=measure), run, 8)
    assert len(scores) == 8
    assert [bool(score.error) for score in scores] == [False, True] + [False] * 6
    assert "not finite: AP" in scores[1].error or "RuntimeError: out of memory" in scores[1].error


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("no memory"),
        torch.AcceleratorError("device-side assert"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
        OSError("an image cannot be read"),
    ],
)
def test_a_failure_of_the_machine_ends_the_search_and_is_no_score(scorer, tmp_path, failure):
    def measure(model, before_batch):
        raise failure

    run = RunFolder.open(tmp_path, "t", {}, seed=0, data_digest="d")
    with pytest.raises(type(failure), match=str(failure)[:9]):
        search(replace(scorer, measure=measure), run, 8)
    assert not run.scores()


def test_a_killed_search_repeats_the_same_trajectory(scorer, tmp_path):
    whole = search(scorer, RunFolder.open(tmp_path / "a", "t", {}, seed=0, data_digest="d"), 14)

    def dies(*args, **kwargs):
        if len(run.scores()) == 7:  # in the middle of the second generation
            raise KeyboardInterrupt
        return scorer(*args, **kwargs)

    run = RunFolder.open(tmp_path / "b", "t", {}, seed=0, data_digest="d")
    with pytest.raises(KeyboardInterrupt):
        search(dies, run, 14)
    run = RunFolder.open(tmp_path / "b", "t", {}, seed=0, data_digest="d")
    assert len(run.scores()) == 7
    scored = []

    def counting(*args, **kwargs):
        scored.append(1)
        return scorer(*args, **kwargs)

    resumed = search(counting, run, 14)
    assert [(s.arch, s.metrics) for s in resumed] == [(s.arch, s.metrics) for s in whole]
    assert [s.parents for s in run.scores()] == [s.parents for s in whole] and any(s.parents for s in whole)
    assert len(scored) == 7 and [s.arch for s in run.scores("evolution")] == [s.arch for s in whole]


def test_illegal_architectures_are_bugs_not_rows(scorer):
    with pytest.raises(ValueError, match="8 decisions"):
        scorer(replace(SPACE.uniform(0), choices=(0,)), phase="p", step=0)


def search(scorer, run, evaluations):
    return run_search(
        Evolution(SPACE, CONFIG, seed=1, metric="AP"),
        scorer,
        run,
        phase="evolution",
        metric="AP",
        evaluations=evaluations,
        generation=4,
    )


def test_scores_of_other_weights_are_not_mixed_in(scorer, tmp_path):
    run = RunFolder.open(tmp_path, "t", {}, seed=0, data_digest="d")
    run_search(_evolution(), scorer, run, phase="p", metric="AP", evaluations=4, generation=4, origin="one")
    with pytest.raises(ValueError, match="by other weights"):
        run_search(_evolution(), scorer, run, phase="p", metric="AP", evaluations=4, generation=4, origin="two")


def test_a_generation_that_fails_completely_stops_the_search(scorer, tmp_path):
    def measure(model, before_batch):
        raise RuntimeError("no images")

    run = RunFolder.open(tmp_path, "t", {}, seed=0, data_digest="d")
    with pytest.raises(RuntimeError, match=r"All candidates.*no images"):
        search(replace(scorer, measure=measure), run, 8)
    assert len(run.scores()) == 4


def _evolution():
    return Evolution(SPACE, CONFIG, seed=1, metric="AP")
