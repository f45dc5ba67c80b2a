"""The aquarium painted: water with a depth gradient and caustics, a sea floor of sand, animals put into it as sprites.

Only sums, products and roundings of single numbers are used (no FFT, no matrices): the same bytes on every machine.
"""

import colorsys
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from workbench.data.scenes.creatures import Animal, Colour, Look, Points, Pose, pose, silhouette
from workbench.records.seeds import generator

Field = npt.NDArray[np.floating[Any]]  # float32 everywhere; plain numbers take part in it
SUPERSAMPLING = 4
CHECKER_PERIOD = {"fine": 3, "coarse": 6}  # pixels, whatever the size of the animal
BAND_AT = {"ab": 0.18, "ba": -0.18}  # along the body, in the unit frame: near the head, near the tail


@functools.lru_cache(maxsize=4)
def sheets(seed: int, image_size: int) -> tuple[Field, Field, Field]:
    """Caustics, sand and relief: noise (4 S, 4 S) in 0..1 that all backgrounds of one seed and image size are cut from.

    Cached, since they are worth about a hundred backgrounds.
    """
    rng = generator(seed, "water")
    side = 4 * image_size
    relief = _fractal(rng, side, (12, 12), 5)
    bend_x, bend_y = (_fractal(rng, side, (16, 16), 3) for _ in range(2))
    veins = _warped(_veins(_fractal(rng, side, (28, 28), 4)), bend_x, bend_y, 0.1 * image_size)
    fine_veins = _warped(_veins(_fractal(rng, side, (56, 56), 3)), bend_y, bend_x, 0.1 * image_size)
    clouds = _fractal(rng, side, (10, 10), 4)
    ripples = _warped(_fractal(rng, side, (90, 24), 2), bend_x, bend_y, 0.12 * image_size)
    grain = rng.integers(0, 256, size=(side, side)).astype(np.float32) / 255
    caustics = 0.5 * veins * (0.4 + clouds) + 0.3 * fine_veins * clouds + clouds * 0.3
    return caustics, 0.45 * ripples + 0.3 * grain + 0.25 * clouds, relief


def background(seed: int, image_size: int, rng: np.random.Generator) -> tuple[Field, npt.NDArray[np.uint8]]:
    """An image (S, S, 3) in 0..255 and its map (S, S): 0 water, 1 sand."""
    caustics, sand, relief = sheets(seed, image_size)
    down = (np.arange(image_size, dtype=np.float32) / image_size)[:, None]
    depth = down[:, :, None]

    tint = rng.random(3).astype(np.float32)
    shallow = np.array([92, 176, 196], dtype=np.float32) + tint * np.array([60, 30, 30], dtype=np.float32)
    deep = np.array([14, 62, 100], dtype=np.float32) + tint[::-1] * np.array([22, 50, 40], dtype=np.float32)
    light = _window(caustics, image_size, rng)
    shafts = _shafts(relief, image_size, rng)
    glow = light * (1.05 - 0.75 * down) + shafts * (0.9 - down)
    base = shallow + (deep - shallow) * depth - 24  # (S, 1, 3)
    image = base + glow[:, :, None] * np.array([78, 92, 88], dtype=np.float32)

    level, roughness = image_size * (0.6 + 0.32 * rng.random()), image_size * (0.2 + 0.35 * rng.random())
    coarse, jagged = (_window(sheet, image_size, rng)[0] for sheet in (relief, sand))
    edge = level + roughness * (coarse - 0.5) + 0.03 * image_size * (jagged - 0.5)
    below = np.arange(image_size, dtype=np.float32)[:, None] + 0.5 - edge
    cover = np.clip(below + 0.5, 0, 1)

    texture = _window(sand, image_size, rng)
    lit = np.clip(1 - below / (0.05 * image_size), 0, 1)  # the crest catches the light
    tone = 0.36 + 0.85 * texture + 0.22 * light + 0.16 * lit
    tone -= 0.12 * np.clip(below / (0.4 * image_size), 0, 1)
    warm = np.array([190, 162, 112], dtype=np.float32) + (tint - 0.5) * 24
    image += (tone[:, :, None] * warm - image) * cover[:, :, None]
    return image, (cover >= 0.5).astype(np.uint8)


