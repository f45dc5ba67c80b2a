"""An architecture as the search sees it: the name of a space and one option index for each of its decisions."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Arch:
    """One point of a search space; hashable, comparable, JSON both ways."""

    space: str
    choices: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        """A short name that is the same on every machine, e.g. ``shuffle-20-1f0c6a2b9d``."""
        text = json.dumps([self.space, list(self.choices)], separators=(",", ":"))
        return f"{self.space}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def to_json(self) -> dict[str, Any]:
        return {"space": self.space, "choices": list(self.choices)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Arch":
        """Rebuilds an `Arch`; ValueError says what is wrong with the value."""
        space, choices = value.get("space"), value.get("choices")
        if not isinstance(space, str) or not isinstance(choices, list | tuple):
            raise ValueError(f"An architecture is {{'space': name, 'choices': [integers]}}; got {dict(value)!r}.")
        if not all(isinstance(choice, int) and not isinstance(choice, bool) for choice in choices):
            raise ValueError(f"The choices of an architecture are integers; got {choices!r}.")
        return Arch(space, tuple(choices))
