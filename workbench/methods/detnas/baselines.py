"""What DetNAS's network is compared with, everybody trained alike."""

from collections.abc import Sequence

import pandas as pd

from workbench.methods.candidates import best, scorer
from workbench.methods.compare import Network
from workbench.methods.detnas.method import draw, finetune_supernet, search, space_of
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.reranking import controls
from workbench.spaces.arch import Arch
from workbench.spaces.shuffle import widened_spec


def found_and_baselines(experiment: Experiment, found: Arch, random_best: Arch) -> list[Network]:
    """Under one MAC limit: the found network, the plain ones it must beat, and the best-scored random one."""
    plan: DetNASPlan = experiment.plan
    space = space_of(experiment)
    plain = space.uniform(0)
    macs = space.macs(found, plan.macs_at)
    return [
        Network(name="DetNAS", spec=space.spec(found), arch=found),
        Network(name="all 3x3", spec=space.spec(plain), arch=plain),
        Network(name="all 3x3 widened", spec=widened_spec(space.name, plain.choices, macs, plan.macs_at)),
        Network(name="best-scored random", spec=space.spec(random_best), arch=random_best),
    ]


def by_classification(experiment: Experiment, pretrained: TrainedSupernet) -> Network:
    """ClsNAS: what the same search finds by classification accuracy, before any detector is trained."""
    judge = scorer(experiment, pretrained, experiment.classification)
    arch = best(search(experiment, judge, phase="ClsNAS"), "top1").arch
    return Network(name="ClsNAS", spec=space_of(experiment).spec(arch), arch=arch)


def from_scratch(experiment: Experiment) -> Network:
    """DetNAS-scratch: what the search finds on a supernet without pre-training."""
    supernet = finetune_supernet(experiment, None, "finetune supernet from scratch")
    judge = scorer(experiment, supernet, experiment.task)
    arch = best(search(experiment, judge, phase="DetNAS-scratch"), experiment.plan.fitness).arch
    return Network(name="DetNAS-scratch", spec=space_of(experiment).spec(arch), arch=arch)


def of_reranking(experiment: Experiment, reranked: pd.DataFrame) -> list[Network]:
    """What the kept network must beat: the supernet's best, and the best random network that was trained alike."""
    space = space_of(experiment)
    return [Network(name=name, spec=space.spec(arch), arch=arch) for name, arch in controls(reranked).items()]


def random_networks(experiment: Experiment, taken: Sequence[Network]) -> list[Network]:
    """Random networks within the limit, taken without a score: their mean is what chance gives without any search."""
    space, known = space_of(experiment), {network.arch for network in taken if network.arch}
    drawn = draw(experiment, experiment.plan.random_networks, known, "unscored networks")
    return [
        Network(name=f"random {number}", spec=space.spec(arch), arch=arch, group="random, unscored")
        for number, arch in enumerate(drawn, start=1)
    ]
