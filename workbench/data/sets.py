"""What every data set here is: images in a fixed order with ids and a digest, and views on a part of them."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self, TypeVar

from torch import Tensor

from workbench.records.files import digest
from workbench.records.seeds import generator

Target = dict[str, Any]
Row = tuple[Sequence[float], int, float, int]  # of an object: box (xyxy), label, area, whether it is a crowd


class DataSet(Protocol):
    """Images in a fixed order: uint8 (3, H, W), each with what belongs to it."""

    name: str
    categories: tuple[str, ...]
    ids: tuple[int, ...]
    digest: str

    def __len__(self) -> int: ...
    def take(self, indices: Any) -> Self: ...


class ClassificationSet(DataSet, Protocol):
    """Images with one label each, in 0..K-1."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...
    @property
    def labels(self) -> tuple[int, ...]: ...  # of every image, nothing is decoded


class TargetSet(DataSet, Protocol):
    """Images with a target each, of any task."""

    def __getitem__(self, index: int) -> tuple[Tensor, Target]: ...
    @property
    def sizes(self) -> list[tuple[int, int]]: ...  # (height, width) of every image, nothing is decoded


class DetectionSet(TargetSet, Protocol):
    """Targets have xyxy `boxes` in pixels and `labels` in 1..K."""

    def ground_truth(self) -> dict[str, Any]: ...


class SegmentationSet(TargetSet, Protocol):
    """Targets have `semantic`, int64 (H, W) with classes from 0; 255 is void."""

    def target(self, index: int) -> Target: ...  # alone, no image is decoded


class PoseSet(TargetSet, Protocol):
    """One person (or animal) in each image, `categories` are its keypoints; see `keypoints.PoseCrops`."""

    def ground_truth(self) -> dict[str, Any]: ...
    def to_image(self, index: int, points: Any) -> Any: ...


class Views:
    """A data set with ids in order, a digest of its source and of those ids, and views on some of them.

    A class sets its source, then chooses all of its ids; `data[i]` is then what belongs to `ids[i]`.
    """

    ids: tuple[int, ...]
    digest: str
    _source: dict[str, object]

    def __len__(self) -> int:
        return len(self.ids)

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
    parts = [[index for index, number in enumerate(data.ids) if (number in search) == wanted] for wanted in (0, 1)]
    return data.take(parts[0]), data.take(parts[1])


def coco_truth(
    ids: Sequence[int], sizes: Sequence[tuple[int, int]], objects: Iterable[Iterable[Row]], categories: Sequence[str]
) -> dict[str, Any]:
    """A COCO dict of images (ids, heights and widths), the objects of each, and the names of the classes 1..K."""
    annotations: list[dict[str, Any]] = []
    for image_id, rows in zip(ids, objects, strict=True):
        for (x1, y1, x2, y2), label, area, crowd in rows:
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label}
            annotations.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": crowd})
    images = [{"id": n, "width": width, "height": height} for n, (height, width) in zip(ids, sizes, strict=True)]
    names = [{"id": label, "name": name} for label, name in enumerate(categories, start=1)]
    return {"images": images, "annotations": annotations, "categories": names}
