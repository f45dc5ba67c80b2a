"""Every searcher on every space, from a supernet to a trained winner; what has no meaning is refused in a sentence."""

from dataclasses import replace

import numpy as np
import pytest

from tests.methods.conftest import STEP
from workbench.methods import candidates, compare, one_shot
from workbench.methods.compare import Network, Start
from workbench.methods.gradient import gradient_search
from workbench.methods.plan import CostPenalty
from workbench.networks.supernet import Supernet
from workbench.search.beam import BeamSearch
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.search.limits import Limit
from workbench.search.random import RandomSearch
from workbench.spaces.catalogue import space_named
from workbench.training.recipe import AlternatingRecipe

SPACES = {
    "shuffle": "shuffle-tiny",
    "allocation": "allocation-resnet-tiny",
    "dilation": "dilation-resnet-bottleneck-tiny-1.1.2",
    "channel dilation": "channel-dilation-resnet-bottleneck-tiny-1.1.2-n2-A",
    "layers": "layers-efficientnet-lite0-front-1.2.1.2",
}
EVALUATIONS = 6
EVOLUTION = EvolutionConfig(population=3, parents=2, mutants=1, crossings=1, mutation_probability=0.3)
SEARCHERS = {
    "random": lambda space, limits: RandomSearch(space, seed=0, limits=limits),
    "exhaustive": lambda space, limits: ExhaustiveSearch(
        [space.sample(np.random.default_rng(index)) for index in range(EVALUATIONS)], limits
    ),
    "evolution": lambda space, limits: Evolution(space, EVOLUTION, seed=0, metric="AP", limits=limits),
    "beam": lambda space, limits: BeamSearch(space, width=1, completions=2, seed=0, metric="AP", limits=limits),
}


@pytest.fixture(scope="module", params=SPACES)
def trained(request, experiment):
    """A supernet of the space, trained path by path in the detector."""
    space = space_named(SPACES[request.param])
    supernet = one_shot.train_supernet(
        experiment, f"supernet {request.param}", lambda: Supernet(space), experiment.task, experiment.data.train, STEP,
        stream="matrix", origin={}, aligned=True,
    )  # fmt: skip
    return request.param, supernet


def winner_is_trained(experiment, supernet, arch):
    """The end of every search: the winner, extracted with the weights it inherits, is trained and tested."""
    start = Start(weights=supernet.extract(arch), origin={"arch": arch.to_json()})
    network = Network(name=f"winner {arch.key}", spec=start.weights.spec, arch=arch, start=start)
    (result,) = compare.train_all(experiment, [network])
    assert len(result.losses) == STEP.steps and 0 <= result.metrics["AP"] <= 1


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_every_searcher_runs_on_every_space_within_a_limit(experiment, trained, searcher):
    name, supernet = trained
    space = supernet.supernet.space
    costs = [space.macs(space.sample(np.random.default_rng(index)), 64) for index in range(20)]
    limit = Limit("MACs", float(np.median(costs)), lambda arch: space.macs(arch, 64))
    search = SEARCHERS[searcher](space, [limit])
    scorer = candidates.scorer(experiment, supernet, experiment.task)
    count = getattr(search, "evaluations", None) or len(getattr(search, "archs", range(EVALUATIONS)))
    scores = candidates.search(
        experiment, search, scorer, phase=f"{searcher} on {name}", evaluations=count, generation=min(count, 40)
    )
    assert scores and all(score.error is None for score in scores)
    whole = [score for score in scores if len(score.arch.choices) == len(space.decisions)]
    assert whole and all(limit.allows(score.arch) for score in whole)
    winner_is_trained(experiment, supernet.supernet, candidates.best(whole, experiment.plan.fitness).arch)


@pytest.mark.parametrize("name", SPACES)
def test_gradient_search_runs_on_every_space(experiment, name):
    """With the cost loss where options differ in cost; where all cost the same, that is refused in a sentence."""
    space = space_named(SPACES[name])
    recipe = AlternatingRecipe(weights=STEP, alpha=replace(STEP, batch_size=2), epochs=2, warm_epochs=1)
    options = {"stream": "matrix", "origin": {}, "weights_on": "paths"}
    if space.costs == "equal":
        with pytest.raises(ValueError, match=r"costs of .* are equal"):
            gradient_search(
                experiment, lambda: Supernet(space), recipe, phase=f"priced {name}", penalty=CostPenalty(strength=0.1),
                **options,
            )  # fmt: skip
        penalty = None
    else:
        penalty = CostPenalty(strength=0.1)
    search = gradient_search(
        experiment, lambda: Supernet(space), recipe, phase=f"gradient on {name}", penalty=penalty, **options
    )
    limit = Limit("MACs", space.macs(search.derived().arch, 64), lambda arch: space.macs(arch, 64))
    found = search.derived(limits=(limit,)).arch
    assert found == search.derived().arch and len(experiment.run.scores(search.phase)) == 2
    winner_is_trained(experiment, search.supernet, found)


def test_a_space_that_remapping_cannot_enter_is_refused():
    shuffle = space_named("shuffle-tiny")
    seed = Supernet(shuffle).extract(shuffle.uniform(0))
    with pytest.raises(ValueError, match=r"of kind xception; its counterpart .* of kind shuffle"):
        Supernet(shuffle, pretrained=seed)