def _fractal(rng: np.random.Generator, side: int, cells: tuple[int, int], octaves: int) -> Field:
    """Value noise in 0..1: random grids of growing fineness and falling weight, each interpolated smoothly."""
    total = np.zeros((side, side), dtype=np.float32)
    weight, weights = np.float32(1), np.float32(0)
    for octave in range(octaves):
        rows, columns = cells[0] << octave, cells[1] << octave
        grid = rng.integers(0, 256, size=(rows + 2, columns + 2)).astype(np.float32) / 255
        total += weight * _stretched(_stretched(grid, side, rows).T, side, columns).T
        weights += weight
        weight *= np.float32(0.55)
    return total / weights


def _stretched(grid: Field, side: int, cells: int) -> Field:
    """The grid interpolated along its first axis to `side` rows."""
    position = np.arange(side, dtype=np.float32) * cells / side
    cell = np.minimum(position.astype(np.int64), cells)
    t = (position - cell.astype(np.float32))[:, None]
    t = t * t * (3 - 2 * t)
    return grid[cell] * (1 - t) + grid[cell + 1] * t


def _veins(noise: Field) -> Field:
    """Bright thin lines where the noise crosses its middle, as sunlight focused by waves."""
    ridge = np.clip(1 - 4 * np.abs(noise - 0.5), 0, 1)
    return ridge * ridge * ridge


def _warped(field: Field, right: Field, down: Field, reach: float) -> Field:
    """The field read at displaced places, which hides the grid that value noise is made on."""
    side = field.shape[0]
    place = np.arange(side, dtype=np.int64)
    shift_y, shift_x = (np.floor((shift - 0.5) * (4 * reach)).astype(np.int64) for shift in (down, right))
    return field[(place[:, None] + shift_y) % side, (place + shift_x) % side]


def _window(sheet: Field, side: int, rng: np.random.Generator) -> Field:
    """A random piece (side, side) of a sheet, mirrored half of the time."""
    top, left, mirrored = rng.integers(0, (sheet.shape[0] - side, sheet.shape[1] - side, 2))
    piece = sheet[top : top + side, left : left + side]
    return piece[:, ::-1] if mirrored else piece


