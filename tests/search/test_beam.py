"""Beam and exhaustive search: how many evaluations, common completions, exactness on a small space, resuming."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scores import score_of
from workbench.search.beam import BeamSearch
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.search.limits import Limit
from workbench.search.query import NoFeasibleArchitecture, SpaceExhausted
from workbench.spaces.allocation import eligible
from workbench.spaces.catalogue import space_named

SMALL = space_named("dilation-resnet-tiny-1.1.2")  # four blocks: 81 architectures


def score(query, value, step=0):
    return score_of(query.arch, {"AP": float(value)}, step=step)


def run(beam, value_of):
    """A whole search with exact scores; returns all queries."""
    asked = []
    for _ in beam.space.decisions:
        queries = beam.ask(beam.evaluations)
        beam.tell([score(query, value_of(query)) for query in queries])
        asked.append(queries)
    return asked


@pytest.mark.parametrize(
    ("backbone", "blocks", "evaluations"), [("resnet18", 8, 66), ("resnet50", 16, 138), ("resnet101", 33, 291)]
)
def test_a_beam_of_three_takes_three_plus_nine_for_every_further_block(backbone, blocks, evaluations):
    """Acceptance test A4."""
    space = space_named(f"dilation-{backbone}")
    beam = BeamSearch(space, width=3, completions=2, seed=0, metric="AP")
    assert len(space.decisions) == blocks
    assert beam.evaluations == 3 + 9 * (blocks - 1) == evaluations
    rng = np.random.default_rng(0)
    asked = run(beam, lambda query: rng.random())
    assert [len(queries) for queries in asked] == [3] + [9] * (blocks - 1)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_a_wide_enough_beam_with_exact_scores_is_exhaustive(seed):
    """Acceptance test A5: K >= 3^(B - 1) keeps every prefix, so the last step holds the whole space."""
    rng = np.random.default_rng(seed)
    truth = {arch.choices: rng.random() for arch in SMALL.all()}
    beam = BeamSearch(SMALL, width=27, completions=1, seed=seed, metric="AP")
    asked = run(beam, lambda query: truth.get(query.arch.choices, rng.random()))
    assert {query.arch.choices for query in asked[-1]} == set(truth)
    best, choices = beam.kept[0]
    assert best == max(truth.values()) == truth[choices]


def test_a_narrow_beam_can_miss_the_best():
    """Otherwise the test above would show nothing."""
    truth = dict.fromkeys((arch.choices for arch in SMALL.all()), 0.0)
    truth[(2, 2, 2, 2)] = 1.0
    beam = BeamSearch(SMALL, width=1, completions=1, seed=0, metric="AP")
    run(beam, lambda query: truth.get(query.arch.choices, float(query.arch.choices[0] == 0)))
    assert beam.kept[0][1] != (2, 2, 2, 2)


def test_candidates_of_a_step_share_their_completions():
    beam = BeamSearch(SMALL, width=3, completions=4, seed=5, metric="AP")
    rng = np.random.default_rng(0)
    for step, queries in enumerate(run(beam, lambda query: rng.random()), start=1):
        tails = {tuple(network.choices[step:] for network in query.completions) for query in queries}
        assert len(tails) == 1
        assert all(network.choices[:step] == query.arch.choices for query in queries for network in query.completions)
        assert len(queries[0].completions) == (1 if step == len(SMALL.decisions) else 4)
    drawn = {
        tails
        for step in range(1, 4)
        for tails in [BeamSearch(SMALL, width=1, completions=4, seed=step, metric="AP").ask(3)[0].completions]
    }
    assert len(drawn) > 1  # another seed, other completions


def test_equal_scores_keep_the_smaller_dilation():
    beam = BeamSearch(SMALL, width=3, completions=1, seed=0, metric="AP")
    run(beam, lambda query: 0.5)
    assert beam.kept[0][1] == (0, 0, 0, 0)


def test_a_failed_candidate_is_not_kept_and_a_failed_step_says_so():
    beam = BeamSearch(SMALL, width=3, completions=1, seed=0, metric="AP")
    queries = beam.ask(3)
    broken = score_of(queries[0].arch, {}, error="RuntimeError: x")
    beam.tell([broken, score(queries[1], 0.2), score(queries[2], 0.1)])
    assert [prefix for _, prefix in beam.kept] == [(1,), (2,)]
    again = BeamSearch(SMALL, width=3, completions=1, seed=0, metric="AP")
    again.ask(3)
    with pytest.raises(RuntimeError, match="All 1 candidates of a beam step failed"):
        again.tell([broken])


def test_a_beam_refuses_half_a_step_and_empty_settings():
    beam = BeamSearch(SMALL, width=3, completions=1, seed=0, metric="AP")
    with pytest.raises(ValueError, match="only 2 evaluations are left; a whole search takes 30"):
        beam.ask(2)
    with pytest.raises(ValueError, match="at least 1 prefix"):
        BeamSearch(SMALL, width=0, completions=1, seed=0, metric="AP")


def test_exhaustive_search_asks_for_everything_once():
    archs = eligible(space_named("allocation-resnet18"))
    search = ExhaustiveSearch(archs)
    first = search.ask(4)
    asked = [query.arch for query in itertools.chain(first, search.ask(5))]
    assert asked == archs and len(archs) == 9
    with pytest.raises(SpaceExhausted, match="0 of 9 are left"):
        search.ask(1)


def test_a_beam_within_a_limit_asks_only_for_what_keeps_it():
    space = space_named("shuffle-tiny")
    limit = Limit("MACs", 20_600_000, lambda arch: space.macs(arch, 128))
    beam = BeamSearch(space, width=3, completions=4, seed=0, metric="AP", limits=[limit])
    asked = run(beam, lambda query: np.random.default_rng(len(query.arch.choices)).random())
    archs = [arch for queries in asked for query in queries for arch in query.completions]
    assert archs and all(limit.allows(arch) for arch in archs) and limit.allows(space.arch(beam.kept[0][1]))
    assert beam.ask(100) == []
    with pytest.raises(NoFeasibleArchitecture, match="No candidate of step 1 in shuffle-tiny keeps MACs <= 1"):
        BeamSearch(space, width=3, completions=4, seed=0, metric="AP", limits=[Limit("MACs", 1, limit.measure)]).ask(9)
    assert len(ExhaustiveSearch(space.all(), [limit]).archs) < space.size
