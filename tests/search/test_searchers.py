import pytest

from tests.scores import score_of
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.search.limits import Limit
from workbench.search.query import NoFeasibleArchitecture, SpaceExhausted
from workbench.search.random import RandomOfCost, RandomSearch
from workbench.spaces.catalogue import space_named
from workbench.spaces.space import Decision, SearchSpace

SPACE = space_named("shuffle-tiny")
CONFIG = EvolutionConfig(population=10, parents=4, mutants=4, crossings=4, mutation_probability=0.2)


def score(arch, value, error=None):
    return score_of(arch, {} if error else {"AP": value}, error=error)


def fitness(arch):
    """Distance to a hidden target: smooth, with one best architecture."""
    return sum(choice == (3 * index) % 4 for index, choice in enumerate(arch.choices)) / len(arch.choices)


def searchers(limits=()):
    return [Evolution(SPACE, CONFIG, seed=0, metric="AP", limits=limits), RandomSearch(SPACE, seed=0, limits=limits)]


def run(searcher, generations):
    asked = []
    for _ in range(generations):
        archs = [query.arch for query in searcher.ask(10)]
        searcher.tell([score(arch, fitness(arch)) for arch in archs])
        asked += archs
    return asked


@pytest.mark.parametrize("index", [0, 1])
def test_never_asks_twice_and_keeps_the_limit(index):
    limit = Limit("MACs", 20_600_000, lambda arch: SPACE.macs(arch, 128))
    asked = run(searchers([limit])[index], 15)
    assert len(set(asked)) == len(asked) == 150
    assert all(SPACE.macs(arch, 128) <= 20_600_000 for arch in asked)


def test_limits_on_any_quantity_work_alike():
    by_params = Limit("params", 105_000, SPACE.params)
    latency = {option: milliseconds for option, milliseconds in enumerate((1.0, 1.2, 1.5, 2.0))}
    by_latency = Limit("ms", 10.0, lambda arch: sum(latency[choice] for choice in arch.choices))
    for limit in (by_params, by_latency):
        asked = [query.arch for query in RandomSearch(SPACE, seed=0, limits=[limit]).ask(20)]
        assert all(limit.measure(arch) <= limit.maximum for arch in asked)


def test_evolution_finds_more_than_random_search_on_a_smooth_landscape():
    best = [[max(map(fitness, run(s, 12))) for s in _both(seed)] for seed in range(5)]
    assert sum(evolved for evolved, _ in best) > sum(drawn for _, drawn in best)


def test_parents_are_the_best_of_everything_seen():
    searcher = Evolution(SPACE, CONFIG, seed=0, metric="AP")
    asked = run(searcher, 5)
    assert [value for value, _ in searcher.archive] == sorted((fitness(arch) for arch in asked), reverse=True)
    assert searcher.archive[0][0] == max(map(fitness, asked))


def test_children_name_the_parents_that_they_were_made_from():
    searcher = Evolution(SPACE, CONFIG, seed=0, metric="AP")
    first = searcher.ask(10)
    assert not any(query.parents for query in first)
    searcher.tell([score(query.arch, fitness(query.arch)) for query in first])
    best = [arch for _, arch in searcher.archive[: CONFIG.parents]]
    children = searcher.ask(10)
    assert [len(query.parents) for query in children] == [1] * 4 + [2] * 4 + [0] * 2
    assert all(parent in best for query in children for parent in query.parents)
    for query in children[4:8]:
        places = zip(query.arch.choices, *(parent.choices for parent in query.parents), strict=True)
        assert all(choice in parents for choice, *parents in places)


def test_failed_candidates_are_never_parents():
    searcher = Evolution(SPACE, CONFIG, seed=0, metric="AP")
    archs = [query.arch for query in searcher.ask(10)]
    searcher.tell([score(arch, 0.0, error="boom") for arch in archs])
    assert searcher.archive == []
    assert len(searcher.ask(10)) == 10  # goes on with fresh randoms


def test_an_impossible_limit_is_a_clear_error():
    limit = Limit("MACs at 128 px", 1000, lambda arch: SPACE.macs(arch, 128))
    for searcher in searchers([limit]):
        with pytest.raises(NoFeasibleArchitecture, match="MACs at 128 px <= 1,000"):
            searcher.ask(1)


@pytest.mark.parametrize("kind", ["evolution", "random"])
def test_a_small_space_is_asked_for_completely_and_then_exhausted(kind):
    """The original code would loop for ever."""
    space = SearchSpace(
        name="toy",
        decisions=tuple(Decision(f"d{index}", ("a", "b"), index, 1) for index in range(4)),
        build=lambda choices: SPACE.build((0,) * 8),
        image_size=32,
    )
    searcher = RandomSearch(space, seed=0) if kind == "random" else Evolution(space, CONFIG, seed=0, metric="AP")
    first = [query.arch for query in searcher.ask(10)]
    searcher.tell([score(arch, sum(arch.choices)) for arch in first])
    rest = [query.arch for query in searcher.ask(6)]
    assert len({*first, *rest}) == 16
    with pytest.raises(SpaceExhausted, match="asked for already"):
        searcher.ask(1)


def _both(seed):
    return Evolution(SPACE, CONFIG, seed=seed, metric="AP"), RandomSearch(SPACE, seed=seed)


def test_random_networks_of_one_cost_are_alike_in_cost_and_in_nothing_else():
    space = space_named("layers-efficientnet-lite0-front-3.3.4.4")

    def cost(arch):
        return space.macs(arch, 128)

    cheap = space.macs(space.arch([len(d.options) - 1 if "skip" in d.options else 0 for d in space.decisions]), 128)
    for target in (1.4 * cheap, 90e6):  # the first is far below what uniform draws cost
        asked = [query.arch for query in RandomOfCost(space, seed=0, cost=cost, target=target).ask(20)]
        assert len(set(asked)) == 20
        assert all(abs(cost(arch) - target) <= 0.1 * target for arch in asked)
        again = [query.arch for query in RandomOfCost(space, seed=0, cost=cost, target=target).ask(20)]
        assert again == asked
    taken = [{arch.choices[place] for arch in asked} for place in range(len(space.decisions))]
    assert sum(map(len, taken)) / len(taken) > 3  # many operations in every place
    with pytest.raises(NoFeasibleArchitecture, match="within 10%"):
        RandomOfCost(space, seed=0, cost=cost, target=cheap / 10).ask(1)
