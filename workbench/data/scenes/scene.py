"""The generated aquarium: a pure function from (configuration, seed, index) to a scene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image

from workbench.data.scenes.creatures import KEYPOINTS, MARKINGS, SPECIES, Animal, Look, crowding, pose, silhouette
from workbench.data.scenes.water import Field, background, put_animals, put_clutter, rgb, seen
from workbench.records.seeds import generator

Pair = tuple[float, float]

CLASSES = ("species", "species_marking", "eel", "dot", "ladder")
CUED = ("eel", "dot", "ladder")  # a cue tells the class, so the whole animal must be seen
EXTRAS = ("masks", "keypoints", "semantic")
SIZES = {"small": (8.0, 28.0), "mixed": (8.0, 90.0), "large": (28.0, 90.0)}  # pixels from snout to tail
EEL_SIZES = {"small": (10.0, 32.0), "mixed": (14.0, 112.0), "large": (32.0, 116.0)}
DOT_SIZES = {"small": (8.0, 14.0), "mixed": (8.0, 22.0), "large": (14.0, 22.0)}
CUES = {
    "red": (250.0, 32.0, 28.0),
    "yellow": (255.0, 238.0, 40.0),
    "white": (250.0, 250.0, 250.0),
    "black": (10.0, 10.0, 14.0),
}
TEXTURES = ("fine", "coarse")  # markings that the ladder may ask for as well
DOT_RADIUS = 3.0
LEAST_VISIBLE = 0.25  # of an animal's pixels; with less it is no object of the truth


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What a scene shows. Lengths are pixels; sizes are log-uniform in a preset (small, mixed, large) or in a range.

    `classes` says what the classes are: the species, species x marking, the head colour of eels, or the colour of a dot
    exactly `context_distance` from the centre of a fish. On the `ladder` the dot of each animal, in one of `colours`
    colours, is at one of `distances`: a network whose field covers the share s of the dots is right in at most
    s + (1 - s) / colours. Its animals are of any species but eels, and with `texture` their skin has a fine or a
    coarse pattern; both are questions apart from the class. `occlusion` is the share of the smaller of two boxes that
    may overlap. Raises ValueError for knobs that cannot be turned this way.
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
    distances: tuple[int, ...] = (20, 30, 40, 50, 58)
    colours: int = 2
    dot_radius: float = DOT_RADIUS
    texture: bool = False
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
        if not self.kinds or not self.markings:
            no_eels = " other than eels" if self.classes == "ladder" else ""
            raise ValueError(f"Expected at least one species{no_eels} and one marking, got none; name some.")
        if not 0 <= self.objects[0] <= self.objects[1] <= 50 or self.clutter < 0 or not 0 <= self.occlusion <= 1:
            raise ValueError(f"Expected objects within 0-50, clutter >= 0, occlusion within 0-1; correct {self}.")
        low, high = self.size_range
        if not 4 <= low <= high <= 0.92 * self.image_size:
            limit = f"4 <= low <= high <= {0.92 * self.image_size:.0f} (0.92 of the image)"
            raise ValueError(f"Expected sizes with {limit}, got {low:g} to {high:g}; change sizes or image_size.")
        if not 1 <= self.dot_radius <= 8:
            raise ValueError(f"Expected a dot_radius of 1 to 8 pixels, got {self.dot_radius:g}; change it.")
        near = high / 2 + self.dot_radius + 2  # outside the animal
        far = self.image_size / 2 - DOT_RADIUS - 2  # inside the image
        if not 2 <= self.colours <= len(CUES):
            raise ValueError(f"Expected 2 to {len(CUES)} colours, got {self.colours}; {', '.join(CUES)} exist.")
        if self.classes == "ladder" and not self.distances:
            raise ValueError("Expected distances of at least one dot, got none; name some.")
        for distance in self.dot_distances:
            if not near <= distance <= far:
                knob = "a context_distance" if self.classes == "dot" else "distances"
                limit = f"{near:g} to {far:g}, got {distance}"
                raise ValueError(f"Expected {knob} of {limit}; change it, sizes or image_size.")

    @property
    def size_range(self) -> tuple[float, float]:
        """Smallest and largest size in pixels; the upper end of a preset shrinks with the image."""
        if not isinstance(self.sizes, str):
            return self.sizes
        low, high = {"eel": EEL_SIZES, "dot": DOT_SIZES, "ladder": DOT_SIZES}.get(self.classes, SIZES)[self.sizes]
        return low, min(high, (0.91 if self.classes == "eel" else 0.71) * self.image_size)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The species that swim here: those asked for, except in the two tasks that are about one.

        Eels carry their cue themselves, so there are none on the ladder.
        """
        if self.classes == "ladder":
            return tuple(species for species in self.species if species != "eel")
        return {"eel": ("eel",), "dot": ("fish",)}.get(self.classes, self.species)

    @property
    def dot_distances(self) -> tuple[int, ...]:
        """How far a dot can be from its animal, in pixels; () where no dot tells the class."""
        return {"dot": (self.context_distance,), "ladder": self.distances}.get(self.classes, ())

    def covers(self, reach: float, distances: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which dots a network that sees `reach` pixels far can see: a dot is seen from its near edge on."""
        return distances - self.dot_radius < reach

    def bound(self, share: float) -> float:
        """The best accuracy of a network that sees this share of the dots: sure of these, guessing the others."""
        return share + (1 - share) / self.colours

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the classes, from label 1 on."""
        if self.classes == "species_marking":
            return tuple(f"{species} {marking}" for species in self.species for marking in self.markings)
        if self.classes == "species":
            return self.species
        colours, what = list(CUES)[: self.colours], "eel" if self.classes == "eel" else "dot"
        return tuple(f"{colour} {what}" for colour in colours)

    @property
    def semantic_categories(self) -> tuple[str, ...]:
        """The names of the values of the semantic map, from 0 on."""
        return ("water", "sand", *self.kinds)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image and everything true about it, for M objects from back to front."""

    image: npt.NDArray[np.uint8]  # (H, W, 3)
    boxes: npt.NDArray[np.float32]  # (M, 4) x0 y0 x1 y1 in pixels, tight around the visible pixels
    labels: npt.NDArray[np.int64]  # (M,) in 1..K
    masks: npt.NDArray[np.uint8]  # (M, H, W) 0/1, visible pixels
    keypoints: npt.NDArray[np.float32]  # (M, 5, 3) x, y, visibility: 0 outside of the image, 1 hidden, 2 visible
    semantic: npt.NDArray[np.uint8]  # (H, W) index into semantic_categories
    centres: npt.NDArray[np.float32]  # (M, 2) x, y of the centre of the whole animal's box
    sizes: npt.NDArray[np.float32]  # (M,) pixels from snout to tail, as asked for
    areas: npt.NDArray[np.float32]  # (M,) visible pixels
    species: npt.NDArray[np.int64]  # (M,) in 1..S, the place in `kinds`
    textures: npt.NDArray[np.int64]  # (M,) 1 fine, 2 coarse, 0 neither
    distances: npt.NDArray[np.int64]  # (M,) pixels from the centre to the dot, 0 where there is none

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in vars(self).values())


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
        # Where a cue shows the class the whole animal must be seen; others may be cut by the border.
        share, slack = (1.0, 1.0) if config.classes in CUED else (0.6, 0.0)
        margin = share * animal.pose.half[0] + slack, share * animal.pose.half[1] + slack
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
    farthest = max(config.dot_distances, default=0)
    reach = farthest + config.dot_radius + 2 if farthest else 1.2 * max(animal.pose.half) + 1
    reach = min(reach, config.image_size / 2)
    animal = _placed(config, rng, animal, [], (reach, reach)) or animal
    scene = _composed(config, image, ground, [animal])
    x, y = animal.centre
    # Places are rounded, so a window at the border may begin or end a thousandth of a pixel outside.
    last = config.image_size
    window = (max(x - reach, 0), max(y - reach, 0), min(x + reach, last), min(y + reach, last))
    return np.array(Image.fromarray(scene.image).resize((side, side), Image.Resampling.BILINEAR, box=window))


def _born(config: SceneConfig, rng: Generator, label: int, size: float, haze: float) -> Animal:
    """An animal of a class without a place yet; `haze` (0..1) mixes the colour of the water in."""
    bend, turn, which, hue, saturation, value, shift = rng.random(7).tolist()
    phase = (int(rng.integers(6)), int(rng.integers(6)))
    kind, distance = 0, config.context_distance if config.classes == "dot" else 0
    marking, cue_colour = config.markings[int(which * len(config.markings))], None
    if config.classes == "species":
        kind = label - 1
    elif config.classes == "species_marking":
        kind, number = divmod(label - 1, len(config.markings))
        marking = config.markings[number]
    else:
        marking, hue = "plain", 0.27 + 0.55 * hue  # green to violet, far from the red and yellow of the cues
        cue_colour = list(CUES.values())[label - 1]
    if config.classes == "ladder":
        kind, rung, skin = (int(rng.integers(count)) for count in (len(config.kinds), len(config.distances), 2))
        distance, marking = config.distances[rung], TEXTURES[skin] if config.texture else "plain"
        hue = 0.76 + 0.18 * (hue - 0.27)  # violet: seen in any water, so that silhouettes are learned soon
    posed = pose(silhouette(config.kinds[kind], 2 * bend - 1, size), 2 * math.pi * turn, size)
    front = rgb(hue, 0.4 + 0.5 * saturation, 0.72 + 0.28 * value, haze)
    rear = rgb(hue + 0.16 * (shift - 0.5), 0.3 + 0.45 * saturation, 0.85 + 0.15 * value, haze)
    look = Look(front=front, rear=rear, marking=marking, phase=phase, cue_colour=cue_colour)
    return Animal(label=label, kind=kind, pose=posed, look=look, distance=distance)


def _placed(config: SceneConfig, rng: Generator, animal: Animal, others: list[Animal], margin: Pair) -> Animal | None:
    """The animal at the first random place that covers little enough of the others, else at the best, else None."""
    best, least, side = None, math.inf, config.image_size
    for _ in range(30):
        u, v, turn = rng.random(3).tolist()
        x, y = round(margin[0] + (side - 2 * margin[0]) * u, 3), round(margin[1] + (side - 2 * margin[1]) * v, 3)
        cue = None
        if config.classes == "eel":
            head = animal.pose.shape.outlines[1].mean(axis=0).tolist()
            cue = (x + head[0], y + head[1], animal.pose.shape.end_radius)
        elif animal.distance:
            right, down = round(math.cos(2 * math.pi * turn), 6), round(math.sin(2 * math.pi * turn), 6)
            cue = (x + animal.distance * right, y + animal.distance * down, config.dot_radius)
            border = config.dot_radius + 1
            if not all(border <= place <= side - border for place in cue[:2]):
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
        keypoints[row] = seen(animals[i].pose.shape.keypoints + animals[i].centre, masks[row], boxes[row])
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
        sizes=np.array([animals[i].pose.size for i in kept], dtype=np.float32),
        areas=visible[kept].astype(np.float32),
        species=np.array([animals[i].kind + 1 for i in kept], dtype=np.int64),
        textures=np.array([_texture(animals[i]) for i in kept], dtype=np.int64),
        distances=np.array([animals[i].distance for i in kept], dtype=np.int64),
    )


def _texture(animal: Animal) -> int:
    return TEXTURES.index(animal.look.marking) + 1 if animal.look.marking in TEXTURES else 0
