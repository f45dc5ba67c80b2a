"""Searches repeated a thousand times on an exhaustive table, where the truth about every network is known."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.records.score import Score
from workbench.search.limits import Limit, feasible
from workbench.search.query import Searcher
from workbench.spaces.arch import Arch

METRIC = "score"  # by this name searchers get what a network is worth
Numbers = npt.NDArray[np.float64]


class SearchBudget(NamedTuple):
    """How a searcher is asked: `evaluations` in all, at most `generation` at a time; its metric is `METRIC`."""

    start: Callable[[int, Sequence[Limit]], Searcher]  # from a seed and limits
    evaluations: int
    generation: int


def score_noise(means: Sequence[float], scores: Sequence[float]) -> float:
    """The noise with which table means would tell as much about themselves as the `scores` of a supernet do.

    Scores are fitted as a line in the means; the noise is the deviation of what is left, over the slope, so that it is
    in units of the table. Where scores do not rise with the means it is inf.
    """
    truth = np.asarray(means, dtype=float)
    slope, level = np.polyfit(truth, np.asarray(scores, dtype=float), 1)
    rest = np.asarray(scores) - level - slope * truth
    return float(rest.std(ddof=2) / slope) if slope > 0 else float("inf")


def regrets(
    search: SearchBudget,
    means: Mapping[Arch, float],
    noise: float,
    *,
    runs: int,
    rng: np.random.Generator,
    limits: Sequence[Limit] = (),
) -> Numbers:
    """Regret after each evaluation of simulated searches (runs, evaluations): the best mean within the limits less
    that of the network with the best score so far.

    Every run is a supernet with errors of its own: a network's score is its mean plus a normal error of size `noise`,
    the same whenever that network is looked at. A prefix of decisions scores as its completions do on average; before
    the first whole network there is no regret but nan. A search without further questions keeps its answer. Only
    networks in `means` are asked for. The best of means that are noisy themselves is too good, so that regrets are too
    large by up to about the error of a mean.
    """
    known = {arch: place for place, arch in enumerate(means)}
    allowed = {arch: mean for arch, mean in means.items() if feasible(arch, limits)}
    within = [Limit("networks outside the table or its limits", 0, lambda arch: arch not in allowed)]
    values, best = np.array(list(means.values())), max(allowed.values())
    errors = noise * rng.standard_normal((runs, len(values)))
    seeds = rng.integers(2**31, size=runs)
    found = np.full((runs, search.evaluations), np.nan)
    for run in range(runs):
        scores = (values + errors[run]).tolist()
        chosen = _chosen(search.start(int(seeds[run]), within), search, scores, known)
        regret = [best - values[place] if place is not None else np.nan for place in chosen]
        found[run] = np.pad(regret, (0, search.evaluations - len(regret)), mode="edge")
    return found


def _chosen(
    searcher: Searcher, search: SearchBudget, scores: Sequence[float], known: Mapping[Arch, int]
) -> list[int | None]:
    """After each evaluation the place of the network with the best score so far; None before there is one."""
    chosen: list[int | None] = []
    leader: int | None = None
    while (left := search.evaluations - len(chosen)) > 0 and (queries := searcher.ask(min(search.generation, left))):
        told = []
        for query in queries:
            looked_at = [known[arch] for arch in query.completions or (query.arch,)]
            value = sum(scores[place] for place in looked_at) / len(looked_at)
            told.append(_score(query.arch, value, len(chosen)))
            place = known.get(query.arch)
            if place is not None and (leader is None or value > scores[leader]):
                leader = place
            chosen.append(leader)
        searcher.tell(told)
    return chosen


def _score(arch: Arch, value: float, step: int) -> Score:
    """What a searcher is told; nothing but the metric counts there."""
    metrics = {METRIC: value}
    return Score(arch=arch, metrics=metrics, macs=0, params=0, seconds=0.0, seed=0, phase="simulated", step=step)
