"""The plans of CR-NAS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.data.loader import DataPlan
from workbench.methods import presets as common
from workbench.methods.plan import ClassifierPart, OneShotPart, Plan, RerankPart, ScoringPart
from workbench.methods.presets import COCO_IMAGES, COCO_TRAINABLE, FAST, GENTLE, IMAGENET_IMAGES, PHOTOS, PROBE
from workbench.networks.choices import Sharing
from workbench.spaces.allocation import allocation_space, centre_of_mass, depths_of, eligible
from workbench.spaces.residual import LAYOUTS
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class BeamPart:
    """How dilations are searched block by block (section 3.3.2, algorithm 1)."""

    width: int  # K prefixes survive a step
    completions: int  # random completions that score a prefix; at most one for each batch of images
    searched_blocks: int = 0  # only the last ones (0: all), for rehearsals; those before keep dilation 1
    prefix_memory: int = 2**30  # bytes that features of fixed prefixes may take; above it they are computed again


@dataclass(frozen=True, kw_only=True)
class CRNASPlan(Plan):
    """Everything that a CR-NAS run does, as numbers."""

    backbone: str  # a name of `residual.LAYOUTS`: what is compared in the end
    supernet_backbone: str  # the same network as wide as the supernets are; the paper halves the width
    budget: float  # nominal cost of an allocation: blocks, weighted for MobileNetV2
    other_budgets: tuple[float, ...]  # ranked by the same stage supernet, without training it again
    allocations: int = 0  # to rank, those nearest to the published layout (0: all of the budget)
    deeper: tuple[int, ...]  # the hand-made layout that moves blocks down without a search
    stages: OneShotPart  # the supernet of allocations
    branches: Sharing  # in it: separate blocks for every depth, or nested
    operations: OneShotPart  # the supernet of dilations
    kernels: Sharing  # in it: separate for every dilation, or shared
    beam: BeamPart


# Animals of four species, each told by its own shape: where a field decides little.
SPECIES = CRNASPlan(
    backbone="resnet-tiny",
    supernet_backbone="resnet-tiny",
    data=common.TINY_DATA,
    head=common.TINY_DETECTOR,
    classifier=replace(common.TINY_CLASSIFIER, recipe=replace(FAST, steps=150, batch_size=64, lr=4e-3)),
    stages=OneShotPart(
        pretrain=replace(FAST, steps=600, batch_size=32, lr=4e-3),
        finetune=replace(FAST, steps=700, lr=4e-3),
        aligned_options=True,
    ),
    branches="separate",
    operations=OneShotPart(
        pretrain=replace(FAST, steps=400, batch_size=32, lr=4e-3),
        finetune=replace(FAST, steps=500, lr=4e-3),
        aligned_options=True,
    ),
    kernels="separate",
    scoring=replace(common.TINY_SCORING, calibration_batch=16),
    finetune=replace(FAST, steps=500, lr=4e-3),
    macs_at=128,
    rerank=RerankPart(networks=5, share=0.15),
    random_networks=3,
    budget=8,
    other_budgets=(6, 10),
    deeper=(1, 2, 5),
    beam=BeamPart(width=3, completions=4),
)

TINY = replace(
    SPECIES,
    backbone="resnet-bottleneck-fine",
    supernet_backbone="resnet-bottleneck-fine",
    data=common.LADDER_DATA,
    head=common.LADDER_DETECTOR,
    classifier=common.LADDER_PROBE,
    # A path learns a part of the steps, so supernets have more of them than networks.
    stages=replace(SPECIES.stages, pretrain=replace(PROBE, steps=1200), finetune=replace(GENTLE, steps=900)),
    operations=replace(SPECIES.operations, pretrain=replace(PROBE, steps=1200), finetune=replace(GENTLE, steps=900)),
    finetune=GENTLE,
    rerank=None,  # dots are noticed after some hundred steps, so a short training tells nothing
    random_networks=1,
    budget=5,
    other_budgets=(4, 6),
    deeper=(1, 4),
)

_FEW = OneShotPart(
    pretrain=replace(FAST, steps=3, batch_size=8), finetune=replace(FAST, steps=3, batch_size=4), aligned_options=True
)
SMOKE = replace(
    SPECIES,
    data=common.SMOKE_DATA,
    classifier=common.SMOKE_CLASSIFIER,
    stages=_FEW,
    operations=_FEW,
    scoring=replace(common.SMOKE_SCORING, batch=4),
    finetune=replace(FAST, steps=2, batch_size=4),
    rerank=RerankPart(networks=2, share=0.5),
    random_networks=2,
    budget=5,
    other_budgets=(4,),
    deeper=(1, 1, 3),
    beam=BeamPart(width=2, completions=2),
)

SMALL = replace(
    SPECIES,
    backbone="resnet18-quarter",
    supernet_backbone="resnet18-quarter",
    data=replace(
        common.SMALL_DATA, crop_side=128
    ),  # with 96 px the last map is 3x3, where dilation 3 reads only padding
    head=common.SMALL_DETECTOR,
    classifier=replace(common.TINY_CLASSIFIER, recipe=replace(FAST, steps=300, batch_size=64, lr=4e-3)),
    stages=replace(SPECIES.stages, pretrain=replace(FAST, steps=1000, batch_size=32, lr=4e-3), finetune=PHOTOS),
    operations=replace(
        SPECIES.operations,
        pretrain=replace(FAST, steps=600, batch_size=32, lr=4e-3),
        finetune=replace(PHOTOS, steps=1500),
    ),
    scoring=ScoringPart(calibration_images=64, calibration_batch=16, batch=16),
    finetune=PHOTOS,
    macs_at=256,
    rerank=None,
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


DEVIATIONS = (
    "Box head: two linear layers on 2,000 proposals, which the printed FLOPs fit; the paper does not describe it.",
    "Smooth L1 of boxes turns straight at 1/9 and other details of the detector are torchvision's: not stated.",
    "ImageNet: 5 epochs of warm-up, DetNAS's augmentation, and the supernet's recipe for final networks: not stated.",
    "Warm-up in the detector is 500 steps: not stated.",
    "Images without objects are left out of training: not stated, and nothing in them can be trained.",
    "archtrain is train2017 without 5,000 images: the paper's 130,000 images are in no set of COCO.",
    "Candidates of a step of the beam share their random completions: not stated, and it takes chance out of the"
    " comparison.",
    "Batch norm is recalibrated on 500 images before a candidate is scored: not stated, but a supernet's own statistics"
    " mix all of its paths.",
)


def paper_plan(backbone: Literal["resnet18", "resnet50", "resnet101", "mobilenetv2"] = "resnet50") -> CRNASPlan:
    """The published numbers (section 4.1, appendix A): Faster R-CNN with a pyramid on COCO, schedule 1x.

    What the paper leaves open or what differs is in `deviations`. COCO steps are counted from the images of archtrain +
    archval that have objects, and from those of archtrain alone.
    """
    # "Weight decay 0.0001" names no exception for norms and biases; the originals train in full precision.
    plain: dict[str, Any] = {"decay_norm": True, "decay_bias": True, "amp": False}
    imagenet = Recipe(
        steps=150 * IMAGENET_IMAGES // 1024,
        batch_size=1024,
        lr=0.4,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=5 / 150,
        augment="classify",
        **plain,
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
            **plain,
        )

    layout = LAYOUTS[backbone]
    budget, kind = layout.budget(layout.depths), layout.stages[0].block.kind
    deeper = {"resnet18": (1, 1, 2, 4), "resnet50": (1, 3, 5, 7), "resnet101": (2, 3, 11, 17)}
    supernet = OneShotPart(
        pretrain=imagenet, finetune=coco(25, (16, 22), round(COCO_TRAINABLE * (1 - 5000 / COCO_IMAGES)))
    )
    return replace(
        SPECIES,
        backbone=backbone,
        supernet_backbone=backbone if backbone == "mobilenetv2" else f"{backbone}-half",
        data=DataPlan(image_side=0, crop_side=224, crops_whole=True, crops_search_share=0.0, split="crnas"),
        head=DetectorConfig(
            kind="faster_rcnn",
            image_size=(800, 1333),
            pyramid_levels=4,
            pyramid_extra="pool",
            pyramid_norm=True,
            anchor_scale=8.0,
            anchor_octaves=1,
            # What the FLOPs of table 1 fit: two linear layers on 2,000 proposals.
            head_convs=0,
            head_linears=2,
            candidates=2000,
        ),
        classifier=ClassifierPart(recipe=imagenet, hidden=0),
        stages=supernet,
        operations=supernet,
        scoring=ScoringPart(calibration_images=500, calibration_batch=4, batch=4),
        finetune=coco(13, (8, 11), COCO_TRAINABLE),
        macs_at=(800, 1088),  # as in the paper's tables
        rerank=None,
        random_networks=20,
        budget=budget,
        # Sums like those of R18, R50 and R101, ranked by one supernet of bottleneck blocks (section 3.2.1).
        other_budgets=tuple(sorted({8.0, 16.0, 33.0} - {budget})) if kind == "bottleneck" else (),
        deeper=deeper.get(backbone, (1, 1, 4, 6, 4)),
        beam=BeamPart(width=3, completions=5000 // 4),  # one for each batch of the 5,000 images
        deviations=DEVIATIONS,
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