def _shafts(sheet: Field, side: int, rng: np.random.Generator) -> Field:
    """Slanted beams of light (side, side): one line of noise read along a slope."""
    line = sheet[rng.integers(0, sheet.shape[0])]
    start = rng.integers(0, len(line) - 2 * side)
    place = np.arange(side)
    beams = line[start + place + (side - 1 - place[:, None]) // 2]
    return np.clip(3 * (beams - 0.5), 0, 1)


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """A painted animal: `cover` (h, w) in 0..1 and `colour` (h, w, 3), the upper left pixel at (left, top)."""

    left: int
    top: int
    cover: Field
    colour: Field


def paint(animal: Pose, centre: tuple[float, float], look: Look) -> Sprite:
    """The animal with its box centred at `centre` (x, y in pixels): anti-aliased, shaded, marked, with eyes."""
    shape, size = animal.shape, animal.size
    left, top = (math.floor(c - h) - 1 for c, h in zip(centre, animal.half, strict=True))
    right, bottom = (math.ceil(c + h) + 1 for c, h in zip(centre, animal.half, strict=True))
    place = np.array([centre[0] - left, centre[1] - top])
    cover = _drawn(shape.outlines, place, (right - left, bottom - top), 0)

    # A blurred silhouette is a height map: bright in the middle of the body; its slope says what faces the light.
    reach = max(1, round(0.05 * size))
    blurred = np.asarray(cover.filter(ImageFilter.BoxBlur(reach)), dtype=np.float32) / 255
    padded = np.zeros((cover.height + 2 * reach, cover.width), dtype=np.float32)
    padded[reach:-reach] = blurred
    lit = padded[2 * reach :] - padded[: -2 * reach]
    shade = 0.7 + 0.32 * blurred + 0.3 * lit
    if size >= 16 and shape.details:
        lines = np.asarray(_drawn(shape.details, place, cover.size, max(3, round(0.06 * size))), dtype=np.float32)
        shade *= 1 - 0.3 / 255 * lines

    x = np.arange(cover.width, dtype=np.float32) + np.float32(0.5 - place[0])
    y = (np.arange(cover.height, dtype=np.float32) + np.float32(0.5 - place[1]))[:, None]
    along = (x - animal.origin[0]) * animal.forward[0] + (y - animal.origin[1]) * animal.forward[1]  # to the head
    if look.marking in CHECKER_PERIOD:
        period = CHECKER_PERIOD[look.marking]
        columns = (np.arange(left, right) + look.phase[0]) % period * 2 // period
        rows = (np.arange(top, bottom) + look.phase[1]) % period * 2 // period
        shade *= np.where(columns ^ rows[:, None], np.float32(0.36), np.float32(1))
    elif look.marking in BAND_AT:
        distance = np.abs(along - BAND_AT[look.marking] * size)
        shade *= 1 - 0.62 * np.clip(0.075 * size + 0.5 - distance, 0, 1)

    front, rear = np.array(look.front, dtype=np.float32), np.array(look.rear, dtype=np.float32)
    backwards = np.clip(0.5 - along / size, 0, 1)
    colour = (front + (rear - front) * backwards[:, :, None]) * shade[:, :, None]
    if look.cue_colour is not None and shape.end_radius > 0:
        tail, head = place + shape.keypoints[1], place + shape.outlines[1].mean(axis=0)
        spot(colour, head[0], head[1], shape.end_radius + 0.5, look.cue_colour)
        spot(colour, tail[0], tail[1], 0.6 * shape.end_radius + 0.5, (8.0, 8.0, 8.0))
    radius = max(shape.eye_radius, 0.7)
    # On a small coloured head an eye would hide the colour that shows the class.
    eyes = shape.eyes if look.cue_colour is None or shape.eye_radius > 0.7 else shape.eyes[:0]
    for eye_x, eye_y in eyes + place:
        if radius > 1.6:
            spot(colour, eye_x, eye_y, radius * 1.35, (240.0, 240.0, 230.0))
        spot(colour, eye_x, eye_y, radius, (10.0, 12.0, 20.0))
        if radius > 1.6:
            spot(colour, eye_x + 0.3 * radius, eye_y - 0.35 * radius, 0.3 * radius, (255.0, 255.0, 255.0))
    alpha = np.asarray(cover, dtype=np.float32) * (look.opacity / 255)
    return Sprite(left=left, top=top, cover=alpha, colour=colour)


def spot(image: Field, x: float, y: float, radius: float, rgb: Colour) -> None:
    """Paint an anti-aliased disc into an image (H, W, 3); x, y and radius in pixels."""
    top, bottom = np.clip((math.floor(y - radius) - 1, math.ceil(y + radius) + 1), 0, image.shape[0])
    left, right = np.clip((math.floor(x - radius) - 1, math.ceil(x + radius) + 1), 0, image.shape[1])
    dx = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x)
    dy = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None]
    inside = np.clip(radius + 0.5 - np.sqrt(dx * dx + dy * dy), 0, 1)[:, :, None]
    part = image[top:bottom, left:right]
    part += (np.array(rgb, dtype=np.float32) - part) * inside


