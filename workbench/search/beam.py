"""Beam search decision by decision, as CR-NAS finds its dilations (section 3.3.2, algorithm 1; called greedy there)."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import chain, islice

import numpy as np

from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.limits import Limit, describe, feasible
from workbench.search.query import NoFeasibleArchitecture, Query
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

ATTEMPTS = 100  # draws for each completion that must keep the limits


@dataclass
class BeamSearch:
    """Decides the first decision, then the next, always keeping the `width` best prefixes.

    A prefix is scored by `completions` random ways to finish it. All candidates of a step get the same ones (common
    random numbers, ours): their differences then come from what they decided. The paper draws one completion for each
    mini-batch and does not say whether candidates share them. With `limits` only completions within them count, and a
    prefix of which none is found is not a candidate.
    """

    space: SearchSpace
    _: KW_ONLY
    width: int
    completions: int
    seed: int
    metric: str
    limits: Sequence[Limit] = ()
    first: int = 0  # decision to search; those before take their first option
    step: int = field(default=0, init=False)  # decisions made
    # Scores and choices of the kept prefixes, best first.
    kept: list[tuple[float, tuple[int, ...]]] = field(default_factory=lambda: [(0.0, ())], init=False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.completions < 1:
            got = f"{self.width} and {self.completions}"
            raise ValueError(f"A beam keeps at least 1 prefix and needs 1 completion; got {got}.")
        self.step, self.kept = self.first, [(0.0, (0,) * self.first)]

    @property
    def evaluations(self) -> int:
        """How many candidates a whole search scores without limits: 3 + 9 (B - 1) for three options and K = 3."""
        total, kept = 0, 1
        for decision in self.space.decisions[self.first :]:
            total += kept * len(decision.options)
            kept = min(self.width, kept * len(decision.options))
        return total

    def ask(self, count: int) -> list[Query]:
        """All candidates of the next step: each kept prefix with each option of the next decision; [] at the end.

        ValueError when `count` does not reach for the step, because its candidates are compared with each other;
        NoFeasibleArchitecture when no candidate keeps the limits.
        """
        if self.step == len(self.space.decisions):
            return []
        options = range(len(self.space.decisions[self.step].options))
        candidates = [(*prefix, option) for _, prefix in self.kept for option in options]
        if count < len(candidates):
            raise ValueError(
                f"Step {self.step + 1} of this beam has {len(candidates)} candidates, but only {count} evaluations"
                f" are left; a whole search takes {self.evaluations}."
            )
        self.step += 1
        rng = generator(self.seed, "beam completions", str(self.step))
        whole = self.step == len(self.space.decisions)
        drawn = [self.space.sample(rng).choices[self.step :] for _ in range(1 if whole else self.completions)]
        completed = {candidate: self._completed(candidate, drawn, rng) for candidate in candidates}
        queries = [Query(Arch(self.space.name, prefix), archs) for prefix, archs in completed.items() if archs]
        if not queries:
            raise NoFeasibleArchitecture(
                f"No candidate of step {self.step} in {self.space.name} keeps {describe(self.limits)}; loosen the"
                " limits or widen the beam."
            )
        return queries

    def _completed(
        self, prefix: tuple[int, ...], drawn: Sequence[tuple[int, ...]], rng: np.random.Generator
    ) -> tuple[Arch, ...]:
        """The prefix with each of the drawn endings; one that breaks a limit is drawn anew, or left out."""
        found: list[Arch] = []
        for ending in drawn:
            redrawn = (self.space.sample(rng).choices[self.step :] for _ in range(ATTEMPTS if ending else 0))
            archs = (Arch(self.space.name, (*prefix, *rest)) for rest in chain([ending], redrawn))
            found += islice((arch for arch in archs if feasible(arch, self.limits)), 1)
        return tuple(found)

    def tell(self, scores: Sequence[Score]) -> None:
        """Keeps the best prefixes of the step; equal scores keep their order, so the smaller dilation wins."""
        good = [(score.metrics[self.metric], score.arch.choices) for score in scores if score.error is None]
        if not good:
            raise RuntimeError(f"All {len(scores)} candidates of a beam step failed; the first: {scores[0].error}")
        self.kept = sorted(good, key=lambda row: -row[0])[: self.width]
