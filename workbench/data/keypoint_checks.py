"""What is wrong with the keypoints of a COCO-format annotation file, in plain sentences."""

import math
from collections.abc import Mapping
from typing import Any

from workbench.data.checks import Problem

KEYPOINT_FILES = ("person_keypoints", "instances")  # beginnings of annotation files that may name joints


def check_keypoints(content: Mapping[str, Any], where: str) -> list[Problem]:
    """Problems of the keypoints alone: named by the categories, three numbers for each joint. Never raises."""
    named = {str(category.get("keypoints")) for category in content["categories"]}
    joints = content["categories"][0].get("keypoints")
    if not isinstance(joints, list) or not joints or not all(isinstance(joint, str) for joint in joints):
        return [Problem(text=f"{where}: the categories name no keypoints; give annotations with joints.")]
    if len(named) > 1:
        return [Problem(text=f"{where}: the categories name different keypoints; use one skeleton for all.")]
    problems = []
    for annotation in content["annotations"]:
        fault = _fault(annotation.get("keypoints"), len(joints))
        if fault is not None:
            problems.append(Problem(text=f"{where}: annotation id {annotation['id']} {fault}."))
    return problems


def _fault(keypoints: object, joints: int) -> str | None:
    """What is wrong with one flat list x, y, visibility, x, ..., as the end of a sentence."""
    if not isinstance(keypoints, list) or len(keypoints) != 3 * joints:
        found = len(keypoints) if isinstance(keypoints, list) else "no list"
        return f"should have {3 * joints} keypoint numbers (x, y, visibility for {joints} joints), but has {found}"
    numbers = [number for number in keypoints if isinstance(number, int | float) and not isinstance(number, bool)]
    if len(numbers) < len(keypoints) or not all(abs(number) < 1e9 and math.isfinite(number) for number in numbers):
        return "has a keypoint that is no finite number"
    if bad := [value for value in keypoints[2::3] if value not in (0, 1, 2)]:
        return f"has the visibility {bad[0]}; it is 0 (not labelled), 1 (hidden) or 2 (visible)"
    return None
