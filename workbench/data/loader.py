"""The data sets of a run for any task, from what a notebook's parameters name: generated scenes or folders."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from os.path import isdir, isfile  # unlike those of Path, they do not raise
from pathlib import Path
from typing import Any, Literal

from workbench.data.checks import shared_images
from workbench.data.classification import ClassFolder
from workbench.data.coco import CocoFolder, most_dropped
from workbench.data.keypoints import PoseCrops
from workbench.data.masks import Classes, MaskFolder
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneCrops, SceneMasks, Scenes, StandIn
from workbench.data.sets import split_train
from workbench.data.splits import IMAGENET, SPLITS, SplitName
from workbench.records.files import base_folder, digest, plain

ClassificationSet = ClassFolder | SceneCrops
DetectionSet = CocoFolder | Scenes
SegmentationSet = MaskFolder | SceneMasks
TaskName = Literal["detection", "segmentation", "pose"]
FEW_FILES = 20_000  # are compared byte by byte between splits; `doctor --data` does it for more


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """How much data a preset uses, and at which size.

    Generated scenes are drawn to these numbers; folders are what they are.
    """

    image_side: int  # scenes: side in pixels; folders: the long side that images are shrunk to (0 keeps them)
    crop_side: int  # side of the pre-training images
    train_images: int = 0  # scenes only
    search_images: int = 0  # scenes: drawn apart; folders: cut from train, see search_share
    test_images: int = 0  # scenes only
    crops: int = 0
    # What scenes show; their image size and extras are the loader's to say.
    scenes: SceneConfig = field(default_factory=SceneConfig)
    # Scenes and crops in place of a paper's data: height and width, and classes (of which most are never shown).
    scene_size: tuple[int, int] | None = None
    scene_classes: int = 0
    crop_classes: int = 0
    search_share: float = 0.15  # folders: share of train cut away for the search, without a `split`
    split: SplitName | None = None  # folders: cut as a paper does
    masks: bool = False  # targets of detection have the mask of every object
    # Class folders: share of train that is not trained on, so that searches can rank by accuracy on unseen images.
    # 0 trains on all, as the papers do; such searches then rank by a hundredth that training sees, too.
    crops_search_share: float = 0.1
    crops_whole: bool = False  # class folders: augmentation and evaluation as of ImageNet, see `ClassFolder`
    pose_crop: tuple[int, int] = (256, 192)  # height and width of one person


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a run.

    `train` + `search` are what training may see; `test` is touched once, for the reported numbers.
    """

    train: Any  # a `DetectionSet`, `SegmentationSet` or `PoseCrops`, as all four
    search: Any
    full_train: Any  # for final networks: train and search together where they come from one folder
    test: Any
    crops: Any  # pre-training: a `ClassificationSet`, or on the ladder whole scenes, asked at given centres
    crops_search: Any  # for searches by classification accuracy, see crops_search_share
    crops_test: Any
    digest: str
    description: str


