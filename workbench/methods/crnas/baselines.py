"""What CR-NAS's network is compared with, everybody trained alike: table 4 of the paper and what it leaves out."""

from collections.abc import Sequence

import pandas as pd

from workbench.methods.compare import Network
from workbench.methods.crnas.method import draw_allocations, stage_space
from workbench.methods.crnas.presets import CRNASPlan
from workbench.methods.experiment import Experiment
from workbench.methods.reranking import controls
from workbench.search.random import RandomSearch
from workbench.spaces.allocation import PREFIX, allocation, depths_of, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import RATES, dilation_space_name
from workbench.spaces.residual import LAYOUTS, residual_spec


def published_depths(experiment: Experiment) -> tuple[int, ...]:
    """The layout of the published backbone, where it has the plan's budget; else the eligible one nearest to it."""
    plan: CRNASPlan = experiment.plan
    published = LAYOUTS[plan.backbone].depths
    space = space_named(PREFIX + plan.backbone)
    legal = [depths_of(space, arch) for arch in eligible(space, plan.budget)]
    return min(legal, key=lambda depths: sum(abs(a - b) for a, b in zip(depths, published, strict=True)))


def network(
    experiment: Experiment, name: str, depths: Sequence[int], dilations: Sequence[int] = (), group: str = ""
) -> Network:
    """A network of the plan's backbone at full width."""
    return Network(name=name, spec=residual_spec(experiment.plan.backbone, depths, dilations), group=group)


def found_and_baselines(
    experiment: Experiment,
    depths: Sequence[int],
    dilations: Sequence[int],
    baseline: Sequence[int],
    dilations_of_baseline: Sequence[int],
    best_random: Sequence[int],
) -> list[Network]:
    """The comparison at one nominal cost: the found network first, then the parts of its gain and what chance gives.

    `baseline` are the depths that classification prefers; the published layout, where it is another, has its own row.
    `best_random` are the best-scored dilations of a random search with as many evaluations as the beam.
    """
    published, deeper = published_depths(experiment), experiment.plan.deeper
    named = [
        network(experiment, "CR-NAS", depths, dilations),
        network(experiment, "baseline", baseline),
        *([network(experiment, "published layout", published)] if published != tuple(baseline) else []),
        network(experiment, "stage only", depths),
        network(experiment, "dilation only", baseline, dilations_of_baseline),
        network(experiment, "deeper by hand", deeper),
        network(experiment, "best-scored random dilations", depths, best_random),
    ]
    return [*named, *random_allocations(experiment, [depths, baseline, published, deeper])]


def of_reranking(experiment: Experiment, reranked: pd.DataFrame) -> list[Network]:
    """What the kept allocation must beat: the supernet's best, and the best random one that was trained alike."""
    space = stage_space(experiment)
    found = {name: depths_of(space, arch) for name, arch in controls(reranked).items()}
    return [network(experiment, f"stage only, {name}", depths) for name, depths in found.items()]


def random_allocations(experiment: Experiment, taken: Sequence[Sequence[int]]) -> list[Network]:
    """Allocations of the same budget other than those in `taken`, undilated: what chance gives without a search."""
    space = stage_space(experiment)
    known = {allocation(space, depths) for depths in taken}
    drawn = draw_allocations(experiment, experiment.plan.random_networks, known, "random allocations")
    return [
        network(experiment, f"random allocation {number}", depths_of(space, arch), group="random allocation")
        for number, arch in enumerate(drawn, start=1)
    ]


def random_dilations(experiment: Experiment, depths: Sequence[int], taken: Sequence[Sequence[int]]) -> list[Network]:
    """Random dilations of the found allocation, other than those in `taken`."""
    space = space_named(dilation_space_name(experiment.plan.backbone, depths))
    known = {space.arch([RATES.index(rate) for rate in rates]) for rates in taken}
    count = min(experiment.plan.random_networks, space.size - len(known))
    searcher = RandomSearch(space, seed=experiment.seed, stream="random dilations", taken=known)
    return [
        network(
            experiment,
            f"random dilations {number}",
            depths,
            [RATES[choice] for choice in query.arch.choices],
            "random dilations",
        )
        for number, query in enumerate(searcher.ask(count), start=1)
    ]
