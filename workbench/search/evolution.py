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
        config, space, rng = self.config, self.space, self.rng
        children: list[Arch] = []
        if self.archive:
            mutants, rate = min(config.mutants, count), config.mutation_probability
            children += self._breed(lambda: space.mutate(self._parent(), rng, rate), mutants)
            crossings = min(config.crossings, count - len(children))
            children += self._breed(lambda: space.crossover(self._parent(), self._parent(), rng), crossings)
        while len(children) < count:
            children.append(draw_new(space, rng, self.limits, self.asked))
        return [Query(child) for child in children]

    def tell(self, scores: Sequence[Score]) -> None:
        """Adds a generation's scores to the archive."""
        good = (score for score in scores if score.error is None)
        self.archive += [(score.metrics[self.metric], self.space.check(score.arch)) for score in good]
        self.archive.sort(key=lambda row: -row[0])  # stable: equal fitness keeps the order of arrival

    def _parent(self) -> Arch:
        parents = self.archive[: self.config.parents]
        return parents[int(self.rng.integers(len(parents)))][1]

    def _breed(self, make: Callable[[], Arch], count: int) -> list[Arch]:
        """Up to `count` new children within the limits; fewer when the attempts run out."""
        children: list[Arch] = []
        made = (make() for _ in range(self.config.attempts * count))
        for child in islice((c for c in made if c not in self.asked and feasible(c, self.limits)), count):
            self.asked.add(child)
            children.append(child)
        return children
