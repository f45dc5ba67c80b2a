"""Simulated searches against closed forms, with the searchers that real searches use."""

import time

import numpy as np
import pytest

from workbench.evaluation.simulated_search import METRIC, SearchBudget, regrets, score_noise
from workbench.search.beam import BeamSearch
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.search.limits import Limit
from workbench.search.random import RandomSearch
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-81")
ARCHS = list(SPACE.all())
SMOOTH = {arch: sum(arch.choices) / 10 for arch in ARCHS}  # 0 to 0.8; the best is alone
CONFIG = EvolutionConfig(population=10, parents=5, mutants=4, crossings=4, mutation_probability=0.5)
RANDOM = SearchBudget(lambda seed, limits: RandomSearch(SPACE, seed=seed, limits=limits), 30, 30)
EVOLUTION = SearchBudget(lambda seed, limits: Evolution(SPACE, CONFIG, seed=seed, metric=METRIC, limits=limits), 30, 10)
BEAM = SearchBudget(
    lambda seed, limits: BeamSearch(SPACE, width=3, completions=4, seed=seed, metric=METRIC, limits=limits), 30, 30
)


def run(search, means=SMOOTH, noise=0.0, runs=300, **options):
    return regrets(search, means, noise, runs=runs, rng=np.random.default_rng(0), **options)


def test_random_search_without_noise_has_the_regret_of_the_best_of_k():
    found = run(RANDOM, runs=1500).mean(axis=0)
    rng = np.random.default_rng(1)
    values = np.array(list(SMOOTH.values()))
    for count in (1, 5, 30):
        best = np.mean([rng.choice(values, count, replace=False).max() for _ in range(4000)])
        assert found[count - 1] == pytest.approx(0.8 - best, abs=0.012)
    assert (np.diff(run(RANDOM, runs=20), axis=1) <= 0).all()


def test_with_endless_noise_any_search_is_a_random_choice():
    found = run(RANDOM, noise=1e6, runs=1500)
    assert found[:, -1].mean() == pytest.approx(0.4, abs=0.02)


def test_searchers_beat_chance_where_the_truth_is_smooth():
    random, evolution, beam = (run(search)[:, -1].mean() for search in (RANDOM, EVOLUTION, BEAM))
    assert evolution < random / 2 and beam < random / 2


def test_a_beam_has_no_answer_before_its_last_step():
    found = run(BEAM, runs=5)
    assert np.isnan(found[:, :21]).all() and np.isfinite(found[:, 21:]).all()


def test_limits_and_gaps_are_kept():
    """Regret is that within the limit; networks outside the table are never asked for."""
    limit = Limit("sum of options", 5, lambda arch: sum(arch.choices))
    some = {arch: SMOOTH[arch] for arch in ARCHS[::2]}
    for search in (RANDOM._replace(evaluations=10), EVOLUTION._replace(evaluations=10), BEAM):
        found = run(search, some, runs=20, limits=[limit])
        assert np.nanmin(found) >= 0  # above 0.5 would be negative
    allowed = sum(limit.allows(arch) for arch in some)
    assert (run(RANDOM._replace(evaluations=allowed), some, runs=20, limits=[limit])[:, -1] == 0).all()


def test_runs_repeat_and_are_fast():
    start = time.process_time()
    first, second = (run(EVOLUTION, noise=0.1, runs=200) for _ in range(2))
    assert (first == second).all()
    assert time.process_time() - start < 5  # a thousand in seconds


def test_noise_of_scores_is_in_units_of_the_table():
    """Scores compressed by 2 with errors of 0.05 tell as much as means with errors of 0.1."""
    rng = np.random.default_rng(0)
    means = rng.normal(0.6, 0.1, 4000)
    scores = 0.3 + 0.5 * means + 0.05 * rng.standard_normal(4000)
    assert score_noise(means, scores) == pytest.approx(0.1, rel=0.05)
    assert score_noise(means, -scores) == float("inf")
