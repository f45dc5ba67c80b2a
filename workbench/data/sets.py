"""What every data set here is: images in a fixed order with ids and a digest, and views on a part of them."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from workbench.data.images import Memory
from workbench.records.files import digest, plain
from workbench.records.seeds import generator

Target = dict[str, Any]
# Arrays of an image's objects: boxes (M, 4) xyxy, labels, areas, whether each is a crowd, and perhaps the distance to
# the cue of its class.
Columns = Sequence[Any]


class Views:
    """A data set with ids in order, a digest of its source and of those ids, and views on some of them.

    `data[i]` is what belongs to `ids[i]`. What was decoded or drawn last stays in `memory`, which views share.
    """

    ids: tuple[int, ...]
    digest: str
    keypoint_names: tuple[str, ...] = ()
    # Of the whole data set, also on a view:
    files: tuple[Path, ...] = ()  # the images, where they are files
    dropped: tuple[str, ...] = ()  # what is wrong with each box that was left out
    absent: tuple[str, ...] = ()  # classes without anything to learn from
    most_objects: int = 0  # in one image
    skipped: int = 0  # instances that were left out, because none of their keypoints is labelled

    def __init__(self, name: str, categories: Iterable[str], ids: Iterable[int], source: Mapping[str, object]) -> None:
        self.name, self.categories = plain(name), tuple(map(plain, categories))
        self.memory = Memory()
        self._source = source
        self._choose(tuple(ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every image as served; nothing is decoded."""
        raise NotImplementedError

    @property
    def in_memory(self) -> bool:
        """Whether its images stay decoded, once they were read. A mask is a fourth colour; two views may take turns."""
        return 4 * sum(height * width for height, width in self.sizes) <= self.memory.limit / 2

    def named(self, index: int) -> str:
        """The image as messages name it: its file, where it has one."""
        number = self.ids[index]
        return str(self.files[number]) if self.files else f"image {number} of {self.name}"

    def take(self, indices: Iterable[int]) -> Self:
        """A view on these samples in this order; what is in memory is shared, not copied."""
        view = copy.copy(self)
        view._choose(tuple(self.ids[index] for index in indices))
        return view

    def _choose(self, ids: tuple[int, ...]) -> None:
        self.ids = ids
        self.digest = digest({**self._source, "ids": list(ids)})


Data = TypeVar("Data", bound=Views)


def split_train(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Two disjoint views (train, search); `fraction` of the images, rounded, at least one, go to search.

    The search split is cut from the training set, so that the official validation set is touched once, at the end.
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
    search = {ids[place] for place in generator(seed, "search split").permutation(len(ids))[:count]}
    train, cut = ([n for n, number in enumerate(data.ids) if (number in search) == wanted] for wanted in (False, True))
    return data.take(train), data.take(cut)


def coco_truth(
    ids: Sequence[int], sizes: Sequence[tuple[int, int]], objects: Iterable[Columns], categories: Sequence[str]
) -> dict[str, Any]:
    """A COCO dict of images (ids, heights and widths), the objects of each, and the names of the classes 1..K."""
    annotations: list[dict[str, Any]] = []
    for image_id, columns in zip(ids, objects, strict=True):
        for (x1, y1, x2, y2), *rest in zip(*(column.tolist() for column in columns), strict=True):
            row = {"id": len(annotations) + 1, "image_id": image_id, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append(row | dict(zip(("category_id", "area", "iscrowd", "distance"), rest, strict=False)))
    images = [{"id": n, "width": width, "height": height} for n, (height, width) in zip(ids, sizes, strict=True)]
    names = [{"id": label, "name": name} for label, name in enumerate(categories, start=1)]
    return {"images": images, "annotations": annotations, "categories": names}
