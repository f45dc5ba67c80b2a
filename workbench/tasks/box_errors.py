"""Why a detector is wrong: every detection is right or has one kind of error, every object is found or missed.

The kinds are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
section 2.2), on COCO's matching at IoU 0.5. Its kind for a box that is both badly placed and of the wrong class is
counted as badly placed here.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pycocotools import mask

from workbench.tasks.box_metrics import Detection, Floats, Mask, Row, Truth, detection_rows, match_image

RIGHT, WRONG_CLASS, BADLY_PLACED = "right", "wrong class", "badly placed"
DUPLICATE, BACKGROUND, MISSED = "duplicate", "background", "missed"
KINDS = (RIGHT, MISSED, WRONG_CLASS, BADLY_PLACED, DUPLICATE, BACKGROUND)
WELL, NEAR = 0.5, 0.1  # IoU of a box that is well placed, and of one that is near an object at all


def box_errors(truth: Truth, detections: Sequence[Detection]) -> pd.DataFrame:
    """One row for each detection that counts (not those inside of crowds): `kind`, and the `object` that it is about.

    Columns image_id, category_id, score, bbox (xywh), kind, object (id of the annotation, 0: none) and its iou. Better
    scored detections are matched first, so rows below a threshold of the score can be left out without any change in
    the others. ValueError for detections that do not fit the ground truth.
    """
    objects: dict[int, list[Row]] = defaultdict(list)
    found: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(truth["annotations"], key=lambda row: row.get("iscrowd", 0)):
        objects[row["image_id"]].append(row)
    for row in sorted(detection_rows(truth, detections), key=lambda row: -row["score"]):
        found[row["image_id"]].append(row)
    rows = [row for number in found for row in _image_errors(found[number], objects[number])]
    columns = ("image_id", "category_id", "score", "bbox", "kind", "object", "iou")
    return pd.DataFrame(rows, columns=columns)


def missed(truth: Truth, errors: pd.DataFrame, threshold: float) -> list[Row]:
    """Objects that no detection of at least that score is about: none found them, not even badly or as another class.

    Crowds are never missed.
    """
    about = errors[(errors["score"] >= threshold) & errors["kind"].isin([RIGHT, WRONG_CLASS, BADLY_PLACED])]
    known = set(about["object"])
    return [row for row in truth["annotations"] if row["id"] not in known and not row.get("iscrowd", 0)]


def _image_errors(found: list[Row], objects: list[Row]) -> list[Row]:
    """The detections of one image by falling score; its objects have crowds last."""
    crowd = np.array([row.get("iscrowd", 0) for row in objects], dtype=bool)
    boxes, wanted = (np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4) for rows in (found, objects))
    iou: Floats = mask.iou(boxes, wanted, crowd) if len(objects) else np.zeros((len(found), 0))
    labels, theirs = (np.array([row["category_id"] for row in rows], dtype=int) for rows in (found, objects))
    partner, ignored = np.full(len(found), -1), np.zeros(len(found), dtype=bool)
    for label in set(labels.tolist()):
        here, there = np.flatnonzero(labels == label), np.flatnonzero(theirs == label)
        pairs, inside = match_image([found[n] for n in here], [objects[n] for n in there], crowd[there])
        partner[here] = np.append(there, -1)[pairs[0]]  # at IoU 0.5
        ignored[here] = inside[0]
    return [
        found[n] | _kind(iou[n], (theirs == labels[n]) & ~crowd, ~crowd, int(partner[n]), objects)
        for n in np.flatnonzero(~ignored)
    ]


def _kind(iou: Floats, same: Mask, real: Mask, partner: int, objects: list[Row]) -> Row:
    """What is wrong with one detection, from its IoU (G,) with every object."""
    if partner >= 0:
        return {"kind": RIGHT, "object": objects[partner]["id"], "iou": float(iou[partner])}
    for kind, least, whom in (
        (DUPLICATE, WELL, same),
        (WRONG_CLASS, WELL, real & ~same),
        (BADLY_PLACED, NEAR, same),
        (BADLY_PLACED, NEAR, real),
    ):
        best = int(np.argmax(np.where(whom, iou, -1.0))) if len(iou) else 0
        if whom.any() and iou[best] >= least:
            return {"kind": kind, "object": objects[best]["id"], "iou": float(iou[best])}
    return {"kind": BACKGROUND, "object": 0, "iou": 0.0}
