"""A verdict: the found network against its baseline, random search and the strongest other row, in one sentence."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, Literal

from workbench.evaluation.numbers import number
from workbench.evaluation.statistics import Interval, mean_interval
from workbench.records.progress import duration

ERRORS = 2  # a difference of one run counts beyond this many standard errors
VERBS = {"won": "won against", "tied": "tied with", "lost": "lost to"}


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A row of a comparison: its metric (0-1) on the test split with the standard error, and what it costs."""

    name: str
    value: float
    error: float  # test images resampled
    macs: float  # backbone
    seconds: float = 0.0  # of the search that found it; 0: without a search
    forward_macs: float = 0  # of that search

    @property
    def costs(self) -> str:
        search = f", searched in {duration(self.seconds)} with {number('MACs', self.forward_macs)} forward MACs"
        return f"{number('MACs', self.macs)} MACs{search if self.seconds else ''}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One run's found network and all other rows; `baseline` and `random` (may be empty: no control) name two of them.

    `why` are computed words on what the search had to go by. ValueError when a named row is not there.
    """

    method: str
    metric: str
    found: Rival
    others: tuple[Rival, ...]
    baseline: str
    random: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        names = [rival.name for rival in self.others]
        if missing := sorted({self.baseline, self.random} - {"", *names}):
            raise ValueError(f"The verdict on {self.method} names a row {missing[0]!r}; the other rows are {names}.")

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "Comparison":
        """The comparison of a record of `RunFolder.verdicts`."""
        rows = {"found": Rival(**record["found"]), "others": tuple(Rival(**row) for row in record["others"])}
        return Comparison(**{**{name: value for name, value in record.items() if name != "sentence"}, **rows})


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What stored runs measured: the metric by name of the row, a mapping for each seed; `source` says of what."""

    source: str
    seeds: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The found network minus one rival: the interval is 2 standard errors of one run, or 95 % over several."""

    rival: str
    roles: tuple[str, ...]
    difference: Interval
    stored: Interval | None = None  # paired differences of the stored seeds, where they have both rows

    @property
    def result(self) -> Literal["won", "tied", "lost"]:
        return _result(self.difference)

    @property
    def errors(self) -> float:
        """The size of the difference in standard errors (of one run)."""
        value, low, _, _ = self.difference
        return 0.0 if value == 0 else abs(value) * ERRORS / (value - low) if value > low else math.inf


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcomes of one method, and all of it as one sentence, which a notebook shows."""

    method: str
    metric: str
    outcomes: tuple[Outcome, ...]
    sentence: str

    def _repr_markdown_(self) -> str:
        return html.escape(self.sentence, quote=False)


def judge(runs: Sequence[Comparison], stored: Stored | None = None) -> Verdict:
    """The verdict of one run, or over several that differ in their seed; `stored` seeds are told beside one run.

    One run: difference / sqrt(error^2 + error^2), decided beyond 2. Several: the mean of the paired differences,
    decided where its 95 % t-interval excludes zero. The strongest row is picked by what it reached (the highest mean
    of the rows that all runs have): against the best of many a loss is likelier than against one. ValueError for runs
    that compare different things.
    """
    first = runs[0]
    if len({(run.method, run.metric, run.found.name, run.baseline, run.random) for run in runs}) > 1:
        raise ValueError(f"The runs of {first.method} compare other rows; report runs of one version together.")
    shared = set.intersection(*({rival.name for rival in run.others} for run in runs))
    rivals = {name: [_row(run, name) for run in runs] for name in (r.name for r in first.others) if name in shared}
    roles = {first.baseline: ["its baseline"]}
    if first.random:
        roles.setdefault(first.random, []).append("random search")
    if len(rivals) > 1:
        strongest = max(rivals, key=lambda name: _mean(rivals[name]).value)
        roles.setdefault(strongest, []).append(f"the strongest of {len(rivals)} other rows")
    outcomes = tuple(
        Outcome(
            rival=name,
            roles=tuple(words),
            difference=_difference([run.found for run in runs], rivals[name]),
            stored=_stored_difference(stored, first.found.name, name),
        )
        for name, words in roles.items()
    )
    clauses = [_clause(outcome, _mean(rivals[outcome.rival]), first.metric) for outcome in outcomes]
    found, n = _mean([run.found for run in runs]), len(runs)
    head = "One training seed, standard errors of the test split" if n == 1 else f"Mean of {n} seeds, 95 % intervals"
    parts = [f"{first.method} ({first.metric} {number(first.metric, found.value)}, {found.costs}) {', '.join(clauses)}"]
    parts += [] if first.random else ["there is no random control"]
    if n == 1:
        parts.append(_stored_words(outcomes, stored, first.metric))
        parts += [f"as for why: {first.why}"] if first.why else []
    return Verdict(method=first.method, metric=first.metric, outcomes=outcomes, sentence=f"{head}: {'; '.join(parts)}.")


def _result(interval: Interval) -> Literal["won", "tied", "lost"]:
    return "won" if interval.low > 0 else "lost" if interval.high < 0 else "tied"


def _row(run: Comparison, name: str) -> Rival:
    return next(rival for rival in run.others if rival.name == name)


def _mean(rows: Sequence[Rival]) -> Rival:
    numbers = {field.name: fmean(getattr(row, field.name) for row in rows) for field in fields(Rival)[1:]}
    return Rival(name=rows[0].name, **numbers)


def _difference(found: Sequence[Rival], rival: Sequence[Rival]) -> Interval:
    gaps = [one.value - other.value for one, other in zip(found, rival, strict=True)]
    if len(gaps) > 1:
        return mean_interval(gaps)
    reach = ERRORS * math.hypot(found[0].error, rival[0].error)
    return Interval(gaps[0], gaps[0] - reach, gaps[0] + reach, 1)


def _stored_difference(stored: Stored | None, found: str, rival: str) -> Interval | None:
    gaps = [seed[found] - seed[rival] for seed in stored.seeds if {found, rival} <= seed.keys()] if stored else []
    return mean_interval(gaps) if gaps else None


def _clause(outcome: Outcome, rival: Rival, metric: str) -> str:
    gap = outcome.difference
    certainty = f", {outcome.errors:.1f} standard errors" if gap.n == 1 else f" {_bounds(gap, metric)}"
    role = ", ".join(outcome.roles)
    amount = f"{number(metric, gap.value, signed=True)}{certainty}"
    return f"{VERBS[outcome.result]} {role} ({rival.name}: {amount}, {rival.costs})"


def _stored_words(outcomes: Sequence[Outcome], stored: Stored | None, metric: str) -> str:
    known = [(outcome.rival, outcome.stored) for outcome in outcomes if outcome.stored is not None]
    if stored is None or not known:
        return "no stored seeds"
    told = [
        f"{VERBS[_result(gap)]} {name}, {number(metric, gap.value, signed=True)} {_bounds(gap, metric)}"
        for name, gap in known
    ]
    return f"stored seeds ({stored.source}): {', '.join(told)}"


def _bounds(gap: Interval, metric: str) -> str:
    if gap.n == 1:
        return "without an interval, n = 1"
    return f"[{number(metric, gap.low, signed=True)}, {number(metric, gap.high, signed=True)}], n = {gap.n}"
