"""Pose metrics in 0-1: average precision over object keypoint similarity (COCO), and the share of correct keypoints."""

import contextlib
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbench.tasks.box_metrics import Matched, Matches, joined, weighted_ap
from workbench.tasks.task import resampled_error

PCK_SHARE = 0.1  # a keypoint is correct within this share of the long side of the instance's box

# What was found for one instance: `image_id`, `keypoints` (K, 3: x, y in pixels of the image, score), `score`.
Pose = dict[str, Any]


def evaluate_poses(
    ground_truth: dict[str, Any],
    poses: Sequence[Pose],
    sigmas: Sequence[float],
    *,
    rng: np.random.Generator,
    resamples: int = 100,
) -> dict[str, float]:
    """AP, AP50, AP75 and AR over OKS 0.50:0.95, AP_error by resampling instances, and PCK.

    ValueError for poses that are not finite.
    """
    rows = []
    for pose in poses:
        points = np.asarray(pose["keypoints"], dtype=np.float64)
        if not np.isfinite(points).all():
            raise ValueError(f"The pose of image id {pose['image_id']} is not finite; the model has probably diverged.")
        flat = points.ravel().tolist()
        rows.append({"image_id": pose["image_id"], "category_id": 1, "keypoints": flat, "score": float(pose["score"])})
    truth = COCO()
    truth.dataset = ground_truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {"AP": 0, "AP50": 1, "AP75": 2, "AR": 5}
    metrics = {name: float(evaluation.stats[place]) for name, place in names.items()}
    images = len(ground_truth["images"])
    error = resampled_error(partial(weighted_ap, [_matches(evaluation, images)]), images, resamples, rng)
    return {**metrics, "AP_error": error, "PCK": correct_keypoints(ground_truth, poses)}


def correct_keypoints(ground_truth: dict[str, Any], poses: Sequence[Pose]) -> float:
    """PCK: share of the labelled keypoints found within `PCK_SHARE` of the long side of their instance's box."""
    found = {pose["image_id"]: np.asarray(pose["keypoints"], dtype=np.float64) for pose in poses}
    hits: list[bool] = []
    for annotation in ground_truth["annotations"]:
        true = np.asarray(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        labelled = true[:, 2] > 0
        if annotation["image_id"] not in found:
            hits += [False] * int(labelled.sum())
            continue
        distance = np.hypot(*(found[annotation["image_id"]][:, :2] - true[:, :2]).T)
        hits += (distance[labelled] <= PCK_SHARE * max(annotation["bbox"][2:])).tolist()
    return float(np.mean(hits))


def _matches(evaluation: COCOeval, images: int) -> Matches:
    """The library's matching over instances of all sizes, in the form that resampling reads."""
    found: list[Matched] = []
    for number, row in enumerate(evaluation.evalImgs[:images]):  # one category; the first area range is all sizes
        if row is not None:
            ignored, objects = row["dtIgnore"].astype(bool), ~np.asarray(row["gtIgnore"], dtype=bool)
            found.append((number, row["dtScores"], (row["dtMatches"] > 0) & ~ignored, ignored, int(objects.sum())))
    return joined(found)
