"""Scores candidates with inherited weights, and runs a searcher against the record."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from workbench.evaluation.prefix_reuse import PrefixReuse
from workbench.evaluation.recalibration import ImageBatches, keeping_statistics, recalibrate
from workbench.networks.backbone import Prefix
from workbench.networks.supernet import Supernet
from workbench.records.progress import Progress, silent
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.search.query import Searcher
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize
from workbench.tasks.task import Task


@dataclass(kw_only=True)
class Scorer:
    """Scores an architecture by the supernet's own weights; calling it leaves the model as it was.

    `supernet` is the part of `model` that switches paths. Statistics are recalibrated on `calibration` (training
    images), then `measure` computes the metrics on `scored`, fitness and `<fitness>_error` among them; it calls what
    it is given with the index of each batch before scoring it. MACs are stated at `image_size`.

    A prefix of decisions is scored by its completions: batch i, in calibration as in scoring, is the i-th of them,
    counted round (CR-NAS, section 3.3.2: each mini-batch is another network, all detections are pooled).
    """

    model: nn.Module
    supernet: Supernet
    task: Task
    calibration: ImageBatches
    scored: ImageBatches
    measure: Callable[[nn.Module, Callable[[int], None]], dict[str, float]]
    image_size: ImageSize
    seed: int
    origin: str = ""  # the key of the phase that trained the model
    recalibrated: bool = True
    reuse: PrefixReuse | None = None  # for prefixes: computes the blocks that candidates share only once
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext  # as in training

    def __post_init__(self) -> None:
        if self.reuse is not None and not self.recalibrated:
            raise ValueError("Reused prefixes have recalibrated statistics; use recalibrated=True or reuse=None.")

    def __call__(self, arch: Arch, *, phase: str, step: int, completions: Sequence[Arch] = ()) -> Score:
        """The score, or a row with the error that killed the candidate; an illegal architecture is a bug and raises."""
        space = self.supernet.space
        networks = list(completions) or [arch]
        for network in networks:
            space.check(network)
            if network.choices[: len(arch.choices)] != arch.choices:
                raise ValueError(f"The completion {network.choices} does not begin with the prefix {arch.choices}.")
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        error = None
        try:
            with keeping_statistics(self.model), self.precision():
                metrics = self._metrics(networks, arch)
            broken = [name for name, value in metrics.items() if not math.isfinite(value)]
            if broken:
                metrics, error = {}, f"not finite: {', '.join(broken)}"
        except Exception as failure:  # one bad candidate must not end a search of a thousand
            if _of_the_machine(failure):
                raise  # would hit every candidate alike, and stay in the record: mend it and continue the run
            error = f"{type(failure).__name__}: {failure}"
        row = self.lost(error or "", arch, phase=phase, step=step, completions=completions)
        return replace(row, metrics=metrics, seconds=time.perf_counter() - start, error=error)

    def lost(self, error: str, arch: Arch, *, phase: str, step: int, completions: Sequence[Arch] = ()) -> Score:
        """The row of a candidate that has no metrics, because of this error."""
        space, network = self.supernet.space, [*completions, arch][0]
        return Score(
            arch=arch,
            metrics={},
            macs=space.macs(network, self.image_size),
            params=space.params(network),
            seconds=0.0,
            seed=self.seed,
            phase=phase,
            step=step,
            error=error,
        )

    def _metrics(self, networks: list[Arch], arch: Arch) -> dict[str, float]:
        # What candidates of one parent share.
        calibrating, scoring = self.reuse.features(arch.choices[:-1]) if self.reuse else ([], [])

        def prepare(prefixes: Sequence[Prefix], index: int) -> None:
            self.supernet.activate(networks[index % len(networks)])
            self.supernet.prefix = prefixes[index] if prefixes else None

        self.supernet.activate(networks[0])
        try:
            if self.recalibrated:
                recalibrate(self.model, self.task, self.calibration, partial(prepare, calibrating))
            return self.measure(self.model, partial(prepare, scoring))
        finally:
            self.supernet.prefix = None


def _of_the_machine(failure: Exception) -> bool:
    """Whether the machine failed (memory, the GPU, a file) and not the candidate."""
    if isinstance(failure, torch.OutOfMemoryError | torch.AcceleratorError | MemoryError | OSError):
        return True
    return isinstance(failure, RuntimeError) and str(failure).startswith(("CUDA", "cuDNN"))


def one_by_one(score: Callable[..., Score], calls: Iterable[Mapping[str, Any]]) -> Iterator[Score]:
    """The scores of these calls in their order, each made when it is wanted."""
    return (score(**call) for call in calls)


def run_search(
    searcher: Searcher,
    score: Callable[..., Score],
    run: RunFolder,
    *,
    phase: str,
    metric: str,
    evaluations: int,
    generation: int,
    origin: str = "",
    progress: Progress = silent,
    spread: Callable[[Any, Iterable[Mapping[str, Any]]], Iterator[Score]] = one_by_one,
) -> list[Score]:
    """Asks `generation` architectures at a time until `evaluations` are scored or no more come; all scores in order.

    Every score is in the run's record before it counts. A killed search is replayed from there: the searcher asks the
    same questions again and gets the recorded answers, so it ends as if it had never been interrupted. `spread` may
    score several candidates at a time; the record keeps the order of asking.
    """
    run.claim(phase, origin)
    recorded = {row.arch: row for row in run.scores(phase)}
    scores: list[Score] = []
    step = 0
    while (left := evaluations - len(scores)) > 0 and (queries := searcher.ask(min(generation, left))):
        new: list[Score] = []
        unknown = [query for query in queries if query.arch not in recorded]
        same = {"phase": phase, "step": step}
        answers = spread(score, [{"arch": query.arch, "completions": query.completions, **same} for query in unknown])
        for query in queries:
            row = recorded.get(query.arch)
            if row is None:
                row = replace(next(answers), parents=tuple(parent.choices for parent in query.parents))
                run.append(row)
                best = max((each.metrics[metric] for each in [*scores, *new, row] if each.error is None), default=0.0)
                progress(len(scores) + len(new) + 1, evaluations, f"best {metric} {best:.3f}")
            new.append(row)
        searcher.tell(new)
        scores += new
        if not any(row.error is None for row in scores):
            raise RuntimeError(f"All candidates of the first generation failed; the first error: {scores[0].error}")
        step += 1
    return scores
