"""A supernet trained path by path, as DetNAS and CR-NAS do: first as a classifier, then in the detector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.paths import PathRule, PathSampler, option_counts, path_wise, step_paths
from workbench.methods.phases import Trained, train_phase, training_seed
from workbench.methods.plan import OneShotPart
from workbench.networks.aligned_options import align_options
from workbench.networks.supernet import Supernet
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """A supernet inside a task's trained model, and what the training left."""

    model: nn.Module
    supernet: Supernet
    trained: Trained
    count_updates: Callable[[], list[list[int]]]

    @property
    def key(self) -> str:
        return self.trained.key

    @property
    def updates(self) -> list[list[int]]:
        """Of every decision, how many passes of the training updated each option; drawn again, so not at once."""
        return self.count_updates()


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
    paths: PathRule = "uniform",
    averaged: int = 0,
) -> TrainedSupernet:
    """Path-wise training: at every step one path, drawn uniformly or by `sample`, sees the batch (DetNAS, CR-NAS).

    All parameters of the active path learn, batch norm's scale and shift included. `origin` says what `build`, `sample`
    and `initialise` are; `stream` names the draw of initial weights; `pretrained` gives the supernet's. Other rules
    than "uniform" let several `paths` see a batch before the update (`paths.step_paths`); `averaged` is that of `fit`.
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
    drawn = step_paths(supernet.space, paths, sample)
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
        }
        | ({"step paths": paths} if paths != "uniform" else {}),
        before_step=path_wise(drawn, paths, task),
        shared=shared,
        image_side=image_side,
        averaged=averaged,
    )
    counted = partial(option_counts, supernet.space, drawn, training_seed(experiment), recipe.steps)
    return TrainedSupernet(model=model, supernet=supernet, trained=trained, count_updates=counted)


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
        paths=part.paths,
        averaged=part.averaged,
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
    """The supernet in the detector; `pretrained=None` starts from random weights."""
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
        paths=part.paths,
        averaged=part.averaged,
    )
