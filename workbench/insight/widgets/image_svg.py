"""Images with marked boxes as SVG: light enough to be drawn anew at every move of a slider, and to be hovered."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from workbench.insight.style import QUIET

WIDTH = 240  # of a tile, in units of the drawing; images are sent at most twice as large
LINE = 17  # height of a line of text


class Mark(NamedTuple):
    """A box (x0, y0, x1, y1 in pixels of its image), a word above it, and a sentence that is shown on hover."""

    box: Sequence[float]
    colour: Any
    word: str = ""
    sentence: str = ""
    dashed: bool = False
    faint: bool = False


class Tile(NamedTuple):
    """A part of a `sheet`."""

    body: str
    height: float


def image_uri(image: Any) -> str:
    """A uint8 image (H, W, 3) as a data URI (JPEG)."""
    small, buffer = Image.fromarray(np.asarray(image)), io.BytesIO()
    small.thumbnail((2 * WIDTH, 2 * WIDTH))
    small.save(buffer, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def tile(uri: str, size: tuple[int, int], marks: Sequence[Mark] = (), caption: str = "") -> Tile:
    """An image of `size` (height, width) pixels with its marks, and a caption below it."""
    scale, height = WIDTH / size[1], WIDTH * size[0] / size[1]
    body = f'<image href="{uri}" width="{WIDTH}" height="{height:.1f}" preserveAspectRatio="none"/>'
    for mark in marks:
        x, right = (scale * min(max(float(edge), 0), size[1]) for edge in mark.box[::2])
        y, bottom = (scale * min(max(float(edge), 0), size[0]) for edge in mark.box[1::2])
        colour, dash = to_hex(mark.colour), ' stroke-dasharray="5 3"' if mark.dashed else ""
        look = f'fill="{colour}" fill-opacity="0" stroke="{colour}" stroke-width="{1 if mark.faint else 2.5}"{dash}'
        place = f'x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" height="{bottom - y:.1f}"'
        body += f'<g opacity="{0.55 if mark.faint else 1}"><rect {place} {look}/>{title(mark.sentence)}'
        if mark.word:
            top, left = max(y - 2, 11), min(x, WIDTH - 6.3 * len(mark.word))
            halo = 'paint-order="stroke" stroke="#ffffff" stroke-width="3"'
            body += f'<text x="{left:.1f}" y="{top:.1f}" font-size="11" {halo}>{escape(mark.word)}</text>'
        body += "</g>"
    body += f'<text x="0" y="{height + 13:.1f}" font-size="12" fill="{QUIET}">{escape(caption)}</text>'
    return Tile(body, height + (LINE if caption else 0))


def title(sentence: str) -> str:
    """What a browser shows where the mouse rests on the element that this stands in."""
    return f"<title>{escape(sentence)}</title>" if sentence else ""


def sheet(
    tiles: Sequence[Tile], lines: Sequence[str] = (), *, legend: Mapping[str, Any] | None = None, columns: int = 4
) -> str:
    """Tiles in rows below lines of text and words behind their colours, as one SVG that shrinks with the page."""
    columns = min(columns, max(1, len(tiles)))
    keys = "".join(f'<tspan fill="{to_hex(c)}">■</tspan> {escape(word)}\u2003' for word, c in (legend or {}).items())
    texts = [*map(escape, lines), *([keys] if keys else [])]
    top, parts = LINE * len(texts) + 4.0, ""
    for number, text in enumerate(texts):
        parts += f'<text x="0" y="{LINE * number + 13}" font-size="13" fill="{QUIET}">{text}</text>'
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        for column, part in enumerate(row):
            frame = f'x="{column * (WIDTH + 8)}" y="{top:.1f}" width="{WIDTH}" height="{part.height + 4:.1f}"'
            parts += f"<svg {frame}>{part.body}</svg>"
        top += max(part.height for part in row) + 8
    words = [*lines, *(legend or ())]
    width = max(columns * (WIDTH + 8), *(7 * len(line) for line in lines), 7 * len("    ".join(legend or ())))
    size = f'viewBox="0 0 {width} {top:.0f}" width="{width}" style="max-width:100%;height:auto"'
    named = f'role="img" aria-label="{escape(" ".join(words))}" font-family="sans-serif"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {named}>{parts}</svg>'
