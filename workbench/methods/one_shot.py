"""What the one-shot methods share: their plan, and a supernet trained path by path.

DetNAS and CR-NAS both pre-train a supernet on classification and fine-tune it in the detector, one random path per
step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from workbench.methods.candidates import classification_task, detection_task
from workbench.methods.compare import body_of
from workbench.methods.phases import Study, Trained, new_model, train_phase
from workbench.methods.presets import ClassifierPlan
from workbench.networks.aligned_options import align_options
from workbench.networks.supernet import Supernet
from workbench.spaces.arch import Arch
from workbench.training.fit import BeforeStep
from workbench.training.recipe import Recipe, Turn


@dataclass(frozen=True, kw_only=True)
class OneShotPlan(ClassifierPlan):
    """The numbers that every one-shot method has; what is compared in the end is pre-trained by `pretrain`."""

    supernet_pretrain: Recipe
    supernet_finetune: Recipe
    frozen_control: bool  # also train the detector on a frozen random backbone
    aligned_options: bool  # start the options of a decision as one function (ours, for short trainings)


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """A supernet inside a trained model (classifier, detector or probe)."""

    model: nn.Module
    supernet: Supernet
    trained: Trained

    @property
    def key(self) -> str:
        return self.trained.key


def random_path(draw: Callable[[np.random.Generator], Arch]) -> BeforeStep:
    """Path-wise training: before every step the supernet in the model becomes an architecture drawn anew."""

    def before_step(model: nn.Module, turn: Turn, rng: np.random.Generator) -> None:
        supernet = body_of(model)
        assert isinstance(supernet, Supernet)
        supernet.activate(draw(rng))

    return before_step


def pretrain_supernet(
    study: Study,
    build: Callable[[], Supernet],
    name: str = "pretrain supernet",
    *,
    origin: Mapping[str, Any],
    sample: Callable[[np.random.Generator], Arch] | None = None,
    initialise: Callable[[nn.Module], None] | None = None,
) -> TrainedSupernet:
    """The supernet as a classifier, one random path per step; kept in `runs/cache`, because several runs share it.

    `origin` says what `build`, `sample` (uniform by default) and `initialise` are.
    """
    plan: OneShotPlan = study.plan
    task = classification_task(study)

    def classifier() -> nn.Module:
        model = task.build(_aligned(build(), plan))
        if initialise is not None:
            initialise(model)
        return model

    model = new_model(classifier, study.seed, "supernet classifier")
    supernet = model.backbone
    assert isinstance(supernet, Supernet)
    trained = train_phase(
        study,
        name,
        model,
        task,
        study.data.crops,
        plan.supernet_pretrain,
        origin={**origin, "space": supernet.space.name, "aligned": plan.aligned_options},
        before_step=random_path(sample or supernet.space.sample),
        shared=True,
        image_side=plan.data.crop_side,
    )
    return TrainedSupernet(model=model, supernet=supernet, trained=trained)


def finetune_supernet(
    study: Study,
    build: Callable[[], Supernet],
    pretrained: TrainedSupernet | None,
    name: str = "finetune supernet",
    *,
    origin: Mapping[str, Any],
) -> TrainedSupernet:
    """The supernet as the backbone of the detector, uniform paths; `pretrained=None` starts from random weights.

    All parameters of the active path learn, batch norm's scale and shift included.
    """
    plan: OneShotPlan = study.plan
    task = detection_task(study)
    model = new_model(lambda: task.build(_aligned(build(), plan)), study.seed, "supernet detector")
    supernet = model.get_submodule("backbone.body")
    assert isinstance(supernet, Supernet)
    if pretrained is not None:
        supernet.load_state_dict(pretrained.supernet.state_dict())
    trained = train_phase(
        study,
        name,
        model,
        task,
        study.data.train,
        plan.supernet_finetune,
        origin={
            **origin,
            "space": supernet.space.name,
            "aligned": plan.aligned_options,
            "pretrained": pretrained.trained.key if pretrained else None,
        },
        before_step=random_path(supernet.space.sample),
        image_side=plan.data.image_side,
    )
    return TrainedSupernet(model=model, supernet=supernet, trained=trained)


def _aligned(supernet: Supernet, plan: OneShotPlan) -> Supernet:
    if plan.aligned_options:
        align_options(supernet)
    return supernet
