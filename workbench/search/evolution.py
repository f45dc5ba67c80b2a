"""The evolutionary search of DetNAS, which is SPOS's with other numbers."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice

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


@dataclass
class Evolution:
    """Ask for a generation, score it, tell the scores. Parents are the best of everything seen so far.

    Unlike the original no architecture is ever asked for twice, also not inside one generation, and the attempts to
    find new children are bounded. A candidate that died of an error is never a parent.
    """

    space: SearchSpace
    config: EvolutionConfig
    _: KW_ONLY
    seed: int
    metric: str
    limits: Sequence[Limit] = ()

    def __post_init__(self) -> None:
        config = self.config
        if config.mutants + config.crossings > config.population or config.parents < 1:
            raise ValueError(f"Mutants and crossings must fit into the population and parents be at least 1: {config}.")
        self.rng = generator(self.seed, "evolution")
        self.asked: set[Arch] = set()
        self.archive: list[tuple[float, Arch]] = []  # (fitness, arch), best first; ties keep the older one first

    def ask(self, count: int) -> list[Query]:
        """The next generation, or what is left of it when the budget ends."""
        config = self.config
        children: list[Query] = []
        if self.archive:
            children += self._breed(self._mutant, min(config.mutants, count))
            children += self._breed(self._crossing, min(config.crossings, count - len(children)))
        while len(children) < count:
            children.append(Query(draw_new(self.space, self.rng, self.limits, self.asked)))
        return children

    def tell(self, scores: Sequence[Score]) -> None:
        """Adds a generation's scores to the archive."""
        good = (score for score in scores if score.error is None)
        self.archive += [(score.metrics[self.metric], self.space.check(score.arch)) for score in good]
        self.archive.sort(key=lambda row: -row[0])  # stable: equal fitness keeps the order of arrival

    def _parent(self) -> Arch:
        parents = self.archive[: self.config.parents]
        return parents[int(self.rng.integers(len(parents)))][1]

    def _mutant(self) -> Query:
        parent = self._parent()
        return Query(self.space.mutate(parent, self.rng, self.config.mutation_probability), parents=(parent,))

    def _crossing(self) -> Query:
        pair = self._parent(), self._parent()
        return Query(self.space.crossover(*pair, self.rng), parents=pair)

    def _breed(self, make: Callable[[], Query], count: int) -> list[Query]:
        """Up to `count` new children within the limits; fewer when the attempts run out."""
        children: list[Query] = []
        made = (make() for _ in range(self.config.attempts * count))
        for child in islice((c for c in made if c.arch not in self.asked and feasible(c.arch, self.limits)), count):
            self.asked.add(child.arch)
            children.append(child)
        return children
