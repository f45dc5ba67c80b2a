"""The plans of DetNAS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.methods.one_shot import OneShotPlan
from workbench.methods.presets import DataPlan
from workbench.search.evolution import EvolutionConfig
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DetNASPlan(OneShotPlan):
    """Everything that a DetNAS run does, as numbers."""

    space: str
    path_sampling: Literal["uniform", "binned"]  # binned: uniform over bins of full MACs, as the original code does
    macs_limit: int  # backbone only
    evolution: EvolutionConfig
    evaluations: int  # of each search, the random control too; the paper takes AP on COCO and AP50 on VOC as fitness
    recalibration_check: int  # architectures scored with and without recalibration
    detnas_init: bool  # the original's initialisation (depthwise kernels at sd 1), else PyTorch's


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

FAST = Recipe(
    steps=1, batch_size=16, lr=8e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05, clip_norm=10.0, augment="flip"
)

TINY = DetNASPlan(
    space="shuffle-tiny",
    data=DataPlan(
        image_side=128,
        crop_side=64,
        train_images=1600,
        search_images=128,
        test_images=400,
        crops=4000,
        species=("fish", "ray", "starfish", "eel"),
    ),
    detector=TINY_DETECTOR,
    supernet_pretrain=replace(FAST, steps=800, batch_size=32, lr=6e-3),
    supernet_finetune=replace(FAST, steps=500),
    pretrain=replace(FAST, steps=100, batch_size=64),
    finetune=replace(FAST, steps=350),
    classifier_hidden=128,
    classifier_dropout=0.0,
    label_smoothing=0.1,
    image_mean=(0.485, 0.456, 0.406),
    image_std=(0.229, 0.224, 0.225),
    path_sampling="uniform",
    macs_limit=21_700_000,
    macs_at=128,
    fitness="AP",
    evolution=EvolutionConfig(population=10, parents=5, mutants=4, crossings=4, mutation_probability=0.15),
    evaluations=40,
    calibration_images=64,
    calibration_batch=32,
    recalibration_check=12,
    random_networks=3,
    frozen_control=False,
    aligned_options=True,
    detnas_init=False,
)

SMOKE = replace(
    TINY,
    data=DataPlan(image_side=96, crop_side=32, train_images=24, search_images=8, test_images=8, crops=32),
    supernet_pretrain=replace(FAST, steps=3, batch_size=8),
    supernet_finetune=replace(FAST, steps=3, batch_size=4),
    pretrain=replace(FAST, steps=2, batch_size=8),
    finetune=replace(FAST, steps=2, batch_size=4),
    evolution=EvolutionConfig(population=3, parents=2, mutants=1, crossings=1, mutation_probability=0.3),
    evaluations=6,
    calibration_images=8,
    calibration_batch=4,
    recalibration_check=3,
    random_networks=2,
)

# Photographs are few and a pass over them is short, so the steps are small and many.
PHOTOS = replace(FAST, steps=2000, batch_size=8, lr=4e-3)

SMALL = replace(
    TINY,
    space="shuffle-20-narrow",
    # The numbers of images and crops count where data are generated scenes.
    data=DataPlan(image_side=256, crop_side=96, train_images=800, search_images=96, test_images=200, crops=3000),
    detector=replace(
        TINY_DETECTOR,
        pyramid_channels=48,
        pyramid_extra="none",
        box_loss_weight=2.0,
        anchor_octaves=2,
        detections=100,
        candidates=300,
        stride_padding=32,
    ),
    supernet_pretrain=replace(FAST, steps=1000, batch_size=32, lr=6e-3),
    supernet_finetune=PHOTOS,
    pretrain=replace(FAST, steps=300, batch_size=64),
    finetune=PHOTOS,
    macs_limit=116_300_000,
    macs_at=256,
    evaluations=50,
    calibration_images=96,
    calibration_batch=16,
    frozen_control=True,
)


def paper_plan(
    space: Literal["shuffle-20", "shuffle-40"] = "shuffle-20",
    detector: Literal["faster_rcnn", "retinanet"] = "faster_rcnn",
    data: Literal["coco", "voc"] = "coco",
) -> DetNASPlan:
    """The published numbers (sections 3 to 6 of the specification); defaults are the 300M network in FPN on COCO.

    What differs from the original code: no architecture is scored twice; batch-norm statistics are an exact average
    over the 4,000 images that the original sees; pictures are RGB, not BGR (trained from scratch, the order has no
    meaning); normed pyramid convolutions have no bias; detections are kept down to score 0.01; batch norm keeps
    PyTorch's momentum 0.1 in the single networks, too; pre-training pictures are cropped from squares that fit
    `crop_side`. The large space's MAC limit is unknown; its cap is almost never binding at 1.3G, so that is the limit
    here.
    """
    raw: dict[str, Any] = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1 / 255, 1 / 255, 1 / 255)}  # pixels as 0-255
    pretrain = Recipe(
        steps=300_000,
        batch_size=1024,
        lr=0.5,
        momentum=0.9,
        weight_decay=4e-5,
        schedule="linear",
        warmup=0.0,
        augment="classify",
    )
    steps = 90_000 if data == "coco" else 22_500
    finetune = Recipe(
        steps=steps,
        batch_size=16,
        lr=0.02 if detector == "faster_rcnn" else 0.01,
        momentum=0.9,
        weight_decay=1e-4,
        decay_norm=True,
        bias_lr_factor=2.0,
        schedule="step",
        milestones=(60 / 90, 80 / 90),
        warmup=500 / steps,
        warmup_factor=1 / 3,
        augment="flip",
    )
    common = DetectorConfig(image_size=(800, 1333), nms_threshold=0.5, **raw)
    if detector == "faster_rcnn":
        head = replace(
            common,
            kind="faster_rcnn",
            pyramid_levels=4,
            pyramid_extra="pool",
            pyramid_norm=True,
            anchor_scale=8.0,
            anchor_octaves=1,
        )
    else:
        head = replace(common, kind="retinanet", nms_threshold=0.4, box_loss="smooth_l1", box_loss_weight=4.0)
    return DetNASPlan(
        space=space,
        data=DataPlan(
            image_side=0,
            crop_side=224,
            crops_search_share=0.0,
            search_share=5000 / 118_287 if data == "coco" else 5000 / 16_551,
        ),
        detector=head,
        supernet_pretrain=pretrain,
        supernet_finetune=replace(finetune, amp=False),
        pretrain=pretrain,
        finetune=finetune,
        classifier_hidden=1024,
        classifier_dropout=0.2,
        label_smoothing=0.1,
        path_sampling="binned" if space == "shuffle-20" else "uniform",  # the original's bins exist for 20 blocks only
        macs_limit=300_000_000 if space == "shuffle-20" else 1_300_000_000,
        macs_at=224,
        fitness="AP" if data == "coco" else "AP50",
        evolution=EvolutionConfig(),
        evaluations=20 * 50,
        calibration_images=500 * 8,
        calibration_batch=8,
        recalibration_check=50,
        random_networks=20,
        frozen_control=False,
        aligned_options=False,
        detnas_init=True,
        **raw,
    )


PRESETS: dict[str, DetNASPlan] = {
    "smoke": SMOKE,
    "tiny": TINY,
    "small": SMALL,
    "paper": paper_plan(),
    "paper-retinanet": paper_plan(detector="retinanet"),
    "paper-1.3G": paper_plan(space="shuffle-40"),
    "paper-voc": paper_plan(data="voc"),
    "paper-voc-retinanet": paper_plan(data="voc", detector="retinanet"),
}
