"""COCO mask metrics in 0-1, on masks kept as run lengths: those of all images at full size would fill the memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask
from torch import Tensor

from workbench.tasks.box_metrics import Detection, Row, Truth, detection_rows, summary


def encoded(masks: Tensor) -> list[Row]:
    """Masks (M, H, W) of one image, pixels above 0.5 belong to the object, as COCO's run lengths."""
    columns = np.asfortranarray((masks > 0.5).cpu().numpy().transpose(1, 2, 0).astype(np.uint8))
    runs: list[Row] = mask.encode(columns)
    return runs


def evaluate_masks(truth: Truth, masks: Sequence[Row], detections: Sequence[Detection]) -> dict[str, float]:
    """`mask AP`, `mask AP50` and so on, as of boxes; a size of which there is no object is left out.

    `masks` are those of the truth's annotations, in order; detections have `masks` of their own. Sizes are the areas
    that the truth states.
    """
    rows = detection_rows(truth, detections)
    found: list[Any] = [run for detection in detections for run in detection["masks"]]
    rows = [{**row, "segmentation": run, "area": float(mask.area(run))} for row, run in zip(rows, found, strict=True)]
    annotations = [{**row, "segmentation": run} for row, run in zip(truth["annotations"], masks, strict=True)]
    numbers = summary({**truth, "annotations": annotations}, rows, "segm")
    return {f"mask {name}": number for name, number in numbers.items()}
