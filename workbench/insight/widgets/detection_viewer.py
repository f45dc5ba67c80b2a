"""Test images with the truth and what a detector found there, by kind of error."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from ipywidgets import BoundedIntText, FloatSlider, ToggleButtons

from workbench.insight.plots import SIZES
from workbench.insight.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from workbench.insight.widgets.image_svg import Mark, Tile, image_uri, sheet, tile
from workbench.insight.widgets.panel import Values, panel
from workbench.tasks.box_errors import KINDS, MISSED, box_errors, missed
from workbench.tasks.box_metrics import Detection, Row, evaluate_boxes

COLOURS = dict(zip(KINDS, (GREEN, BLUE, PURPLE, ORANGE, SKY, VERMILLION), strict=True))
EVERYTHING = "everything"
ON_A_PAGE = 8


def detection_viewer(data: Any, found: Sequence[Detection], *, score: float = 0.3) -> Any:
    """Images of a detection set, eight to a page, with the boxes of a chosen kind and at least a chosen score.

    `found` are a detector's boxes on all images of `data`, as the task's `measure` gives them. Dashed boxes are the
    truth, blue ones missed objects; hovering tells what is wrong. Headless: the first page of all kinds.
    """
    truth, truths = data.ground_truth(), defaultdict(list)
    for row in truth["annotations"]:
        truths[row["image_id"]].append(Mark(corners(row), "white", dashed=True, faint=True))
    errors, metrics = box_errors(truth, found), evaluate_boxes(truth, found, grouped=True)
    records: list[Row] = errors.to_dict("records")
    names = {"AP": "all objects", **SIZES}
    whole = ", ".join(f"{name} {metrics[key]:.2f}" for key, name in names.items() if key in metrics)

    @cache
    def image(number: int) -> tuple[str, tuple[int, int]]:
        pixels = data[data.ids.index(number)][0].permute(1, 2, 0).numpy()
        return image_uri(pixels), pixels.shape[:2]

    def drawn(number: int, marks: list[Mark]) -> Tile:
        try:
            return tile(*image(number), [*truths[number], *marks], f"image {number}")
        except (ValueError, OSError) as error:  # one bad file, and the widget goes on
            return tile("", (3, 4), caption=f"image {number}: {error}")

    def draw(state: Values) -> str:
        rows: list[Row] = [{**row, "kind": MISSED} for row in missed(truth, errors, state["score"])]
        rows += [row for row in records if row["score"] >= state["score"]]
        counts = Counter(row["kind"] for row in rows)
        chosen = Counter(row["image_id"] for row in rows if state["kind"] in (EVERYTHING, row["kind"]))
        numbers = [number for number in data.ids if state["kind"] == EVERYTHING or number in chosen]
        pages = max(1, math.ceil(len(numbers) / ON_A_PAGE))
        page = min(state["page"], pages)
        shown = f"{state['kind']}: {chosen.total()} boxes, page {page} of {pages}"
        lines = [f"AP of {whole} (all scores).", f"From score {state['score']:.2f} on, {shown}."]
        tiles = []
        for number in numbers[ON_A_PAGE * (page - 1) : ON_A_PAGE * page]:
            here = [mark_of(row, data.categories, state["kind"]) for row in rows if row["image_id"] == number]
            tiles.append(drawn(number, sorted(here, key=lambda mark: not mark.faint)))
        return sheet(tiles, lines, legend={f"{kind} {counts[kind]}": COLOURS[kind] for kind in KINDS})

    controls = {
        "kind": ToggleButtons(options=[EVERYTHING, *KINDS], style={"button_width": "auto"}),
        "score": FloatSlider(value=score, max=1, step=0.05),
        "page": BoundedIntText(value=1, min=1, max=max(1, math.ceil(len(data) / ON_A_PAGE))),
    }
    return panel(controls, draw)


def mark_of(row: Row, categories: Sequence[str], kind: str) -> Mark:
    """A found box, or a missed object; faint and without a word where another kind was chosen."""
    name, lost, faint = categories[row["category_id"] - 1], row["kind"] == MISSED, kind not in (EVERYTHING, row["kind"])
    word = name if lost else f"{name} {row['score']:.2f}"
    about = f", IoU {row['iou']:.2f} with an object" if row.get("object") else ""
    sentence = f"{word}: {row['kind']}{about}"
    return Mark(corners(row), COLOURS[row["kind"]], "" if faint else word, sentence, dashed=lost, faint=faint)


def corners(row: Row) -> tuple[float, ...]:
    """x0, y0, x1, y1 of an annotation."""
    left, top, width, height = row["bbox"]
    return left, top, left + width, top + height