def load_data(
    plan: DataPlan,
    task: TaskName,
    data: str,
    pretrain_data: str = "",
    *,
    seed: int,
    classes: str = "",
    void: int = 255,
    bad_boxes: str = "few",
    runs: str = "",
) -> Data:
    """The data sets that `data` and `pretrain_data` name: `scenes`, or a folder (of the task's format; class folders).

    Detection reads COCO boxes, segmentation images with masks (or Cityscapes), pose COCO keypoints. `classes` are the
    names of a mask's numbers, with commas between, where the folder has no classes.json; `bad_boxes` is explained at
    `CocoFolder`. An empty `pretrain_data` says that nothing is pre-trained; the crops are then a handful of drawn ones.
    Everything is validated here, before work starts; below `runs` is remembered which class folders were healthy.

    A relative folder is looked for from the current directory, from the repository's root and below WORKBENCH_DATA.
    """
    most_dropped(bad_boxes, 0)  # refuses a wrong word even where no box is read
    if "scenes" in (data, pretrain_data or data) and plan.train_images == 0:
        raise ValueError(
            "This preset has no number of scenes to draw; it needs data and pretrain_data to be folders"
            f" (of the task's format; class folders), got {data!r} and {pretrain_data!r}.{_official(plan)}"
        )
    folder = None if data == "scenes" else find_folder(data, _official(plan))
    sets = _folder(plan, task, folder, seed, classes, void, bad_boxes) if folder else _scenes(plan, task, seed)
    dropped = [box for name in ("full_train", "test") for box in sets[name].dropped]
    absent = list(map(plain, sets["full_train"].absent))
    side, counted = f"{plan.image_side} px" if plan.image_side else "full size", "images"
    if plan.scene_size:
        side += ", enlarged to {} x {}".format(*plan.scene_size)
    if task == "pose":  # cut by image, so that no two people of one image stand on both sides
        people = {part: PoseCrops(part, plan.pose_crop) for part in dict.fromkeys(sets.values())}
        sets = {name: people[part] for name, part in sets.items()}
        side, counted = "crops of {} x {} px".format(*plan.pose_crop), "instances"
    kind = {"detection": "", "segmentation": "semantic maps of ", "pose": "single people or animals of "}[task]
    source = plain(folder.name) if folder else "generated scenes"
    parts = [sets[name] for name in ("train", "search", "test")]
    counts = " / ".join(str(len(part)) for part in parts)
    described = f"{kind}{source}, {side} ({counts} {counted})"
    if dropped:
        first = "the first: " if len(dropped) > 3 else ""
        described += f"; {len(dropped)} bad boxes dropped ({first}{' '.join(dropped[:3])})"
    if absent:
        more = f" and {len(absent) - 3} more classes" if len(absent) > 3 else ""
        described += f"; training never shows {', '.join(absent[:3])}{more}"
    if skipped := sum(part.skipped for part in parts):
        described += f"; {skipped} without a labelled keypoint left out"
    crops, said = _crops(plan, pretrain_data, seed, runs)
    sets |= crops
    return Data(**sets, digest=digest([part.digest for part in sets.values()]), description=described + said)


def _official(plan: DataPlan) -> str:
    """Where the data sets of a paper's plan come from, in a sentence; empty for other plans."""
    return f" It is made for {SPLITS[plan.split].made_for}; and {IMAGENET}." if plan.split else ""


def _config(plan: DataPlan, *extras: str) -> SceneConfig:
    return replace(plan.scenes, image_size=plan.image_side or 128, extras=extras)


def _scenes(plan: DataPlan, task: TaskName, seed: int) -> dict[str, Any]:
    extras = ["keypoints"] if task == "pose" else ["masks"] if plan.masks else []
    config = _config(plan, *extras)
    kind = SceneMasks if task == "segmentation" else Scenes
    sizes = {"train": plan.train_images, "search": plan.search_images, "test": plan.test_images}
    stand_in = StandIn(plan.scene_size, plan.scene_classes)
    sets = {split: kind(config, seed, split, size, stand_in) for split, size in sizes.items()}
    return {"full_train": sets["train"], **sets}


def _folder(
    plan: DataPlan, task: TaskName, folder: Path, seed: int, classes: str, void: int, bad_boxes: str
) -> dict[str, Any]:
    if task == "segmentation":
        named = Classes(names=tuple(map(str.strip, classes.split(","))), void=void) if classes else None
        read: Callable[[str], Any] = partial(MaskFolder, folder, classes=named, max_size=plan.image_side or None)
    else:
        pose = task == "pose"  # people are cut out at full size
        size = None if pose else plan.image_side or None
        read = partial(CocoFolder, folder, max_size=size, bad_boxes=bad_boxes, keypoints=pose, masks=plan.masks)
    whole, unseen = _both(folder, read)
    if plan.split is None:
        train, search = split_train(whole, plan.search_share, seed)
    else:
        train, search = SPLITS[plan.split].cut(whole, folder, seed)
        whole = whole if task == "segmentation" else whole.with_objects()
    for name, part in (("train", train), ("search", search), ("val", unseen)):
        if isinstance(part, CocoFolder) and not part.objects:
            advice = "the search split is cut from train: take another seed, or more images with objects"
            text = f"The {name} split of {folder} has {len(part)} images and no object in them"
            raise ValueError(f"{text}, so nothing could be learned or measured; {advice}.")
    return {"full_train": whole, "train": train, "search": search, "test": unseen}


