"""What the one-shot methods share: train a supernet path by path, score candidates on it, run a search.

DetNAS and CR-NAS both pre-train a supernet on classification and fine-tune it in the detector, one random path per
step, and score architectures by the weights they inherit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from workbench.evaluation.scoring import Scorer, run_search
from workbench.methods.compare import Contender, Result, train_contender
from workbench.methods.phases import Study, Trained, forward_macs, new_model, train_phase
from workbench.methods.presets import DataPlan
from workbench.networks.supernet import Supernet, align_options
from workbench.records.ledger import Entry, peak_memory
from workbench.records.progress import duration, reporter
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize
from workbench.tasks.box_metrics import bootstrap_ap, evaluate_boxes
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection, DetectorConfig
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class OneShotPlan:
    """The numbers that every one-shot method has."""

    data: DataPlan
    detector: DetectorConfig
    supernet_pretrain: Recipe
    supernet_finetune: Recipe
    pretrain: Recipe  # of the found network and of everything it is compared with
    finetune: Recipe
    classifier_hidden: int
    classifier_dropout: float
    label_smoothing: float
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    macs_at: ImageSize  # at which MACs are stated
    fitness: Literal["AP", "AP50"]  # of the search
    calibration_images: int
    calibration_batch: int
    scoring_batch: int = 32
    random_networks: int  # unscored random networks among the controls
    frozen_control: bool  # also train the detector on a frozen random backbone
    aligned_options: bool  # start the options of a decision as one function (ours, for short trainings)


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """A supernet inside a trained model (classifier, detector or probe)."""

    model: nn.Module
    supernet: Supernet
    trained: Trained


@dataclass(frozen=True)
class ImageBatches:
    """Batches of the same images at every iteration, made when they are needed: 4,000 of COCO are 15 GB."""

    task: Any
    data: Any
    indices: Sequence[int]
    batch_size: int
    device: torch.device

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.task.batch(self.data, self.indices[start : start + self.batch_size], self.device)[0]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)


def classification_task(study: Study) -> Classification:
    plan: OneShotPlan = study.plan
    return Classification(
        categories=study.data.crops.categories,
        hidden=plan.classifier_hidden,
        dropout=plan.classifier_dropout,
        label_smoothing=plan.label_smoothing,
        image_mean=plan.image_mean,
        image_std=plan.image_std,
    )


def detection_task(study: Study) -> Detection:
    return Detection(categories=study.data.train.categories, config=study.plan.detector, metric=study.plan.fitness)


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
    draw = sample or supernet.space.sample
    trained = train_phase(
        study,
        name,
        model,
        task,
        study.data.crops,
        plan.supernet_pretrain,
        origin={**origin, "space": supernet.space.name, "aligned": plan.aligned_options},
        before_step=lambda rng: supernet.activate(draw(rng)),
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
        before_step=lambda rng: supernet.activate(supernet.space.sample(rng)),
        image_side=plan.data.image_side,
    )
    return TrainedSupernet(model=model, supernet=supernet, trained=trained)


def detection_scorer(study: Study, supernet: TrainedSupernet, *, recalibrated: bool = True) -> Scorer:
    """Scores by AP on the search split, with batch norm recalibrated on a fixed set of training images."""
    task = detection_task(study)
    truth = study.data.search.ground_truth()

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        found = task.predict(model, study.data.search, study.device, study.plan.scoring_batch, before_batch)
        rng = generator(study.seed, "bootstrap")  # the same resamples for every candidate
        return {
            **evaluate_boxes(truth, found),
            "AP_error": bootstrap_ap(truth, found, resamples=20, rng=rng),
        }

    return supernet_scorer(study, supernet, task, study.data.train, measure, recalibrated)


def classification_scorer(study: Study, supernet: TrainedSupernet) -> Scorer:
    """The control: the same search by classification accuracy of the pre-trained supernet."""
    task = classification_task(study)

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        return task.evaluate(model, study.data.crops_search, study.device, before_batch=before_batch)

    return supernet_scorer(study, supernet, task, study.data.crops, measure)


def supernet_scorer(
    study: Study,
    supernet: TrainedSupernet,
    task: Any,
    data: Any,
    measure: Callable[..., Any],
    recalibrated: bool = True,
) -> Scorer:
    """A scorer whose batch norm is recalibrated on images drawn once from `data`."""
    plan: OneShotPlan = study.plan
    size, total = plan.calibration_batch, min(plan.calibration_images, len(data))
    if total > size:  # the cumulative average weights every batch alike: no smaller last one
        total -= total % size
    chosen = generator(study.seed, "calibration").permutation(len(data))[:total]
    return Scorer(
        model=supernet.model,
        supernet=supernet.supernet,
        task=task,
        calibration=ImageBatches(task, data, chosen.tolist(), size, study.device),
        measure=measure,
        image_size=plan.macs_at,
        seed=study.seed,
        origin=supernet.trained.key,
        recalibrated=recalibrated,
    )


def search(
    study: Study, searcher: Any, scorer: Scorer, *, phase: str, evaluations: int, generation: int, saved_macs: int = 0
) -> list[Score]:
    """Runs `searcher` on `scorer`; every score is in the run's record, and its cost in the ledger.

    `saved_macs` are what the scorer does not compute again, per image and evaluation.
    """
    if recorded := study.run.scores(phase):
        typical = float(np.median([score.seconds for score in recorded]))
    else:
        plain = replace(scorer, reuse=None)
        typical = plain(scorer.supernet.space.uniform(0), phase="timing", step=0).seconds
    left = evaluations - len(recorded)
    print(f"{phase}: {left} evaluations to do, {duration(left * typical)}")
    scores = run_search(
        searcher,
        scorer,
        study.run,
        phase=phase,
        metric=scorer.task.metric,
        evaluations=evaluations,
        generation=generation,
        origin=scorer.origin,
        progress=reporter(phase),
    )
    _enter_search(study, phase, scorer, scores, saved_macs)
    return scores


def train_all(
    study: Study, entrants: Sequence[Contender], initialise: Callable[[nn.Module], None] | None = None
) -> list[Result]:
    """The same pre-training and fine-tuning for everybody, each measured once on the test split."""
    plan: OneShotPlan = study.plan
    shared: dict[str, Any] = {
        "classification": classification_task(study),
        "detection": detection_task(study),
        "pretrain": plan.pretrain,
        "finetune": plan.finetune,
        "macs_at": plan.macs_at,
        "initialise": initialise,
    }
    return [train_contender(study, entrant, **shared) for entrant in entrants]


def best(scores: Sequence[Score], metric: str = "AP") -> Score:
    """The best row that did not fail, of equal ones that with fewer params (CR-NAS, section 12).

    ValueError when all failed, with the first error.
    """
    good = [score for score in scores if score.error is None]
    if not good:
        raise ValueError(f"All {len(scores)} candidates failed; the first error was: {scores[0].error}")
    return max(good, key=lambda score: (score.metrics[metric], -score.params))


def arch_of(score: Score) -> Arch:
    return Arch(score.space, score.choices)


def _aligned(supernet: Supernet, plan: OneShotPlan) -> Supernet:
    if plan.aligned_options:
        align_options(supernet)
    return supernet


def _enter_search(study: Study, phase: str, scorer: Scorer, scores: Sequence[Score], saved_macs: int) -> None:
    detecting = not isinstance(scorer.task, Classification)
    scored_on = study.data.search if detecting else study.data.crops_search
    calibration = min(study.plan.calibration_images, len(study.data.train if detecting else study.data.crops))
    images = len(scores) * (calibration + len(scored_on))
    space = scorer.supernet.space
    per_image = forward_macs(
        scorer.model, scorer.task, scored_on, study.device, lambda rng: scorer.supernet.activate(space.sample(rng))
    )
    study.run.ledger.add(
        Entry(
            phase=phase,
            seconds=sum(score.seconds for score in scores),
            images=images,
            forward_macs=(per_image - saved_macs) * images,
            peak_memory=peak_memory(),
        )
    )
