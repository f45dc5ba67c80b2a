"""Pascal VOC's AP50 by hand: both rules, doubles, difficult objects; next to COCO's."""

from typing import Any

import numpy as np
import pytest

from workbench.tasks.box_metrics import evaluate_boxes
from workbench.tasks.voc_metrics import voc_metrics


def truth(*boxes: list[float], difficult: tuple[int, ...] = ()) -> dict[str, Any]:
    """Each box (x, y, width, height) in an image of its own."""
    return {
        "images": [{"id": n, "width": 100, "height": 100} for n in range(len(boxes))],
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": 1, "bbox": box, "area": box[2] * box[3],
             "iscrowd": int(n in difficult)}
            for n, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def found(image: int, *rows: tuple[float, float, float, float, float]) -> dict[str, Any]:
    """Rows are score, then x, y, width, height."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    boxes = np.hstack([table[:, 1:3], table[:, 1:3] + table[:, 3:]])
    return {"image_id": image, "boxes": boxes, "scores": table[:, 0], "labels": np.ones(len(table), dtype=np.int64)}


def measured(ground: dict[str, Any], detections: list[dict[str, Any]]) -> tuple[float, float]:
    metrics = voc_metrics(ground, detections, np.random.default_rng(0), 50)
    assert metrics["AP50_error"] >= 0
    return metrics["AP50 VOC07"], metrics["AP50 VOC10"]


BOX = [10.0, 10, 20, 20]


def test_both_rules_by_hand() -> None:
    """Right, wrong, right of two objects: precision 1 up to recall 1/2, then 2/3."""
    detections = [found(0, (0.9, *BOX), (0.8, 60, 60, 20, 20)), found(1, (0.7, *BOX))]
    eleven, area = measured(truth(BOX, BOX), detections)
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)  # recalls 0 to 0.5, and 0.6 to 1
    assert area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_second_box_on_an_object_is_wrong_although_another_object_is_near() -> None:
    """COCO's matching would give it to the neighbour; VOC's looks at the largest overlap alone."""
    ground = truth(BOX, BOX)
    ground["annotations"][1] |= {"image_id": 0, "bbox": [16.0, 10, 20, 20]}
    detections = [found(0, (0.9, *BOX), (0.8, 11, 10, 20, 20)), found(1)]
    eleven, area = measured(ground, detections)
    assert area == pytest.approx(0.5) and eleven == pytest.approx(6 / 11)
    assert evaluate_boxes(ground, detections)["AP50"] == pytest.approx(1.0)


def test_difficult_objects_are_neither_found_nor_missed() -> None:
    detections = [found(0, (0.9, *BOX)), found(1, (0.95, *BOX), (0.94, *BOX))]
    assert measured(truth(BOX, BOX, difficult=(1,)), detections) == (pytest.approx(1.0), pytest.approx(1.0))


def test_an_overlap_of_exactly_a_half_is_enough_and_classes_without_objects_count_nothing() -> None:
    assert measured(truth(BOX), [found(0, (0.9, 10, 10, 20, 10))]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert measured(truth(BOX, BOX), [found(0), found(1, (0.9, 10, 10, 20, 9.9))]) == (0.0, 0.0)