def _crops(plan: DataPlan, name: str, seed: int, runs: str) -> tuple[dict[str, Any], str]:
    """Classification images to train on, to search by and to test on, and what a description says of them.

    A crop of an animal on the ladder would cut off the dot that tells its class: there whole scenes are pre-trained on.
    """
    if name == "scenes" and plan.scenes.classes == "ladder":
        whole = _scenes(plan, "detection", seed)
        named = {"crops": "train", "crops_search": "search", "crops_test": "test"}
        said = f"; pre-training at the centres of the animals in {len(whole['train'])} scenes"
        return {role: whole[split] for role, split in named.items()}, said
    if name in ("scenes", ""):
        few = max(64, plan.crops // 8)
        sizes = {"train": plan.crops if name else 1, "search": few, "test": few}
        seen, ranked, reported = (
            SceneCrops(_config(plan), seed, split, size, plan.crop_side, plan.crop_classes)
            for split, size in sizes.items()
        )
        said = f"; pre-training on {seen.name} ({len(seen)} images at {plan.crop_side} px)" if name else ""
    else:
        folder, cache = find_folder(name), base_folder() / runs / "cache" if runs else None
        whole, reported = _both(
            folder, partial(ClassFolder, folder, side=plan.crop_side, cache=cache, whole=plan.crops_whole)
        )
        rest, ranked = split_train(whole, plan.crops_search_share or 0.01, seed)
        seen = rest if plan.crops_search_share else whole
        also = f"{len(ranked)} {'more kept unseen' if seen is rest else 'of them also'} for searches by accuracy"
        said = f"; pre-training on {whole.name} ({len(seen)} images at {plan.crop_side} px, {also})"
    return {"crops": seen, "crops_search": ranked, "crops_test": reported}, said


def _both(folder: Path, read: Callable[[str], Any]) -> tuple[Any, Any]:
    """All that may be trained on, and what is reported: of the same classes, and no image in both."""
    train, test = read("train"), read("val")
    splits = (("train", train), ("val", test))
    names = [part.keypoint_names for _, part in splits]
    if names[0] != names[1]:
        raise ValueError(f"The splits of {folder} name other keypoints: {names}.")
    if train.categories != test.categories:
        lists = " and ".join(", ".join(part.categories[:9]) for _, part in splits)
        raise ValueError(f"The splits train and val of {folder} must name the same classes; they name {lists}.")
    # Only annotations give images ids of their own; folders of masks and classes number their files from 0.
    ids = [(split, number) for split, part in splits if isinstance(part, CocoFolder) for number in part.ids]
    files = [(split, file) for split, part in splits for file in part.files]
    if problems := shared_images(ids, files if len(files) < FEW_FILES else []):
        raise ValueError(f"The reported split of {folder} must be unseen in training: {problems[0]}")
    return train, test


def find_folder(name: str, advice: str = "") -> Path:
    """The folder `name`: as given, from the repository's root, or below WORKBENCH_DATA; else a ValueError."""
    tried = _places(name)
    if found := [path for path in tried if isdir(path)]:
        return found[0]
    places = " and ".join(str(path) for path in dict.fromkeys(tried))
    raise ValueError(
        f"The data folder {name!r} was not found (looked at {places}); give scenes or an existing folder.{advice}"
    )


def find_file(name: str) -> Path:
    """The file `name`, looked for in the same places; the path as given where there is none."""
    return next((path for path in _places(name) if isfile(path)), Path(name).expanduser())


def _places(name: str) -> list[Path]:
    roots = [Path(), base_folder(), Path(os.environ.get("WORKBENCH_DATA", ""))]
    return [root / Path(name).expanduser() for root in roots]
