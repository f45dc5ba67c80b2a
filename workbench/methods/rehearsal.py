"""A paper's plan cut down to a dress rehearsal: the same networks and images as large, and as little of each as works.

Any preset has one: its name with `REHEARSAL` behind it. What is cut are numbers that say how much, never what.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from workbench.data.scenes.scene import SceneConfig

REHEARSAL = "-rehearsal"
# By the names of the plans' fields. An epoch of a search without alpha and one with it are a step each; a search
# scores two candidates, a beam the options of its last decision.
FEW: dict[str, Any] = {
    "steps": 2, "batch_size": 1, "epochs": 2, "warm_epochs": 1, "weight_steps": 1,
    "train_images": 4, "search_images": 2, "test_images": 2, "crops": 8,
    "calibration_images": 2, "calibration_batch": 1, "batch": 1,
    "evaluations": 2, "population": 2, "parents": 1, "mutants": 1, "crossings": 0, "recalibration_check": 2,
    "random_networks": 1, "allocations": 2, "other_budgets": (), "searched_blocks": 1, "timings": 1,
}  # fmt: skip
COCO_SIZE = (800, 1088)  # at which the papers count detectors that read a short side of 800 and a long one of 1333


def rehearsing(parameters: Mapping[str, Any]) -> bool:
    """Whether these are the parameters of a rehearsal."""
    return str(parameters.get("preset", "")).endswith(REHEARSAL)


def rehearsed(plan: Any) -> Any:
    """The plan cut down, on generated scenes of the size and with the number of classes of the paper's data.

    Batches hold one image, and two where a norm layer sees a single position of each (DeepLabv3's mean over the image,
    SSDLite's last map). Of several tasks' plans by name each is cut.
    """
    if isinstance(plan, dict):
        return {name: rehearsed(part) for name, part in plan.items()}
    size = getattr(plan.head, "image_size", plan.macs_at)
    segmented = type(plan.head).__name__ == "SegmenterConfig"
    pooled = segmented or getattr(plan.head, "kind", "") == "ssdlite"
    batches = {name: 2 for name in ("batch_size", "calibration_batch") if pooled}
    classes = {"scene_classes": 19 if segmented else 80, "crop_classes": 1000}
    cut = _cut(plan, FEW | batches)
    scenes = SceneConfig(objects=(8, 12), sizes=(8.0, 110.0))  # some small and some large ones, and no ladder
    large = COCO_SIZE if size == (800, 1333) else size
    return replace(cut, data=replace(cut.data, scenes=scenes, scene_size=large, image_side=128, **classes))


def _cut(part: Any, few: dict[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name in few:
            changes[field.name] = few[field.name]
        elif field.name == "refresh_images":
            changes["refresh_images"] = min(value, 2)
        elif field.name == "lr":  # as the batch, or two steps could already diverge
            changes["lr"] = value * few["batch_size"] / part.batch_size
        elif is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _cut(value, few)
    return replace(part, **changes)
