"""Candidates of a search: scored by the weights they inherit, searched over, and the chosen ones trained alike.

Serves any supernet that can become one architecture at a time: paths of blocks as well as NATS's mixture.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from workbench.evaluation.scoring import Scorer, Switchable, run_search
from workbench.methods.compare import Contender, Result, train_contender
from workbench.methods.phases import Study, forward_macs
from workbench.networks.supernet import Supernet
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.progress import duration, reporter
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection


class Scorable(Protocol):
    """A supernet inside a trained model, of any method."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def supernet(self) -> Switchable: ...
    @property
    def key(self) -> str: ...  # of the phase that trained it


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
    plan = study.plan
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


def detection_scorer(study: Study, supernet: Scorable, *, recalibrated: bool = True) -> Scorer:
    """Scores by AP on the search split, with batch norm recalibrated on a fixed set of training images."""
    return task_scorer(study, supernet, detection_task(study), recalibrated=recalibrated)


def task_scorer(study: Study, supernet: Scorable, task: Any, *, recalibrated: bool = True) -> Scorer:
    """The same for any task, by its own metric."""

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        metrics: dict[str, float]
        metrics, _ = task.measure(
            model,
            study.data.search,
            study.device,
            rng=generator(study.seed, "bootstrap"),  # the same resamples for every candidate
            quick=True,
            batch_size=study.plan.scoring_batch,
            before_batch=before_batch,
        )
        return metrics

    return supernet_scorer(study, supernet, task, study.data.train, measure, recalibrated)


def classification_scorer(study: Study, supernet: Scorable) -> Scorer:
    """The control: the same search by classification accuracy of the pre-trained supernet."""
    task = classification_task(study)

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        rng = generator(study.seed, "bootstrap")
        return task.measure(model, study.data.crops_search, study.device, rng=rng, before_batch=before_batch)[0]

    return supernet_scorer(study, supernet, task, study.data.crops, measure)


def supernet_scorer(
    study: Study,
    supernet: Scorable,
    task: Any,
    data: Any,
    measure: Callable[..., Any],
    recalibrated: bool = True,
) -> Scorer:
    """A scorer whose batch norm is recalibrated on images drawn once from `data`."""
    plan = study.plan
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
        origin=supernet.key,
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
    reset_peak_memory(study.device)
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
    if left or phase not in {entry.phase for entry in study.run.ledger.entries}:  # else it computed nothing now
        enter_search(study, phase, scorer, scores, saved_macs, peak_memory(study.device))
    return scores


def train_all(
    study: Study, entrants: Sequence[Contender], initialise: Callable[[nn.Module], None] | None = None
) -> list[Result]:
    """The same pre-training and fine-tuning in the detector for everybody, each measured once on the test split."""
    plan = study.plan
    shared: dict[str, Any] = {
        "task": detection_task(study),
        "classification": classification_task(study),
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


def path_supernet(scorer: Scorer) -> Supernet:
    """The scorer's supernet, of the kind that runs one path of blocks."""
    assert isinstance(scorer.supernet, Supernet)
    return scorer.supernet


def enter_search(
    study: Study, phase: str, scorer: Scorer, scores: Sequence[Score], saved_macs: int = 0, peak: int = 0
) -> None:
    """Puts the cost of scoring candidates (recalibration and scoring) into the ledger; 0 where the peak is unknown."""
    detecting = not isinstance(scorer.task, Classification)
    scored_on = study.data.search if detecting else study.data.crops_search
    calibration = min(study.plan.calibration_images, len(study.data.train if detecting else study.data.crops))
    images = len(scores) * (calibration + len(scored_on))
    space = scorer.supernet.space
    per_image = forward_macs(
        scorer.model,
        scorer.task,
        scored_on,
        study.device,
        lambda _model, _turn, rng: scorer.supernet.activate(space.sample(rng)),
    )
    study.run.ledger.add(
        Entry(
            phase=phase,
            seconds=sum(score.seconds for score in scores),
            images=images,
            forward_macs=(per_image - saved_macs) * images,
            peak_memory=peak,
        )
    )
