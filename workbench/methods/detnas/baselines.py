"""What DetNAS's network is compared with, everybody trained alike."""

from collections.abc import Sequence

from workbench.methods.candidates import best, scorer
from workbench.methods.compare import Network
from workbench.methods.detnas.method import finetune_supernet, limits_of, search, space_of
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.search.random import RandomSearch
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


def ablations(experiment: Experiment, pretrained: TrainedSupernet) -> list[Network]:
    """The networks that two other searches find.

    ClsNAS by classification accuracy, and DetNAS-scratch on a supernet without pre-training.
    """
    space = space_of(experiment)
    judge = scorer(experiment, pretrained, experiment.classification)
    by_accuracy = best(search(experiment, judge, phase="ClsNAS"), "top1")
    scratch = finetune_supernet(experiment, None, "finetune supernet from scratch")
    judge = scorer(experiment, scratch, experiment.task)
    by_scratch = best(search(experiment, judge, phase="DetNAS-scratch"), experiment.plan.fitness)
    found = {"ClsNAS": by_accuracy.arch, "DetNAS-scratch": by_scratch.arch}
    return [Network(name=name, spec=space.spec(arch), arch=arch) for name, arch in found.items()]


def random_networks(experiment: Experiment, taken: Sequence[Network]) -> list[Network]:
    """Random networks within the limit that nobody scored: their mean is what chance gives without any search."""
    space = space_of(experiment)
    searcher = RandomSearch(
        space,
        seed=experiment.seed,
        limits=limits_of(experiment),
        stream="unscored networks",
        taken={network.arch for network in taken if network.arch},
    )
    return [
        Network(name=f"random {number}", spec=space.spec(query.arch), arch=query.arch, group="random, unscored")
        for number, query in enumerate(searcher.ask(experiment.plan.random_networks), start=1)
    ]
