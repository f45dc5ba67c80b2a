"""Scores every architecture of a list: the search of CR-NAS over stage allocations (section 3.3.1, equation 1)."""

from collections.abc import Sequence

from workbench.records.score import Score
from workbench.search.query import Query, SpaceExhausted
from workbench.spaces.arch import Arch


class ExhaustiveSearch:
    """Asks for each of `archs` once, in order; what it is told changes nothing."""

    def __init__(self, archs: Sequence[Arch]) -> None:
        self.archs = tuple(archs)
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
