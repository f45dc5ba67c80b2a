"""Animals as values: silhouettes in a unit frame with five keypoints, their poses in pixels, their looks and places.

The unit frame: the head looks along +x, y points down as in images, the longest side is about 1.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (N, 2) x, y
Colour = tuple[float, float, float]  # red, green, blue in 0..255
Corners = Sequence[tuple[float, float]]
Line = Corners | Points
Lines = Sequence[Line]

SPECIES = ("fish", "shark", "ray", "starfish", "jellyfish", "turtle", "eel")
MARKINGS = ("plain", "fine", "coarse", "ab", "ba")
KEYPOINTS = ("snout", "tail", "left_fin", "right_fin", "eye")  # of a starfish: its tips, the one with the eye first
BENDING = {"fish": 0.35, "shark": 0.45, "ray": 0.35}


@dataclass(frozen=True, kw_only=True)
class Silhouette:
    """Filled outlines, dark detail lines, five keypoints, eyes (none: (0, 2)); `end_radius` is of an eel's head."""

    outlines: tuple[Points, ...]
    details: tuple[Points, ...] = ()
    keypoints: Points
    eyes: Points
    eye_radius: float = 0.0
    end_radius: float = 0.0


def _animal(outlines: Lines, details: Lines, keypoints: Line, eyes: Line, radius: float) -> Silhouette:
    filled, lines = (tuple(np.asarray(part, dtype=np.float64) for part in parts) for parts in (outlines, details))
    points, seeing = np.array(keypoints), np.array(eyes)
    return Silhouette(outlines=filled, details=lines, keypoints=points, eyes=seeing, eye_radius=radius)


def _thing(*outlines: Points) -> Silhouette:
    """Clutter, which has neither keypoints nor eyes."""
    return _animal(outlines, (), np.zeros((5, 2)), np.zeros((0, 2)), 0.0)


def silhouette(species: str, bend: float, size: float) -> Silhouette:
    """An animal, or a piece of clutter (weed, rock, bubble), in the unit frame.

    `bend` in -1..1 swings its tail or arms; `size` in pixels keeps the thin parts of small animals visible.
    """
    supple = {"jellyfish": _jellyfish, "eel": _eel, "weed": _weed}
    if species in supple:
        return supple[species](bend, 0.6 / size)
    shape = _stiff(species)
    amount = BENDING.get(species, 0.0) * bend

    def swing(points: Points) -> Points:
        behind = np.minimum(points[:, 0] - 0.15, 0.0)
        points[:, 1] += amount * behind * behind
        return points

    return _moved(shape, swing) if amount else shape


