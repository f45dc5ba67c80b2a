"""Tables of the trust lesson: noise and ceilings, predictors, regrets of simulated searches, power."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.evaluation import benchmark
from workbench.evaluation.simulated_search import METRIC, SearchBudget, regrets
from workbench.insight.receptive_field import predicted_sigma
from workbench.lessons.trust import TrustPlan
from workbench.records.seeds import generator
from workbench.search.beam import BeamSearch
from workbench.search.evolution import Evolution
from workbench.search.limits import Limit, feasible
from workbench.search.random import RandomSearch
from workbench.spaces.catalogue import space_named
from workbench.spaces.space import SearchSpace


def cheap_predictors(space: SearchSpace) -> dict[str, dict[str, float]]:
    """What is known of every network before any training, by choices."""
    archs = {benchmark.text_of(arch): arch for arch in space.all()}
    return {
        "predicted sigma": {text: predicted_sigma(space.spec(arch))[-1][0] for text, arch in archs.items()},
        "MACs": {text: space.macs(arch, space.image_size) for text, arch in archs.items()},
        "params": {text: space.params(arch) for text, arch in archs.items()},
    }


def noise_table(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Noise, q and ceilings of tau: of all networks, and of the top quarter, where a search has to choose.

    The quarter is chosen by the means of the same seeds, so its q and its tau of two seeds come out too low: for normal
    values with a true q of 2 and three seeds tau is 0.24 where new seeds would give 0.36.
    """
    means = scores.mean(axis=1)
    rows = []
    for name, part in {"all": scores, "top quarter": scores.loc[benchmark.top_quarter(means).index]}.items():
        rng = generator(seed, "noise", name)
        noise, tau = benchmark.noise_of(part, rng), benchmark.tau_between_seeds(part, rng)
        row: dict[str, Any] = {"networks": name, "n": len(part), "seeds": scores.shape[1]}
        row |= {"spread of networks": noise.networks, "noise of a seed": noise.seeds}
        row |= {"q": noise.q.value, "q low": noise.q.low, "q high": noise.q.high}
        row |= {"tau of two seeds": tau.value, "low": tau.low, "high": tau.high}
        row |= {"by formula": benchmark.expected_tau(noise.q.value)}
        rows.append(row | {"truth against means": benchmark.expected_tau(noise.q.value, np.inf, scores.shape[1])})
    return pd.DataFrame(rows)


def affordable(rows: pd.DataFrame, seconds: float) -> int:
    """How many networks could have been trained alone in these seconds; at least two, for a regression."""
    return max(2, round(seconds / float(rows["seconds"].median())))


def tau_table(
    predictors: Mapping[str, Mapping[str, float]], scores: pd.DataFrame, trained: int, seed: int
) -> pd.DataFrame:
    """`benchmark.predictor_table`, with a last row for a ridge regression on `trained` networks."""
    frame = benchmark.predictor_table(predictors, scores.mean(axis=1))
    fields = ("tau", "low", "high", "n")
    row: dict[str, Any] = {"predictor": f"ridge on {trained} networks"}
    for part, tau in benchmark.ridge_tau(scores, trained, generator(seed, "ridge")).items():
        row |= {f"{name}{part}": value for name, value in zip(fields, tau, strict=True)}
    return pd.concat([frame, pd.DataFrame([row])], ignore_index=True)


def search_budgets(plan: TrustPlan, space: SearchSpace, most: int) -> dict[str, SearchBudget]:
    """The searchers of real searches; a beam has its own number of evaluations, the others at most `most`."""
    count = min(plan.evaluations, most)

    def random(seed: int, limits: Sequence[Limit]) -> RandomSearch:
        return RandomSearch(space, seed=seed, limits=limits)

    def evolution(seed: int, limits: Sequence[Limit]) -> Evolution:
        return Evolution(space, plan.evolution, seed=seed, metric=METRIC, limits=limits)

    def beam(seed: int, limits: Sequence[Limit]) -> BeamSearch:
        part = plan.beam
        options: dict[str, Any] = {"width": part.width, "completions": part.completions, "limits": limits}
        return BeamSearch(space, seed=seed, metric=METRIC, **options)

    whole = beam(0, ()).evaluations
    return {
        "random search": SearchBudget(random, count, count),
        "evolution": SearchBudget(evolution, count, plan.evolution.population),
        "beam": SearchBudget(beam, whole, whole),
    }


def regret_table(plan: TrustPlan, means: pd.Series, noise: float, seed: int, macs_limit: float) -> pd.DataFrame:
    """Mean regret of simulated searches, and the range of 80 % of them, by search and number of evaluations.

    `noise` of the scores is in units of the table. A beam has one row: it answers at its end. "no search" is a random
    network within the limit.
    """
    space = space_named(plan.table.space)
    known = {benchmark.arch_of(space, text): float(mean) for text, mean in means.items()}
    limits = [Limit(f"MACs at {plan.macs_at} px", macs_limit, lambda arch: space.macs(arch, plan.macs_at))]
    within = [mean for arch, mean in known.items() if feasible(arch, limits)]
    rows = []
    for name, search in search_budgets(plan, space, len(within)).items():
        rng = generator(seed, "simulated", name)
        found = regrets(search, known, min(noise, 1e3), runs=plan.runs, rng=rng, limits=limits)
        counts = np.arange(1, search.evaluations + 1)[-1 if name == "beam" else 0 :]
        for count, column in zip(counts, found.T[counts - 1], strict=True):
            rows.append([name, count, column.mean(), *np.percentile(column, [10, 90])])
    rows.append(["no search", 0, max(within) - np.mean(within), np.nan, np.nan])
    return pd.DataFrame(rows, columns=["search", "evaluations", "regret", "low", "high"])


def power_table(plan: TrustPlan, means: pd.Series, deviation: float) -> pd.DataFrame:
    """Seeds that a paired claim of a difference needs at 80 % power, and the share of pairs that differ by more."""
    gaps = np.abs(np.subtract.outer(means.to_numpy(), means.to_numpy()))[np.triu_indices(len(means), 1)]
    rows = [
        {
            "difference": difference,
            "seeds needed": benchmark.seeds_needed(difference, deviation) if deviation > 0 else np.nan,
            "pairs that differ more": float((gaps > difference).mean()),
        }
        for difference in plan.differences
    ]
    return pd.DataFrame(rows)


def regret_ends(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The last row of every search in tables of `regret_table`, by their titles."""
    parts = [part.groupby("search", sort=False).last().reset_index() for part in tables.values()]
    return pd.concat([part.assign(networks=title) for title, part in zip(tables, parts, strict=True)])
