"""Candidates of a search: scored by the weights they inherit from a supernet of any method, and searched over."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import nn

from workbench.evaluation.recalibration import ImageBatches
from workbench.evaluation.scoring import Scorer, run_search
from workbench.methods.experiment import Experiment, body_of, forward_macs, new_model
from workbench.methods.phases import load_weights
from workbench.networks.supernet import Supernet
from workbench.records.files import read_json
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.progress import announce, duration, reporter
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.search.query import Searcher
from workbench.spaces.arch import Arch
from workbench.tasks.classification import Classification
from workbench.training.fit import place
from workbench.training.recipe import autocast


class Scorable(Protocol):
    """A supernet inside a trained model, of any method."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def supernet(self) -> Supernet: ...
    @property
    def key(self) -> str: ...  # of the phase that trained it


class KeptSupernet(NamedTuple):
    """A supernet that a run trained for its task, read back from its folder."""

    model: nn.Module
    supernet: Supernet
    key: str


def kept_supernet(experiment: Experiment, build: Callable[[], Supernet], phase: str) -> KeptSupernet:
    """What `phase` left in `phases/` of the run folder; nothing is trained.

    `build` makes the supernet as the method did. ValueError when the run has not trained it yet, or another one.
    """
    model = new_model(lambda: experiment.task.build(build()), experiment.seed, "kept supernet")
    supernet: Supernet = body_of(model)
    for path in sorted((experiment.run.path / "phases").glob("*/phase.json")):
        record = read_json(path)
        found = record.get("entry", {}).get("phase"), record.get("identity", {}).get("origin", {}).get("space")
        if found == (phase, supernet.space.name):
            load_weights(model, path.parent / "weights.safetensors")
            place(model, experiment.device)
            return KeptSupernet(model=model, supernet=supernet, key=path.parent.name)
    raise ValueError(
        f"{experiment.run.path} keeps no {phase!r} of the space {supernet.space.name}; run the cells that train the"
        " supernet first, then ask again."
    )


def kept_score(experiment: Experiment, build: Callable[[], Supernet], phase: str) -> Callable[[Arch], Score]:
    """A function that scores one architecture by the `kept_supernet`, which is read when it is asked first.

    Such scores are no part of the run's record. ValueError as long as there is no such supernet.
    """

    @cache
    def judge() -> Scorer:
        return scorer(experiment, kept_supernet(experiment, build, phase), experiment.task)

    return lambda arch: judge()(arch, phase="asked", step=0)


def scorer(experiment: Experiment, supernet: Scorable, task: Any, *, recalibrated: bool = True) -> Scorer:
    """Scores a candidate by the task's metric on the search split, by the weights of the supernet.

    Batch norm is recalibrated on training images that are drawn once. A classifier is scored on crops.
    """
    part, data = experiment.plan.scoring, experiment.data
    crops = isinstance(task, Classification)
    train, search = (data.crops, data.crops_search) if crops else (data.train, data.search)
    recipe = experiment.plan.classifier.recipe if crops else experiment.plan.finetune
    size, total = part.calibration_batch, min(part.calibration_images, len(train))
    if total > size:  # the cumulative average weights every batch alike: no smaller last one
        total -= total % size
    chosen = generator(experiment.seed, "calibration").permutation(len(train))[:total].tolist()

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        metrics: dict[str, float]
        metrics, _ = task.measure(
            model,
            search,
            experiment.device,
            rng=generator(experiment.seed, "bootstrap"),  # the same resamples for every candidate
            quick=True,
            batch_size=part.batch,
            before_batch=before_batch,
        )
        return metrics

    return Scorer(
        model=supernet.model,
        supernet=supernet.supernet,
        task=task,
        calibration=ImageBatches(task, train, chosen, size, experiment.device),
        scored=ImageBatches(task, search, range(len(search)), part.batch, experiment.device),
        measure=measure,
        image_size=experiment.plan.macs_at,
        seed=experiment.seed,
        origin=supernet.key,
        recalibrated=recalibrated,
        precision=partial(autocast, recipe, experiment.device),
    )