@functools.cache
def _stiff(species: str) -> Silhouette:
    """The species that have one shape before they bend."""
    if species == "fish":
        body = [(0.5, 0.0), (0.44, -0.08), (0.3, -0.17), (0.1, -0.215), (-0.1, -0.16), (-0.28, -0.06)]
        dorsal = [(0.2, -0.18), (0.08, -0.29), (-0.2, -0.33), (-0.14, -0.21), (-0.16, -0.1)]
        ventral = [(0.06, 0.18), (-0.06, 0.3), (-0.2, 0.31), (-0.14, 0.2), (-0.12, 0.12)]
        tail = [(-0.22, -0.03), (-0.38, -0.12), (-0.5, -0.23), (-0.43, 0.0), (-0.5, 0.23), (-0.38, 0.12), (-0.22, 0.03)]
        gill = [(0.27, -0.13), (0.22, -0.05), (0.22, 0.05), (0.27, 0.13)]
        fin = [(0.14, 0.03), (-0.02, 0.0), (0.0, 0.1), (0.13, 0.05)]
        rays = [[(-0.3, 0.3 * y), (-0.45, y)] for y in (-0.15, -0.05, 0.05, 0.15)]
        parts: Lines = [_smooth(_both(body)), dorsal, ventral, tail]
        details: Lines = [gill, fin, *rays]
        keypoints = [(0.47, 0.0), (-0.41, 0.0), (-0.1, -0.27), (-0.1, 0.26), (0.36, -0.06)]
        return _animal(parts, details, keypoints, [(0.36, -0.06)], 0.042)
    if species == "shark":
        body = [(0.5, 0.0), (0.42, -0.065), (0.25, -0.105), (0.05, -0.11), (-0.18, -0.07), (-0.4, -0.022)]
        fin = [(0.2, 0.07), (0.08, 0.21), (-0.04, 0.3), (0.0, 0.17), (0.02, 0.07)]
        fins = [[(x, s * y) for x, y in fin] for s in (-1, 1)]
        rear = [[(-0.15, s * 0.05), (-0.25, s * 0.13), (-0.25, s * 0.03)] for s in (-1, 1)]
        tail = [(-0.34, 0.0), (-0.42, -0.1), (-0.51, -0.2), (-0.44, 0.0), (-0.49, 0.14), (-0.41, 0.06)]
        gills = [[(x, s * 0.035), (x - 0.015, s * 0.085)] for x in (0.2, 0.235, 0.27) for s in (-1, 1)]
        parts = [_smooth(_both(body)), *fins, *rear, _smooth(tail)]
        details = [*gills, [(0.08, 0.0), (-0.08, 0.0)]]
        keypoints = [(0.47, 0.0), (-0.41, 0.0), (0.03, -0.21), (0.03, 0.21), (0.37, -0.045)]
        return _animal(parts, details, keypoints, [(0.37, -0.045), (0.37, 0.045)], 0.02)
    if species == "ray":
        body = [(0.36, 0.0), (0.31, -0.1), (0.17, -0.27), (0.0, -0.46), (-0.07, -0.4), (-0.13, -0.2), (-0.24, -0.07)]
        tail = [(-0.2, -0.04), (-0.62, -0.014), (-0.62, 0.014), (-0.2, 0.04)]
        parts = [_smooth(_both(body)), _smooth(tail)]
        details = [[(0.18, s * 0.12), (0.05, s * 0.17), (-0.12, s * 0.1)] for s in (-1, 1)]
        keypoints = [(0.33, 0.0), (-0.56, 0.0), (0.0, -0.41), (0.0, 0.41), (0.24, -0.09)]
        return _animal(parts, details, keypoints, [(0.24, -0.09), (0.24, 0.09)], 0.026)
    if species == "turtle":
        shell = _smooth(_both([(0.27, 0.0), (0.24, -0.12), (0.1, -0.25), (-0.1, -0.26), (-0.27, -0.14), (-0.33, 0.0)]))
        head = _smooth(_both([(0.5, 0.0), (0.47, -0.07), (0.38, -0.095), (0.28, -0.06), (0.2, -0.06)]))
        front = [[(0.22, s * 0.13), (0.2, s * 0.36), (0.02, s * 0.5), (0.05, s * 0.2)] for s in (-1, 1)]
        back = [[(-0.18, s * 0.16), (-0.36, s * 0.36), (-0.42, s * 0.31), (-0.28, s * 0.1)] for s in (-1, 1)]
        rim = 0.76 * np.concatenate([shell, shell[:1]])
        seams = [[(x - 0.05, -0.18), (x, -0.07), (x, 0.07), (x - 0.05, 0.18)] for x in (0.1, -0.08)]
        parts = [shell, head, *map(_smooth, front + back), [(-0.28, -0.05), (-0.45, 0.0), (-0.28, 0.05)]]
        details = [rim, *seams, *([(0.17, s * 0.07), (-0.22, s * 0.07)] for s in (-1, 1))]
        keypoints = [(0.47, 0.0), (-0.39, 0.0), (0.08, -0.41), (0.08, 0.41), (0.41, -0.05)]
        return _animal(parts, details, keypoints, [(0.41, -0.05), (0.41, 0.05)], 0.024)
    if species == "starfish":
        tips = _polar(np.full(5, 0.45), 5)
        star = _smooth(_polar(np.array([0.52, 0.2] * 5), 10))
        return _animal([star], [np.stack([0.2 * tip, 0.85 * tip]) for tip in tips], tips, 0.8 * tips[:1], 0.032)
    if species in ("rock", "bubble"):
        stone = _smooth(_polar(np.array([0.5, 0.42, 0.36, 0.44, 0.5, 0.4, 0.34, 0.41]), 8)) * np.array([0.7, 1.0])
        return _thing(stone if species == "rock" else _polar(np.full(20, 0.5), 20))
    raise ValueError(f"Expected a species out of {', '.join(SPECIES)}, got {species!r}; choose one of these.")


