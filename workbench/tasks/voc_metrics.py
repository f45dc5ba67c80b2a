"""Pascal VOC's average precision at an overlap of 0.5, by its rule of 2007 and by that of 2010 and later."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from pycocotools import mask

from workbench.tasks.box_metrics import (
    Detection,
    Floats,
    Matched,
    Matches,
    Row,
    Truth,
    by_place,
    detection_rows,
    joined,
    weighted_ap,
)
from workbench.tasks.task import resampled_error


def voc_metrics(
    truth: Truth, detections: Sequence[Detection], rng: np.random.Generator, resamples: int
) -> dict[str, float]:
    """`AP50 VOC07`, the mean precision at 11 recalls, `AP50 VOC10`, the area under the curve, and `AP50_error`.

    Other than COCO's, VOC's matching gives a detection to the object that it overlaps most and to no other, so a second
    box on an object is wrong even if it touches the next one. Crowds stand for objects marked difficult: who finds them
    is neither right nor wrong. Classes without objects are left out. The error comes from resampling the images.
    """
    found = _matches(truth, detection_rows(truth, detections))
    curves = [_curve(match) for match in found if len(match.object_image)]
    eleven = [
        float(np.mean([_best(precision, recall >= r) for r in np.linspace(0, 1, 11)])) for recall, precision in curves
    ]
    area = [_area(recall, precision) for recall, precision in curves]
    error = resampled_error(partial(weighted_ap, found), len(truth["images"]), resamples, rng)
    return {"AP50 VOC07": float(np.mean(eleven)), "AP50 VOC10": float(np.mean(area)), "AP50_error": error}


def _matches(truth: Truth, rows: Sequence[Row]) -> list[Matches]:
    objects, found = by_place(truth["annotations"]), by_place(rows)

    def matched(category: int) -> Iterator[Matched]:
        for index, number in enumerate(sorted(image["id"] for image in truth["images"])):
            here = sorted(found[category, number], key=lambda row: -row["score"])
            wanted = objects[category, number]
            difficult = np.array([row.get("iscrowd", 0) for row in wanted], dtype=bool)
            hit, ignored = np.zeros((2, 1, len(here)), dtype=bool)
            free = ~difficult
            if here and wanted:
                boxes = [np.array([row["bbox"] for row in part], dtype=np.float64) for part in (here, wanted)]
                overlap = mask.iou(*boxes, [0] * len(wanted))  # (D, G)
                for place in np.flatnonzero(overlap.max(axis=1) >= 0.5):
                    best = overlap[place].argmax()
                    hit[0, place], ignored[0, place] = free[best], difficult[best]
                    free[best] = False
            yield index, [row["score"] for row in here], hit, ignored, int((~difficult).sum())

    return [joined(matched(category["id"])) for category in truth["categories"]]


def _curve(match: Matches) -> tuple[Floats, Floats]:
    """Recall and precision (D,) when one detection after the other is taken, best first."""
    hits = match.hit[0][~match.ignored[0]].cumsum()
    return hits / len(match.object_image), hits / np.arange(1, len(hits) + 1)


def _best(precision: Floats, reached: np.ndarray) -> float:
    return float(precision[reached].max()) if reached.any() else 0.0


def _area(recall: Floats, precision: Floats) -> float:
    """Under the precision that is the best at this recall or any higher one."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())
