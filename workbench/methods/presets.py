"""From the parameters of a notebook to the plan of a run: presets, overrides, and the data they name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast, get_args

from workbench.data.batches import ClassificationSet, DetectionSet
from workbench.data.checks import Problem, check_splits
from workbench.data.classification import ClassFolder
from workbench.data.coco import BadBoxes, CocoFolder
from workbench.data.creatures import SPECIES
from workbench.data.scenes import SceneConfig, SceneCrops, Scenes
from workbench.data.splits import split_train
from workbench.records.files import base_folder, digest
from workbench.spaces.costs import ImageSize
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """How much data a preset uses, and at which size.

    Generated scenes are drawn to these numbers; folders are what they are.
    """

    image_side: int  # scenes: side in pixels; folders: the long side that pictures are shrunk to (0 keeps them)
    crop_side: int  # side of the pre-training images
    train_images: int = 0  # scenes only
    search_images: int = 0  # scenes: drawn apart; folders: cut from train, see search_share
    test_images: int = 0  # scenes only
    crops: int = 0
    species: tuple[str, ...] = SPECIES  # scenes only: fewer classes are told apart sooner
    sizes: str = "mixed"  # scenes only: of the animals
    search_share: float = 0.15  # folders: share of train cut away for the search
    # Class folders: share of train that is not trained on, so that searches can rank by accuracy on unseen images.
    # 0 trains on all, as the papers do; such searches then rank by a hundredth that training sees, too.
    crops_search_share: float = 0.1


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """What the plan of every search says."""

    data: DataPlan
    finetune: Recipe  # of the found network and of everything it is compared with
    macs_at: ImageSize  # at which MACs are stated
    calibration_images: int  # training images on which batch norm is measured anew before a network is scored
    calibration_batch: int
    scoring_batch: int = 32
    random_networks: int  # unscored ones among the controls


@dataclass(frozen=True, kw_only=True)
class ClassifierPlan(MethodPlan):
    """What a search says whose backbones are trained as classifiers first, then in a detector."""

    detector: DetectorConfig
    pretrain: Recipe
    classifier_hidden: int
    classifier_dropout: float
    label_smoothing: float
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    fitness: Literal["AP", "AP50"]  # by which networks are scored on the supernet


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a run.

    `train` + `search` are what training may see; `test` is touched once, for the reported numbers.
    """

    train: DetectionSet
    search: DetectionSet
    full_train: DetectionSet  # for final networks: train and search together where they come from one folder
    test: DetectionSet
    crops: ClassificationSet  # pre-training
    crops_search: ClassificationSet  # cut from its training images, for searches by classification accuracy
    crops_test: ClassificationSet
    digest: str
    description: str