def _jellyfish(bend: float, thin: float) -> Silhouette:
    bell = [(0.5, 0.0), (0.44, -0.2), (0.26, -0.34), (0.06, -0.37), (0.03, -0.28), (0.07, -0.14), (0.04, 0.0)]
    x = np.linspace(0.1, -0.48, 13)
    sway = 0.15 * np.sin(14.0 * x + 3.0 * bend) * (0.1 - x)
    half = np.maximum(np.linspace(0.035, 0.014, 13), thin)
    arms = ((-0.26, 0.85), (-0.13, 0.95), (0.0, 1.0), (0.13, 0.92), (0.26, 0.8))
    lip = np.array([(0.13, -0.33), (0.16, -0.17), (0.14, 0.0), (0.16, 0.17), (0.13, 0.33)])
    threads = [_ribbon(np.stack([0.1 + (x - 0.1) * reach, y + sway], axis=1), half) for y, reach in arms]
    veins = [[(0.17, y), (0.38, 0.6 * y)] for y in (-0.2, 0.0, 0.2)]
    keypoints = [(0.47, 0.0), (-0.44, sway[-2]), (0.08, -0.33), (0.08, 0.33), (0.3, -0.14)]
    return _animal([_smooth(_both(bell)), *threads], [lip, *veins], keypoints, [(0.3, -0.14)], 0.035)


def _eel(bend: float, thin: float) -> Silhouette:
    radius = max(0.052, 2.8 * thin)
    x = np.linspace(0.5 - radius, -0.5 + 0.6 * radius, 25)
    # An odd wave: the middle of the body lies in the middle of the box, half a body away from the head.
    y = math.copysign(0.085, bend) * np.sin(2.0 * math.pi * (1.0 + 0.4 * abs(bend)) * x)
    line = np.stack([x, y], axis=1)
    half = np.maximum(np.linspace(0.048, 0.03, 25), 2.0 * thin)
    head, tail, eye = line[0], line[-1], line[0] + radius * np.array([0.3, -0.4])
    ends = _polar(np.full(16, radius), 16)
    sides = [(line[12, 0], line[12, 1] + s * 0.8 * half[12]) for s in (-1, 1)]
    outlines = [_ribbon(line, half), head + ends, tail + 0.6 * ends]
    keypoints = np.array([head + np.array([0.7 * radius, 0.0]), tail, *sides, eye])
    return replace(_animal(outlines, [line[3:-3]], keypoints, eye[None], 0.22 * radius), end_radius=radius)


def _weed(bend: float, thin: float) -> Silhouette:
    x = np.linspace(0.0, 1.0, 12)
    half = np.maximum(0.045 * (1.0 - 0.8 * x), thin)
    blades = []
    for y, reach, turn in ((-0.08, 0.75, -0.15), (0.0, 1.0, 0.1), (0.08, 0.65, 0.17)):
        wave = y + turn * x * x + 0.05 * np.sin(9.0 * x + 3.0 * bend + 20.0 * y) * x
        blades.append(_ribbon(np.stack([reach * x - 0.5, wave], axis=1), half))
    return _thing(*blades)


def _polar(radii: Points, count: int) -> Points:
    turns = np.arange(count) * (2 * math.pi / count)
    return np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=1)


def _both(left: Corners) -> list[tuple[float, float]]:
    """The closed outline of a symmetric body from the points of its left side, front to back."""
    return [*left, *((x, -y) for x, y in reversed(left) if y != 0.0)]


