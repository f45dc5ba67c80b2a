"""Detection data from a COCO-format folder."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from workbench.data.checks import Problem, read_coco, summary
from workbench.data.images import MEMORY_LIMIT, Memory, read_image, to_tensor
from workbench.data.keypoint_checks import KEYPOINT_FILES, check_keypoints
from workbench.data.views import Views

BadBoxes = Literal["few", "drop", "error"]


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One picture's file, its size as annotated and as served, and its M objects in pixels as served."""

    path: Path
    stored_size: tuple[int, int]  # (width, height)
    size: tuple[int, int]
    boxes: NDArray[np.float64]  # (M, 4) xyxy
    labels: NDArray[np.int64]  # (M,) 1..K
    area: NDArray[np.float64]  # (M,)
    iscrowd: NDArray[np.int64]  # (M,)
    keypoints: NDArray[np.float64]  # (M, K, 3) x, y, visibility; K is 0 unless they were asked for


class CocoFolder(Views):
    """`data[i]` is a uint8 image (3, H, W) and its target: boxes (xyxy pixels), labels, area, iscrowd, image_id.

    Category ids, however sparse, become labels 1..K in id order. `max_size` shrinks the long side of larger pictures.
    With `keypoints` the annotations (`person_keypoints_<split>.json`, or `instances_<split>.json`) must have them;
    targets then have `keypoints` (M, K, 3), and `joints` names them.
    Everything is checked first: ValueError lists the problems. Boxes that have no area or leave their image are dropped
    and listed in `dropped` while they are "few" (at most one in a hundred of this split, one always), all of them with
    `bad_boxes="drop"`, none with "error". What was decoded last stays in memory, up to `memory_limit` bytes.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        max_size: int | None = None,
        bad_boxes: BadBoxes = "few",
        keypoints: bool = False,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        if max_size is not None and max_size < 1:
            raise ValueError(f"max_size is a number of pixels of at least 1, but is {max_size}; None keeps all sizes.")
        if bad_boxes not in get_args(BadBoxes):
            raise ValueError(f"bad_boxes is one of {', '.join(get_args(BadBoxes))}; got {bad_boxes!r}.")
        kinds = KEYPOINT_FILES if keypoints else ("instances",)
        files, problems = read_coco(root, split, decode=False, kinds=kinds)
        if files is not None and keypoints:
            problems += check_keypoints(files.content, str(files.annotations))
        bad = tuple(problem for problem in problems if problem.severity == "box")
        if files is None or len(bad) < len(problems):
            raise ValueError(summary(problems, f"{root} ({split})", "mend the files named here"))
        boxes = len(files.content["annotations"])
        if len(bad) > {"error": 0, "few": max(1, boxes // 100), "drop": boxes}[bad_boxes]:
            advice = f'these are bad boxes, out of {boxes}; mend them, or go on without them with bad_boxes="drop"'
            raise ValueError(summary(bad, f"{root} ({split})", advice))
        categories = sorted(files.content["categories"], key=lambda category: category["id"])
        self.joints: tuple[str, ...] = tuple(categories[0]["keypoints"]) if keypoints else ()
        self.name = f"{Path(root).resolve().name}-{split}"
        self.categories: tuple[str, ...] = tuple(category["name"] for category in categories)
        self.dropped: tuple[Problem, ...] = bad  # of the whole folder, also on a view
        labels = {category["id"]: label for label, category in enumerate(categories, start=1)}
        unusable = {problem.annotation for problem in bad}
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in files.content["annotations"]:
            if annotation["id"] not in unusable:
                objects[annotation["image_id"]].append(annotation)
        self._images = {
            image["id"]: _annotated(image, objects[image["id"]], labels, files.images, max_size, len(self.joints))
            for image in files.content["images"]
        }
        with files.annotations.open("rb") as file:
            self._source = {
                "annotations": hashlib.file_digest(file, "sha256").hexdigest(),
                "split": split,
                "files": [[image.path.name, image.path.stat().st_size] for image in self._images.values()],
                "max_size": max_size,
                "bad_boxes": "drop" if bad else "error",  # what was done, so that asking for more changes no digest
                **({"keypoints": True} if keypoints else {}),
            }
        self._memory = Memory[Tensor](memory_limit)
        self._choose(tuple(self._images))

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        return self._memory.get(number, lambda: _read(self._images[number])).clone(), self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        """The target alone; no picture is decoded."""
        number = self.ids[index]
        image = self._images[number]
        target = {
            "boxes": torch.tensor(image.boxes, dtype=torch.float32),
            "labels": torch.tensor(image.labels),
            "area": torch.tensor(image.area, dtype=torch.float32),
            "iscrowd": torch.tensor(image.iscrowd),
            "image_id": number,
        }
        if self.joints:
            target["keypoints"] = torch.tensor(image.keypoints, dtype=torch.float32)
        return target

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every picture as served; nothing is decoded."""
        sizes = (self._images[number].size for number in self.ids)
        return [(height, width) for width, height in sizes]

    def ground_truth(self) -> dict[str, Any]:
        """The annotations as a COCO dict, with boxes and sizes as served and category ids 1..K."""
        annotations: list[dict[str, Any]] = []
        for number in self.ids:
            image = self._images[number]
            for (x1, y1, x2, y2), label, area, crowd in zip(
                image.boxes.tolist(), image.labels.tolist(), image.area.tolist(), image.iscrowd.tolist(), strict=True
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": area,
                        "iscrowd": crowd,
                    }
                )
        sizes = [(number, *self._images[number].size) for number in self.ids]
        return {
            "images": [{"id": number, "width": width, "height": height} for number, width, height in sizes],
            "annotations": annotations,
            "categories": [{"id": label, "name": name} for label, name in enumerate(self.categories, start=1)],
        }


def _annotated(
    image: dict[str, Any],
    objects: list[dict[str, Any]],
    labels: dict[int, int],
    folder: Path,
    max_size: int | None,
    joints: int,
) -> Annotated:
    """One checked image entry and its annotations, scaled to `max_size` and clipped to the picture."""
    stored = (image["width"], image["height"])
    shrink = 1.0 if max_size is None else min(1.0, max_size / max(stored))
    size = (max(1, round(stored[0] * shrink)), max(1, round(stored[1] * shrink)))
    scale = np.array([size[0] / stored[0], size[1] / stored[1]])  # the sides round apart, so each has its own
    xywh = np.array([row["bbox"] for row in objects], dtype=np.float64).reshape(-1, 4)
    corners = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)  # (M, 2, 2): which corner, x or y
    area = np.array([row.get("area", row["bbox"][2] * row["bbox"][3]) for row in objects], dtype=np.float64)
    keypoints = np.array([row["keypoints"] for row in objects] if joints else [], dtype=np.float64)
    keypoints = keypoints.reshape(len(objects) if joints else 0, joints, 3)
    return Annotated(
        path=folder / image["file_name"],
        stored_size=stored,
        size=size,
        boxes=(np.clip(corners, 0, stored) * scale).reshape(-1, 4),
        labels=np.array([labels[row["category_id"]] for row in objects], dtype=np.int64),
        area=area * scale.prod(),
        iscrowd=np.array([row.get("iscrowd", 0) for row in objects], dtype=np.int64),
        keypoints=keypoints * np.array([*scale, 1.0]),
    )


def _read(image: Annotated) -> Tensor:
    picture = read_image(image.path, image.stored_size)
    if picture.size != image.size:
        picture = picture.resize(image.size, Image.Resampling.BILINEAR)
    return to_tensor(picture)