def search(
    experiment: Experiment,
    searcher: Searcher,
    judge: Scorer,
    *,
    phase: str,
    evaluations: int,
    generation: int,
    saved_macs: int = 0,
) -> list[Score]:
    """Runs `searcher` on the scores of `judge`; each is in the run's record, and their cost in the ledger.

    `saved_macs` are what the judge does not compute again, per image and evaluation.
    """
    if recorded := experiment.run.scores(phase):
        typical = float(np.median([score.seconds for score in recorded]))
    else:
        space, rng = judge.supernet.space, np.random.default_rng(0)
        plain = replace(judge, reuse=None)
        typical = plain(space.sample(rng), phase="timing", step=0).seconds
    left = evaluations - len(recorded)
    engine = experiment.engine
    announce(f"{phase}: {left} evaluations to do, {duration(left * typical / engine.workers)}")
    reset_peak_memory(experiment.device)
    scores = run_search(
        searcher,
        judge,
        experiment.run,
        phase=phase,
        metric=judge.task.metric,
        evaluations=evaluations,
        generation=generation,
        origin=judge.origin,
        progress=reporter(phase),
        spread=engine.each,
    )
    if left or phase not in {entry.phase for entry in experiment.run.ledger.entries}:  # else nothing was computed now
        peak = 0 if engine.remote else peak_memory(experiment.device)
        enter_search(experiment, phase, judge, scores, saved_macs, peak)
    return scores


def score_all(experiment: Experiment, archs: Iterable[Arch], judge: Scorer, phase: str) -> list[Score]:
    """The scores of given architectures in their order, recorded like those of a search; equal ones are scored once."""
    wanted = list(archs)
    distinct = list(dict.fromkeys(wanted))
    budget = {"evaluations": len(distinct), "generation": len(distinct)}
    scores = search(experiment, ExhaustiveSearch(distinct), judge, phase=phase, **budget)
    by_arch = dict(zip(distinct, scores, strict=True))
    return [by_arch[arch] for arch in wanted]


def best(scores: Sequence[Score], metric: str) -> Score:
    """The best row that did not fail, of equal ones that with fewer params; ValueError when all failed."""
    return top(scores, metric, 1)[0]


def top(scores: Sequence[Score], metric: str, count: int) -> list[Score]:
    """The best `count` rows that did not fail (fewer where there are not so many), as `best` would take one by one.

    ValueError when all failed, with the first error.
    """
    good = [score for score in scores if score.error is None]
    if not good:
        raise ValueError(f"All {len(scores)} candidates failed; the first error was: {scores[0].error}")
    return sorted(good, key=lambda score: (-score.metrics[metric], score.params))[:count]


def score_gap(found: Score, drawn: Score, metric: str) -> str:
    """How far the search's own scores set the found network apart from the best random one, in words."""
    if not {metric, f"{metric}_error"} <= found.metrics.keys() & drawn.metrics.keys():
        return "the search has no score of both the found network and the best random one"
    gap = found.metrics[metric] - drawn.metrics[metric]
    error = math.hypot(found.metrics[f"{metric}_error"], drawn.metrics[f"{metric}_error"])
    return f"the search scores it {gap:+.3f} against the best-scored random one, with an error of {error:.3f}"


def enter_search(
    experiment: Experiment, phase: str, judge: Scorer, scores: Sequence[Score], saved_macs: int = 0, peak: int = 0
) -> None:
    """Puts the cost of scoring candidates (recalibration and scoring) into the ledger; 0 where the peak is unknown."""
    calibrating = len(judge.calibration.indices) if judge.recalibrated else 0
    images = len(scores) * (calibrating + len(judge.scored.indices))
    supernet = judge.supernet
    per_image = forward_macs(
        judge.model,
        judge.task,
        judge.scored.data,
        experiment.device,
        lambda model, turn, rng: supernet.activate(supernet.space.sample(rng)),
    )
    experiment.run.ledger.add(
        Entry(
            phase=phase,
            seconds=sum(score.seconds for score in scores),
            images=images,
            forward_macs=(per_image - saved_macs) * images,
            peak_memory=peak,
        )
    )
