"""Test images with the truth and what a detector found there, by kind of error."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import pandas as pd
from IPython.display import SVG

from workbench.insight.plots import SIZES
from workbench.insight.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from workbench.insight.widgets.image_svg import Mark, Tile, image_uri, sheet, tile
from workbench.insight.widgets.panel import Values, panel
from workbench.tasks import box_errors as kinds
from workbench.tasks.box_errors import KINDS, MISSED
from workbench.tasks.box_metrics import RELATIVE_SIDE, Detection, Truth, evaluate_boxes

COLOURS = dict(zip(KINDS, (GREEN, BLUE, PURPLE, ORANGE, SKY, VERMILLION), strict=True))
WHITE = "#ffffff"
EVERYTHING = "everything"
ON_A_PAGE = 8


def detection_viewer(data: Any, found: Sequence[Detection], *, score: float = 0.3) -> widgets.VBox | SVG:
    """Images of a detection set, eight to a page, with the boxes of a chosen kind and those above a chosen score.

    `found` are a detector's boxes on all images of `data`, as `Detection.measure` gives them. Solid boxes are found,
    dashed ones are objects. Headless: a page of all kinds.
    """
    truth = data.ground_truth()
    errors, truths = kinds.box_errors(truth, found), defaultdict(list)
    for row in truth["annotations"]:
        truths[row["image_id"]].append(row)
    metrics = evaluate_boxes(truth, found, grouped=True)
    sizes = ", ".join(f"{name} {metrics[key]:.2f}" for key, name in SIZES.items() if key in metrics)
    whole = f"AP over all scores {metrics.get('AP', math.nan):.2f}" + (f" ({sizes})" if sizes else "")

    @lru_cache(maxsize=256)
    def image(number: int) -> tuple[str, tuple[int, int]]:
        pixels = data[data.ids.index(number)][0].permute(1, 2, 0).numpy()
        return image_uri(pixels), pixels.shape[:2]

    def drawn(number: int, rows: pd.DataFrame, kind: str) -> Tile:
        try:
            uri, size = image(number)
        except (ValueError, OSError) as error:  # one bad file, and the widget goes on
            return tile("", (3, 4), caption=f"image {number}: {error}")
        objects = [Mark(corners(row["bbox"]), WHITE, dashed=True, faint=True) for row in truths[number]]
        return tile(uri, size, [*objects, *marks(rows, data.categories, kind)], f"image {number}")

    def draw(state: Values) -> str:
        shown = findings(truth, errors, state["score"])
        lines = [f"{whole}. From score {state['score']:.2f} on, with small, middle and large ones in brackets:"]
        of_kind = shown if state["kind"] == EVERYTHING else shown[shown["kind"] == state["kind"]]
        numbers = [number for number in data.ids if state["kind"] == EVERYTHING or number in {*of_kind["image_id"]}]
        pages = max(1, math.ceil(len(numbers) / ON_A_PAGE))
        page = min(state["page"], pages)
        lines.append(f"{state['kind']}: {len(of_kind)} boxes on {len(numbers)} images, page {page} of {pages}")
        chosen = numbers[ON_A_PAGE * (page - 1) : ON_A_PAGE * page]
        tiles = [drawn(number, shown[shown["image_id"] == number], state["kind"]) for number in chosen]
        return sheet(tiles, lines, legend=size_counts(shown))

    controls = {
        "kind": widgets.ToggleButtons(options=[EVERYTHING, *KINDS], style={"button_width": "auto"}),
        "score": widgets.FloatSlider(value=score, min=0, max=1, step=0.05),
        "page": widgets.BoundedIntText(value=1, min=1, max=max(1, math.ceil(len(data) / ON_A_PAGE))),
    }
    return panel(controls, draw)


def findings(truth: Truth, errors: pd.DataFrame, score: float) -> pd.DataFrame:
    """The detections of at least that score, and the objects that they leave missed, each with its `side`.

    That is the root of the area as a share of the root of the image's.
    """
    rows = pd.DataFrame(kinds.missed(truth, errors, score), columns=["id", "image_id", "category_id", "bbox"])
    rows = rows.rename(columns={"id": "object"}).assign(kind=MISSED)
    shown = pd.concat([frame for frame in (errors[errors["score"] >= score], rows) if len(frame)] or [errors])
    areas = {image["id"]: image["width"] * image["height"] for image in truth["images"]}
    own = {row["id"]: row["area"] for row in truth["annotations"]}
    pairs = zip(shown["object"], shown["bbox"], shown["image_id"], strict=True)
    # Of the object that it is about, as AP by size has it; a box in the background has only its own.
    return shown.assign(side=[math.sqrt(own.get(about, box[2] * box[3]) / areas[n]) for about, box, n in pairs])


def size_counts(shown: pd.DataFrame) -> dict[str, Any]:
    """For each kind how many of small, middle and large objects, as "missed 12 (9, 3, 0)", with its colour."""
    edges = [-1, 32 / RELATIVE_SIDE, 96 / RELATIVE_SIDE, math.inf]
    table = pd.crosstab(shown["kind"], pd.cut(shown["side"], edges, labels=[*SIZES], right=False))
    table = table.reindex(index=KINDS, columns=[*SIZES], fill_value=0)
    return {f"{k} {row.sum()} ({', '.join(map(str, row))})": COLOURS[str(k)] for k, row in table.iterrows()}


def marks(rows: pd.DataFrame, categories: Sequence[str], kind: str) -> list[Mark]:
    """The boxes of one image; those of another kind than the chosen one are faint and without a word."""
    made = []
    for row in sorted(rows.to_dict("records"), key=lambda row: row["kind"] == kind):
        name, lost = categories[row["category_id"] - 1], row["kind"] == MISSED
        word = name if lost else f"{name} {row['score']:.2f}"
        about = f", IoU {row['iou']:.2f} with an object" if row["object"] and not lost else ""
        chosen = kind in (EVERYTHING, row["kind"])
        sentence = f"{word}: {row['kind']}{about}"
        look = {"dashed": lost, "faint": not chosen}
        made.append(Mark(corners(row["bbox"]), COLOURS[row["kind"]], word if chosen else "", sentence, **look))
    return made


def corners(bbox: Sequence[float]) -> tuple[float, ...]:
    """x0, y0, x1, y1 of x, y, width, height."""
    return bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]
