"""FNA's published numbers for each task, and all presets by name."""

from dataclasses import replace
from typing import Any

from workbench.data.loader import DataPlan, TaskName
from workbench.methods.fna.presets import (
    SMALL_DETECTION,
    SMALL_POSE,
    SMALL_SEGMENTATION,
    TINY_DETECTION,
    TINY_POSE,
    TINY_SEGMENTATION,
    FNAPlan,
    smoke,
)
from workbench.methods.plan import CostPenalty, ScoringPart, preset_named
from workbench.methods.presets import COCO_TRAINABLE
from workbench.tasks.detection import DetectorConfig
from workbench.tasks.pose import PoseConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


def paper_plan(task: TaskName = "detection", *, ssdlite: bool = False, seed_network: str = "mobilenetv2") -> FNAPlan:
    """The published numbers, as the authors' code has them.

    What differs is in `deviations`. ValueError when SSDLite is asked for another task than detection.
    """
    if ssdlite and task != "detection":
        raise ValueError(f"SSDLite is a detector; for {task} there is no plan with it. Leave ssdlite out.")
    if task == "segmentation":
        return _paper_segmentation(seed_network)
    if task == "pose":
        return _paper_pose(seed_network)
    return _paper_ssdlite(seed_network) if ssdlite else _paper_detection(seed_network)


DEVIATIONS = (
    "Weight steps see augmented images, too: in the code they do not, because its two loaders were confused.",
    "The supernet's stem has ReLU6, not ReLU: as in the seed whose weights it gets.",
    "Copied batch-norm statistics keep the seed's eps; the code's RetinaNet reads them with another one.",
    "Batch norm is synchronised over several GPUs in the search, too: with one image for each there is no batch else.",
    "Which images are in which half depends on the seed of the run, not on the code's shuffle with seed 520.",
    "The derived network of every epoch is scored on alpha's half: ours, to have a trajectory; it changes no training.",
)
_SSDLITE = (
    "The cost of block 7 is counted once; the code's loop adds it a second time.",
    "The temperature of alpha also serves the drawing of paths and the expected cost: one alpha, one distribution.",
    "Alpha's half is not repeated five times: lengths are in steps, so the repetition would change nothing.",
)
_SEGMENTATION = (
    "An epoch of the search is a pass over the images of the weights: not stated.",
    "The search crops from images of full size, not from 512 x 1024: one data set for search and training.",
    "Images are scored whole, not in windows of 769 pixels: every pixel sees at least as much around it.",
    "The search alternates step by step, and its loss is cross-entropy: that code was not released.",
)
_POSE = (
    "The settings of pose were not released: this is SimpleBaseline's recipe on COCO, searched as its training goes.",
)
# The code gives all parameters to one optimiser with weight decay, and trains in full precision.
_PLAIN: dict[str, Any] = {"decay_norm": True, "decay_bias": True, "amp": False}
_PAPER_ALPHA = Recipe(steps=1, batch_size=8, lr=3e-4, optimizer="adam", betas=(0.5, 0.999), weight_decay=1e-3,
                      schedule="constant", warmup=0.0, clip_norm=35.0, augment="flip", amp=False)  # fmt: skip
_COCO_HALF = COCO_TRAINABLE // 2  # images with objects in each half of train2017
_COCO_DATA = DataPlan(image_side=0, crop_side=224, split="fna")


def _depths(seed_network: str, mobile: tuple[int, ...]) -> tuple[int, ...]:
    """Layers of the supernet's stages; those of a ResNet are ours: one more than ResNet-50 has."""
    return mobile if not seed_network.startswith("resn") else (4, 5, 7, 4)


def _paper_detection(seed_network: str) -> FNAPlan:
    steps, tuned = 14 * _COCO_HALF // 8, 12 * COCO_TRAINABLE // 32
    return replace(
        TINY_DETECTION,
        seed_network=seed_network,
        depths=_depths(seed_network, (4, 4, 4, 4, 4, 1)),
        data=_COCO_DATA,
        head=DetectorConfig(
            image_size=(800, 1333), pyramid_extra="c5p6p7", box_loss="smooth_l1", box_beta=0.11, score_threshold=0.05
        ),
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps, batch_size=8, lr=0.02, schedule="step", milestones=(8 / 14, 11 / 14),
                warmup=500 / steps, clip_norm=35.0, augment="flip", **_PLAIN,
            ),
            alpha=_PAPER_ALPHA,
            epochs=14,
            warm_epochs=8,
        ),
        penalty=CostPenalty(strength=0.02),
        affine=False,
        finetune=Recipe(
            steps=tuned, batch_size=32, lr=0.05, weight_decay=5e-5, schedule="step", milestones=(8 / 12, 11 / 12),
            warmup=500 / tuned, clip_norm=35.0, augment="flip", **_PLAIN,
        ),
        macs_at=(800, 1088),
        scoring=ScoringPart(calibration_images=500, calibration_batch=4, batch=4),
        random_networks=3,
        deviations=DEVIATIONS,
    )  # fmt: skip


