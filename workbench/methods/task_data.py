"""The data of a search for any task: boxes, semantic maps, or bodies with joints; generated or from folders."""

from pathlib import Path
from typing import Any, Literal, cast, get_args

from workbench.data.checks import check_splits
from workbench.data.coco import BadBoxes, CocoFolder
from workbench.data.creatures import KEYPOINTS
from workbench.data.keypoint_checks import KEYPOINT_FILES
from workbench.data.mask_checks import Classes, check_mask_splits, mask_classes
from workbench.data.masks import MaskFolder, SceneMasks
from workbench.data.pose import PoseCrops
from workbench.data.scenes import SceneCrops, Scenes
from workbench.data.splits import split_train
from workbench.methods.presets import (
    Data,
    DataPlan,
    find_folder,
    gathered,
    load_data,
    one_of,
    said_of_dropped,
    scene_config,
)
from workbench.tasks.pose import PoseConfig

TaskName = Literal["detection", "segmentation", "pose"]
# Splits of which the first is trained on and the second reported.
SPLITS = (("train", "val"), ("train2017", "val2017"))


def load_task_data(
    plan: DataPlan,
    task: TaskName,
    data: str,
    seed: int,
    head: Any,
    *,
    classes: str = "",
    void: int = 255,
    bad_boxes: str = "few",
) -> Data:
    """The data sets that `data` names: `scenes`, or a folder of the task's own format.

    Detection reads COCO boxes, segmentation pictures with masks (or Cityscapes), pose COCO keypoints. `classes` are the
    names of a mask's numbers, with commas between, where the folder has no classes.json. `bad_boxes` is said at
    `CocoFolder`. Everything is validated here.
    """
    if data == "scenes" and plan.train_images == 0:
        raise ValueError("This preset has no number of scenes to draw; it needs data to be a folder.")
    if task == "detection":
        return load_data(plan, data, "", seed, bad_boxes)
    boxes = cast(BadBoxes, one_of("bad_boxes", bad_boxes, get_args(BadBoxes)))
    pose = task == "pose"
    sets = _bodies(plan, data, seed, head, boxes) if pose else _masks(plan, data, seed, classes, void)
    full, train, search, test = sets
    crops = SceneCrops(scene_config(plan), seed, "train", 1, side=plan.crop_side)  # nothing is pre-trained
    kind = {"segmentation": "semantic maps", "pose": "bodies"}[task]
    described = f"{kind} of {'generated scenes' if data == 'scenes' else Path(data).name}, {train.sizes[0]} px"
    described += f" ({len(train)} / {len(search)} / {len(test)})"
    if pose:
        dropped = [box for part in (full, test) for box in getattr(part.source, "dropped", ())]
        described += said_of_dropped(dropped)
    if skipped := sum(getattr(part, "skipped", 0) for part in (train, search, test)):
        described += f"; {skipped} bodies without a labelled joint left out"
    return gathered(full, train, search, test, (crops, crops, crops), described)


def _masks(plan: DataPlan, data: str, seed: int, classes: str, void: int) -> tuple[Any, Any, Any, Any]:
    if data == "scenes":
        train, search, test = (SceneMasks(part) for part in _scenes(plan, seed, "semantic"))
        return train, train, search, test
    folder, side = find_folder(data), plan.image_side or None
    if (folder / "leftImg8bit").is_dir():
        whole, unseen = (MaskFolder.cityscapes(folder, split, max_size=side) for split in ("train", "val"))
    else:
        named = (
            Classes(names=tuple(name.strip() for name in classes.split(",")), void=void)
            if classes
            else mask_classes(folder)
        )
        if problems := check_mask_splits(folder, ("train", "val")):
            raise ValueError(f"The reported split must be unseen in training: {problems[0]}")
        whole, unseen = (MaskFolder(folder, split, classes=named, max_size=side) for split in ("train", "val"))
    return whole, *split_train(whole, plan.search_share, seed), unseen


def _bodies(plan: DataPlan, data: str, seed: int, head: PoseConfig, bad_boxes: BadBoxes) -> tuple[Any, Any, Any, Any]:
    if data == "scenes":
        train, search, test = (PoseCrops(part, KEYPOINTS, head.crop) for part in _scenes(plan, seed, "keypoints"))
        return train, train, search, test
    folder = find_folder(data)
    kinds = KEYPOINT_FILES
    known = [n for n in SPLITS if any((folder / "annotations" / f"{kind}_{n[0]}.json").is_file() for kind in kinds)]
    if not known:
        raise ValueError(f"{folder} has no annotations/person_keypoints_train.json; see data/README.md.")
    full, unseen = (CocoFolder(folder, split, keypoints=True, bad_boxes=bad_boxes) for split in known[0])
    if full.joints != unseen.joints:
        raise ValueError(f"The splits of {folder} name other joints: {list(full.joints)} and {list(unseen.joints)}.")
    if len(full) + len(unseen) < 20_000 and (problems := check_splits(folder, known[0], kinds)):
        raise ValueError(f"The reported split must be unseen in training: {problems[0]}")
    # Cut by picture, so that no two bodies of one picture stand on both sides.
    parts = (full, *split_train(full, plan.search_share, seed), unseen)
    bodies = [PoseCrops(part, full.joints, head.crop) for part in parts]
    return bodies[0], bodies[1], bodies[2], bodies[3]


def _scenes(plan: DataPlan, seed: int, extra: str) -> list[Scenes]:
    config = scene_config(plan, extra)
    sizes = {"train": plan.train_images, "search": plan.search_images, "test": plan.test_images}
    return [Scenes(config, seed, split, size) for split, size in sizes.items()]
