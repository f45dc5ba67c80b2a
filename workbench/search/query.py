"""What a searcher asks for, and the errors that end a search."""

from dataclasses import dataclass

from workbench.spaces.arch import Arch


@dataclass(frozen=True)
class Query:
    """A request to score `arch`; beam search adds the `completions` that a prefix is scored by."""

    arch: Arch
    completions: tuple[Arch, ...] = ()


class SpaceExhausted(RuntimeError):
    """Every architecture that may be asked for has been asked for."""


class NoFeasibleArchitecture(RuntimeError):
    """No architecture within the limits was found in the allowed number of attempts."""