def put_animals(image: Field, animals: Sequence[Animal]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Paint the animals, back to front, and their dots into the image (H, W, 3).

    Returns the map (H, W) of whose each pixel is (0 nobody's, i of the i-th animal, counted from 1), and the number of
    pixels of each animal, were it alone and the image endless.
    """
    owner = np.zeros(image.shape[:2], dtype=np.uint8)
    whole = []
    for number, animal in enumerate(animals, start=1):
        sprite = paint(animal.pose, animal.centre, animal.look)
        rows, columns, cover = _blend(image, sprite)
        owner[rows, columns][cover >= 0.5] = number
        whole.append(int(np.count_nonzero(sprite.cover >= 0.5)))
    for animal in animals:
        if animal.cue is not None and animal.look.cue_colour is not None and animal.pose.shape.end_radius == 0:
            spot(image, *animal.cue, animal.look.cue_colour)  # a dot, which nothing may hide
    return owner, whole


def seen(points: Points, mask: npt.NDArray[np.bool_], box: Field) -> Field:
    """Keypoints (5, 3) as x, y, visibility; visible are those with a pixel of the animal within one pixel around."""
    rows = np.zeros((len(points), 3), dtype=np.float32)  # what lies outside of the image stays 0, 0, 0
    for row, (x, y) in zip(rows, points.tolist(), strict=True):
        column, line = math.floor(x), math.floor(y)
        if 0 <= column < mask.shape[1] and 0 <= line < mask.shape[0]:
            row[:] = x, y, 1
            if mask[max(line - 1, 0) : line + 2, max(column - 1, 0) : column + 2].any():
                row[:] = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]), 2
    return rows


def put_clutter(image: Field, ground: npt.NDArray[np.uint8], most: int, rng: np.random.Generator) -> None:
    """Paint up to `most` seaweeds, rocks and bubbles into the background; they are no objects."""
    side = image.shape[0]
    shore = side - ground.sum(axis=0)  # the row where the sand begins, for each column
    for _ in range(int(rng.integers(0, most + 1))):
        which, across, down, scale, bend, hue, value = rng.random(7).tolist()
        kind, size, opacity = ("weed", "weed", "rock", "bubble")[int(4 * which)], side * (0.07 + 0.25 * scale), 1.0
        edge = int(shore[int(across * side)])
        y = edge + down * (side - edge)
        if kind == "weed":
            y = edge + 0.7 * down * (side - edge) - 0.45 * size
            front, rear = rgb(0.2 + 0.25 * hue, 0.65, 0.4 + 0.25 * value, 0.2), rgb(0.2 + 0.25 * hue, 0.7, 0.25, 0.2)
        elif kind == "rock":
            size *= 0.6
            front = rear = rgb(0.06 + 0.1 * hue, 0.2, 0.38 + 0.25 * value, 0.2)
        else:
            y, size, opacity = down * edge, 0.25 * size, 0.5
            front = rear = (225.0, 245.0, 250.0)
        posed = pose(silhouette(kind, 2 * bend - 1, size), 0.5 * (bend - 0.5) - math.pi / 2, size)
        _blend(image, paint(posed, (across * side, y), Look(front=front, rear=rear, opacity=opacity)))


def rgb(hue: float, saturation: float, value: float, haze: float) -> Colour:
    """A colour from hue, saturation, value in 0..1, seen through `haze` (0..1) of water."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, 255.0 * value)
    return red + haze * (70.0 - red), green + haze * (140.0 - green), blue + haze * (165.0 - blue)


def _blend(image: Field, sprite: Sprite) -> tuple[slice, slice, Field]:
    """Lay a sprite over the image; returns the rows and columns of the part inside, and how much it covers there."""
    height, width = sprite.cover.shape
    y0, y1 = np.clip((sprite.top, sprite.top + height), 0, image.shape[0])
    x0, x1 = np.clip((sprite.left, sprite.left + width), 0, image.shape[1])
    inside = slice(y0 - sprite.top, y1 - sprite.top), slice(x0 - sprite.left, x1 - sprite.left)
    cover, part = sprite.cover[inside], image[y0:y1, x0:x1]
    part += (sprite.colour[inside] - part) * cover[:, :, None]
    return slice(y0, y1), slice(x0, x1), cover


def _drawn(parts: tuple[Points, ...], place: Points, size: tuple[int, int], line_width: int) -> Image.Image:
    """Polygons filled (or, with a width in subpixels, lines drawn) on a finer grid, and averaged down."""
    fine = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    draw = ImageDraw.Draw(fine)
    for part in parts:
        corners = np.floor((part + place) * SUPERSAMPLING).astype(int).ravel().tolist()
        if line_width:
            draw.line(corners, fill=255, width=line_width)
        else:
            draw.polygon(corners, fill=255)
    return fine.reduce(SUPERSAMPLING)