def _paper_ssdlite(seed_network: str) -> FNAPlan:
    steps, tuned = 30 * 5 * _COCO_HALF // 128, 60 * 5 * COCO_TRAINABLE // 512
    common: dict[str, Any] = {"optimizer": "rmsprop", "eps": 1.0, "weight_decay": 4e-5, "schedule": "step", **_PLAIN}
    return replace(
        _paper_detection(seed_network),
        form="ssd",
        head=DetectorConfig(
            kind="ssdlite", image_size=(320, 320), image_std=(1 / 255,) * 3, match_iou=(0.5, 0.5),
            score_threshold=0.02, nms_threshold=0.6, detections=200,
        ),
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps, batch_size=128, lr=0.05, milestones=(18 / 30, 25 / 30, 28 / 30), warmup=500 / steps,
                augment="ssd", **common,
            ),
            alpha=replace(_PAPER_ALPHA, batch_size=128, augment="ssd"),
            epochs=30,
            warm_epochs=15,
            weight_steps=5,
        ),
        penalty=CostPenalty(strength=0.15),
        temperature=0.9,
        finetune=Recipe(
            steps=tuned, batch_size=512, lr=0.2, milestones=(36 / 60, 50 / 60, 56 / 60), warmup=500 / tuned,
            augment="ssd", **common,
        ),
        macs_at=320,
        scoring=ScoringPart(calibration_images=500, calibration_batch=64, batch=64),
        deviations=(*DEVIATIONS, *_SSDLITE),
    )  # fmt: skip


def _paper_segmentation(seed_network: str) -> FNAPlan:
    steps = 80 * (2975 * 4 // 5) // 16
    return replace(
        _paper_detection(seed_network),
        task="segmentation",
        form="os16",
        depths=_depths(seed_network, (4, 4, 6, 6, 4, 1)),
        data=DataPlan(image_side=0, crop_side=224, split="fna-cityscapes"),
        head=SegmenterConfig(),
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps, batch_size=16, lr=0.02, weight_decay=5e-4, schedule="cosine", cosine_floor=0.05,
                warmup=5 / 80, warmup_factor=1e-4 / 0.02, augment="scale", crop_side=321, **_PLAIN,
            ),
            alpha=replace(
                _PAPER_ALPHA, batch_size=16, lr=1e-3, weight_decay=4e-5, clip_norm=None, augment="scale", crop_side=321
            ),
            epochs=80,
            warm_epochs=30,
        ),
        penalty=CostPenalty(strength=9e-3, scale=10.0, base=45.0),
        finetune=Recipe(
            steps=100_000, batch_size=16, lr=0.01, weight_decay=5e-4, schedule="poly", warmup=0.05, warmup_factor=0.01,
            augment="scale", crop_side=769, **_PLAIN,
        ),
        refresh_images=2000 * 16,
        macs_at=(1024, 2048),
        deviations=(*DEVIATIONS, *_SEGMENTATION),
    )  # fmt: skip


def _paper_pose(seed_network: str) -> FNAPlan:
    persons = 149_813  # with keypoints, in COCO's train2017
    detection = _paper_detection(seed_network)
    steps = 14 * (persons // 2) // 64
    weights = Recipe(steps=steps, batch_size=64, lr=1e-3, optimizer="adam", schedule="step", augment="turn", **_PLAIN)
    return replace(
        detection,
        task="pose",
        head=PoseConfig(),
        search=replace(detection.search, weights=weights, alpha=replace(_PAPER_ALPHA, batch_size=64, augment="turn")),
        finetune=Recipe(
            steps=140 * persons // 128, batch_size=128, lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="step",
            milestones=(90 / 140, 120 / 140), warmup=0.0, augment="turn", amp=False,
        ),
        macs_at=(256, 192),
        scoring=ScoringPart(calibration_images=500, calibration_batch=64, batch=64),
        deviations=(*DEVIATIONS, *_POSE),
    )  # fmt: skip


PRESETS: dict[str, dict[TaskName, FNAPlan]] = {
    "smoke": {plan.task: smoke(plan) for plan in (TINY_DETECTION, TINY_SEGMENTATION, TINY_POSE)},
    "tiny": {plan.task: plan for plan in (TINY_DETECTION, TINY_SEGMENTATION, TINY_POSE)},
    "small": {plan.task: plan for plan in (SMALL_DETECTION, SMALL_SEGMENTATION, SMALL_POSE)},
    "paper": {"detection": paper_plan(), "segmentation": paper_plan("segmentation"), "pose": paper_plan("pose")},
    "paper-ssdlite": {"detection": paper_plan(ssdlite=True)},
    "paper-resnet50": {
        "detection": paper_plan(seed_network="resnet50"),
        "segmentation": paper_plan("segmentation", seed_network="resnet50"),
        "pose": paper_plan("pose", seed_network="resnet50"),
    },
}


def plan_named(preset: str, task: TaskName) -> FNAPlan:
    """The plan of that preset for a task; ValueError when there is none."""
    plans: dict[TaskName, FNAPlan] = preset_named(PRESETS, preset)
    if task not in plans:
        raise ValueError(f"The preset {preset} is for {', '.join(plans)}, not for {task}; take another preset.")
    return plans[task]
