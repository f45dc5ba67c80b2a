"""Random search: the control of every other search."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.limits import Limit, describe, feasible
from workbench.search.query import NoFeasibleArchitecture, Query, SpaceExhausted
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace


class RandomSearch:
    """Asks for distinct architectures drawn uniformly within the limits; what it is told changes nothing."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        limits: Sequence[Limit] = (),
        stream: str = "random search",
        taken: Iterable[Arch] = (),
    ) -> None:
        """`stream` names the draw, so that several with one seed differ; those in `taken` are not asked for."""
        self.space = space
        self.limits = tuple(limits)
        self.rng = generator(seed, stream)
        self.asked = set(taken)

    def ask(self, count: int) -> list[Query]:
        """`count` architectures never asked for before."""
        queries = []
        for _ in range(count):
            arch = draw_new(self.space, self.rng, self.limits, self.asked)
            self.asked.add(arch)
            queries.append(Query(arch))
        return queries

    def tell(self, scores: Sequence[Score]) -> None:
        """Random search does not learn."""


class RandomOfCost:
    """Asks for distinct random architectures whose cost is within `tolerance` (a share) of `target`.

    Uniform draws seldom cost what a search found. So each begins as a uniform draw, and single decisions are drawn anew
    as long as that brings the cost nearer: random in what it is, alike in what it costs.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int, cost: Callable[[Arch], float], target: float, tolerance: float = 0.1
    ) -> None:
        self.space = space
        self.cost = cost
        self.target = target
        self.tolerance = tolerance
        self.rng = generator(seed, "random search of equal cost")
        self.asked: set[Arch] = set()

    def ask(self, count: int) -> list[Query]:
        """`count` architectures never asked for before; NoFeasibleArchitecture when the cost is out of reach."""
        queries = []
        for _ in range(count):
            arch = next((a for a in map(self._walk, range(200)) if a is not None and a not in self.asked), None)
            if arch is None:
                raise NoFeasibleArchitecture(
                    f"200 random walks in {self.space.name} found no further architecture within {self.tolerance:.0%}"
                    f" of a cost of {self.target:,.0f}. Ask for fewer or allow more."
                )
            self.asked.add(arch)
            queries.append(Query(arch))
        return queries

    def tell(self, scores: Sequence[Score]) -> None:
        """Random search does not learn."""

    def _walk(self, _number: int) -> Arch | None:
        arch = self.space.sample(self.rng)
        distance = abs(self.cost(arch) - self.target)
        for _ in range(20 * len(self.space.decisions)):
            if distance <= self.tolerance * self.target:
                return arch
            place = int(self.rng.integers(len(arch.choices)))
            option = int(self.rng.integers(len(self.space.decisions[place].options)))
            moved = self.space.arch([*arch.choices[:place], option, *arch.choices[place + 1 :]])
            if (new := abs(self.cost(moved) - self.target)) < distance:
                arch, distance = moved, new
        return None


def draw_new(
    space: SearchSpace,
    rng: np.random.Generator,
    limits: Sequence[Limit],
    taken: set[Arch],
    attempts: int = 2000,
) -> Arch:
    """An architecture within the limits that is not in `taken`, drawn uniformly.

    SpaceExhausted when all that exist are taken; NoFeasibleArchitecture when `attempts` draws found none within the
    limits.
    """
    found_feasible = False
    for _ in range(attempts):
        arch = space.sample(rng)
        if feasible(arch, limits):
            found_feasible = True
            if arch not in taken:
                return arch
    if space.size <= attempts:  # small enough to be certain
        left = [arch for arch in space.all() if feasible(arch, limits) and arch not in taken]
        if left:
            return left[int(rng.integers(len(left)))]
    if found_feasible:
        raise SpaceExhausted(
            f"{attempts:,} draws from {space.name} ({space.size:,} architectures, {describe(limits)}) gave only"
            f" architectures that were asked for already ({len(taken):,}). Ask for fewer or loosen the limits."
        )
    raise NoFeasibleArchitecture(
        f"None of {attempts:,} draws from {space.name} keeps {describe(limits)}."
        " Loosen the limits or take a smaller space."
    )
