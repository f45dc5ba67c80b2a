"""The evolutionary search of DetNAS (section 5 of its specification; it is SPOS's with other numbers)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.limits import Limit, feasible
from workbench.search.query import Query
from workbench.search.random import draw_new
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """DetNAS's numbers: 20 generations of 50; each later one is 20 mutants, 20 crossings and fresh randoms."""

    population: int = 50
    parents: int = 10
    mutants: int = 20
    crossings: int = 20
    mutation_probability: float = 0.1  # per decision; the old option may be drawn again
    attempts: int = 10  # tries per child before fresh randoms fill the place


class Evolution:
    """Ask for a generation, score it, tell the scores. Parents are the best of everything seen so far.

    Unlike the original no architecture is ever asked for twice, also not inside one generation, and the attempts to
    find new children are bounded (pitfall P19). A candidate that died of an error is never a parent.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: EvolutionConfig,
        *,
        seed: int,
        metric: str = "AP",
        limits: Sequence[Limit] = (),
    ) -> None:
        if config.mutants + config.crossings > config.population or config.parents < 1:
            raise ValueError(f"Mutants and crossings must fit into the population and parents be at least 1: {config}.")
        self.space = space
        self.config = config
        self.metric = metric
        self.limits = tuple(limits)
        self.rng = generator(seed, "evolution")
        self.asked: set[Arch] = set()
        self.archive: list[tuple[float, Arch]] = []  # (fitness, arch), best first; ties keep the older one first
        self.generation = 0

    def ask(self, count: int | None = None) -> list[Query]:
        """The next generation: `population` architectures, or only `count` of them when the budget ends."""
        count = self.config.population if count is None else count
        children: list[Arch] = []
        if self.archive:
            parents = [arch for _, arch in self.archive[: self.config.parents]]

            def mutant() -> Arch:
                return self.space.mutate(self._pick(parents), self.rng, self.config.mutation_probability)

            def crossing() -> Arch:
                return self.space.crossover(self._pick(parents), self._pick(parents), self.rng)

            children += self._breed(mutant, min(self.config.mutants, count))
            children += self._breed(crossing, min(self.config.crossings, count - len(children)))
        while len(children) < count:
            child = draw_new(self.space, self.rng, self.limits, self.asked)
            self.asked.add(child)
            children.append(child)
        self.generation += 1
        return [Query(child) for child in children]

    def tell(self, scores: Sequence[Score]) -> None:
        """Adds a generation's scores to the archive."""
        for score in scores:
            if score.error is None:
                self.archive.append((score.metrics[self.metric], self.space.check(score.arch)))
        self.archive.sort(key=lambda row: -row[0])  # stable: equal fitness keeps the order of arrival

    @property
    def best(self) -> tuple[float, Arch]:
        """Fitness and architecture of the best seen so far."""
        if not self.archive:
            raise ValueError(
                "Nothing has been scored yet, or every candidate failed; look at the errors in the record."
            )
        return self.archive[0]

    def _pick(self, parents: list[Arch]) -> Arch:
        return parents[int(self.rng.integers(len(parents)))]

    def _breed(self, make: Callable[[], Arch], count: int) -> list[Arch]:
        """Up to `count` new children within the limits; fewer when the attempts run out."""
        children: list[Arch] = []
        for _ in range(self.config.attempts * count):
            if len(children) == count:
                break
            child = make()
            if child not in self.asked and feasible(child, self.limits):
                self.asked.add(child)
                children.append(child)
        return children
