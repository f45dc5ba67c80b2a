"""The plans of CR-NAS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

from dataclasses import dataclass, replace
from typing import Literal

from workbench.methods import detnas_presets as detnas
from workbench.methods.one_shot import OneShotPlan
from workbench.methods.presets import DataPlan
from workbench.networks.supernet import Sharing
from workbench.spaces.allocation import allocation_space, centre_of_mass, depths_of, eligible
from workbench.spaces.residual import LAYOUTS
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CRNASPlan(OneShotPlan):
    """Everything that a CR-NAS run does, as numbers."""

    backbone: str  # a name of `residual.LAYOUTS`: what is compared in the end
    supernet_backbone: str  # the same network as wide as the supernets are; the paper halves the width
    budget: float  # nominal cost of an allocation: blocks, weighted for MobileNetV2
    other_budgets: tuple[float, ...]  # ranked by the same stage supernet, without training it again
    deeper: tuple[int, ...]  # the hand-made layout that moves blocks down without a search
    branches: Sharing  # of the stage supernet: separate blocks for every depth, or nested
    kernels: Sharing  # of the operation supernet: separate for every dilation, or shared
    operation_pretrain: Recipe
    operation_finetune: Recipe
    beam_width: int
    beam_completions: int  # random completions that score a prefix; at most one for each batch of images
    prefix_memory: int  # bytes that features of fixed prefixes may take; above it they are computed again


_FAST = detnas.FAST

TINY = CRNASPlan(
    backbone="resnet-tiny",
    supernet_backbone="resnet-tiny",
    data=detnas.TINY.data,
    detector=detnas.TINY_DETECTOR,
    supernet_pretrain=replace(_FAST, steps=600, batch_size=32, lr=4e-3),
    supernet_finetune=replace(_FAST, steps=700, lr=4e-3),
    operation_pretrain=replace(_FAST, steps=400, batch_size=32, lr=4e-3),
    operation_finetune=replace(_FAST, steps=500, lr=4e-3),
    pretrain=replace(_FAST, steps=150, batch_size=64, lr=4e-3),
    finetune=replace(_FAST, steps=500, lr=4e-3),
    classifier_hidden=128,
    classifier_dropout=0.0,
    label_smoothing=0.1,
    image_mean=(0.485, 0.456, 0.406),
    image_std=(0.229, 0.224, 0.225),
    macs_at=128,
    fitness="AP",
    calibration_images=64,
    calibration_batch=16,
    random_networks=3,
    frozen_control=False,
    aligned_options=True,
    budget=8,
    other_budgets=(6, 10),
    deeper=(1, 2, 5),
    branches="separate",
    kernels="separate",
    beam_width=3,
    beam_completions=4,
    prefix_memory=2**30,
)

SMOKE = replace(
    TINY,
    data=detnas.SMOKE.data,
    supernet_pretrain=replace(_FAST, steps=3, batch_size=8),
    supernet_finetune=replace(_FAST, steps=3, batch_size=4),
    operation_pretrain=replace(_FAST, steps=3, batch_size=8),
    operation_finetune=replace(_FAST, steps=3, batch_size=4),
    pretrain=replace(_FAST, steps=2, batch_size=8),
    finetune=replace(_FAST, steps=2, batch_size=4),
    calibration_images=8,
    calibration_batch=4,
    scoring_batch=4,
    random_networks=2,
    budget=5,
    other_budgets=(4,),
    deeper=(1, 1, 3),
    beam_width=2,
    beam_completions=2,
)

SMALL = replace(
    TINY,
    backbone="resnet18-quarter",
    supernet_backbone="resnet18-quarter",
    data=detnas.SMALL.data,
    detector=detnas.SMALL.detector,
    supernet_pretrain=replace(_FAST, steps=1000, batch_size=32, lr=4e-3),
    supernet_finetune=detnas.PHOTOS,
    operation_pretrain=replace(_FAST, steps=600, batch_size=32, lr=4e-3),
    operation_finetune=replace(detnas.PHOTOS, steps=1500),
    pretrain=replace(_FAST, steps=300, batch_size=64, lr=4e-3),
    finetune=detnas.PHOTOS,
    macs_at=256,
    calibration_images=64,
    scoring_batch=16,
    random_networks=2,
    frozen_control=True,
    other_budgets=(6,),
    deeper=(1, 1, 2, 4),
)


def with_budget(plan: CRNASPlan, budget: float) -> CRNASPlan:
    """The plan for another number of blocks (0 leaves it); the hand-made layout is then the deepest eligible one.

    ValueError names the budgets that exist when no allocation meets this one.
    """
    if budget in (0, plan.budget):
        return plan
    space = allocation_space(plan.supernet_backbone)
    deepest = max((depths_of(space, arch) for arch in eligible(space, budget)), key=centre_of_mass)
    others = tuple(other for other in (plan.budget, *plan.other_budgets) if other != budget)
    return replace(plan, budget=budget, deeper=deepest, other_budgets=others)


def paper_plan(backbone: Literal["resnet18", "resnet50", "resnet101", "mobilenetv2"] = "resnet50") -> CRNASPlan:
    """The published numbers (section 6 of the specification): Faster R-CNN with a pyramid on COCO, schedule 1x.

    What the paper leaves open: the ImageNet recipe of final networks is that of the supernets; warm-up is 500 steps in
    the detector and 5 epochs on ImageNet; detections and anchors are torchvision's. COCO steps are counted from
    118,287 images of archtrain + archval, 113,287 of archtrain alone.
    """
    imagenet = Recipe(
        steps=150 * 1_281_167 // 1024,
        batch_size=1024,
        lr=0.4,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=5 / 150,
        augment="classify",
    )

    def coco(epochs: int, drops: tuple[int, ...], images: int) -> Recipe:
        steps = epochs * images // 16
        return Recipe(
            steps=steps,
            batch_size=16,
            lr=0.00125 * 16,  # the paper's rate is per image
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            milestones=tuple(drop / epochs for drop in drops),
            warmup=500 / steps,
            warmup_factor=1 / 3,
            augment="flip",
        )

    supernet = coco(25, (16, 22), 118_287 - 5000)
    layout = LAYOUTS[backbone]
    budget, kind = layout.budget(layout.depths), layout.stages[0].kind
    halved = backbone if backbone == "mobilenetv2" else f"{backbone}-half"
    deeper = {"resnet18": (1, 1, 2, 4), "resnet50": (1, 3, 5, 7), "resnet101": (2, 3, 11, 17)}
    return replace(
        TINY,
        backbone=backbone,
        supernet_backbone=halved,
        data=DataPlan(image_side=0, crop_side=224, crops_search_share=0.0, search_share=5000 / 118_287),
        detector=DetectorConfig(
            kind="faster_rcnn",
            image_size=(800, 1333),
            pyramid_levels=4,
            pyramid_extra="pool",
            pyramid_norm=True,
            anchor_scale=8.0,
            anchor_octaves=1,
        ),
        supernet_pretrain=imagenet,
        supernet_finetune=supernet,
        operation_pretrain=imagenet,
        operation_finetune=supernet,
        pretrain=imagenet,
        finetune=coco(13, (8, 11), 118_287),
        classifier_hidden=1024,
        label_smoothing=0.0,
        macs_at=(800, 1088),  # as in the paper's tables
        calibration_images=500,
        calibration_batch=4,
        scoring_batch=4,
        random_networks=20,
        aligned_options=False,
        budget=budget,
        # Sums like those of R18, R50 and R101, ranked by one supernet of bottleneck blocks (section 3.2.1).
        other_budgets=tuple(sorted({8.0, 16.0, 33.0} - {budget})) if kind == "bottleneck" else (),
        deeper=deeper.get(backbone, (1, 1, 4, 6, 4)),
        beam_completions=125,
    )


PRESETS: dict[str, CRNASPlan] = {
    "smoke": SMOKE,
    "tiny": TINY,
    "small": SMALL,
    "paper": paper_plan(),
    "paper-resnet18": paper_plan("resnet18"),
    "paper-resnet101": paper_plan("resnet101"),
    "paper-mobilenetv2": paper_plan("mobilenetv2"),
}
