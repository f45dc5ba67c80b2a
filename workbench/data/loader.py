"""Shim until the data branch is merged."""

from typing import Any

from workbench.methods import _old_presets, _old_task_data
from workbench.methods._old_presets import Data as Data
from workbench.methods._old_presets import DataPlan as DataPlan
from workbench.methods._old_presets import find_file as find_file
from workbench.methods._old_presets import find_folder as find_folder
from workbench.methods._old_task_data import TaskName as TaskName


class _Head:
    def __init__(self, crop: Any) -> None:
        self.crop = crop


def load_data(
    plan: Any,
    task: Any,
    data: str,
    pretrain_data: str = "",
    *,
    seed: int,
    classes: str = "",
    void: int = 255,
    bad_boxes: str = "few",
    runs: str = "",
) -> Any:
    if task == "detection":
        return _old_presets.load_data(plan, data, pretrain_data, seed, bad_boxes, runs)
    head: Any = _Head(plan.pose_crop)
    return _old_task_data.load_task_data(plan, task, data, seed, head, classes=classes, void=void, bad_boxes=bad_boxes)
