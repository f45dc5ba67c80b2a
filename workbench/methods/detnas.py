"""DetNAS (Chen et al., NeurIPS 2019): one-shot search of a detector's backbone.

1. `pretrain_supernet`: a supernet learns classification, one random path per step (section 3 of the specification)
2. `finetune_supernet`: it learns detection, again one random path per step (section 4)
3. `search`: evolution on the fixed supernet; recalibrate batch norm, measure AP (section 5)
4. `train_all`: the winner and its controls are trained like any network and tested (section 6)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from workbench.evaluation.scoring import Scorer, run_search
from workbench.methods.detnas_presets import DetNASPlan
from workbench.methods.phases import Study, Trained, forward_macs, new_model, train_phase
from workbench.networks.blocks import initialise_like_detnas
from workbench.networks.latency import latency_table
from workbench.networks.supernet import Supernet, align_options
from workbench.records.ledger import Entry, peak_memory
from workbench.records.progress import duration, reporter
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.evolution import Evolution
from workbench.search.limits import Limit
from workbench.search.random import RandomSearch
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import classifier_cost
from workbench.spaces.space import SearchSpace
from workbench.tasks.box_metrics import bootstrap_ap, evaluate_boxes
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection

PathSampler = Callable[[np.random.Generator], Arch]


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """A supernet inside a trained model (classifier or detector)."""

    model: nn.Module
    supernet: Supernet
    trained: Trained


@dataclass(frozen=True)
class CalibrationImages:
    """Batches of the same training images at every iteration, made when they are needed: 4,000 of COCO are 15 GB."""

    task: Any
    data: Any
    indices: list[int]
    batch_size: int
    device: torch.device

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.task.batch(self.data, self.indices[start : start + self.batch_size], self.device)[0]


def space_of(study: Study) -> SearchSpace:
    return space_named(study.plan.space)


def classification_task(study: Study) -> Classification:
    plan: DetNASPlan = study.plan
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


def limits_of(study: Study) -> list[Limit]:
    """The hard limits of the search: backbone MACs at the stated image size, and what else the plan limits."""
    plan: DetNASPlan = study.plan
    space = space_of(study)
    measures: dict[str, Callable[[Arch], float]] = {"params": space.params}
    if any(quantity == "latency_ms" for quantity, _ in plan.other_limits):
        measures["latency_ms"] = latency_table(space, plan.macs_at, study.device)
    macs = Limit(f"MACs at {plan.macs_at} px", plan.macs_limit, lambda arch: space.macs(arch, plan.macs_at))
    return [macs, *(Limit(quantity, maximum, measures[quantity]) for quantity, maximum in plan.other_limits)]


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


def new_supernet(study: Study) -> Supernet:
    """An untrained supernet, with its options aligned where the plan says so."""
    supernet = Supernet(space_of(study))
    if study.plan.aligned_options:
        align_options(supernet)
    return supernet


def pretrain_supernet(study: Study) -> TrainedSupernet:
    """Step 1: the supernet as a classifier; kept in `runs/cache`, because several runs share it."""
    plan: DetNASPlan = study.plan
    task = classification_task(study)

    def build() -> nn.Module:
        model = task.build(new_supernet(study))
        if plan.detnas_init:
            initialise_like_detnas(model)
        return model

    model = new_model(build, study.seed, "supernet classifier")
    supernet = model.backbone
    assert isinstance(supernet, Supernet)
    sample = path_sampler(study)
    trained = train_phase(
        study,
        "pretrain supernet",
        model,
        task,
        study.data.crops,
        plan.supernet_pretrain,
        origin={
            "space": plan.space,
            "paths": plan.path_sampling,
            "init": plan.detnas_init,
            "aligned": plan.aligned_options,
        },
        before_step=lambda rng: supernet.activate(sample(rng)),
        shared=True,
        image_side=plan.data.crop_side,
    )
    return TrainedSupernet(model=model, supernet=supernet, trained=trained)


def finetune_supernet(
    study: Study, pretrained: TrainedSupernet | None, name: str = "finetune supernet"
) -> TrainedSupernet:
    """Step 2: the supernet as the backbone of the detector; `pretrained=None` is the control DetNAS-scratch.

    All parameters of the active path learn, batch norm's scale and shift included (the original's custom SyncBN left
    them frozen, pitfall P1). Paths are uniform here, also in the original.
    """
    plan: DetNASPlan = study.plan
    task = detection_task(study)
    model = new_model(lambda: task.build(new_supernet(study)), study.seed, "supernet detector")
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
            "space": plan.space,
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

    def measure(model: nn.Module) -> dict[str, float]:
        found = task.predict(model, study.data.search, study.device)
        rng = generator(study.seed, "bootstrap")  # the same resamples for every candidate
        return {**evaluate_boxes(truth, found), "AP_error": bootstrap_ap(truth, found, resamples=20, rng=rng)}

    return _scorer(study, supernet, task, study.data.train, measure, recalibrated)


def classification_scorer(study: Study, supernet: TrainedSupernet) -> Scorer:
    """ClsNAS, the control: the same search with classification accuracy of the pre-trained supernet as fitness."""
    task = classification_task(study)

    def measure(model: nn.Module) -> dict[str, float]:
        return task.evaluate(model, study.data.crops_search, study.device)

    return _scorer(study, supernet, task, study.data.crops, measure, True)


def search(study: Study, scorer: Scorer, *, phase: str, kind: str = "evolution") -> list[Score]:
    """Step 3: `evolution`, or `random` as its control at equal evaluations; every score is in the run's record."""
    plan: DetNASPlan = study.plan
    space, limits, metric = space_of(study), limits_of(study), scorer.task.metric
    if kind == "evolution":
        searcher: Any = Evolution(space, plan.evolution, seed=study.seed, metric=metric, limits=limits)
    else:
        searcher = RandomSearch(space, seed=study.seed, limits=limits)
    if recorded := study.run.scores(phase):
        typical = float(np.median([score.seconds for score in recorded]))
    else:
        typical = scorer(space.uniform(0), phase="timing", step=0).seconds
    left = plan.evaluations - len(recorded)
    print(f"{phase}: {left} evaluations to do, {duration(left * typical)}")
    scores = run_search(
        searcher,
        scorer,
        study.run,
        phase=phase,
        metric=metric,
        evaluations=plan.evaluations,
        generation=plan.evolution.population,
        origin=scorer.origin,
        progress=reporter(phase),
    )
    _enter_search(study, phase, scorer, scores)
    return scores


