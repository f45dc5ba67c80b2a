"""Finds a search space by the name that architectures carry."""

from difflib import get_close_matches
from functools import cache

from workbench.spaces.shuffle import LAYOUTS, shuffle_space
from workbench.spaces.space import SearchSpace


def space_names() -> tuple[str, ...]:
    return tuple(LAYOUTS)


@cache
def space_named(name: str) -> SearchSpace:
    """The one `SearchSpace` object of that name; ValueError lists the spaces that exist."""
    if name not in LAYOUTS:
        near = get_close_matches(name, space_names(), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A search space is one of {', '.join(space_names())}; got {name!r}.{hint}")
    return shuffle_space(name)
