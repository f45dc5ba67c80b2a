"""The plans of DetNAS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.data.loader import DataPlan
from workbench.methods import presets as common
from workbench.methods.plan import ClassifierPart, OneShotPart, Plan, RerankPart, ScoringPart
from workbench.methods.presets import FAST, PHOTOS
from workbench.search.evolution import EvolutionConfig
from workbench.tasks.detection import DetectorConfig
from workbench.tasks.roi_heads import BOX_WEIGHTS
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DetNASPlan(Plan):
    """Everything that a DetNAS run does, as numbers."""

    space: str
    supernet: OneShotPart
    path_sampling: Literal["uniform", "binned"]  # binned: uniform over bins of full MACs, as the original code does
    macs_limit: int  # backbone only
    evolution: EvolutionConfig
    evaluations: int  # of each search, the random control too; the paper takes AP on COCO and AP50 on VOC as fitness
    recalibration_check: int  # architectures scored with and without recalibration
    detnas_init: bool  # the original's initialisation (depthwise kernels at sd 1), else PyTorch's


TINY = DetNASPlan(
    space="shuffle-five",
    data=common.LADDER_DATA,
    head=common.LADDER_DETECTOR,
    classifier=common.LADDER_PROBE,
    # A path learns a quarter of the steps: after 600 some supernets had not noticed the dots, after 1,200 all had.
    supernet=OneShotPart(
        pretrain=replace(common.PROBE, steps=1200), finetune=replace(common.GENTLE, steps=900), aligned_options=True
    ),
    scoring=common.TINY_SCORING,
    finetune=common.GENTLE,
    path_sampling="uniform",
    macs_limit=6_500_000,
    macs_at=128,
    evolution=EvolutionConfig(population=10, parents=5, mutants=4, crossings=4, mutation_probability=0.15),
    evaluations=40,
    recalibration_check=12,
    # Nothing is re-ranked: dots are noticed after some hundred steps, so a short training tells nothing.
    random_networks=3,
    detnas_init=False,
)

SMOKE = replace(
    TINY,
    data=common.SMOKE_LADDER,
    classifier=common.SMOKE_PROBE,
    supernet=replace(
        TINY.supernet,
        pretrain=replace(common.PROBE, steps=3, batch_size=8),
        finetune=replace(FAST, steps=3, batch_size=4),
    ),
    scoring=common.SMOKE_SCORING,
    finetune=replace(FAST, steps=2, batch_size=4),
    evolution=EvolutionConfig(population=3, parents=2, mutants=1, crossings=1, mutation_probability=0.3),
    evaluations=6,
    recalibration_check=3,
    rerank=RerankPart(networks=2, share=0.5),
    random_networks=2,
)

SMALL = replace(
    TINY,
    space="shuffle-20-narrow",
    data=common.SMALL_DATA,
    head=common.SMALL_DETECTOR,
    classifier=common.SMALL_CLASSIFIER,
    supernet=replace(TINY.supernet, pretrain=replace(FAST, steps=1000, batch_size=32, lr=6e-3), finetune=PHOTOS),
    scoring=ScoringPart(calibration_images=96, calibration_batch=16),
    finetune=PHOTOS,
    macs_limit=116_300_000,
    macs_at=256,
    evaluations=50,
    frozen_control=True,
)


DEVIATIONS = (
    "The search split is drawn with the seed of the run: the original's list of 5,000 images is not in its repository.",
    "No architecture is scored twice; in the original twins within a generation share one score.",
    "Batch-norm statistics of a candidate are an exact average over the 4,000 images that the original sees, which"
    " forgets all but the last: the average depends on less chance.",
    "Box heads are recalibrated on the proposals of an evaluation, not on 512 sampled regions with the truth among"
    " them: recalibration here reads images alone, and these are the regions that the score is measured on.",
    "Scale and shift of batch norm are trained in the supernet's fine-tuning; the original's own synchronised layer"
    " leaves them frozen, by an oversight.",
    "Batch norm keeps PyTorch's momentum 0.1 in single networks, too (there 0.01): it acts on running statistics only.",
    "Convolutions of the pyramid that have batch norm have no bias: it would have no effect.",
    "The classification loss of RetinaNet is divided by the foreground anchors, not by those and the number of images:"
    " a difference of about one in a hundred.",
    "Images are RGB, not BGR: the networks are trained from scratch, for which the order has no meaning.",
    "The limit on MACs in the large space is 1.3G: the original's is unknown, and it hardly ever binds.",
)
_VOC = "The fitness on Pascal VOC is AP50 at COCO's 101 recalls, not said otherwise; VOC's own rules stand next to it."


def paper_plan(
    space: Literal["shuffle-20", "shuffle-40"] = "shuffle-20",
    detector: Literal["faster_rcnn", "retinanet"] = "faster_rcnn",
    data: Literal["coco", "voc"] = "coco",
) -> DetNASPlan:
    """The published numbers and those of the original code; defaults are the 300M network in FPN on COCO.

    What differs from the original code is in `deviations`.
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
        amp=False,
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
        amp=False,
    )
    plain = DetectorConfig(image_size=(800, 1333), score_threshold=0.05, **raw)
    if detector == "faster_rcnn":
        head = replace(
            plain,
            kind="faster_rcnn",
            pyramid_levels=4,
            pyramid_extra="pool",
            pyramid_norm=True,
            anchor_scale=8.0,
            anchor_octaves=1,
            box_beta=1.0,
            detectron_proposals=True,
        )
    else:  # the code divides the box loss by 4, on targets scaled as those of a box head
        head = replace(
            plain, nms_threshold=0.4, box_loss="smooth_l1", box_beta=0.11, box_loss_weight=1 / 4, box_scale=BOX_WEIGHTS
        )
    return DetNASPlan(
        space=space,
        data=DataPlan(
            image_side=0,
            crop_side=224,
            crops_whole=True,
            crops_search_share=0.0,
            split="detnas" if data == "coco" else "detnas-voc",
        ),
        head=head,
        fitness="AP" if data == "coco" else "AP50",
        classifier=ClassifierPart(recipe=pretrain, hidden=1024, dropout=0.2, label_smoothing=0.1, **raw),
        supernet=OneShotPart(pretrain=pretrain, finetune=finetune),
        scoring=ScoringPart(calibration_images=500 * 8, calibration_batch=8),
        finetune=finetune,
        path_sampling="binned" if space == "shuffle-20" else "uniform",  # the original's bins exist for 20 blocks only
        macs_limit=300_000_000 if space == "shuffle-20" else 1_300_000_000,
        macs_at=224,
        evolution=EvolutionConfig(),
        evaluations=20 * 50,
        recalibration_check=50,
        random_networks=20,
        detnas_init=True,
        deviations=DEVIATIONS if data == "coco" else (*DEVIATIONS, _VOC),
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
