"""COCO box metrics in 0-1, and how far AP would move with other test images."""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from pycocotools import mask

from workbench.tasks.task import resampled_error

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # per image and class
# COCO calls an object small below 32 pixels and large above 96. Scaling every image to this side (the root of its area)
# moves both bounds to shares of the image side: 32 / 320 = 0.1 and 96 / 320 = 0.3.
RELATIVE_SIDE = 320.0
BEYOND = 2e10  # an area above COCO's range "all", which ends at 1e5 squared
# Where COCO's summary keeps each number.
_POSITIONS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8}

# The detections of one image: `image_id`, `boxes` (M, 4) xyxy in pixels, `scores` (M,), `labels` (M,);
# numpy, or torch on the CPU.
Detection = Mapping[str, Any]
Truth = dict[str, Any]  # a COCO dict
Row = dict[str, Any]  # one annotation of it
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
# One image and class: its position, scores (D,), hit and ignored (T, D) as in `Matches`, and the number of objects.
Matched = tuple[int, Sequence[float], Mask, Mask, int]


def evaluate_boxes(
    truth: Truth,
    detections: Sequence[Detection],
    *,
    grouped: bool = False,
    rng: np.random.Generator | None = None,
    resamples: int = 100,
) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl and AR (100 detections per image), all in 0-1.

    `truth` has image sizes. `grouped=True` adds AP_rel_s, AP_rel_m and AP_rel_l by object size
    sqrt(area) / sqrt(image area): below 0.1, 0.1 to 0.3, above 0.3. A size of which there is no object is left out.
    Where annotations have a `distance` (pixels to the cue that tells the class), it also adds "AP at 20 px" and
    "AP50 at 20 px" for each. As for COCO's sizes, other objects are neither found nor missed and whoever finds them is
    not wrong; but while COCO drops an unmatched detection of another size, here it counts against every distance,
    because it has none. So does a second box on an object, and one of the wrong class.
    With `rng` there is AP_error, by resampling images. Matching is done once; a resample only weights the images.
    ValueError for detections that do not fit the ground truth or are not finite.
    """
    rows = detection_rows(truth, detections)
    metrics = summary(truth, rows)
    if grouped:
        scaled = summary(*_to_relative_size(truth, rows))
        metrics |= {f"AP_rel_{size}": scaled[f"AP{size}"] for size in "sml" if f"AP{size}" in scaled}
        for distance in sorted({row["distance"] for row in truth["annotations"] if "distance" in row}):
            at = summary(_only_at(truth, distance), rows)
            metrics |= {f"{name} at {distance} px": at[name] for name in ("AP", "AP50")}
    if rng is not None:
        if not truth["annotations"]:
            raise ValueError("An error of AP needs objects, but the ground truth has none; use annotated images.")
        measure = partial(weighted_ap, match_boxes(truth, rows))
        metrics["AP_error"] = resampled_error(measure, len(truth["images"]), resamples, rng)
    return metrics


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The D detections and G objects of one class after COCO's matching, D by falling score."""

    detection_image: Counts  # (D,) position of the image
    hit: Mask  # (T, D) the detection found an object, per IoU threshold
    ignored: Mask  # (T, D) it found a crowd, and counts neither way
    object_image: Counts  # (G,) crowds left out


def by_place(rows: Iterable[Row]) -> dict[tuple[int, int], list[Row]]:
    """Annotations or detections by class and image, an empty list where there are none."""
    places: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        places[row["category_id"], row["image_id"]].append(row)
    return places


def match_boxes(truth: Truth, detected: Sequence[Row]) -> list[Matches]:
    """COCO's greedy matching at all ten IoU thresholds, for each class; `detected` are `detection_rows`."""
    objects, found = by_place(truth["annotations"]), by_place(detected)

    def matched(category: int) -> Iterator[Matched]:
        for index, number in enumerate(sorted(image["id"] for image in truth["images"])):
            rows = sorted(found[category, number], key=lambda row: -row["score"])[:MAX_DETECTIONS]
            # COCO lets an ordinary object be found before a crowd.
            here = sorted(objects[category, number], key=lambda row: row.get("iscrowd", 0))
            crowd = np.array([row.get("iscrowd", 0) for row in here], dtype=bool)
            partner, ignored = match_image(rows, here, crowd)
            yield index, [row["score"] for row in rows], partner >= 0, ignored, int((~crowd).sum())

    return [joined(matched(category["id"])) for category in truth["categories"]]


def joined(images: Iterable[Matched]) -> Matches:
    """One class from its images."""
    positions, scores, hits, ignored, objects = zip(*images, strict=True)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Matches(
        detection_image=np.repeat(positions, [len(row) for row in scores])[order],
        hit=np.concatenate(hits, axis=1)[:, order],
        ignored=np.concatenate(ignored, axis=1)[:, order],
        object_image=np.repeat(positions, objects),
    )


