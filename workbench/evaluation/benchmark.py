"""What an exhaustive table can tell: all networks of a small space, each trained alone with several seeds.

The tables are files `<space>-seed<n>.csv`, a row for each training. They may be incomplete: `scores_by_seed` then has
gaps, and everything here computes with the rows that there are, or says nan where they are too few.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from workbench.evaluation.statistics import Interval, rank_correlation
from workbench.records.files import read_csv
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

COLUMNS = ("choices", "seed", "accuracy", "accuracy_error", "macs", "params", "seconds")
Numbers = npt.NDArray[np.float64]


def read_tables(folder: Path, space: SearchSpace) -> pd.DataFrame:
    """The rows of all seeds of `space` in `folder`, none where there is no file; `choices` are digits such as "0122".

    ValueError names the file that lacks a column, holds another network, a value outside its range, or a row twice.
    """
    frames = [pd.DataFrame(columns=list(COLUMNS))]
    for path in sorted(folder.glob(f"{space.name}-seed*.csv")):
        frame = read_csv(path, dtype={"choices": str})
        if lacking := sorted(set(COLUMNS) - set(frame.columns)):
            raise ValueError(f"{path} is no table of trainings: it lacks {', '.join(lacking)}; restore or delete it.")
        frames.append(frame)
        for choices in frame["choices"]:
            try:
                arch_of(space, choices)
            except ValueError as error:
                text = f"{path} holds a network that is not one of {space.name}"
                raise ValueError(f"{text}: {error} Delete that row.") from error
        numbers = frame[list(COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
        if not np.isfinite(numbers.to_numpy(dtype=float)).all() or not numbers["accuracy"].between(0, 1).all():
            raise ValueError(f"{path} holds an accuracy outside 0-1, or a number that is none; train that row again.")
    frame = pd.concat(frames[1:] or frames, ignore_index=True)
    if frame.duplicated(["choices", "seed"]).any():
        twice = frame[frame.duplicated(["choices", "seed"])].iloc[0]
        raise ValueError(f"{folder} holds {twice['choices']} of seed {twice['seed']} twice; delete one of the rows.")
    return frame


def arch_of(space: SearchSpace, choices: object) -> Arch:
    """The architecture of a row's `choices`; ValueError when they are no digits, or none of the space."""
    if not isinstance(choices, str) or not choices.isdecimal():
        raise ValueError(f"choices are option indices such as 0122; got {choices!r}.")
    return space.arch([int(choice) for choice in choices])


def text_of(arch: Arch) -> str:
    """How a row names an architecture: its option indices, as digits."""
    return "".join(map(str, arch.choices))


