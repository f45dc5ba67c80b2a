"""Kinds of error: one hand-made image that has each, and random ones against COCO's matching."""

from typing import Any

import numpy as np
import pytest

from tests.tasks.test_box_metrics import synthetic
from workbench.tasks.box_errors import KINDS, RIGHT, box_errors, missed
from workbench.tasks.box_metrics import detection_rows, match_boxes


def image_with_every_kind() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    boxes = [[0, 0, 20, 20], [40, 0, 20, 20], [0, 40, 20, 20], [40, 40, 20, 20]]
    rows = [{"id": n, "image_id": 7, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, start=1)]
    crowd = {"id": 5, "image_id": 7, "category_id": 1, "bbox": [70, 70, 30, 30], "iscrowd": 1}
    truth = {
        "images": [{"id": 7, "width": 100, "height": 100}],
        "annotations": [{**row, "area": 400, "iscrowd": 0} for row in rows] + [{**crowd, "area": 900}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    found = [
        ([0, 0, 20, 20], 1, 0.9),  # right
        ([1, 1, 20, 20], 1, 0.8),  # a second box on the same object
        ([40, 0, 60, 20], 2, 0.7),  # in the right place, as the other class
        ([0, 52, 20, 72], 1, 0.6),  # IoU 0.25
        ([80, 0, 95, 15], 1, 0.5),  # nothing is there
        ([75, 75, 95, 95], 1, 0.4),  # inside the crowd
    ]
    boxes_, labels, scores = (np.array(column) for column in zip(*found, strict=True))
    return truth, [{"image_id": 7, "boxes": boxes_, "labels": labels, "scores": scores}]


def test_every_kind_is_told_with_the_object_it_is_about() -> None:
    truth, found = image_with_every_kind()
    errors = box_errors(truth, found)
    assert list(zip(errors["kind"], errors["object"], strict=True)) == [
        ("right", 1), ("duplicate", 1), ("wrong class", 2), ("badly placed", 3), ("background", 0)
    ]  # fmt: skip
    assert errors["iou"].iloc[3] == pytest.approx(0.25)
    assert [row["id"] for row in missed(truth, errors, 0.0)] == [4]
    assert [row["id"] for row in missed(truth, errors, 0.65)] == [3, 4]
    assert [row["id"] for row in missed(truth, box_errors(truth, []), 0.0)] == [1, 2, 3, 4]


@pytest.mark.parametrize("grid", [0, 16])
def test_right_ones_are_those_of_coco_and_a_threshold_changes_no_kind(grid: float) -> None:
    truth, found = synthetic(3, images=12, classes=3, per_image=12, grid=grid)
    errors = box_errors(truth, found)
    matches = match_boxes(truth, detection_rows(truth, found))
    assert (errors["kind"] == RIGHT).sum() == sum(int(match.hit[0].sum()) for match in matches) > 10
    assert len(errors) == sum(int((~match.ignored[0]).sum()) for match in matches)
    assert {*errors["kind"]} == {*KINDS} - {"missed"}
    sure = [
        {**one, **{n: np.asarray(one[n])[one["scores"] >= 0.5] for n in ("boxes", "scores", "labels")}} for one in found
    ]
    above = errors[errors["score"] >= 0.5].reset_index(drop=True)
    assert above.equals(box_errors(truth, sure))
    assert not {row["id"] for row in missed(truth, errors, 0.5)} & {
        *errors[errors["kind"] == RIGHT].query("score >= 0.5")["object"]
    }
