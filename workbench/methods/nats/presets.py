"""The plans of NATS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.data.loader import DataPlan
from workbench.data.splits import TRAIN2017, VALMINUSMINIVAL
from workbench.methods import presets as common
from workbench.methods.crnas import presets as crnas
from workbench.methods.plan import Plan, ScoringPart, one_of
from workbench.methods.presets import FAST, PHOTOS
from workbench.networks.dilation_mixture import Implementation
from workbench.spaces.channel_dilation import Slicing, channel_dilation_name
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class NATSPlan(Plan):
    """Everything that a NATS run does, as numbers; `classifier` trains the seed network where no weights are given."""

    backbone: str  # a name of `residual.LAYOUTS`
    groups: str  # n16: groups of channels in each layer; c32: channels in each group
    dilations: str  # set of dilations, A, B or C (section 4.3)
    kernels: Literal["replicated", "shared"]  # of the search: a copy for each dilation as in the paper, or one for all
    slicing: Slicing  # how pretrained kernels are cut (section 3.4)
    implementation: Implementation | Literal["auto", "measured"]  # of the mixture; auto: by a rule of the layer
    search: AlternatingRecipe
    transfer: DetectorConfig  # the detector that the found network is moved to
    transfer_finetune: Recipe

    @property
    def space(self) -> str:
        return channel_dilation_name(self.backbone, self.groups, self.dilations)


ALPHA = Recipe(steps=1, batch_size=16, lr=0.04, optimizer="adam", weight_decay=1e-5, schedule="constant", warmup=0.0)

TINY = NATSPlan(
    backbone="resnet-bottleneck-tiny",
    groups="n16",
    dilations="C",
    kernels="replicated",
    slicing="contiguous",
    implementation="auto",
    data=replace(common.TINY_DATA, search_images=400),
    head=common.TINY_DETECTOR,
    classifier=replace(common.TINY_CLASSIFIER, recipe=replace(FAST, steps=200, batch_size=64, lr=4e-3)),
    search=AlternatingRecipe(weights=replace(FAST, steps=240, lr=4e-3), alpha=ALPHA, epochs=8, warm_epochs=3),
    scoring=common.TINY_SCORING,
    finetune=replace(FAST, steps=400, lr=4e-3),
    transfer=replace(common.TINY_DETECTOR, kind="faster_rcnn", pyramid_extra="pool"),
    transfer_finetune=replace(FAST, steps=100, batch_size=8, lr=4e-3),
    macs_at=128,
    random_networks=1,
)

SMOKE = replace(
    TINY,
    groups="n4",
    data=common.SMOKE_DATA,
    classifier=common.SMOKE_CLASSIFIER,
    search=AlternatingRecipe(
        weights=replace(FAST, steps=4, batch_size=4), alpha=replace(ALPHA, batch_size=4), epochs=2, warm_epochs=1
    ),
    scoring=replace(common.SMOKE_SCORING, batch=4),
    finetune=replace(FAST, steps=2, batch_size=4),
    transfer_finetune=replace(FAST, steps=1, batch_size=2),
    random_networks=1,
)

SMALL = replace(
    TINY,
    backbone="resnet26-quarter",
    groups="n16",
    data=replace(common.SMALL_DATA, crop_side=128, search_share=0.3),  # the paper's halves are 83,000 and 35,000 images
    head=common.SMALL_DETECTOR,
    classifier=replace(common.TINY_CLASSIFIER, recipe=replace(FAST, steps=800, batch_size=64, lr=4e-3)),
    search=AlternatingRecipe(
        weights=replace(PHOTOS, steps=800), alpha=replace(ALPHA, batch_size=8), epochs=10, warm_epochs=4
    ),
    scoring=ScoringPart(calibration_images=64, calibration_batch=16, batch=16),
    finetune=replace(PHOTOS, steps=1500),
    transfer=replace(common.SMALL_DETECTOR, kind="faster_rcnn", pyramid_extra="pool"),
    transfer_finetune=replace(PHOTOS, steps=500),
    macs_at=256,
)


DEVIATIONS = (
    "Box head: two linear layers on 2,000 proposals, as in CR-NAS's plan; the paper describes no head.",
    "The search's images have the size of retraining, short side 800 and long side up to 1333; the paper has 800x1200.",
    "Images without objects are in neither half and not in retraining: not stated, and nothing in them can be trained.",
    "Alpha begins at zero and has one step for each of the weights, with first-order gradients and Adam's own betas:"
    " not stated.",
    "Learning rates of the search are per image, and warm-up is 500 steps: stated for retraining only.",
    "Batch norm is synchronised over GPUs in the search, too: not stated, and one image is no batch.",
    "Retraining takes batches of 16 images: not stated, CR-NAS has 16.",
    "The derived network of every epoch is scored on alpha's half: ours, to have a trajectory; it changes no training.",
)


def paper_plan(backbone: Literal["resnet50", "resnet101", "resnext101"] = "resnet50") -> NATSPlan:
    """The published numbers (section 4): Faster R-CNN with a pyramid on COCO.

    N = 16 for ResNet-50, C = 32 for the deeper networks (tables 2 and 4). What the paper leaves open or what differs is
    in `deviations`. Give `torchvision` as `seed_weights`; else the seed is pre-trained by the recipe of CR-NAS.
    """
    base = crnas.paper_plan()
    steps = 25 * (TRAIN2017 - VALMINUSMINIVAL) // 8
    return replace(
        TINY,
        backbone=backbone,
        groups="n16" if backbone == "resnet50" else "c32",
        data=DataPlan(image_side=0, crop_side=224, crops_whole=True, crops_search_share=0.0, split="nats"),
        head=base.head,
        classifier=base.classifier,
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps,
                batch_size=8,
                lr=0.00125 * 8,
                weight_decay=1e-4,
                schedule="cosine",
                cosine_floor=0.00005 / 0.00125,
                warmup=500 / steps,
                augment="flip",
                decay_norm=True,  # the paper names no exception
                decay_bias=True,
                amp=False,
            ),
            alpha=replace(ALPHA, batch_size=8, lr=0.01, augment="flip", amp=False),
            epochs=25,
            warm_epochs=10,
        ),
        scoring=ScoringPart(calibration_images=500, calibration_batch=4, batch=4),
        finetune=base.finetune,
        transfer=DetectorConfig(image_size=(800, 1333)),  # RetinaNet (table 6)
        transfer_finetune=replace(base.finetune, lr=0.01),  # RetinaNet's usual rate; the paper states none
        macs_at=(800, 1088),
        random_networks=3,
        deviations=DEVIATIONS,
    )


PRESETS: dict[str, NATSPlan] = {
    "smoke": SMOKE,
    "tiny": TINY,
    "small": SMALL,
    "paper": paper_plan(),
    "paper-resnet101": paper_plan("resnet101"),
    "paper-resnext101": paper_plan("resnext101"),
}


def with_options(
    plan: NATSPlan, *, backbone: str, space: str, kernels: str, slicing: str, warm_epochs: int
) -> NATSPlan:
    """The plan with a notebook's own parameters in place of the preset's; empty texts and -1 leave it as it is.

    `space` names groups and dilation set, such as "n16-C" (16 groups in each layer) or "c4-B" (4 channels in each
    group); whether they fit the channels is the space's to say. ValueError for a value that none of them may have.
    """
    changes: dict[str, Any] = {}
    if backbone:
        changes["backbone"] = backbone
    if space:
        groups, _, dilations = space.partition("-")
        changes |= {"groups": groups, "dilations": dilations}
        if not re.fullmatch(r"[nc]\d+", groups) or dilations not in ("A", "B", "C"):
            raise ValueError(
                "The parameter space is n16-C (16 groups in each layer, dilation set C), c4-B (4 channels in each"
                f" group, set B) or the like; got {space!r}."
            )
    if kernels:
        changes["kernels"] = one_of("kernels", kernels, ("replicated", "shared"))
    if slicing:
        changes["slicing"] = one_of("slicing", slicing, ("contiguous", "index"))
    if warm_epochs < -1:
        raise ValueError(f"warm_epochs is -1 (as the preset says) or a number of epochs; got {warm_epochs}.")
    if warm_epochs >= 0:
        changes["search"] = replace(plan.search, warm_epochs=warm_epochs)
    return replace(plan, **changes)
