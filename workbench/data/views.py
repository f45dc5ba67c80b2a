"""Views on a part of a data set: what every set here shares."""

import copy
from collections.abc import Sequence
from typing import Self

from workbench.records.files import digest


class Views:
    """A data set with ids in order, a digest of its source and of those ids, and views on some of them.

    A class sets its source, then chooses all of its ids; `data[i]` is then what belongs to `ids[i]`.
    """

    ids: tuple[int, ...]
    digest: str
    _source: dict[str, object]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int]) -> Self:
        """A view on these samples in this order; what is in memory is shared, not copied."""
        view = copy.copy(self)
        view._choose(tuple(self.ids[index] for index in indices))
        return view

    def _choose(self, ids: tuple[int, ...]) -> None:
        self.ids = ids
        self.digest = digest({**self._source, "ids": list(ids)})
