"""Pose data: one crop for every person (or animal) with labelled keypoints, cut from images with boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from workbench.data.coco import CocoFolder
from workbench.data.images import MEMORY_LIMIT, Memory, to_tensor
from workbench.data.scenes.tasks import Scenes
from workbench.data.sets import Views

Points = npt.NDArray[np.float64]

INSTANCES = 1000  # at most, in one image
CONTEXT = 1.25  # side of a crop over that of the box (SimpleBaseline)
# How far people themselves place each keypoint, as a share of the root of the instance's area (COCO).
_COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_COCO_KEYPOINTS = ["nose", *(f"{side}_{part}" for part in _PAIRS for side in ("left", "right"))]
_USUAL_SIGMA = 0.05  # for other skeletons


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Named keypoints: for each the one on the other side, and their tolerances (sigmas of OKS)."""

    keypoints: tuple[str, ...]

    @property
    def mirrored(self) -> tuple[int, ...]:
        """left_x and right_x change places."""
        swapped = {"left": "right", "right": "left"}
        places = []
        for index, name in enumerate(self.keypoints):
            side, _, rest = name.partition("_")
            twin = f"{swapped[side]}_{rest}" if side in swapped else name
            places.append(self.keypoints.index(twin) if twin in self.keypoints else index)
        return tuple(places)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """COCO's own for its 17 keypoints, 0.05 for all keypoints of another skeleton."""
        if list(self.keypoints) == _COCO_KEYPOINTS:
            return tuple(sigma / 1000 for sigma in _COCO_SIGMAS)
        return (_USUAL_SIGMA,) * len(self.keypoints)


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """One person or animal: its image, box and keypoints in the image, and where its crop lies."""

    number: int  # its id: that of the image and its place among the image's objects
    image: int  # index
    box: list[float]  # xyxy
    area: float
    keypoints: Points  # (K, 3)
    corner: tuple[float, float]  # of the crop, in pixels of the image
    scale: float  # pixels of the crop per pixel of the image


class PoseCrops(Views):
    """`data[i]` is a uint8 crop (3, H, W) around one instance (a person, an animal) and its target.

    The target has `keypoints` (K, 3): x, y in pixels of the crop and visibility (0 not labelled, 1 hidden, 2 visible),
    and `image_id`. Instances without a labelled keypoint are left out and counted in `skipped`; ValueError when none is
    left. Crops have the box's centre and 1.25 times its size, in the shape of `size` (height, width); those used last
    stay in memory, up to `memory_limit` bytes. An instance's id is that of its image times 1000, and its place there.
    """

    def __init__(
        self,
        source: CocoFolder | Scenes,
        keypoints: Sequence[str],
        size: tuple[int, int],
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.source = source
        self.skeleton = Skeleton(keypoints=tuple(keypoints))
        self.categories = self.skeleton.keypoints
        self.name = f"{source.name} instances"
        self.size = size
        self.skipped = 0
        self._instances: dict[int, _Instance] = {}
        for index, image_id in enumerate(source.ids):
            target = source.target(index)
            rows = zip(target["boxes"], target["area"], target["iscrowd"], target["keypoints"], strict=True)
            for place, (box, area, crowd, points) in enumerate(rows):
                labelled = bool((points[:, 2] > 0).any())
                self.skipped += not crowd and not labelled
                if labelled and not crowd:
                    number = INSTANCES * image_id + place
                    self._instances[number] = _instance(number, index, box, float(area), points, size)
        if not self._instances:
            raise ValueError(
                f"{source.name} has no instance with a labelled keypoint ({self.skipped} without any); give images"
                " whose keypoints have a visibility of 1 or 2."
            )
        self._memory = Memory(memory_limit)
        self._source = {"pictures": source.digest, "size": list(size)}  # a name of old: it goes into the digest
        self._choose(tuple(self._instances))

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        keypoints = self._instances[number].keypoints.copy()
        keypoints[:, :2] = self.to_crop(index, keypoints[:, :2])
        inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] < self.size[::-1])).all(axis=1)
        keypoints[~inside, 2] = 0  # beyond the crop nothing can be learned
        target = {"keypoints": torch.tensor(keypoints, dtype=torch.float32), "image_id": number}
        return self._memory.get(number, lambda: self._cut(self._instances[number])).clone(), target

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every crop."""
        return [self.size] * len(self)

    def to_image(self, index: int, points: Points) -> Points:
        """Points (K, 2) of crop `index` in pixels of its image."""
        instance = self._instances[self.ids[index]]
        return np.asarray(points) / instance.scale + instance.corner

    def to_crop(self, index: int, points: Points) -> Points:
        """Points (K, 2) of the image in pixels of crop `index`."""
        instance = self._instances[self.ids[index]]
        return (np.asarray(points) - instance.corner) * instance.scale

    def ground_truth(self) -> dict[str, Any]:
        """COCO keypoint annotations; each instance is an image of its own, because its place is given (no detector)."""
        annotations, images, sizes = [], [], self.source.sizes
        for number in self.ids:
            instance = self._instances[number]
            x1, y1, x2, y2 = instance.box
            height, width = sizes[instance.image]
            images.append({"id": number, "width": width, "height": height})
            row: dict[str, Any] = {
                "id": number + 1,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "area": instance.area,
            }
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": instance.keypoints.ravel().tolist()}
            annotations.append(row | {"num_keypoints": int((instance.keypoints[:, 2] > 0).sum())})
        category = {"id": 1, "name": "instance", "keypoints": list(self.categories)}
        return {"images": images, "annotations": annotations, "categories": [category]}

    def _cut(self, instance: _Instance) -> Tensor:
        """The crop; beyond the image's border it is grey."""
        image = Image.fromarray(self.source[instance.image][0].permute(1, 2, 0).numpy())
        step, (x, y) = 1 / instance.scale, instance.corner
        matrix = (step, 0.0, x, 0.0, step, y)
        affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        return to_tensor(image.transform(self.size[::-1], affine, matrix, bilinear, fillcolor=(110, 110, 110)))


def _instance(number: int, index: int, box: Tensor, area: float, points: Tensor, size: tuple[int, int]) -> _Instance:
    x1, y1, x2, y2 = sides = box.double().tolist()
    height, width = size
    scale = min(height / max(y2 - y1, 1.0), width / max(x2 - x1, 1.0)) / CONTEXT
    corner = ((x1 + x2) / 2 - width / 2 / scale, (y1 + y2) / 2 - height / 2 / scale)
    keypoints = points.double().numpy()
    return _Instance(number=number, image=index, box=sides, area=area, keypoints=keypoints, corner=corner, scale=scale)
