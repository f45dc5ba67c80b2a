"""What a searcher asks for, and the errors that end a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workbench.records.score import Score
from workbench.spaces.arch import Arch


@dataclass(frozen=True)
class Query:
    """A request to score `arch`; beam search adds the `completions` that a prefix is scored by.

    An evolution adds the `parents` that a child was made from.
    """

    arch: Arch
    completions: tuple[Arch, ...] = ()
    parents: tuple[Arch, ...] = ()


class Searcher(Protocol):
    """Random, exhaustive, evolution, beam: asks for architectures and gets their scores, nothing else.

    [] says that it has no more questions. It depends on its seed and on the scores alone, so a killed search is
    replayed from the record of its scores.
    """

    def ask(self, count: int) -> Sequence[Query]: ...
    def tell(self, scores: Sequence[Score]) -> None: ...


class SpaceExhausted(RuntimeError):
    """Every architecture that may be asked for has been asked for."""


class NoFeasibleArchitecture(RuntimeError):
    """No architecture within the limits was found in the allowed number of attempts."""
