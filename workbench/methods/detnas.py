"""DetNAS (Chen et al., NeurIPS 2019): one-shot search of a detector's backbone.

1. `pretrain_supernet`: a supernet learns classification, one random path per step (section 3 of the specification)
2. `finetune_supernet`: it learns detection, again one random path per step (section 4)
3. `search`: evolution on the fixed supernet; recalibrate batch norm, measure AP (section 5)
4. `train_all`: the winner and its controls are trained like any network and tested (section 6)
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, one_shot
from workbench.methods.detnas_presets import DetNASPlan
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.phases import Study
from workbench.networks.blocks import initialise_like_detnas
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.search.evolution import Evolution
from workbench.search.limits import Limit
from workbench.search.random import RandomSearch
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import classifier_cost
from workbench.spaces.space import SearchSpace

PathSampler = Callable[[np.random.Generator], Arch]


def space_of(study: Study) -> SearchSpace:
    return space_named(study.plan.space)


def limits_of(study: Study) -> list[Limit]:
    """The hard limit of the search: backbone MACs at the stated image size."""
    plan: DetNASPlan = study.plan
    space = space_of(study)
    return [Limit(f"MACs at {plan.macs_at} px", plan.macs_limit, lambda arch: space.macs(arch, plan.macs_at))]


def path_sampler(study: Study) -> PathSampler:
    """How a path is drawn in pre-training: uniform as in the paper, or by MAC bins as in the original code."""
    space = space_of(study)
    return space.sample if study.plan.path_sampling == "uniform" else binned_sampler(space)


def binned_sampler(space: SearchSpace, bins: Sequence[int] = range(290, 360, 10), attempts: int = 500) -> PathSampler:
    """Draws a bin [b, b + 10) of full MMACs at 224 uniformly, then uniform paths until one falls into it (at most 500).

    This is what the original code does where the paper says uniform; it makes cheap and dear networks more frequent.
    """
    head = classifier_cost(space.spec(space.uniform(0)), 224).macs

    def sample(rng: np.random.Generator) -> Arch:
        low = int(rng.choice(np.asarray(bins))) * 10**6
        for _ in range(attempts):
            arch = space.sample(rng)
            if low <= space.macs(arch, 224) + head < low + 10**7:
                return arch
        return space.sample(rng)

    return sample


def pretrain_supernet(study: Study) -> TrainedSupernet:
    """Step 1: the supernet as a classifier."""
    plan: DetNASPlan = study.plan
    return one_shot.pretrain_supernet(
        study,
        lambda: Supernet(space_of(study)),
        origin={"paths": plan.path_sampling, "init": plan.detnas_init},
        sample=path_sampler(study),
        initialise=initialise_like_detnas if plan.detnas_init else None,
    )


def finetune_supernet(
    study: Study, pretrained: TrainedSupernet | None, name: str = "finetune supernet"
) -> TrainedSupernet:
    """Step 2: the supernet as the backbone of the detector; `pretrained=None` is the control DetNAS-scratch.

    Batch norm's scale and shift learn, too (the original's custom SyncBN left them frozen, pitfall P1). Paths are
    uniform here, also in the original.
    """
    return one_shot.finetune_supernet(study, lambda: Supernet(space_of(study)), pretrained, name, origin={})


def search(study: Study, scorer: Scorer, *, phase: str, kind: str = "evolution") -> list[Score]:
    """Step 3: `evolution`, or `random` as its control at equal evaluations; every score is in the run's record."""
    plan: DetNASPlan = study.plan
    space, limits, metric = space_of(study), limits_of(study), scorer.task.metric
    if kind == "evolution":
        searcher: Any = Evolution(space, plan.evolution, seed=study.seed, metric=metric, limits=limits)
    else:
        searcher = RandomSearch(space, seed=study.seed, limits=limits)
    return candidates.search(
        study, searcher, scorer, phase=phase, evaluations=plan.evaluations, generation=plan.evolution.population
    )
