"""The generated aquarium: a pure function from (configuration, seed, index) to a scene, and data sets of scenes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from workbench.data.creatures import KEYPOINTS, MARKINGS, SPECIES, Animal, Colour, Look, crowding, pose, silhouette
from workbench.data.images import MEMORY_LIMIT, Memory
from workbench.data.views import Views
from workbench.data.water import Field, background, put_animals, put_clutter, rgb, seen
from workbench.records.seeds import generator

Pair = tuple[float, float]

VERSION = 1  # raise it whenever the pixels change: it is part of every digest
CLASSES = ("species", "species_marking", "eel", "dot")
EXTRAS = ("masks", "keypoints", "semantic")
SPLITS = {"train": 0, "search": 10_000_000, "test": 20_000_000}  # the first image id of each
SIZES = {"small": (8.0, 28.0), "mixed": (8.0, 90.0), "large": (28.0, 90.0)}  # pixels from snout to tail
EEL_SIZES = {"small": (10.0, 32.0), "mixed": (14.0, 112.0), "large": (32.0, 116.0)}
DOT_SIZES = {"small": (8.0, 14.0), "mixed": (8.0, 22.0), "large": (14.0, 22.0)}
CUES: dict[str, Colour] = {"red": (250.0, 32.0, 28.0), "yellow": (255.0, 238.0, 40.0)}
DOT_RADIUS = 3.0
LEAST_VISIBLE = 0.25  # of an animal's pixels; with less it is no object of the truth


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What a scene shows. Lengths are pixels; sizes are log-uniform in a preset (small, mixed, large) or in a range.

    `classes` says what is told apart: the species, species x marking, the head colour of eels, or the colour of a dot
    exactly `context_distance` from the centre of a fish. `occlusion` is the share of the smaller of two boxes that may
    overlap. Raises ValueError for knobs that cannot be turned this way.
    """

    image_size: int = 128
    classes: str = "species"
    species: tuple[str, ...] = SPECIES
    markings: tuple[str, ...] = MARKINGS
    sizes: str | tuple[float, float] = "mixed"
    objects: tuple[int, int] = (2, 6)
    clutter: int = 4
    occlusion: float = 0.3
    context_distance: int = 32
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for knob, values, allowed in (
            ("classes", (self.classes,), CLASSES),
            ("species", self.species, SPECIES),
            ("markings", self.markings, MARKINGS),
            ("extras", self.extras, EXTRAS),
            ("sizes", (self.sizes,) if isinstance(self.sizes, str) else (), tuple(SIZES)),
        ):
            if wrong := [value for value in values if value not in allowed]:
                raise ValueError(f"Expected {knob} out of {', '.join(allowed)}, got {wrong[0]!r}; correct the name.")
        if not self.species or not self.markings:
            raise ValueError("Expected at least one species and one marking, got none; name some.")
        if not 0 <= self.objects[0] <= self.objects[1] <= 50 or self.clutter < 0 or not 0 <= self.occlusion <= 1:
            raise ValueError(f"Expected objects within 0-50, clutter >= 0, occlusion within 0-1; correct {self}.")
        low, high = self.size_range
        if not 4 <= low <= high <= 0.92 * self.image_size:
            limit = f"4 <= low <= high <= {0.92 * self.image_size:.0f} (0.92 of the image)"
            raise ValueError(f"Expected sizes with {limit}, got {low:g} to {high:g}; change sizes or image_size.")
        near, far = high / 2 + DOT_RADIUS + 2, self.image_size / 2 - DOT_RADIUS - 2  # beside the fish, inside the image
        if self.classes == "dot" and not near <= self.context_distance <= far:
            limit = f"{near:g} to {far:g}, got {self.context_distance}"
            raise ValueError(f"Expected a context_distance of {limit}; change it, sizes or image_size.")

    @property
    def size_range(self) -> tuple[float, float]:
        """Smallest and largest size in pixels; the upper end of a preset shrinks with the image."""
        if not isinstance(self.sizes, str):
            return self.sizes
        low, high = {"eel": EEL_SIZES, "dot": DOT_SIZES}.get(self.classes, SIZES)[self.sizes]
        return low, min(high, (0.91 if self.classes == "eel" else 0.71) * self.image_size)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The species that swim here: those asked for, except in the two tasks that are about one."""
        return {"eel": ("eel",), "dot": ("fish",)}.get(self.classes, self.species)

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the classes, from label 1 on."""
        if self.classes == "species_marking":
            return tuple(f"{species} {marking}" for species in self.species for marking in self.markings)
        return self.species if self.classes == "species" else tuple(f"{colour} {self.classes}" for colour in CUES)

    @property
    def semantic_categories(self) -> tuple[str, ...]:
        """The names of the values of the semantic map, from 0 on."""
        return ("water", "sand", *self.kinds)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture and everything true about it, for M objects from back to front."""

    image: npt.NDArray[np.uint8]  # (H, W, 3)
    boxes: npt.NDArray[np.float32]  # (M, 4) x0 y0 x1 y1 in pixels, tight around the visible pixels
    labels: npt.NDArray[np.int64]  # (M,) in 1..K
    masks: npt.NDArray[np.uint8]  # (M, H, W) 0/1, visible pixels
    keypoints: npt.NDArray[np.float32]  # (M, 5, 3) x, y, visibility: 0 outside of the picture, 1 hidden, 2 visible
    semantic: npt.NDArray[np.uint8]  # (H, W) index into semantic_categories
    centres: npt.NDArray[np.float32]  # (M, 2) x, y of the centre of the whole animal's box
    sizes: npt.NDArray[np.float32]  # (M,) pixels from snout to tail, as asked for
    areas: npt.NDArray[np.float32]  # (M,) visible pixels
    names: tuple[str, ...]  # (M,) of the classes

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, np.ndarray))


def draw_sizes(config: SceneConfig, rng: Generator, count: int) -> list[float]:
    """`count` sizes in pixels, log-uniform over the configured range."""
    low, high = config.size_range
    return [round(low * math.exp(math.log(high / low) * share), 3) for share in rng.random(count).tolist()]


def draw_scene(config: SceneConfig, seed: int, index: int) -> Scene:
    """The scene number `index`: a pure function of its arguments, the same bytes on every machine."""
    rng = generator(seed, "scene", str(index))
    image, ground = background(seed, config.image_size, rng)
    put_clutter(image, ground, config.clutter, rng)
    sizes = draw_sizes(config, rng, int(rng.integers(config.objects[0], config.objects[1] + 1)))
    animals: list[Animal] = []
    for number, size in enumerate(sizes, start=1):
        label = int(rng.integers(1, len(config.categories) + 1))
        animal = _born(config, rng, label, size, haze=0.3 * (1 - number / len(sizes)))
        # Where a cue tells the class the whole animal must be seen; others may be cut by the border.
        share, slack = (1.0, 1.0) if config.classes in ("eel", "dot") else (0.6, 0.0)
        margin = share * animal.body.half[0] + slack, share * animal.body.half[1] + slack
        placed = _placed(config, rng, animal, animals, margin)
        if placed is not None:
            animals.append(placed)
    return _composed(config, image, ground, animals)


def draw_crop(config: SceneConfig, seed: int, index: int, label: int, side: int) -> npt.NDArray[np.uint8]:
    """One animal of a class (`label` in 1..K), centred with some context, as uint8 (side, side, 3)."""
    rng = generator(seed, "crop", str(index))
    image, ground = background(seed, config.image_size, rng)
    put_clutter(image, ground, config.clutter, rng)
    animal = _born(config, rng, label, draw_sizes(config, rng, 1)[0], haze=0.0)
    reach = config.context_distance + DOT_RADIUS + 2 if config.classes == "dot" else 1.2 * max(animal.body.half) + 1
    reach = min(reach, config.image_size / 2)
    animal = _placed(config, rng, animal, [], (reach, reach)) or animal
    scene = _composed(config, image, ground, [animal])
    x, y = animal.centre
    window = (x - reach, y - reach, x + reach, y + reach)
    return np.array(Image.fromarray(scene.image).resize((side, side), Image.Resampling.BILINEAR, box=window))


def _born(config: SceneConfig, rng: Generator, label: int, size: float, haze: float) -> Animal:
    """An animal of a class without a place yet; `haze` (0..1) mixes the colour of the water in."""
    bend, turn, which, hue, saturation, value, shift = rng.random(7).tolist()
    phase = (int(rng.integers(6)), int(rng.integers(6)))
    kind, marking, cue_colour = 0, config.markings[int(which * len(config.markings))], None
    if config.classes == "species":
        kind = label - 1
    elif config.classes == "species_marking":
        kind, number = divmod(label - 1, len(config.markings))
        marking = config.markings[number]
    else:
        marking, hue = "plain", 0.27 + 0.55 * hue  # green to violet, far from the red and yellow of the cues
        cue_colour = list(CUES.values())[label - 1]
    body = pose(silhouette(config.kinds[kind], 2 * bend - 1, size), 2 * math.pi * turn, size)
    front = rgb(hue, 0.4 + 0.5 * saturation, 0.72 + 0.28 * value, haze)
    rear = rgb(hue + 0.16 * (shift - 0.5), 0.3 + 0.45 * saturation, 0.85 + 0.15 * value, haze)
    look = Look(front=front, rear=rear, marking=marking, phase=phase, cue_colour=cue_colour)
    return Animal(label=label, kind=kind, body=body, look=look)


def _placed(config: SceneConfig, rng: Generator, animal: Animal, others: list[Animal], margin: Pair) -> Animal | None:
    """The animal at the first random place that covers little enough of the others, else at the best, else None."""
    best, least, side = None, math.inf, config.image_size
    for _ in range(30):
        u, v, turn = rng.random(3).tolist()
        x, y = round(margin[0] + (side - 2 * margin[0]) * u, 3), round(margin[1] + (side - 2 * margin[1]) * v, 3)
        cue = None
        if config.classes == "eel":
            head = animal.body.shape.outlines[1].mean(axis=0).tolist()
            cue = (x + head[0], y + head[1], animal.body.shape.end_radius)
        elif config.classes == "dot":
            right, down = round(math.cos(2 * math.pi * turn), 6), round(math.sin(2 * math.pi * turn), 6)
            cue = (x + config.context_distance * right, y + config.context_distance * down, DOT_RADIUS)
            if not all(DOT_RADIUS + 1 <= place <= side - DOT_RADIUS - 1 for place in cue[:2]):
                continue
        candidate = replace(animal, centre=(x, y), cue=cue)
        overlap = max((crowding(candidate, other) for other in others), default=0.0)
        if overlap < least:
            best, least = candidate, overlap
        if least <= config.occlusion:
            break
    return best


def _composed(config: SceneConfig, image: Field, ground: npt.NDArray[np.uint8], animals: Sequence[Animal]) -> Scene:
    """The scene of the animals painted back to front, with the truth read off what stays visible."""
    owner, whole = put_animals(image, animals)
    visible = np.bincount(owner.ravel(), minlength=len(animals) + 1)[1:]
    kept = [i for i in range(len(animals)) if visible[i] >= max(LEAST_VISIBLE * whole[i], 4)]
    masks = owner == np.array(kept, dtype=np.uint8)[:, None, None] + 1
    boxes, keypoints = np.zeros((len(kept), 4), np.float32), np.zeros((len(kept), len(KEYPOINTS), 3), np.float32)
    for row, i in enumerate(kept):
        xs, ys = np.flatnonzero(masks[row].any(axis=0)), np.flatnonzero(masks[row].any(axis=1))
        boxes[row] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
        keypoints[row] = seen(animals[i].body.shape.keypoints + animals[i].centre, masks[row], boxes[row])
    labels = np.array([animals[i].label for i in kept], dtype=np.int64)
    kind_of_owner = np.array([0] + [animal.kind + 2 for animal in animals], dtype=np.uint8)
    return Scene(
        image=(np.clip(image, 0, 255) + np.float32(0.5)).astype(np.uint8),
        boxes=boxes,
        labels=labels,
        masks=masks.astype(np.uint8),
        keypoints=keypoints,
        semantic=np.where(owner > 0, kind_of_owner[owner], ground),
        centres=np.array([animals[i].centre for i in kept], dtype=np.float32).reshape(-1, 2),
        sizes=np.array([animals[i].body.size for i in kept], dtype=np.float32),
        areas=visible[kept].astype(np.float32),
        names=tuple(config.categories[label - 1] for label in labels),
    )


class _Streamed(Views):
    """What both data sets share: a name, and ids of which none is in two splits."""

    def __init__(self, kind: str, config: SceneConfig, seed: int, split: str, size: int, side: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"Expected a split out of {', '.join(SPLITS)}, got {split!r}; choose one of these.")
        if not 1 <= size <= 10_000_000:
            raise ValueError(f"Expected 1 to 10,000,000 scenes, got {size}; choose another size.")
        self.config, self.seed = config, seed
        self.name = f"{kind} {config.classes} {split}"
        self.categories = config.categories
        self._source = {"scenes": [VERSION, asdict(config), seed, split, size, side]}
        self._choose(tuple(range(SPLITS[split], SPLITS[split] + size)))


class Scenes(_Streamed):
    """Scenes as detection data, drawn when they are asked for; those used last stay, up to `memory_limit` bytes.

    `[i] -> (image uint8 (3, H, W), target)`: `boxes` (M, 4) xyxy, `labels` (M,) in 1..K, `area`, `iscrowd`, `image_id`,
    `centres` (M, 2), and the extras asked for: `masks` uint8 (M, H, W), `keypoints` (M, 5, 3), `semantic` int64 (H, W).
    """

    def __init__(self, config: SceneConfig, seed: int, split: str, size: int, memory_limit: int = MEMORY_LIMIT) -> None:
        super().__init__("scenes", config, seed, split, size)
        self._memory = Memory[Scene](memory_limit)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        return torch.from_numpy(self.scene(index).image.transpose(2, 0, 1).copy()), self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        scene = self.scene(index)
        arrays = {extra: getattr(scene, extra) for extra in self.config.extras}
        arrays |= {"boxes": scene.boxes, "labels": scene.labels, "area": scene.areas, "centres": scene.centres}
        target: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        target |= {"semantic": target["semantic"].long()} if "semantic" in target else {}
        return target | {"iscrowd": torch.zeros(len(scene.labels), dtype=torch.int64), "image_id": self.ids[index]}

    def scene(self, index: int) -> Scene:
        """The drawn scene; what is large and was not asked for (`extras`) is left empty."""
        number = self.ids[index]
        return self._memory.get(number, lambda: self._draw(number))

    def _draw(self, number: int) -> Scene:
        scene = draw_scene(self.config, self.seed, number)
        unasked = [extra for extra in EXTRAS if extra not in self.config.extras]
        return replace(scene, **{extra: getattr(scene, extra)[:0].copy() for extra in unasked})  # a view keeps it all

    @property
    def sizes(self) -> list[tuple[int, int]]:  # (height, width) of every scene; nothing is drawn
        return [(self.config.image_size,) * 2] * len(self)

    def ground_truth(self) -> dict[str, Any]:
        """The truth in COCO's format (category ids 1..K, boxes xywh); poses have their own, see `pose`."""
        annotations: list[dict[str, Any]] = []
        for index, image_id in enumerate(self.ids):
            scene = self.scene(index)
            for row, (x0, y0, x1, y1) in enumerate(scene.boxes.tolist()):
                annotation: dict[str, Any] = {"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0}
                box, area = [x0, y0, x1 - x0, y1 - y0], float(scene.areas[row])
                annotation |= {"bbox": box, "area": area, "category_id": int(scene.labels[row])}
                annotations.append(annotation)
        images = [{"id": n, "width": w, "height": h} for n, (h, w) in zip(self.ids, self.sizes, strict=True)]
        categories = [{"id": number, "name": name} for number, name in enumerate(self.categories, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}


class SceneCrops(_Streamed):
    """Single animals as classification data, balanced: `[i] -> (uint8 (3, side, side), label in 0..K-1)`."""

    def __init__(
        self,
        config: SceneConfig,
        seed: int,
        split: str,
        size: int,
        side: int = 64,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        super().__init__("crops", config, seed, split, size, side)
        self.side = side
        self._memory = Memory[Tensor](memory_limit)

    @property
    def labels(self) -> tuple[int, ...]:  # nothing is drawn
        return tuple(number % len(self.categories) for number in self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number, label = self.ids[index], self.ids[index] % len(self.categories)
        return self._memory.get(number, lambda: self._draw(number, label)).clone(), label

    def _draw(self, number: int, label: int) -> Tensor:
        crop = draw_crop(self.config, self.seed, number, label + 1, self.side)
        return torch.from_numpy(crop.transpose(2, 0, 1).copy())
