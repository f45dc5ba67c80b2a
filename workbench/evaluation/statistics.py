"""Small-sample statistics: intervals, rank correlation, Pareto front."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from workbench.records.seeds import generator


class Interval(NamedTuple):
    """An estimate with its interval and the number of observations."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with Student's 95 % interval; with one observation that is the whole line (low, high are -inf, inf)."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, -np.inf, np.inf, len(array))
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half, len(array))


def rank_correlation(
    first: Sequence[float], second: Sequence[float], rng: np.random.Generator | None = None
) -> Interval:
    """Kendall's tau-b of two scorings of the same items, with a 95 % bootstrap interval over items.

    Resampling begins at a fixed seed where no `rng` is given. Fewer than three items, or a scoring that is constant,
    have no order: tau is nan. ValueError for scorings of different items.
    """
    rng = rng or generator(0, "correlation")
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) != len(b):
        raise ValueError(f"Rank correlation needs two scorings of the same items; got {len(a)} and {len(b)}.")
    if len(a) < 3:
        return Interval(np.nan, np.nan, np.nan, len(a))
    tau = float(stats.kendalltau(a, b).statistic)
    draws = (rng.integers(len(a), size=len(a)) for _ in range(500))
    values = np.array([stats.kendalltau(a[draw], b[draw]).statistic for draw in draws])
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(tau, np.nan, np.nan, len(a))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(tau, float(low), float(high), len(a))


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats in both (lower cost, higher value), by rising cost."""
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -values[index]))
    front: list[int] = []
    for index in order:
        if not front or values[index] > values[front[-1]]:
            front.append(index)
    return front


def smoothed(values: Sequence[float], window: int) -> npt.NDArray[np.float64]:
    """Mean of the last `window` values at each place (of as many as there are at the start)."""
    total = np.cumsum(np.asarray(values, dtype=float))
    before = np.concatenate([np.zeros(min(window, len(total))), total[:-window]])
    return (total - before) / np.minimum(np.arange(1, len(total) + 1), window)


def share_of_steps(losses: Sequence[float], reference: Sequence[float], window: int = 15) -> float:
    """The share of its steps after which a loss, averaged over `window` steps, is at the last one of `reference`.

    NaN when it never is.
    """
    smooth, level = smoothed(losses, window), smoothed(reference, window)[-1]
    return float((smooth <= level).argmax() + 1) / len(smooth) if (smooth <= level).any() else float("nan")


def losses_at(losses: Sequence[float]) -> dict[str, float]:
    """Loss before the first update, and the mean of the last tenth of the first quarter, half, and of all steps."""
    row = {"loss at step 0": losses[0]}
    for name, share in (("1/4", 0.25), ("1/2", 0.5), ("end", 1.0)):
        stop = max(1, round(share * len(losses)))
        part = losses[max(0, stop - max(1, len(losses) // 10)) : stop]
        row[f"loss at {name}"] = sum(part) / len(part)
    return row
