"""Pose data: one crop for every body with labelled joints, cut from pictures with boxes and keypoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from workbench.data.images import MEMORY_LIMIT, Memory, to_tensor
from workbench.data.views import Views

Points = npt.NDArray[np.float64]

BODIES = 1000  # at most, in one picture
CONTEXT = 1.25  # side of a crop over that of the box (SimpleBaseline)
# How far people themselves place each joint, as a share of the root of the body's area (COCO).
_COCO_SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_COCO_JOINTS = ["nose", *(f"{side}_{part}" for part in _PAIRS for side in ("left", "right"))]
_USUAL_SIGMA = 0.05  # for other skeletons


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The joints of a body: their names, for each the one on the other side, and their tolerances (sigmas of OKS)."""

    joints: tuple[str, ...]

    @property
    def mirrored(self) -> tuple[int, ...]:
        """left_x and right_x change places."""
        swapped = {"left": "right", "right": "left"}
        places = []
        for index, joint in enumerate(self.joints):
            side, _, rest = joint.partition("_")
            twin = f"{swapped[side]}_{rest}" if side in swapped else joint
            places.append(self.joints.index(twin) if twin in self.joints else index)
        return tuple(places)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """COCO's own for its 17 joints, 0.05 for all joints of another skeleton."""
        if list(self.joints) == _COCO_JOINTS:
            return tuple(sigma / 1000 for sigma in _COCO_SIGMAS)
        return (_USUAL_SIGMA,) * len(self.joints)


class Jointed(Protocol):
    """Pictures whose targets have boxes (M, 4), area, iscrowd and keypoints (M, K, 3)."""

    name: str
    ids: tuple[int, ...]
    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]: ...
    def target(self, index: int) -> dict[str, Any]: ...  # without decoding the picture
    @property
    def sizes(self) -> list[tuple[int, int]]: ...


@dataclass(frozen=True, kw_only=True)
class _Body:
    """One body: its picture (index), box and joints in the picture, and where its crop lies."""

    number: int  # its id: that of the picture and its place among the picture's objects
    image: int
    box: tuple[float, float, float, float]  # xyxy
    area: float
    keypoints: Points  # (K, 3)
    corner: tuple[float, float]  # of the crop, in pixels of the picture
    scale: float  # pixels of the crop per pixel of the picture


class PoseCrops(Views):
    """`data[i]` is a uint8 crop (3, H, W) around one body and its target.

    The target has `keypoints` (K, 3): x, y in pixels of the crop and visibility (0 not labelled, 1 hidden, 2 visible),
    and `image_id`. Bodies without a labelled joint are left out and counted in `skipped`; ValueError when none is left.
    Crops have the box's centre and 1.25 times its size, in the shape of `size` (height, width); those used last stay in
    memory, up to `memory_limit` bytes. A body's id is that of its picture times 1000, and its place there.
    """

    def __init__(
        self, source: Jointed, joints: Sequence[str], size: tuple[int, int], memory_limit: int = MEMORY_LIMIT
    ) -> None:
        self.source = source
        self.skeleton = Skeleton(joints=tuple(joints))
        self.categories = self.skeleton.joints
        self.name = f"{source.name} bodies"
        self.size = size
        self.skipped = 0
        bodies: list[_Body] = []
        for index, image_id in enumerate(source.ids):
            target = source.target(index)
            rows = zip(target["boxes"], target["area"], target["iscrowd"], target["keypoints"], strict=True)
            for place, (box, area, crowd, keypoints) in enumerate(rows):
                if crowd:
                    continue
                if not bool((keypoints[:, 2] > 0).any()):
                    self.skipped += 1
                    continue
                bodies.append(_body(BODIES * image_id + place, index, box, float(area), keypoints, size))
        if not bodies:
            raise ValueError(
                f"{source.name} has no body with a labelled joint ({self.skipped} without any); give pictures whose"
                " keypoints have a visibility of 1 or 2."
            )
        self._bodies = {body.number: body for body in bodies}
        self._memory = Memory[Tensor](memory_limit)
        self._source = {"pictures": source.digest, "size": list(size)}
        self._choose(tuple(self._bodies))

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        body = self._bodies[number]
        keypoints = body.keypoints.copy()
        keypoints[:, :2] = self.to_crop(index, keypoints[:, :2])
        inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] < [self.size[1], self.size[0]])).all(axis=1)
        keypoints[~inside, 2] = 0  # beyond the crop nothing can be learned
        target = {"keypoints": torch.tensor(keypoints, dtype=torch.float32), "image_id": number}
        return self._memory.get(number, lambda: _cut(self.source[body.image][0], body, self.size)).clone(), target

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every crop."""
        return [self.size] * len(self)

    def to_image(self, index: int, points: Points) -> Points:
        """Points (K, 2) of crop `index` in pixels of its picture."""
        body = self._bodies[self.ids[index]]
        return np.asarray(points) / body.scale + body.corner

    def to_crop(self, index: int, points: Points) -> Points:
        """Points (K, 2) of the picture in pixels of crop `index`."""
        body = self._bodies[self.ids[index]]
        return (np.asarray(points) - body.corner) * body.scale

    def ground_truth(self) -> dict[str, Any]:
        """COCO keypoint annotations; every body is an image of its own, because its place is given (no detector)."""
        annotations, images, sizes = [], [], self.source.sizes
        for number in self.ids:
            body = self._bodies[number]
            x1, y1, x2, y2 = body.box
            height, width = sizes[body.image]
            images.append({"id": number, "width": width, "height": height})
            annotations.append(
                {
                    "id": number + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": body.area,
                    "iscrowd": 0,
                    "keypoints": body.keypoints.ravel().tolist(),
                    "num_keypoints": int((body.keypoints[:, 2] > 0).sum()),
                }
            )
        category = {"id": 1, "name": "body", "keypoints": list(self.categories)}
        return {"images": images, "annotations": annotations, "categories": [category]}


def _body(number: int, index: int, box: Tensor, area: float, keypoints: Tensor, size: tuple[int, int]) -> _Body:
    x1, y1, x2, y2 = box.double().tolist()
    height, width = size
    scale = min(height / max(y2 - y1, 1.0), width / max(x2 - x1, 1.0)) / CONTEXT
    corner = ((x1 + x2) / 2 - width / 2 / scale, (y1 + y2) / 2 - height / 2 / scale)
    return _Body(
        number=number,
        image=index,
        box=(x1, y1, x2, y2),
        area=area,
        keypoints=keypoints.double().numpy(),
        corner=corner,
        scale=scale,
    )


def _cut(image: Tensor, body: _Body, size: tuple[int, int]) -> Tensor:
    """The crop; beyond the picture's border it is grey."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    step = 1 / body.scale
    matrix = (step, 0.0, body.corner[0], 0.0, step, body.corner[1])
    grey = (110, 110, 110)
    return to_tensor(
        picture.transform(size[::-1], Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=grey)
    )
