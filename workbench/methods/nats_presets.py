"""The plans of NATS.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.methods import crnas_presets as crnas
from workbench.methods import detnas_presets as detnas
from workbench.methods.presets import ClassifierPlan, DataPlan, one_of
from workbench.networks.dilation_mixture import Implementation, Kernels
from workbench.spaces.channel_dilation import Reading, channel_dilation_name
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class NATSPlan(ClassifierPlan):
    """Everything that a NATS run does, as numbers; `pretrain` is for the seed network, where no weights are given."""

    backbone: str  # a name of `residual.LAYOUTS`
    groups: str  # n16: groups of channels in each layer; c32: channels in each group
    genotypes: str  # set of dilations, A, B or C (section 4.3)
    kernels: Kernels  # of the search: a copy for each dilation as in the paper, or one for all
    reading: Reading  # how pretrained kernels are cut (section 3.4)
    implementation: Implementation | Literal["auto", "measured"]  # of the mixture; auto: by a rule of the layer
    search: AlternatingRecipe
    transfer: DetectorConfig  # the detector that the found network is moved to
    transfer_finetune: Recipe

    @property
    def space(self) -> str:
        return channel_dilation_name(self.backbone, self.groups, self.genotypes)


_FAST = detnas.FAST
_ALPHA = Recipe(steps=1, batch_size=16, lr=0.04, optimizer="adam", weight_decay=1e-5, schedule="constant", warmup=0.0)

TINY = NATSPlan(
    backbone="resnet-bottleneck-tiny",
    groups="n16",
    genotypes="C",
    kernels="replicated",
    reading="contiguous",
    implementation="auto",
    data=replace(detnas.TINY.data, search_images=400),
    detector=detnas.TINY_DETECTOR,
    pretrain=replace(_FAST, steps=200, batch_size=64, lr=4e-3),
    search=AlternatingRecipe(weights=replace(_FAST, steps=240, lr=4e-3), alpha=_ALPHA, epochs=8, warm_epochs=3),
    finetune=replace(_FAST, steps=400, lr=4e-3),
    transfer=replace(detnas.TINY_DETECTOR, kind="faster_rcnn", pyramid_extra="pool"),
    transfer_finetune=replace(_FAST, steps=100, batch_size=8, lr=4e-3),
    classifier_hidden=128,
    classifier_dropout=0.0,
    label_smoothing=0.1,
    image_mean=(0.485, 0.456, 0.406),
    image_std=(0.229, 0.224, 0.225),
    macs_at=128,
    fitness="AP",
    calibration_images=64,
    calibration_batch=32,
    scoring_batch=32,
    random_networks=1,
)

SMOKE = replace(
    TINY,
    groups="n4",
    data=detnas.SMOKE.data,
    pretrain=replace(_FAST, steps=2, batch_size=8),
    search=AlternatingRecipe(
        weights=replace(_FAST, steps=4, batch_size=4), alpha=replace(_ALPHA, batch_size=4), epochs=2, warm_epochs=1
    ),
    finetune=replace(_FAST, steps=2, batch_size=4),
    transfer_finetune=replace(_FAST, steps=1, batch_size=2),
    calibration_images=8,
    calibration_batch=4,
    scoring_batch=4,
    random_networks=1,
)

SMALL = replace(
    TINY,
    backbone="resnet26-quarter",
    data=replace(detnas.SMALL.data, search_share=0.3),  # the paper's halves are 83,000 and 35,000 images
    detector=detnas.SMALL.detector,
    pretrain=replace(_FAST, steps=800, batch_size=64, lr=4e-3),
    search=AlternatingRecipe(
        weights=replace(detnas.PHOTOS, steps=800), alpha=replace(_ALPHA, batch_size=8), epochs=10, warm_epochs=4
    ),
    finetune=replace(detnas.PHOTOS, steps=1500),
    transfer=replace(detnas.SMALL.detector, kind="faster_rcnn", pyramid_extra="pool"),
    transfer_finetune=replace(detnas.PHOTOS, steps=500),
    macs_at=256,
    calibration_batch=16,
    scoring_batch=16,
)


def paper_plan(backbone: Literal["resnet50", "resnet101", "resnext101"] = "resnet50") -> NATSPlan:
    """The published numbers (sections 5 and 8 of the specification): Faster R-CNN with a pyramid on COCO.

    The detector is that of CR-NAS, its sister paper (short side 800, batch norm in the pyramid and the 4conv1fc box
    head); this paper's search input of 800x1200 and its heads are not described further.
    N = 16 for ResNet-50, C = 32 for the deeper networks (tables 2 and 4). The halves are cut from train2017, 83 to 35,
    so that minival stays unseen. What the paper leaves open is set as section 14 recommends: alpha starts at zero, one
    step of alpha for each of the weights, first order, learning rates per image, 500 steps of warm-up, Adam's own
    betas. Give torchvision's ImageNet weights as `seed_weights`; else the seed is pre-trained by the recipe of CR-NAS.
    """
    base = crnas.paper_plan()
    images = round(118_287 * 83 / 118)
    steps = 25 * images // 8
    return replace(
        TINY,
        backbone=backbone,
        groups="n16" if backbone == "resnet50" else "c32",
        data=DataPlan(image_side=0, crop_side=224, crops_search_share=0.0, search_share=35 / 118),
        detector=base.detector,
        pretrain=base.pretrain,
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
            ),
            alpha=replace(_ALPHA, batch_size=8, lr=0.01, augment="flip"),
            epochs=25,
            warm_epochs=10,
        ),
        finetune=base.finetune,
        transfer=DetectorConfig(image_size=(800, 1333)),  # RetinaNet (table 6)
        transfer_finetune=replace(base.finetune, lr=0.01),  # RetinaNet's usual rate; the paper states none
        classifier_hidden=base.classifier_hidden,
        label_smoothing=base.label_smoothing,
        macs_at=(800, 1088),
        calibration_images=500,
        calibration_batch=4,
        scoring_batch=4,
        random_networks=3,
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
    plan: NATSPlan, *, backbone: str, space: str, kernels: str, reading: str, warm_epochs: int
) -> NATSPlan:
    """The plan with a notebook's own parameters in place of the preset's; empty texts and -1 leave it as it is.

    `space` names groups and genotype set, such as "n16-C" (16 groups in each layer) or "c4-B" (4 channels in each
    group); whether they fit the channels is the space's to say. ValueError for a value that none of them may have.
    """
    changes: dict[str, Any] = {}
    if backbone:
        changes["backbone"] = backbone
    if space:
        groups, _, genotypes = space.partition("-")
        changes |= {"groups": groups, "genotypes": genotypes}
        if not re.fullmatch(r"[nc]\d+", groups) or genotypes not in ("A", "B", "C"):
            raise ValueError(
                "The parameter space is n16-C (16 groups in each layer, genotype set C), c4-B (4 channels in each"
                f" group, set B) or the like; got {space!r}."
            )
    if kernels:
        changes["kernels"] = one_of("kernels", kernels, ("replicated", "shared"))
    if reading:
        changes["reading"] = one_of("reading", reading, ("contiguous", "index"))
    if warm_epochs < -1:
        raise ValueError(f"warm_epochs is -1 (as the preset says) or a number of epochs; got {warm_epochs}.")
    if warm_epochs >= 0:
        changes["search"] = replace(plan.search, warm_epochs=warm_epochs)
    return replace(plan, **changes)
