"""Random search: the control of every other search."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.limits import Limit, describe, feasible
from workbench.search.query import NoFeasibleArchitecture, Query, SpaceExhausted
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

ATTEMPTS = 2000  # draws for an architecture within the limits that is new
WALKS = 200  # random walks to an architecture of a given cost that is new


@dataclass
class RandomSearch:
    """Asks for distinct architectures drawn uniformly within the limits; their scores change nothing."""

    space: SearchSpace
    _: KW_ONLY
    seed: int
    limits: Sequence[Limit] = ()
    stream: str = "random search"  # names the draw, so that several with one seed differ
    taken: Iterable[Arch] = ()  # those are not asked for

    def __post_init__(self) -> None:
        self.rng = generator(self.seed, self.stream)
        self.asked = set(self.taken)

    def ask(self, count: int) -> list[Query]:
        """`count` architectures never asked for before."""
        return [Query(self.draw()) for _ in range(count)]

    def draw(self) -> Arch:
        """One of them."""
        return draw_new(self.space, self.rng, self.limits, self.asked)

    def tell(self, scores: Sequence[Score]) -> None:
        """Random search does not learn."""


@dataclass(kw_only=True)
class RandomOfCost(RandomSearch):
    """Asks for distinct random architectures whose cost is within `tolerance` (a share) of `target`.

    Uniform draws seldom cost what a search found. So each begins as a uniform draw, and single decisions are drawn anew
    as long as that brings the cost nearer: random in what it is, alike in what it costs.
    """

    cost: Callable[[Arch], float]
    target: float
    tolerance: float = 0.1
    stream: str = "random search of equal cost"

    def draw(self) -> Arch:
        """NoFeasibleArchitecture when the cost is out of reach."""
        for _ in range(WALKS):
            arch = self._walk()
            if arch is not None and arch not in self.asked and feasible(arch, self.limits):
                self.asked.add(arch)
                return arch
        raise NoFeasibleArchitecture(
            f"{WALKS} random walks in {self.space.name} found no further architecture within {self.tolerance:.0%} of a"
            f" cost of {self.target:,.0f}. Ask for fewer or allow more."
        )

    def _walk(self) -> Arch | None:
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


def draw_new(space: SearchSpace, rng: np.random.Generator, limits: Sequence[Limit], taken: set[Arch]) -> Arch:
    """An architecture within the limits that is not in `taken`, drawn uniformly; it is added there.

    SpaceExhausted when all that exist are taken; NoFeasibleArchitecture when no draw was within the limits.
    """
    kept = 0  # draws within the limits
    for _ in range(ATTEMPTS):
        arch = space.sample(rng)
        if feasible(arch, limits):
            kept += 1
            if arch not in taken:
                taken.add(arch)
                return arch
    if space.size <= ATTEMPTS:  # small enough to be certain
        left = [arch for arch in space.all() if feasible(arch, limits) and arch not in taken]
        if left:
            taken.add(arch := left[int(rng.integers(len(left)))])
            return arch
    if kept:
        raise SpaceExhausted(
            f"{ATTEMPTS:,} draws from {space.name} ({space.size:,} architectures, {describe(limits)}) gave only"
            f" architectures that were asked for already ({len(taken):,}). Ask for fewer or loosen the limits."
        )
    raise NoFeasibleArchitecture(
        f"None of {ATTEMPTS:,} draws from {space.name} keeps {describe(limits)}."
        " Loosen the limits or take a smaller space."
    )
