"""Detection data from a COCO-format folder."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.data.checks import read_coco, refusal
from workbench.data.images import read_image, served_size, to_tensor
from workbench.data.instance_masks import draw_masks, mask_flaws
from workbench.data.sets import Views, coco_truth
from workbench.records.files import plain


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One image's file, its size (width, height) as annotated and as served, and its M objects in pixels as served.

    `objects` are `boxes` (M, 4) xyxy, `labels` (M,) in 1..K, `area` (M,), `iscrowd` (M,), and where they were asked for
    `keypoints` (M, K, 3) x, y, visibility. `segmentations` are the masks as annotated, if asked for.
    """

    path: Path
    stored_size: tuple[int, int]
    size: tuple[int, int]
    objects: dict[str, NDArray[Any]]
    segmentations: tuple[Any, ...] | None = None

    def read(self) -> Tensor:
        return to_tensor(read_image(self.path, self.stored_size), self.size)


class CocoFolder(Views):
    """`data[i]` is a uint8 image (3, H, W) and its target: boxes (xyxy pixels), labels, area, iscrowd, image_id.

    Category ids, however sparse, become labels 1..K in id order. `max_size` shrinks the long side of larger images.
    With `keypoints` the annotations (`person_keypoints_<split>.json`, or `instances_<split>.json`) must have them;
    targets then have `keypoints` (M, K, 3), and `keypoint_names` names them. With `masks` targets have `masks` uint8
    (M, H, W), drawn from the annotations' `segmentation`.
    Everything is checked first: ValueError lists the problems. Boxes that have no area or leave their image are dropped
    and listed in `dropped` while they are "few" (at most one in a hundred of this split, one always), all of them with
    `bad_boxes="drop"`, none with "error".
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        max_size: int | None = None,
        bad_boxes: str = "few",
        keypoints: bool = False,
        masks: bool = False,
    ) -> None:
        files, problems = read_coco(root, split, decode=False, keypoints=keypoints, max_size=max_size)
        if files is not None and masks:
            problems += mask_flaws(files.content["annotations"], str(files.annotations))
        if files is None or problems:
            raise refusal([*(files.bad_boxes.values() if files else ()), *problems], f"{root} ({split})")
        content, bad = files.content, files.bad_boxes
        boxes = len(content["annotations"])
        if len(bad) > most_dropped(bad_boxes, boxes):
            advice = f'these are bad boxes, out of {boxes}; mend them, or go on without them with bad_boxes="drop"'
            raise refusal(bad.values(), f"{root} ({split})", advice)
        self.dropped, self.files = tuple(bad.values()), tuple(files.images.values())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.keypoint_names = tuple(map(plain, categories[0]["keypoints"])) if keypoints else ()
        labels = {category["id"]: label for label, category in enumerate(categories, start=1)}
        rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in content["annotations"]:
            if row["id"] not in bad:
                row["label"] = labels[row["category_id"]]
                rows[row["image_id"]].append(row)
        self._images = {
            image["id"]: _annotated(image, rows[image["id"]], path, max_size, len(self.keypoint_names), masks)
            for image, path in zip(content["images"], self.files, strict=True)
        }
        learned = {row["label"] for image in rows.values() for row in image if not row.get("iscrowd", 0)}
        self.absent = tuple(row["name"] for row in categories if labels[row["id"]] not in learned)
        self.most_objects = max(map(len, rows.values()), default=0)
        source = {
            "annotations": hashlib.sha256(files.annotations.read_bytes()).hexdigest(),
            "split": split,
            "files": [[path.name, path.stat().st_size] for path in self.files],
            "max_size": max_size,
            "bad_boxes": "drop" if bad else "error",  # what was done, not what might have been
        }
        source |= ({"keypoints": True} if keypoints else {}) | ({"masks": True} if masks else {})
        names = (category["name"] for category in categories)
        super().__init__(f"{Path(root).resolve().name}-{split}", names, self._images, source)

    def _choose(self, ids: tuple[int, ...]) -> None:
        super()._choose(ids)
        self._images = {number: self._images[number] for number in ids}  # small views are sent to processes quickly

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        return self.memory.get(number, self._images[number].read).clone(), self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        """The target alone; no image is decoded."""
        number, image = self.ids[index], self._images[self.ids[index]]
        columns = {name: torch.tensor(column) for name, column in image.objects.items()}
        target = {name: column.float() if column.is_floating_point() else column for name, column in columns.items()}
        if image.segmentations is not None:
            target["masks"] = draw_masks(image.segmentations, image.stored_size, image.size)
        return {**target, "image_id": number}

    def with_objects(self) -> Self:
        """A view without the images that have no object besides crowds: nothing in them can be trained."""
        seen = (self._images[number].objects["iscrowd"] for number in self.ids)
        return self.take([index for index, crowds in enumerate(seen) if (crowds == 0).any()])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every image as served; nothing is decoded."""
        return [self._images[number].size[::-1] for number in self.ids]

    def named(self, index: int) -> str:
        return str(self._images[self.ids[index]].path)

    @property
    def objects(self) -> int:
        """How many there are to learn or to find; crowds are neither."""
        return sum(int((self._images[number].objects["iscrowd"] == 0).sum()) for number in self.ids)

    def ground_truth(self) -> dict[str, Any]:
        """The annotations as a COCO dict, with boxes and sizes as served and category ids 1..K."""
        images = (self._images[number].objects for number in self.ids)
        objects = ([image[name] for name in ("boxes", "labels", "area", "iscrowd")] for image in images)
        return coco_truth(self.ids, self.sizes, objects, self.categories)


def most_dropped(bad_boxes: str, boxes: int) -> int:
    """How many of `boxes` may be dropped; ValueError when `bad_boxes` is none of the choices."""
    most = {"few": max(1, boxes // 100), "drop": boxes, "error": 0}
    if bad_boxes not in most:
        raise ValueError(f"The parameter bad_boxes is one of {', '.join(most)}; got {bad_boxes!r}.")
    return most[bad_boxes]


def _annotated(
    image: dict[str, Any], rows: list[dict[str, Any]], path: Path, max_size: int | None, keypoints: int, masks: bool
) -> Annotated:
    """One checked image entry and its annotations, scaled to `max_size` and clipped to the image."""
    stored = (image["width"], image["height"])
    size = served_size(stored, max_size)
    scale = np.array([size[0] / stored[0], size[1] / stored[1]])  # the sides round apart, so each has its own
    xywh = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    corners = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)  # (M, 2, 2): which corner, x or y
    area = np.array([row.get("area", row["bbox"][2] * row["bbox"][3]) for row in rows], dtype=np.float64)
    objects = {
        "boxes": (np.clip(corners, 0, stored) * scale).reshape(-1, 4),
        "labels": np.array([row["label"] for row in rows], dtype=np.int64),
        "area": area * scale.prod(),
        "iscrowd": np.array([row.get("iscrowd", 0) for row in rows], dtype=np.int64),
    }
    if keypoints:
        points = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(-1, keypoints, 3)
        objects["keypoints"] = points * np.array([*scale, 1.0])
    segmentations = tuple(row["segmentation"] for row in rows) if masks else None
    return Annotated(path=path, stored_size=stored, size=size, objects=objects, segmentations=segmentations)