def scores_by_seed(rows: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Networks (index: choices) by seeds (columns), nan where a training is missing; levels of seeds are made equal.

    All networks of a seed share its scenes, which moves all of them alike and cannot change a ranking. That shift is
    estimated by least squares with the networks' means, and taken out, so that gaps do no harm to means.
    """
    scores = rows.pivot(index="choices", columns="seed", values=metric).sort_index().astype(float)
    place, seed = np.nonzero(scores.notna().to_numpy())
    if scores.shape[1] < 2 or not (scores.notna().sum(axis=1) > 1).any():
        return scores  # nothing says what is the seed's and what is the network's
    networks, seeds = np.eye(len(scores))[place], np.eye(scores.shape[1])[seed]
    fitted = np.linalg.lstsq(np.hstack([networks, seeds]), scores.to_numpy()[place, seed], rcond=None)[0]
    shifts = fitted[len(scores) :]
    return scores - (shifts - shifts.mean())


def top_quarter(means: pd.Series) -> pd.Series:
    """The best quarter of the networks, at least three: among those a search has to choose."""
    return means.nlargest(max(3, round(len(means) / 4)))


class Noise(NamedTuple):
    """How far networks differ, and how far seeds of one network do; standard deviations of the metric.

    nan where no network has two seeds.
    """

    networks: float  # of the true means: their variance less what seeds add to it
    seeds: float  # of one network over seeds, levels apart
    q: Interval  # networks / seeds, with a 95 % bootstrap interval over networks


def noise_of(scores: pd.DataFrame, rng: np.random.Generator, resamples: int = 2000) -> Noise:
    """From networks by seeds (`scores_by_seed`), by an analysis of variance."""
    values = scores.to_numpy(dtype=float)
    counts = np.isfinite(values).sum(axis=1)
    means = np.nansum(values, axis=1) / counts
    squares = np.nansum((values - means[:, None]) ** 2, axis=1)
    # The shifts of the seeds were estimated as well: each but one costs a degree of freedom.
    repeats = int((counts - 1).sum())
    share = max(0.0, 1 - (values.shape[1] - 1) / repeats) if repeats else 0.0

    def estimate(draws: npt.NDArray[np.int64]) -> tuple[Numbers, Numbers]:
        """Variances of true means and between seeds, of the networks `draws` (..., N)."""
        within = squares[draws].sum(axis=-1) / (share * (counts[draws] - 1).sum(axis=-1))
        spread = means[draws].var(axis=-1, ddof=1)
        return np.maximum(0.0, spread - within * (1 / counts[draws]).mean(axis=-1)), within

    every = len(values)
    if every < 2 or share == 0.0:
        return Noise(np.nan, np.nan, Interval(np.nan, np.nan, np.nan, every))
    with np.errstate(divide="ignore", invalid="ignore"):
        networks, seeds = estimate(np.arange(every))
        drawn, within = estimate(rng.integers(every, size=(resamples, every)))
        low, high = np.nanpercentile(np.sqrt(drawn / within), [2.5, 97.5])
        q = Interval(float(np.sqrt(networks / seeds)), float(low), float(high), every)
    return Noise(float(np.sqrt(networks)), float(np.sqrt(seeds)), q)


def expected_tau(q: float, first: float = 1, second: float = 1) -> float:
    """Kendall's tau to expect between the means of `first` and of `second` seeds, for normal values; inf is the truth.

    2 / pi * asin(rho) with the correlation rho, q^2 / (1 + q^2) for two single seeds.
    """
    if q == 0 or np.isinf(q):
        return float(q > 0)
    rho = q**2 / np.sqrt((q**2 + 1 / first) * (q**2 + 1 / second))
    return float(2 / np.pi * np.arcsin(rho))


def tau_between_seeds(scores: pd.DataFrame, rng: np.random.Generator, resamples: int = 300) -> Interval:
    """The mean tau over all pairs of seeds, with a 95 % bootstrap interval over networks; n is that of common networks.

    It is the ceiling of a score as noisy as one training: nothing ranks a seed better than another seed does, but by
    knowing the truth.
    """
    whole = scores.dropna().to_numpy()
    pairs = list(combinations(range(scores.shape[1]), 2))
    if len(whole) < 3 or not pairs:
        return Interval(np.nan, np.nan, np.nan, len(whole))

    def mean_tau(values: Numbers) -> float:
        return float(np.mean([stats.kendalltau(values[:, a], values[:, b]).statistic for a, b in pairs]))

    drawn = [mean_tau(whole[rng.integers(len(whole), size=len(whole))]) for _ in range(resamples)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(mean_tau(whole), float(low), float(high), len(whole))


def predictor_table(predictors: Mapping[str, Mapping[str, float]], means: pd.Series) -> pd.DataFrame:
    """A row for each predictor, values by choices: tau with the table's `means`, overall and in their top quarter.

    Intervals are 95 % bootstraps over networks; a network without a value is left out.
    """
    rows = []
    for name, values in predictors.items():
        both = means[[choices for choices in means.index if choices in values]]
        parts = {"": both, ", top quarter": both[both.index.intersection(top_quarter(means).index)]}
        row: dict[str, object] = {"predictor": name}
        for part, chosen in parts.items():
            tau = rank_correlation([values[choices] for choices in chosen.index], list(chosen))
            row |= {f"{field}{part}": value for field, value in zip(("tau", "low", "high", "n"), tau, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def ridge(choices: Sequence[str], values: Sequence[float], wanted: Sequence[str], strength: float = 0.5) -> Numbers:
    """Predictions for `wanted` by a ridge regression on one-hot options, fitted to `values` of `choices`.

    The mean is not shrunk. What a few trained networks tell about the others, without a supernet.
    """
    digits = [np.array([[int(option) for option in each] for each in part]) for part in (choices, wanted)]
    options = 1 + max(int(part.max()) for part in digits)
    known, asked = (np.eye(options)[part].reshape(len(part), -1) for part in digits)
    target = np.asarray(values, dtype=float)
    centred = known - known.mean(axis=0)
    weights = np.linalg.solve(
        centred.T @ centred + strength * np.eye(known.shape[1]), centred.T @ (target - target.mean())
    )
    return np.asarray(target.mean() + (asked - known.mean(axis=0)) @ weights)


def ridge_tau(scores: pd.DataFrame, trained: int, rng: np.random.Generator, draws: int = 200) -> dict[str, Interval]:
    """Tau of `ridge` from `trained` random networks of one random seed with the means of the others.

    Of all networks that were not trained, and of those in the top quarter of the table. Value and 95 % range are those
    over `draws`; n is the number of networks ranked in a typical one.
    """
    means = scores.mean(axis=1)
    best = top_quarter(means).index
    found: dict[str, list[tuple[float, int]]] = {"": [], ", top quarter": []}
    for _ in range(draws if 2 <= trained <= len(means) - 3 else 0):
        seed = scores[rng.choice(scores.columns)].dropna()
        if len(seed) < trained:
            continue
        chosen = rng.choice(seed.index, trained, replace=False)
        rest = means.index.difference(chosen)
        predicted = pd.Series(ridge(list(chosen), list(seed[chosen]), list(rest)).round(9), rest)
        for part, index in {"": rest, ", top quarter": rest.intersection(best)}.items():
            tau = stats.kendalltau(predicted[index], means[index]).statistic if len(index) > 2 else np.nan
            found[part].append((float(tau), len(index)))
    return {part: _range(pairs) for part, pairs in found.items()}


def _range(pairs: Sequence[tuple[float, int]]) -> Interval:
    """Mean and 95 % range of values that are finite, and the median of their numbers of networks."""
    good = [(tau, count) for tau, count in pairs if np.isfinite(tau)]
    if not good:
        return Interval(np.nan, np.nan, np.nan, 0)
    taus, counts = np.array(good).T
    low, high = np.percentile(taus, [2.5, 97.5])
    return Interval(float(taus.mean()), float(low), float(high), int(np.median(counts)))


def seeds_needed(difference: float, deviation: float, power: float = 0.8, level: float = 0.05) -> int:
    """How many seeds a paired t-test needs to show that two networks differ by `difference`, two-sided at `level`.

    `deviation` is that between seeds of one network; differences of two have sqrt(2) times as much. The start is the
    normal approximation, and seeds are added until the non-central t distribution gives the power. ValueError for a
    difference or a deviation that is not above 0.
    """
    if not (difference > 0 and deviation > 0):
        raise ValueError(f"Power is that of a difference and a deviation above 0; got {difference} and {deviation}.")
    effect = difference / (np.sqrt(2) * deviation)
    count = max(2, int(np.ceil(((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) / effect) ** 2)))
    while stats.nct.sf(stats.t.ppf(1 - level / 2, count - 1), count - 1, effect * np.sqrt(count)) < power:
        count += 1
    return count
