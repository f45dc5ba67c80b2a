"""What the presets of several methods have in common: data, detectors and recipes of each size.

`smoke` and `tiny` are generated scenes, `small` is for hundreds of photographs; the papers' numbers are in the
presets of each method.
"""

from dataclasses import replace
from typing import Any

from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import DataPlan
from workbench.data.scenes.scene import SceneConfig
from workbench.data.splits import TRAIN2017, TRAINABLE
from workbench.methods.plan import ClassifierPart, ScoringPart
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import Recipe

FAST = Recipe(
    steps=1, batch_size=16, lr=8e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05, clip_norm=10.0, augment="flip"
)
# Photographs are few and a pass over them is short, so the steps are small and many.
PHOTOS = replace(FAST, steps=2000, batch_size=8, lr=4e-3)

# A dot at a graded distance tells the class, so how far a network sees decides how much it can know.
# With dots of radius 3 they were first noticed at any time between 100 and 400 steps, and seeds differed more than
# networks; large ones are noticed within 60.
LADDER = SceneConfig(
    classes="ladder", species=("shark", "jellyfish"), sizes=(14.0, 26.0), objects=(2, 3), dot_radius=5.0, clutter=0
)

PROBE = Recipe(steps=300, batch_size=16, lr=3e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05)
# The ladder for detectors: a backbone first learns to read it at given centres, as others learn to classify, and is
# then fine-tuned gently (at FAST's own rate a detector forgets it).
LADDER_DATA = DataPlan(
    image_side=128, crop_side=128, train_images=1600, search_images=200, test_images=400, scenes=LADDER
)
# After 300 steps one network in five had hardly begun to read the dots, and a detector then forgot the little it knew.
LADDER_PROBE = ClassifierPart(recipe=replace(PROBE, steps=600))
SMOKE_LADDER = replace(LADDER_DATA, train_images=24, search_images=8, test_images=8)
SMOKE_PROBE = ClassifierPart(recipe=replace(PROBE, steps=2, batch_size=8))
# Steps and rates were measured on seeds of their own (100 and 101). With 300 steps at one rate for all it was chance
# whether a detector kept the dots, and supernets lost them.
GENTLE = replace(FAST, steps=600, lr=4e-3, body_lr_factor=0.3, augment="none")
SMOKE_DATA = DataPlan(image_side=96, crop_side=32, train_images=24, search_images=8, test_images=8, crops=32)
TINY_DATA = DataPlan(
    image_side=128,
    crop_side=64,
    train_images=1600,
    search_images=128,
    test_images=400,
    crops=4000,
    scenes=SceneConfig(species=("fish", "ray", "starfish", "eel")),  # fewer classes are learned sooner
)
# The numbers of images and crops count where data are generated scenes.
SMALL_DATA = DataPlan(image_side=256, crop_side=96, train_images=800, search_images=96, test_images=200, crops=3000)

TINY_DETECTOR = DetectorConfig(
    pyramid_channels=32,  # a light head, so that the backbone is what counts
    pyramid_levels=3,
    pyramid_extra="p6",
    anchor_scale=3.0,
    anchor_octaves=1,
    anchor_ratios=(1.0,),
    match_iou=(0.4, 0.3),  # one square anchor for each place: long animals overlap it little
    head_convs=1,
    head_norm=True,
    box_loss="giou",
    detections=50,
    candidates=100,
    stride_padding=16,
)
# Shallow networks have two maps. The usual 3x3 convolutions of pyramid and towers alone would see as far as the dots.
LADDER_DETECTOR = replace(TINY_DETECTOR, pyramid_levels=2, pyramid_extra="none", pointwise=True)
SMALL_DETECTOR = replace(
    TINY_DETECTOR,
    pyramid_channels=48,
    pyramid_extra="none",
    box_loss_weight=2.0,
    anchor_octaves=2,
    detections=100,
    candidates=300,
    stride_padding=32,
)

TINY_CLASSIFIER = ClassifierPart(recipe=replace(FAST, steps=100, batch_size=64), hidden=128, label_smoothing=0.1)
SMOKE_CLASSIFIER = replace(TINY_CLASSIFIER, recipe=replace(FAST, steps=2, batch_size=8))
SMALL_CLASSIFIER = replace(TINY_CLASSIFIER, recipe=replace(FAST, steps=300, batch_size=64))

SMOKE_SCORING = ScoringPart(calibration_images=8, calibration_batch=4)
TINY_SCORING = ScoringPart(calibration_images=64, calibration_batch=32)

# What weights were trained with: EfficientNet-Lite0 with x / 127.5 - 1.
LITE_INPUT: dict[str, Any] = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
IMAGENET_INPUT: dict[str, Any] = {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}

COCO_IMAGES, COCO_TRAINABLE = TRAIN2017, TRAINABLE
IMAGENET_IMAGES = 1_281_167
