"""A fifth method in the style of DARTS (Liu et al., ICLR 2019) on ShuffleNetV2 blocks: an example, and its test.

Everything that a method needs is below it already. What is left to say is how the supernet is built, what its weights'
steps run, how the found network starts, and what it is compared with.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from workbench.methods import candidates, compare
from workbench.methods.compare import Network, Start
from workbench.methods.gradient import gradient_search, scored_epochs
from workbench.methods.plan import Plan
from workbench.networks.aligned_options import align_options
from workbench.networks.supernet import Supernet
from workbench.search.random import RandomSearch
from workbench.spaces.catalogue import space_named
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class DARTSPlan(Plan):
    """Everything that a run does, as numbers."""

    space: str
    search: AlternatingRecipe


def search(experiment):
    """Weights and alpha learn on the mixture of all operations, each from its half of the data (equations 3 and 4)."""

    def build():
        supernet = Supernet(space_named(experiment.plan.space), alpha_noise=1e-3)
        align_options(supernet)
        return supernet

    return gradient_search(
        experiment, build, experiment.plan.search, phase="search", stream="darts", origin={}, weights_on="mixture"
    )


def start(found, arch):
    """The network with the weights it learned inside the mixture."""
    return Start(weights=found.supernet.extract(arch), origin={"search": found.key, "arch": arch.key})


def networks(experiment, found):
    """The found network, the plain one, and the best of as many random ones by the same supernet."""
    space, count = found.space, len(scored_epochs(experiment, found))
    drawn = candidates.search(
        experiment, RandomSearch(space, seed=experiment.seed), candidates.scorer(experiment, found, experiment.task),
        phase="random", evaluations=count, generation=count,
    )  # fmt: skip
    winner = candidates.best(drawn, experiment.plan.fitness).arch
    archs = {"DARTS": found.derived().arch, "all 3x3": space.uniform(0), "best random": winner}
    return [Network(name=n, spec=space.spec(a), arch=a, start=start(found, a)) for n, a in archs.items()]


def test_a_fifth_method_takes_eighty_lines(experiment):
    plain = experiment.plan
    step = Recipe(steps=4, batch_size=4, lr=1e-3, optimizer="adamw")
    recipe = AlternatingRecipe(weights=step, alpha=replace(step, lr=0.1, optimizer="adam"), epochs=2, warm_epochs=1)
    plan = DARTSPlan(**vars(plain), space="shuffle-tiny", search=recipe)
    own = replace(experiment, plan=plan)
    found = search(own)
    assert not np.array_equal(found.alphas[0][0], found.alphas[1][0])
    compared = networks(own, found)
    table = compare.comparison_table(compare.train_all(own, compared))
    assert table["network"].tolist() == ["DARTS", "all 3x3", "best random"]
    with pytest.raises(ValueError, match="names of their own"):
        compare.train_all(own, [*compared, compared[0]])
