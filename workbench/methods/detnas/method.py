"""DetNAS (Chen et al., NeurIPS 2019): one-shot search of a detector's backbone.

The supernet learns weights that are good on average over its paths; the architecture is then the best path by its AP
with these weights, under a hard limit on MACs. The three steps of the paper's pipeline, and what follows them:

1. `pretrain_supernet`: the supernet learns ImageNet classification, one random path per step
2. `finetune_supernet`: it learns detection, again path by path
3. `search`: evolution on the fixed supernet; each candidate's batch norm is recalibrated, then its AP measured
4. `train_all`: the found network and its baselines are pre-trained and fine-tuned like any network, and tested
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd
from torch import nn

from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, compare, one_shot, reranking
from workbench.methods.compare import Network, Result
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.paths import PathSampler
from workbench.networks.blocks import initialise_like_detnas
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.search.evolution import Evolution
from workbench.search.limits import Limit
from workbench.search.query import Searcher
from workbench.search.random import RandomSearch
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import classifier_cost
from workbench.spaces.space import SearchSpace


def space_of(experiment: Experiment) -> SearchSpace:
    """Four operations for each of the 20 or 40 blocks of a ShuffleNetV2."""
    return space_named(experiment.plan.space)


def limits_of(experiment: Experiment) -> list[Limit]:
    """The hard limit of the search: backbone MACs at the stated image size."""
    plan: DetNASPlan = experiment.plan
    space = space_of(experiment)
    return [Limit(f"MACs at {plan.macs_at} px", plan.macs_limit, lambda arch: space.macs(arch, plan.macs_at))]


def pretrain_supernet(experiment: Experiment) -> TrainedSupernet:
    """Step 1, path-wise training on classification; only the sampled path is forwarded and updated."""
    plan: DetNASPlan = experiment.plan
    return one_shot.pretrain_supernet(
        experiment,
        lambda: Supernet(space_of(experiment)),
        plan.supernet,
        origin={"paths": plan.path_sampling, "init": plan.detnas_init},
        sample=path_sampler(experiment),
        initialise=initialisation(experiment),
    )


def path_sampler(experiment: Experiment) -> PathSampler | None:
    """How a path is drawn in pre-training: uniform (None) as in the paper, or by MAC bins as in the original code."""
    return None if experiment.plan.path_sampling == "uniform" else binned_sampler(space_of(experiment))


def binned_sampler(space: SearchSpace, bins: Sequence[int] = range(290, 360, 10), attempts: int = 500) -> PathSampler:
    """Draws a bin [b, b + 10) of full MMACs at 224 uniformly, then uniform paths until one falls into it (at most 500).

    This is what the original code does where the paper says uniform; cheap and costly networks become more frequent.
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


def finetune_supernet(
    experiment: Experiment, pretrained: TrainedSupernet | None, name: str = "finetune supernet"
) -> TrainedSupernet:
    """Step 2, the supernet as the detector's backbone; `pretrained=None` is the ablation DetNAS-scratch.

    Batch norm's scale and shift learn as well, synchronised over GPUs (SyncBN); the original's own SyncBN left them
    frozen. Paths are uniform here, in the original too.
    """
    part = experiment.plan.supernet
    return one_shot.finetune_supernet(
        experiment, lambda: Supernet(space_of(experiment)), part, pretrained, name, origin={}
    )


def search(experiment: Experiment, scorer: Scorer, *, phase: str, kind: str = "evolution") -> list[Score]:
    """Step 3: `evolution`, or `random` as its control at equal evaluations."""
    plan: DetNASPlan = experiment.plan
    space, limits = space_of(experiment), limits_of(experiment)
    searcher: Searcher
    if kind == "evolution":
        searcher = Evolution(space, plan.evolution, seed=experiment.seed, metric=scorer.task.metric, limits=limits)
    else:
        searcher = RandomSearch(space, seed=experiment.seed, limits=limits)
    return candidates.search(
        experiment, searcher, scorer, phase=phase, evaluations=plan.evaluations, generation=plan.evolution.population
    )


def draw(experiment: Experiment, count: int, taken: Collection[Arch], stream: str) -> list[Arch]:
    """Random networks within the limit, none of `taken`; `stream` names the draw."""
    limits = limits_of(experiment)
    searcher = RandomSearch(space_of(experiment), seed=experiment.seed, limits=limits, stream=stream, taken=taken)
    return [query.arch for query in searcher.ask(count)]


def rerank(experiment: Experiment, scores: Sequence[Score]) -> pd.DataFrame:
    """Between steps 3 and 4, ours: the best few of a search trained on their own for a short while, see `reranking`."""
    return reranking.rerank(
        experiment,
        scores,
        lambda count, taken: draw(experiment, count, taken, "re-ranked networks"),
        space_of(experiment).spec,
        initialise=initialisation(experiment),
    )


def train_all(experiment: Experiment, networks: Sequence[Network]) -> list[Result]:
    """Step 4 for everybody, with the original's initialisation where the plan says so."""
    return compare.train_all(experiment, networks, initialise=initialisation(experiment))


def initialisation(experiment: Experiment) -> Callable[[nn.Module], None] | None:
    return initialise_like_detnas if experiment.plan.detnas_init else None