def weighted_ap(matches: Sequence[Matches], weights: Counts) -> Floats:
    """AP (R,) for R weightings (R, N) of the N images; all ones gives the ordinary AP, NaN means no object.

    A weight of 2 counts an image twice, so that a resample of the images is a row of counts.
    """
    per_class = []  # each (R,)
    for match in matches:
        objects = weights[:, match.object_image].sum(axis=1)
        columns = weights[:, match.detection_image]  # (R, D)
        precision = np.zeros(len(weights))
        for hit, ignored in zip(match.hit, match.ignored, strict=True):
            counted = columns[:, ~ignored]
            at = np.flatnonzero(hit[~ignored])  # precision peaks and recall grows at hits only
            precision += _mean_precision(counted[:, at].cumsum(axis=1), counted.cumsum(axis=1)[:, at], objects)
        per_class.append(np.where(objects > 0, precision / len(match.hit), np.nan))
    table = np.array(per_class).reshape(-1, len(weights))
    present = np.isfinite(table)
    # A class without objects in a resample is left out of its mean, as COCO does.
    with np.errstate(invalid="ignore"):
        return np.where(present, table, 0).sum(axis=0) / present.sum(axis=0)


def _mean_precision(hits: Counts, detections: Counts, objects: Counts) -> Floats:
    """Precision (R,) averaged over the 101 recalls; `hits` and `detections` (R, P) count up to each hit."""
    precision = hits / np.maximum(detections, 1)
    # The best precision at this recall or any higher one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(objects, 1)[:, None]
    result = np.zeros(len(hits))
    for row in range(len(hits)):
        reached = np.searchsorted(recall[row], RECALLS)
        result[row] = precision[row, reached[reached < hits.shape[1]]].sum() / len(RECALLS)
    return result


def match_image(found: Sequence[Row], objects: Sequence[Row], crowd: Mask) -> tuple[Counts, Mask]:
    """For D detections by falling score and G objects (crowds last) of one image and class, both (T, D).

    Which object each found, -1 for none, and whether it is ignored because it lies in a crowd.
    """
    partner = np.full((len(IOU_THRESHOLDS), len(found)), -1)
    ignored = np.zeros(partner.shape, dtype=bool)
    if not found or not objects:
        return partner, ignored
    boxes, wanted = (np.array([row["bbox"] for row in rows], dtype=np.float64) for rows in (found, objects))
    overlap = mask.iou(boxes, wanted, crowd)  # (D, G); for a crowd the share of the detection that lies inside it
    free = np.ones((len(IOU_THRESHOLDS), len(objects)), dtype=bool)
    for detection in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0]):
        fits = free & (overlap[detection] >= IOU_THRESHOLDS[:, None])  # (T, G)
        real = fits & ~crowd
        hit = real.any(axis=1)
        ignored[:, detection] = fits.any(axis=1) & ~hit
        # Among equals COCO takes the last; crowds stay free, because any number of detections may lie in them.
        best = len(objects) - 1 - np.where(real, overlap[detection], -1.0)[:, ::-1].argmax(axis=1)
        partner[hit, detection] = best[hit]
        free[hit, best[hit]] = False
    return partner, ignored


def detection_rows(truth: Truth, detections: Sequence[Detection]) -> list[Row]:
    """Detections as COCO annotations, checked against the ground truth."""
    images = {image["id"] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    rows: list[Row] = []
    for detection in detections:
        number = int(detection["image_id"])
        boxes = np.asarray(detection["boxes"], dtype=np.float64).reshape(-1, 4)
        scores = np.asarray(detection["scores"], dtype=np.float64)
        labels = np.asarray(detection["labels"], dtype=np.int64).tolist()
        if number not in images:
            raise ValueError(f"Detections are for image id {number}, which the ground truth lacks; use its images.")
        if not len(boxes) == len(scores) == len(labels):
            counts = f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels"
            raise ValueError(f"Image id {number} has {counts}; each box needs one of both.")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"Boxes or scores of image id {number} are not finite; the model has probably diverged.")
        if not categories.issuperset(labels):
            unknown = sorted(set(labels) - categories)
            raise ValueError(f"Labels {unknown} of image id {number} are no categories; give labels from 1.")
        boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])  # xywh
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels, strict=True):
            row = {"id": len(rows) + 1, "image_id": number, "category_id": label, "score": score}
            rows.append(row | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    return rows


def _to_relative_size(truth: Truth, rows: Sequence[Row]) -> tuple[Truth, list[Row]]:
    """The same objects and detections in images that are all scaled to the same area."""
    scale = {image["id"]: RELATIVE_SIDE / math.sqrt(image["width"] * image["height"]) for image in truth["images"]}

    def scaled(row: Row) -> Row:
        factor = scale[row["image_id"]]
        return {**row, "bbox": [factor * number for number in row["bbox"]], "area": factor**2 * row["area"]}

    return {**truth, "annotations": list(map(scaled, truth["annotations"]))}, list(map(scaled, rows))


def _only_at(truth: Truth, distance: int) -> Truth:
    """The same objects, of which COCO ignores those at another distance.

    It ignores an object by its area alone. As a crowd it would swallow any number of boxes, by another overlap.
    """
    rows = [row if row["distance"] == distance else {**row, "area": BEYOND} for row in truth["annotations"]]
    return {**truth, "annotations": rows}


def summary(ground_truth: Truth, rows: Sequence[Row], of: str = "bbox") -> dict[str, float]:
    """COCO's summary by a library, of boxes or masks ("segm"); what it reports as -1 (no such object) is left out."""
    truth, found = COCO(), COCO()
    for coco, annotations in ((truth, ground_truth["annotations"]), (found, rows)):
        # The library writes into the rows it is given.
        coco.dataset = {**ground_truth, "annotations": [dict(row) for row in annotations]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval_faster(truth, found, of)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = {name: float(evaluation.stats[position]) for name, position in _POSITIONS.items()}
    return {name: number for name, number in numbers.items() if number >= 0}