def preset_named(presets: Mapping[str, Any], name: str) -> Any:
    """The preset of that name; ValueError lists the names there are."""
    if name not in presets:
        near = get_close_matches(name, presets, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A preset is one of {', '.join(presets)}; got {name!r}.{hint}")
    return presets[name]


def shortened(plan: Any, max_steps: int) -> Any:
    """The plan with no recipe longer than `max_steps` (0 leaves it as it is); schedules shrink as a whole.

    A gradient search keeps its epochs, as long as each can have a step.
    """
    if max_steps < 0:
        raise ValueError(f"max_steps is 0 (as long as the preset says) or a number of steps; got {max_steps}.")
    if max_steps == 0:
        return plan
    changes: dict[str, Any] = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, Recipe):
            changes[field.name] = replace(value, steps=min(value.steps, max_steps))
        elif is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = shortened(value, max_steps)
    if isinstance(plan, AlternatingRecipe):
        epochs = min(plan.epochs, changes["weights"].steps)
        return replace(plan, **changes, epochs=epochs, warm_epochs=plan.warm_epochs * epochs // plan.epochs)
    return replace(plan, **changes)


def load_data(plan: DataPlan, data: str, pretrain_data: str, seed: int, bad_boxes: str = "few", runs: str = "") -> Data:
    """The data sets that `data` and `pretrain_data` name: `scenes`, or a folder (COCO format; class folders).

    An empty `pretrain_data` says that nothing is pre-trained; the crops are then a handful of drawn ones.

    A relative folder is looked for from the current directory, from the repository's root and below WORKBENCH_DATA.
    Everything is validated here, before work starts; what `bad_boxes` means is said at `CocoFolder`. Where
    class folders were found healthy is remembered below `runs`, so that only the first start looks through ImageNet.
    """
    boxes = cast(BadBoxes, one_of("bad_boxes", bad_boxes, get_args(BadBoxes)))
    drawn = (data, pretrain_data or data)
    if "scenes" in drawn and plan.train_images == 0:
        raise ValueError(
            "This preset has no number of scenes to draw; it needs data and pretrain_data to be folders"
            f" (COCO format; class folders), got {data!r} and {pretrain_data!r}."
        )
    config = scene_config(plan)
    if data == "scenes":
        train: Any = Scenes(config, seed, "train", plan.train_images)
        search: Any = Scenes(config, seed, "search", plan.search_images)
        test: Any = Scenes(config, seed, "test", plan.test_images)
        full = train
        described = f"generated scenes, {plan.image_side} px ({len(train)} / {len(search)} / {len(test)} images)"
    else:
        folder, size = find_folder(data), plan.image_side or None
        train_split, test_split = split_names(folder)
        full = CocoFolder(folder, train_split, max_size=size, bad_boxes=boxes)
        test = CocoFolder(folder, test_split, max_size=size, bad_boxes=boxes)
        # Reading every file of full COCO takes minutes: there `doctor --data` does it once.
        if len(full) + len(test) < 20_000 and (problems := check_splits(folder, [train_split, test_split])):
            raise ValueError(f"The reported split must be unseen in training: {problems[0]}")
        train, search = split_train(full, plan.search_share, seed)
        described = f"{folder.name}, {plan.image_side} px ({len(train)} / {len(search)} / {len(test)} images)"
        described += said_of_dropped(full.dropped + test.dropped)
    if pretrain_data in ("scenes", ""):
        crops: Any = SceneCrops(config, seed, "train", plan.crops if pretrain_data else 1, side=plan.crop_side)
        crops_search: Any = SceneCrops(config, seed, "search", max(64, plan.crops // 8), side=plan.crop_side)
        crops_test: Any = SceneCrops(config, seed, "test", max(64, plan.crops // 8), side=plan.crop_side)
    else:
        crop_folder = find_folder(pretrain_data)
        cache = base_folder() / runs / "cache" if runs else None
        crops = ClassFolder(crop_folder, "train", side=plan.crop_side, cache=cache)
        crops_test = ClassFolder(crop_folder, "val", side=plan.crop_side, cache=cache)
        if crops.categories != crops_test.categories:
            raise ValueError(f"The class folders of train and val in {crop_folder} must name the same classes.")
        if len(crops) + len(crops_test) < 20_000 and (problems := check_splits(crop_folder, ["train", "val"])):
            raise ValueError(f"The reported split must be unseen in training: {problems[0]}")
        unseen, crops_search = split_train(crops, plan.crops_search_share or 0.01, seed)
        crops = unseen if plan.crops_search_share else crops
    described_crops = f" ({len(crops)} images at {plan.crop_side} px"
    if pretrain_data not in ("scenes", ""):
        kept = "more kept unseen" if plan.crops_search_share else "of them also"
        described_crops += f", {len(crops_search)} {kept} for searches by accuracy"
    described_crops += ")"
    if pretrain_data:
        described += f"; pre-training on {crops.name}{described_crops}"
    return gathered(full, train, search, test, (crops, crops_search, crops_test), described)


def said_of_dropped(boxes: Sequence[Problem]) -> str:
    """How many boxes were dropped, and the first of them, for a description."""
    first = " ".join(str(box) for box in boxes[:3])
    return f"; {len(boxes)} bad boxes dropped ({'the first: ' if len(boxes) > 3 else ''}{first})" if boxes else ""


def gathered(full: Any, train: Any, search: Any, test: Any, crops: tuple[Any, Any, Any], description: str) -> Data:
    """The data of a run from its sets; `crops` to train on, to search by and to test on."""
    return Data(
        train=train,
        search=search,
        full_train=full,
        test=test,
        crops=crops[0],
        crops_search=crops[1],
        crops_test=crops[2],
        digest=digest([part.digest for part in (full, train, search, test, *crops)]),
        description=description,
    )


def scene_config(plan: DataPlan, *extras: str) -> SceneConfig:
    """What the generated scenes of a plan show; `extras` are masks, keypoints or semantic maps."""
    side = plan.image_side or 128
    return SceneConfig(image_size=side, classes="species", species=plan.species, sizes=plan.sizes, extras=extras)


def input_sizes(plan: Any, data: Any) -> list[tuple[int, int]]:
    """Heights and widths that enter the backbone, of every search and training picture: resized and padded."""
    sizes = []
    for part in (data.search, data.train):
        for height, width in part.sizes:
            if (detector := getattr(plan, "detector", None)) is not None:
                height, width = detector.input_size(height, width)
            sizes.append((height, width))
    return sizes


def find_folder(name: str) -> Path:
    """The folder `name`: as given, from the repository's root, or below WORKBENCH_DATA; else a ValueError."""
    tried = _places(name)
    for path in tried:
        if path.is_dir():
            return path
    places = " and ".join(str(path) for path in dict.fromkeys(tried))
    raise ValueError(f"The data folder {name!r} was not found (looked at {places}); give scenes or an existing folder.")


def find_file(name: str) -> Path:
    """The file `name`, looked for in the same places; the path as given where there is none."""
    return next((path for path in _places(name) if path.is_file()), Path(name).expanduser())


def _places(name: str) -> list[Path]:
    places = [Path(name).expanduser(), base_folder() / Path(name).expanduser()]
    if "WORKBENCH_DATA" in os.environ:
        places.append(Path(os.environ["WORKBENCH_DATA"]) / name)
    return places


def split_names(folder: Path) -> tuple[str, str]:
    """The names of the train and test splits of a COCO-format folder."""
    for train, test in (("train", "val"), ("train2017", "val2017")):
        if (folder / "annotations" / f"instances_{train}.json").exists():
            return train, test
    raise ValueError(
        f"{folder} has no annotations/instances_train.json (or instances_train2017.json); see data/README.md."
    )


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` itself; ValueError when the parameter `name` is none of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"The parameter {name} is one of {', '.join(allowed)}; got {value!r}.")
    return value
