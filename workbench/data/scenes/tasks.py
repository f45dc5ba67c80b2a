"""Generated scenes as data sets: for detection, segmentation, pose and classification."""

from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.data.scenes.creatures import KEYPOINTS
from workbench.data.scenes.enlarged import enlarged
from workbench.data.scenes.scene import EXTRAS, Scene, SceneConfig, draw_crop, draw_scene
from workbench.data.sets import Views, coco_truth

VERSION = 1  # raise it whenever the pixels change: it is part of every digest
SPLITS = {"train": 0, "search": 10_000_000, "test": 20_000_000}  # the first image id of each


class StandIn(NamedTuple):
    """What scenes are in a rehearsal, in place of real data."""

    size: tuple[int, int] | None = None  # height and width that they are brought to
    classes: int = 0  # as many have names; most are never shown


AS_DRAWN = StandIn()


class _Streamed(Views):
    """What all of them share: a name, and ids of which none is in two splits."""

    def __init__(self, kind: str, config: SceneConfig, seed: int, split: str, size: int, side: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"Expected a split out of {', '.join(SPLITS)}, got {split!r}; choose one of these.")
        if not 1 <= size <= 10_000_000:
            raise ValueError(f"Expected 1 to 10,000,000 scenes, got {size}; choose another size.")
        self.config, self.seed = config, seed
        source = {"scenes": [VERSION, asdict(config), seed, split, size, side]}
        ids = range(SPLITS[split], SPLITS[split] + size)
        super().__init__(f"{kind} {config.classes} {split}", config.categories, ids, source)

    @property
    def in_memory(self) -> bool:
        """No file is decoded: what memory does not hold is drawn again."""
        return True

    def _stand_in(self, stand_in: StandIn) -> None:
        self.categories += tuple(f"unseen {number}" for number in range(len(self.categories), stand_in.classes))
        if any(stand_in):
            self._source = {**self._source, "stands in": [stand_in.size, len(self.categories)]}
            self._choose(self.ids)


class Scenes(_Streamed):
    """Scenes as detection data, drawn when they are asked for.

    `[i] -> (image uint8 (3, H, W), target)`: `boxes` (M, 4) xyxy, `labels` (M,) in 1..K, `area`, `iscrowd`, `image_id`,
    `centres` (M, 2), and the extras asked for: `masks` uint8 (M, H, W), `keypoints` (M, 5, 3), `semantic` int64 (H, W).
    On the ladder also `species` and `texture` (M,), labels from 1 on that are no part of the class (texture is 0 where
    the configuration asks for none), and `distance` (M,), pixels to the dot.
    """

    keypoint_names = KEYPOINTS

    def __init__(self, config: SceneConfig, seed: int, split: str, size: int, stand_in: StandIn = AS_DRAWN) -> None:
        super().__init__("scenes", config, seed, split, size)
        self.enlarge = stand_in.size
        self._stand_in(stand_in)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        return torch.from_numpy(self.scene(index).image.transpose(2, 0, 1).copy()), self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        scene = self.scene(index)
        arrays = {extra: getattr(scene, extra) for extra in self.config.extras}
        arrays |= {"boxes": scene.boxes, "labels": scene.labels, "area": scene.areas, "centres": scene.centres}
        if self.config.classes == "ladder":
            arrays |= {"species": scene.species, "texture": scene.textures, "distance": scene.distances}
        target: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        target |= {"semantic": target["semantic"].long()} if "semantic" in target else {}
        return target | {"iscrowd": torch.zeros(len(scene.labels), dtype=torch.int64), "image_id": self.ids[index]}

    def scene(self, index: int) -> Scene:
        """The drawn scene; what is large and was not asked for (`extras`) is left empty."""
        return self.memory.get(self.ids[index], lambda: self._draw(self.ids[index]))

    def _draw(self, number: int) -> Scene:
        scene = draw_scene(self.config, self.seed, number)
        unasked = [extra for extra in EXTRAS if extra not in self.config.extras]
        scene = replace(scene, **{extra: getattr(scene, extra)[:0].copy() for extra in unasked})  # a view keeps it all
        return enlarged(scene, self.enlarge) if self.enlarge else scene

    @property
    def sizes(self) -> list[tuple[int, int]]:  # (height, width) of every scene; nothing is drawn
        return [self.enlarge or (self.config.image_size,) * 2] * len(self)

    def ground_truth(self) -> dict[str, Any]:
        """The truth in COCO's format (category ids 1..K, boxes xywh); poses have their own, see `PoseCrops`.

        On the ladder each annotation also has the `distance` of its dot in pixels.
        """
        scenes, ladder = map(self.scene, range(len(self))), self.config.classes == "ladder"
        objects = (
            (scene.boxes, scene.labels, scene.areas, 0 * scene.labels, *((scene.distances,) if ladder else ()))
            for scene in scenes
        )
        return coco_truth(self.ids, self.sizes, objects, self.categories)


class SceneMasks(Scenes):
    """The semantic maps of generated scenes: `data[i]` is a uint8 image (3, H, W) and {"semantic": int64 (H, W)}."""

    def __init__(self, config: SceneConfig, seed: int, split: str, size: int, stand_in: StandIn = AS_DRAWN) -> None:
        super().__init__(replace(config, extras=("semantic",)), seed, split, size, StandIn(size=stand_in.size))
        self.name += " masks"
        self.categories = config.semantic_categories
        self._stand_in(stand_in)

    def target(self, index: int) -> dict[str, Any]:
        """The target alone."""
        target = super().target(index)
        return {"semantic": target["semantic"], "image_id": target["image_id"]}


class SceneCrops(_Streamed):
    """Single animals as classification data, balanced: `[i] -> (uint8 (3, side, side), label in 0..K-1)`."""

    def __init__(self, config: SceneConfig, seed: int, split: str, size: int, side: int = 64, classes: int = 0) -> None:
        super().__init__("crops", config, seed, split, size, side)
        self.side, self.shown = side, len(self.categories)
        self._stand_in(StandIn(classes=classes))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number, label = self.ids[index], self.ids[index] % self.shown
        return self.memory.get(number, lambda: self._draw(number, label)).clone(), label

    def _draw(self, number: int, label: int) -> Tensor:
        crop = draw_crop(self.config, self.seed, number, label + 1, self.side)
        return torch.from_numpy(crop.transpose(2, 0, 1).copy())