def _smooth(points: Corners | Points, steps: int = 5) -> Points:
    """A closed Catmull-Rom curve through the points, `steps` segments from each to the next."""
    b = np.asarray(points, dtype=np.float64)
    a, c, d = (b[(np.arange(len(b)) + shift) % len(b)] for shift in (-1, 1, 2))
    t = (np.arange(steps) / steps)[:, None, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _ribbon(line: Points, half_width: Points) -> Points:
    """The outline of a band around an open line."""
    along = np.empty_like(line)
    along[1:-1], along[0], along[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    across = along[:, ::-1] * np.array([1.0, -1.0])
    offset = across * (half_width / np.sqrt(across[:, 0] ** 2 + across[:, 1] ** 2))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def _moved(shape: Silhouette, move: Callable[[Points], Points]) -> Silhouette:
    """The silhouette with all its points moved by one call."""
    parts, count = [*shape.outlines, *shape.details, shape.keypoints, shape.eyes], len(shape.outlines)
    *moved, keypoints, eyes = np.split(move(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
    return replace(shape, outlines=tuple(moved[:count]), details=tuple(moved[count:]), keypoints=keypoints, eyes=eyes)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A silhouette turned and scaled, in pixels from the centre of its upright box, whose half sides are `half`."""

    shape: Silhouette
    half: tuple[float, float]
    origin: tuple[float, float]  # where the middle of the unit frame lies
    forward: tuple[float, float]  # the direction of the head
    size: float


def pose(shape: Silhouette, angle: float, size: float) -> Pose:
    """The silhouette `size` pixels long, its head turned by `angle` (radians, clockwise on the screen)."""
    # Rounded, so that the last bit of a machine's cosine cannot reach the pixels.
    cos, sin = round(math.cos(angle), 6), round(math.sin(angle), 6)
    right, down = np.array([size * cos, size * sin]), np.array([-size * sin, size * cos])
    turned = _moved(shape, lambda points: points[:, :1] * right + points[:, 1:] * down)
    outline = np.concatenate(turned.outlines)
    low, high = outline.min(axis=0), outline.max(axis=0)
    middle = (low + high) / 2
    turned = replace(
        _moved(turned, lambda points: points - middle),
        eye_radius=shape.eye_radius * size,
        end_radius=shape.end_radius * size,
    )
    (half_x, half_y), (x, y) = ((high - low) / 2).tolist(), (-middle).tolist()
    return Pose(shape=turned, half=(half_x, half_y), origin=(x, y), forward=(cos, sin), size=size)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours from head to tail, the marking, and the colour of the cue (an eel's head, a fish's dot), if any."""

    front: Colour
    rear: Colour
    marking: str = "plain"
    phase: tuple[int, int] = (0, 0)  # of the checker, in pixels
    cue_colour: Colour | None = None
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Animal:
    """One animal of a scene: `label` in 1..K, `kind` the index of its species, the `centre` of its box (x, y).

    `cue` is x, y, radius of the one thing that shows the class, if there is one: the head of an eel, or a dot, which is
    `distance` pixels away from the centre.
    """

    label: int
    kind: int
    pose: Pose
    look: Look
    distance: int = 0
    centre: tuple[float, float] = (0.0, 0.0)
    cue: tuple[float, float, float] | None = None


def crowding(a: Animal, b: Animal) -> float:
    """The shared part of two boxes over the smaller one; infinite where a cue would be hidden or mistaken."""
    for one, other in ((a, b), (b, a)):
        if one.cue is None:
            continue
        x, y, radius = one.cue
        distances = (abs(place - c) - h for place, c, h in zip((x, y), other.centre, other.pose.half, strict=True))
        if max(distances) < radius + 2:  # how far the cue is outside of the other's box, along the farther axis
            return math.inf
        # A dot, not a head: nearer to its own animal than to any other.
        near, far = math.dist((x, y), one.centre), math.dist((x, y), other.centre)
        if one.pose.shape.end_radius == 0 and far < near + 4 * radius:
            return math.inf
    both = list(zip(a.centre, a.pose.half, b.centre, b.pose.half, strict=True))
    width, height = (max(min(c + h, d + k) - max(c - h, d - k), 0.0) for c, h, d, k in both)
    return width * height / (4 * min(math.prod(a.pose.half), math.prod(b.pose.half)))