def best(scores: Sequence[Score], metric: str = "AP") -> Score:
    """The best row that did not fail; ValueError when all failed, with the first error."""
    good = [score for score in scores if score.error is None]
    if not good:
        raise ValueError(f"All {len(scores)} candidates failed; the first error was: {scores[0].error}")
    return max(good, key=lambda score: score.metrics[metric])


def arch_of(score: Score) -> Arch:
    return Arch(score.space, score.choices)


def recalibration_check(study: Study, supernet: TrainedSupernet, scores: Sequence[Score]) -> pd.DataFrame:
    """The first few recorded architectures scored again without recalibration.

    Columns `key`, `with`, `without` (AP).
    """
    scorer = detection_scorer(study, supernet, recalibrated=False)
    rows = [score for score in scores if score.error is None][: study.plan.recalibration_check]
    known = {score.arch: score for score in study.run.scores("without recalibration")}
    table = []
    for row in rows:
        stale = known.get(row.arch)
        if stale is None:
            stale = scorer(arch_of(row), phase="without recalibration", step=0)
            study.run.append(stale)
        table.append({"key": row.arch, "with": row.metrics["AP"], "without": stale.metrics.get("AP", float("nan"))})
    return pd.DataFrame(table)


def _scorer(
    study: Study, supernet: TrainedSupernet, task: Any, data: Any, measure: Callable[..., Any], recalibrated: bool
) -> Scorer:
    plan: DetNASPlan = study.plan
    size, total = plan.calibration_batch, min(plan.calibration_images, len(data))
    if total > size:  # the cumulative average weights every batch alike: no smaller last one
        total -= total % size
    chosen = generator(study.seed, "calibration").permutation(len(data))[:total]
    calibration = CalibrationImages(task, data, chosen.tolist(), size, study.device)
    return Scorer(
        model=supernet.model,
        supernet=supernet.supernet,
        task=task,
        calibration=calibration,
        measure=measure,
        image_size=plan.macs_at,
        seed=study.seed,
        origin=supernet.trained.key,
        recalibrated=recalibrated,
    )


def _enter_search(study: Study, phase: str, scorer: Scorer, scores: Sequence[Score]) -> None:
    detecting = isinstance(scorer.task, Detection)
    scored_on = study.data.search if detecting else study.data.crops_search
    calibration = min(study.plan.calibration_images, len(study.data.train if detecting else study.data.crops))
    images = len(scores) * (calibration + len(scored_on))
    space = scorer.supernet.space
    per_image = forward_macs(
        scorer.model, scorer.task, scored_on, study.device, lambda rng: scorer.supernet.activate(space.sample(rng))
    )
    seconds = sum(score.seconds for score in scores)
    entry = Entry(
        phase=phase, seconds=seconds, images=images, forward_macs=per_image * images, peak_memory=peak_memory()
    )
    study.run.ledger.add(entry)
