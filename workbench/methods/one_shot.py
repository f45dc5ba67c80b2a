"""A supernet trained path by path, as DetNAS and CR-NAS do: first as a classifier, then in the detector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.phases import Trained, train_phase
from workbench.methods.plan import OneShotPart
from workbench.networks.aligned_options import align_options
from workbench.networks.supernet import Supernet
from workbench.spaces.arch import Arch
from workbench.training.recipe import Recipe

PathSampler = Callable[[np.random.Generator], Arch]


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """A supernet inside a task's trained model, and what the training left."""

    model: nn.Module
    supernet: Supernet
    trained: Trained

    @property
    def key(self) -> str:
        return self.trained.key


def train_supernet(
    experiment: Experiment,
    name: str,
    build: Callable[[], Supernet],
    task: Any,
    data: Any,
    recipe: Recipe,
    *,
    stream: str,
    origin: Mapping[str, Any],
    aligned: bool,
    sample: PathSampler | None = None,
    initialise: Callable[[nn.Module], None] | None = None,
    pretrained: TrainedSupernet | None = None,
    shared: bool = False,
    image_side: int = 0,
) -> TrainedSupernet:
    """Path-wise training: at every step one path, drawn uniformly or by `sample`, sees the batch (DetNAS, CR-NAS).

    All parameters of the active path learn, batch norm's scale and shift included. `origin` says what `build`, `sample`
    and `initialise` are; `stream` names the draw of initial weights; `pretrained` gives the supernet's.
    """

    def model_of() -> nn.Module:
        supernet = build()
        if aligned:
            align_options(supernet)
        built = task.build(supernet)
        if initialise is not None:
            initialise(built)
        return built

    model = new_model(model_of, experiment.seed, stream)
    supernet: Supernet = body_of(model)
    if pretrained is not None:
        supernet.load_state_dict(pretrained.supernet.state_dict())
    draw = sample or supernet.space.sample
    trained = train_phase(
        experiment,
        name,
        model,
        task,
        data,
        recipe,
        origin={
            **origin,
            "space": supernet.space.name,
            "aligned": aligned,
            "pretrained": pretrained.key if pretrained else None,
        },
        before_step=lambda trained, turn, rng: body_of(trained).activate(draw(rng)),
        shared=shared,
        image_side=image_side,
    )
    return TrainedSupernet(model=model, supernet=supernet, trained=trained)


def pretrain_supernet(
    experiment: Experiment,
    build: Callable[[], Supernet],
    part: OneShotPart,
    name: str = "pretrain supernet",
    *,
    origin: Mapping[str, Any],
    sample: PathSampler | None = None,
    initialise: Callable[[nn.Module], None] | None = None,
) -> TrainedSupernet:
    """The supernet as a classifier; kept in `runs/cache`, because several runs share it."""
    return train_supernet(
        experiment,
        name,
        build,
        experiment.classification,
        experiment.data.crops,
        part.pretrain,
        stream="supernet classifier",
        origin=origin,
        aligned=part.aligned_options,
        sample=sample,
        initialise=initialise,
        shared=True,
        image_side=experiment.plan.data.crop_side,
    )


def finetune_supernet(
    experiment: Experiment,
    build: Callable[[], Supernet],
    part: OneShotPart,
    pretrained: TrainedSupernet | None,
    name: str = "finetune supernet",
    *,
    origin: Mapping[str, Any],
) -> TrainedSupernet:
    """The supernet in the detector, uniform paths; `pretrained=None` starts from random weights."""
    return train_supernet(
        experiment,
        name,
        build,
        experiment.task,
        experiment.data.train,
        part.finetune,
        stream="supernet detector",
        origin=origin,
        aligned=part.aligned_options,
        pretrained=pretrained,
        image_side=experiment.plan.data.image_side,
    )
