"""The search split: cut from the training set, so that the official validation set is touched once, at the end."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from workbench.records.seeds import generator


class Splittable(Protocol):
    """What every data set here has: image ids, and views on a subset."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    def take(self, indices: Sequence[int]) -> Self: ...


Data = TypeVar("Data", bound=Splittable)


def split_train(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Two disjoint views (train, search); `fraction` of the images, rounded, at least one, go to search.

    Which image goes where depends on the ids and the seed only, never on the order of the data.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The search fraction must lie between 0 and 1, but is {fraction}; 0.2 is usual.")
    ids = sorted(data.ids)
    if len(ids) < 2:
        raise ValueError(f"Cutting a search split needs at least 2 images, but there are {len(ids)}; bring more.")
    if len(set(ids)) < len(ids):
        raise ValueError("Cutting a search split needs every image once, but ids repeat; take each index only once.")
    count = min(max(1, round(fraction * len(ids))), len(ids) - 1)
    shuffled = generator(seed, "search split").permutation(len(ids))
    search = {ids[position] for position in shuffled[:count]}
    return (
        data.take([index for index, number in enumerate(data.ids) if number not in search]),
        data.take([index for index, number in enumerate(data.ids) if number in search]),
    )
