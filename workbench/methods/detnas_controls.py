"""What DetNAS's winner is compared with, everybody trained alike (sections 6 and 7 of the specification)."""

from collections.abc import Sequence

from workbench.methods import candidates
from workbench.methods.candidates import best, classification_scorer, detection_scorer, detection_task
from workbench.methods.compare import Contender, Result, frozen_random_backbone
from workbench.methods.detnas import finetune_supernet, limits_of, search, space_of
from workbench.methods.detnas_presets import DetNASPlan
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.phases import Study
from workbench.networks.blocks import initialise_like_detnas
from workbench.records.seeds import generator
from workbench.search.random import draw_new
from workbench.spaces.arch import Arch
from workbench.spaces.shuffle import widened_spec


def contenders(study: Study, found: Arch, random_best: Arch) -> list[Contender]:
    """The comparison under one MAC limit: the found network and the three that it must beat."""
    plan: DetNASPlan = study.plan
    space = space_of(study)
    plain = space.uniform(0)
    macs = space.macs(found, plan.macs_at)
    return [
        Contender(name="DetNAS", spec=space.spec(found), arch=found),
        Contender(name="all 3x3", spec=space.spec(plain), arch=plain),
        Contender(name="all 3x3 widened", spec=widened_spec(space.name, plain.choices, macs, plan.macs_at)),
        Contender(name="best-scored random", spec=space.spec(random_best), arch=random_best),
    ]


def ablation_contenders(study: Study, pretrained: TrainedSupernet) -> list[Contender]:
    """The winners of two other searches.

    ClsNAS by classification accuracy, and DetNAS-scratch on a supernet without pre-training.
    """
    space = space_of(study)
    by_accuracy = best(search(study, classification_scorer(study, pretrained), phase="ClsNAS"), "top1")
    scratch = finetune_supernet(study, None, "finetune supernet from scratch")
    by_scratch = best(search(study, detection_scorer(study, scratch), phase="DetNAS-scratch"), study.plan.fitness)
    found = {"ClsNAS": by_accuracy.arch, "DetNAS-scratch": by_scratch.arch}
    return [Contender(name=name, spec=space.spec(arch), arch=arch) for name, arch in found.items()]


def frozen_control(study: Study, arch: Arch) -> float:
    """Test AP50 when the found network keeps random weights and only the detector on top learns."""
    spec = space_of(study).spec(arch)
    return frozen_random_backbone(study, spec, detection=detection_task(study), finetune=study.plan.finetune)


def random_contenders(study: Study, taken: Sequence[Contender]) -> list[Contender]:
    """Random networks within the limit that nobody scored: their mean is what chance gives without any search."""
    space, limits = space_of(study), limits_of(study)
    rng = generator(study.seed, "unscored networks")
    archs: list[Arch] = []
    for _ in range(study.plan.random_networks):
        known = {entrant.arch for entrant in taken if entrant.arch} | set(archs)
        archs.append(draw_new(space, rng, limits, known))
    return [
        Contender(name=f"random {index + 1}", spec=space.spec(arch), arch=arch, group="random, unscored")
        for index, arch in enumerate(archs)
    ]


def train_all(study: Study, entrants: Sequence[Contender]) -> list[Result]:
    """Step 4 for everybody, with the original's initialisation where the plan says so."""
    return candidates.train_all(study, entrants, initialise_like_detnas if study.plan.detnas_init else None)
