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
from workbench.data.images import to_tensor
from workbench.data.scenes.tasks import Scenes
from workbench.data.sets import Views, coco_truth

Points = npt.NDArray[np.float64]

INSTANCES = 1000  # in one image; where one has more, ids have more room
CONTEXT = 1.25  # side of a crop over that of the box (SimpleBaseline)
# How far people themselves place each keypoint, as a share of the root of the instance's area (COCO).
_COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_COCO_KEYPOINTS = ["nose", *(f"{side}_{part}" for part in _PAIRS for side in ("left", "right"))]


def mirrored(keypoints: Sequence[str]) -> tuple[int, ...]:
    """For each named keypoint the place of the one on the other side: left_x and right_x change places."""
    swapped, split = {"left": "right", "right": "left"}, (name.partition("_") for name in keypoints)
    twins = [swapped.get(side, side) + line + rest for side, line, rest in split]
    places = {name: place for place, name in enumerate(keypoints)}
    return tuple(places.get(twin, place) for place, twin in enumerate(twins))


def sigmas(keypoints: Sequence[str]) -> tuple[float, ...]:
    """The tolerances of OKS: COCO's own for its 17 keypoints, 0.05 for all keypoints of another skeleton."""
    if list(keypoints) == _COCO_KEYPOINTS:
        return tuple(sigma / 1000 for sigma in _COCO_SIGMAS)
    return (0.05,) * len(keypoints)


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """One person or animal: its image, and its box and keypoints there."""

    image: int  # index
    box: list[float]  # xyxy
    area: float
    keypoints: Points  # (K, 3)


class PoseCrops(Views):
    """`data[i]` is a uint8 crop (3, H, W) around one instance (a person, an animal) and its target.

    The target has `keypoints` (K, 3): x, y in pixels of the crop and visibility (0 not labelled, 1 hidden, 2 visible),
    and `image_id`. Instances without a labelled keypoint are left out and counted in `skipped`; ValueError when none is
    left. Crops have the box's centre and 1.25 times its size, in the shape of `size` (height, width). An instance's id
    is that of its image times 1000 (a larger power of ten where an image has more), and its place there.
    """

    def __init__(self, source: CocoFolder | Scenes, size: tuple[int, int]) -> None:
        self.source, self.size, self.skipped = source, size, 0
        self._instances: dict[int, _Instance] = {}
        room = max(INSTANCES, 10 ** len(str(source.most_objects)))
        for index, image_id in enumerate(source.ids):
            target = source.target(index)
            rows = zip(target["boxes"], target["area"], target["iscrowd"], target["keypoints"], strict=True)
            for place, (box, area, crowd, points) in enumerate(rows):
                labelled = bool((points[:, 2] > 0).any())
                self.skipped += not crowd and not labelled
                if labelled and not crowd:
                    self._instances[room * image_id + place] = _Instance(
                        image=index, box=box.double().tolist(), area=float(area), keypoints=points.double().numpy()
                    )
        if not self._instances:
            raise ValueError(
                f"{source.name} has no instance with a labelled keypoint ({self.skipped} without any); give images"
                " whose keypoints have a visibility of 1 or 2."
            )
        origin = {"images": source.digest, "size": list(size)}
        super().__init__(f"{source.name} instances", source.keypoint_names, self._instances, origin)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        keypoints = self._instances[number].keypoints.copy()
        keypoints[:, :2] = self.to_crop(index, keypoints[:, :2])
        inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] < self.size[::-1])).all(axis=1)
        keypoints[~inside, 2] = 0  # beyond the crop nothing can be learned
        target = {"keypoints": torch.tensor(keypoints, dtype=torch.float32), "image_id": number}
        return self.memory.get(number, lambda: self._cut(number)).clone(), target

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every crop."""
        return [self.size] * len(self)

    def named(self, index: int) -> str:
        return self.source.named(self._instances[self.ids[index]].image)

    def to_image(self, index: int, points: Points) -> Points:
        """Points (K, 2) of crop `index` in pixels of its image."""
        corner, scale = self._window(self.ids[index])
        return np.asarray(points) / scale + corner

    def to_crop(self, index: int, points: Points) -> Points:
        """Points (K, 2) of the image in pixels of crop `index`."""
        corner, scale = self._window(self.ids[index])
        return (np.asarray(points) - corner) * scale

    def ground_truth(self) -> dict[str, Any]:
        """COCO keypoint annotations; each instance is an image of its own, because its place is given (no detector)."""
        instances, sizes = [self._instances[number] for number in self.ids], self.source.sizes
        objects = [(np.array([row.box]), np.ones(1, int), np.array([row.area]), np.zeros(1, int)) for row in instances]
        truth = coco_truth(self.ids, [sizes[row.image] for row in instances], objects, ["instance"])
        truth["categories"][0]["keypoints"] = list(self.categories)
        for annotation, instance in zip(truth["annotations"], instances, strict=True):
            annotation["keypoints"] = instance.keypoints.ravel().tolist()
            annotation["num_keypoints"] = int((instance.keypoints[:, 2] > 0).sum())
        return truth

    def _window(self, number: int) -> tuple[tuple[float, float], float]:
        """The corner of a crop in pixels of its image, and how many pixels of the crop one of these makes."""
        (x1, y1, x2, y2), (height, width) = self._instances[number].box, self.size
        scale = min(height / max(y2 - y1, 1.0), width / max(x2 - x1, 1.0)) / CONTEXT
        return ((x1 + x2) / 2 - width / 2 / scale, (y1 + y2) / 2 - height / 2 / scale), scale

    def _cut(self, number: int) -> Tensor:
        """The crop; beyond the image's border it is grey."""
        image = Image.fromarray(self.source[self._instances[number].image][0].permute(1, 2, 0).numpy())
        (x, y), scale = self._window(number)
        matrix = (1 / scale, 0.0, x, 0.0, 1 / scale, y)
        affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        return to_tensor(image.transform(self.size[::-1], affine, matrix, bilinear, fillcolor=(110, 110, 110)))
