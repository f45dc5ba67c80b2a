"""Scores every architecture of a list: the search of CR-NAS over stage allocations (section 3.3.1, equation 1)."""

from collections.abc import Iterable, Sequence

from workbench.records.score import Score
from workbench.search.limits import Limit, feasible
from workbench.search.query import Query, SpaceExhausted
from workbench.spaces.arch import Arch


class ExhaustiveSearch:
    """Asks for each of `archs` within the limits once, in order; their scores change nothing."""

    def __init__(self, archs: Iterable[Arch], limits: Sequence[Limit] = ()) -> None:
        self.archs = tuple(arch for arch in archs if feasible(arch, limits))
        self.position = 0

    def ask(self, count: int) -> list[Query]:
        """The next `count` architectures; SpaceExhausted when fewer are left."""
        if self.position + count > len(self.archs):
            left = len(self.archs) - self.position
            raise SpaceExhausted(f"{count} architectures were asked for; {left} of {len(self.archs)} are left.")
        self.position += count
        return [Query(arch) for arch in self.archs[self.position - count : self.position]]

    def tell(self, scores: Sequence[Score]) -> None:
        """The ranking is read from the record."""
