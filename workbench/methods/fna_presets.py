"""The plans of FNA and FNA++, one for each task.

`smoke` and `tiny` on generated scenes, `small` on hundreds of photographs, `paper` with the published numbers.
"""

from dataclasses import dataclass, replace
from typing import Any

from workbench.methods import detnas_presets as detnas
from workbench.methods.presets import DataPlan
from workbench.methods.task_data import TaskName
from workbench.spaces.costs import ImageSize
from workbench.spaces.layers import layer_space_name
from workbench.tasks.detection import DetectorConfig
from workbench.tasks.pose import PoseConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.alternating import AlternatingRecipe
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CostPenalty:
    """lambda * log(gamma * cost) / log(tau), cost in billions of MACs (section 4.1, step 5)."""

    strength: float  # lambda
    scale: float = 1.0  # gamma
    base: float = 10.0  # tau


@dataclass(frozen=True, kw_only=True)
class FNAPlan:
    """Everything that an FNA run does for one task, as numbers."""

    task: TaskName
    seed_network: str  # a name of `spaces.layers.seed_spec`
    depths: tuple[int, ...]  # layers of each searched stage of the supernet
    form: str  # ssd, os16, os8, or empty
    data: DataPlan
    head: DetectorConfig | SegmenterConfig | PoseConfig
    search: AlternatingRecipe
    penalty: CostPenalty
    temperature: float  # alpha is divided by it before the softmax
    finetune: Recipe  # of the found network and of everything it is compared with
    refresh_images: int  # images that batch-norm statistics are refreshed on before fine-tuning (0: as remapped)
    macs_at: ImageSize
    calibration_images: int
    calibration_batch: int
    scoring_batch: int
    random_networks: int

    @property
    def space(self) -> str:
        return layer_space_name(self.seed_network, self.depths, self.form)

    @property
    def detector(self) -> DetectorConfig | None:
        return self.head if isinstance(self.head, DetectorConfig) else None


_LITE: dict[str, Any] = {
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}  # EfficientNet-Lite0's own: x / 127.5 - 1
_FAST = replace(detnas.FAST, lr=2e-3)
_ALPHA = Recipe(steps=1, batch_size=8, lr=0.05, optimizer="adam", betas=(0.5, 0.999), weight_decay=1e-3,
                schedule="constant", warmup=0.0)  # fmt: skip

TINY_DETECTION = FNAPlan(
    task="detection",
    seed_network="efficientnet-lite0-front",
    depths=(3, 3, 4, 4),
    form="",
    data=replace(detnas.TINY.data, search_images=400),
    head=replace(detnas.TINY_DETECTOR, **_LITE),
    search=AlternatingRecipe(weights=replace(_FAST, steps=100), alpha=_ALPHA, epochs=10, warm_epochs=3, weight_steps=1),
    penalty=CostPenalty(strength=0.1),
    temperature=1.0,
    finetune=replace(_FAST, steps=120),
    refresh_images=0,
    macs_at=128,
    calibration_images=64,
    calibration_batch=32,
    scoring_batch=32,
    random_networks=1,
)
TINY_SEGMENTATION = replace(
    TINY_DETECTION,
    task="segmentation",
    form="os16",
    data=replace(detnas.TINY.data, search_images=400, test_images=200, sizes="large"),
    head=SegmenterConfig(channels=64, rates=(1, 2, 3), **_LITE),
)
TINY_POSE = replace(
    TINY_DETECTION,
    task="pose",
    data=replace(
        detnas.TINY.data, train_images=600, search_images=150, test_images=100, sizes="large",
        species=("fish", "shark", "ray", "turtle"),
    ),
    head=PoseConfig(crop=(128, 128), deconvolutions=2, channels=64, flip_test=False, **_LITE),
    # Scenes turn animals any way already, and mirroring would give an animal its other eye.
    search=AlternatingRecipe(
        weights=replace(_FAST, steps=100, augment="none"), alpha=_ALPHA, epochs=10, warm_epochs=3, weight_steps=1
    ),
    finetune=replace(_FAST, steps=120, augment="none"),
)  # fmt: skip


def _smoke(plan: FNAPlan) -> FNAPlan:
    few = {"train_images": 12, "search_images": 6, "test_images": 6}
    weights = replace(plan.search.weights, steps=4, batch_size=4)
    return replace(
        plan,
        depths=(2, 2, 3, 3),
        data=replace(plan.data, **few),  # type: ignore[arg-type]
        search=replace(plan.search, weights=weights, alpha=replace(_ALPHA, batch_size=2), epochs=2, warm_epochs=1),
        finetune=replace(plan.finetune, steps=3, batch_size=4),
        calibration_images=4,
        calibration_batch=4,
        scoring_batch=6,
    )


_PHOTOS = replace(detnas.PHOTOS, lr=1e-3)
SMALL_DETECTION = replace(
    TINY_DETECTION,
    seed_network="efficientnet-lite0",
    depths=(3, 3, 4, 4, 5, 1),
    data=replace(detnas.SMALL.data, search_share=0.4),
    head=replace(detnas.SMALL.detector, **_LITE),
    search=AlternatingRecipe(
        weights=replace(_PHOTOS, steps=300), alpha=replace(_ALPHA, batch_size=4), epochs=10, warm_epochs=4
    ),
    finetune=replace(_PHOTOS, steps=700),
    macs_at=(192, 256),
    calibration_batch=16,
    scoring_batch=16,
)
SMALL_SEGMENTATION = replace(
    SMALL_DETECTION,
    task="segmentation",
    form="os16",
    data=replace(SMALL_DETECTION.data, search_share=0.2, sizes="large"),  # the paper's 80 and 20
    head=SegmenterConfig(channels=96, rates=(2, 4, 6), **_LITE),
    search=replace(SMALL_DETECTION.search, weights=replace(_PHOTOS, steps=300, augment="flip")),
    finetune=replace(_PHOTOS, steps=700, augment="flip"),
    macs_at=(180, 240),
)
SMALL_POSE = replace(
    SMALL_DETECTION,
    task="pose",
    data=replace(TINY_POSE.data, image_side=128, search_share=0.2),
    head=PoseConfig(crop=(192, 144), channels=96, **_LITE),
    search=replace(SMALL_DETECTION.search, weights=replace(_PHOTOS, steps=300, augment="turn")),
    finetune=replace(_PHOTOS, steps=700, augment="turn"),
    macs_at=(192, 144),
)


def paper_plan(task: TaskName = "detection", *, ssdlite: bool = False, seed_network: str = "mobilenetv2") -> FNAPlan:
    """The published numbers (sections 2 to 5 of the specification), as the authors' code has them (section 4.2).

    Pose was published without settings: SimpleBaseline's recipe on COCO, with the search of the detector. What differs
    from the original code: weight steps see augmented pictures, too (pitfall P1); the cost of block 7 is counted once
    (P6); copied statistics keep the seed's eps (P5); alpha of SSDLite sees no repeated data, its length is in steps;
    the search on Cityscapes crops from pictures of full size, and they are scored whole, not in windows of 769.
    """
    if task == "segmentation":
        return _paper_segmentation(seed_network)
    if task == "pose":
        return _paper_pose(seed_network)
    return _paper_ssdlite(seed_network) if ssdlite else _paper_detection(seed_network)


_PAPER_ALPHA = Recipe(steps=1, batch_size=8, lr=3e-4, optimizer="adam", betas=(0.5, 0.999), weight_decay=1e-3,
                      schedule="constant", warmup=0.0, clip_norm=35.0, augment="flip")  # fmt: skip
_COCO_HALF = 118_287 // 2  # images in each half of train2017
_NONE = DataPlan(image_side=0, crop_side=224, search_share=0.5)


def _depths(seed_network: str, mobile: tuple[int, ...]) -> tuple[int, ...]:
    """Layers of the supernet's stages; those of a ResNet are ours: one more than ResNet-50 has."""
    return mobile if not seed_network.startswith("resn") else (4, 5, 7, 4)


def _paper_detection(seed_network: str) -> FNAPlan:
    steps, tuned = 14 * _COCO_HALF // 8, 12 * 118_287 // 32
    return replace(
        TINY_DETECTION,
        seed_network=seed_network,
        depths=_depths(seed_network, (4, 4, 4, 4, 4, 1)),
        data=_NONE,
        head=DetectorConfig(
            image_size=(800, 1333), pyramid_extra="c5p6p7", box_loss="smooth_l1", score_threshold=0.05
        ),
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps, batch_size=8, lr=0.02, schedule="step", milestones=(8 / 14, 11 / 14),
                warmup=500 / steps, clip_norm=35.0, augment="flip",
            ),
            alpha=_PAPER_ALPHA,
            epochs=14,
            warm_epochs=8,
        ),
        penalty=CostPenalty(strength=0.02),
        finetune=Recipe(
            steps=tuned, batch_size=32, lr=0.05, weight_decay=5e-5, schedule="step", milestones=(8 / 12, 11 / 12),
            warmup=500 / tuned, clip_norm=35.0, augment="flip",
        ),
        macs_at=(800, 1088),
        calibration_images=500,
        calibration_batch=4,
        scoring_batch=4,
        random_networks=3,
    )  # fmt: skip


def _paper_ssdlite(seed_network: str) -> FNAPlan:
    steps, tuned = 30 * 5 * _COCO_HALF // 128, 60 * 5 * 118_287 // 512
    common: dict[str, Any] = {"optimizer": "rmsprop", "eps": 1.0, "weight_decay": 4e-5, "schedule": "step"}
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
        calibration_batch=64,
        scoring_batch=64,
    )  # fmt: skip


def _paper_segmentation(seed_network: str) -> FNAPlan:
    steps = 80 * (2975 * 4 // 5) // 16
    return replace(
        _paper_detection(seed_network),
        task="segmentation",
        form="os16",
        depths=_depths(seed_network, (4, 4, 6, 6, 4, 1)),
        data=DataPlan(image_side=0, crop_side=224, search_share=0.2),
        head=SegmenterConfig(),
        search=AlternatingRecipe(
            weights=Recipe(
                steps=steps, batch_size=16, lr=0.02, weight_decay=5e-4, schedule="cosine", cosine_floor=0.05,
                warmup=5 / 80, warmup_factor=1e-4 / 0.02, augment="scale", crop_side=321,
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
            augment="scale", crop_side=769,
        ),
        refresh_images=2000 * 16,
        macs_at=(1024, 2048),
    )  # fmt: skip


def _paper_pose(seed_network: str) -> FNAPlan:
    bodies = 149_813  # with joints, in COCO's train2017
    detection = _paper_detection(seed_network)
    steps = 14 * (bodies // 2) // 64
    weights = Recipe(steps=steps, batch_size=64, lr=1e-3, optimizer="adam", schedule="step", augment="turn")
    return replace(
        detection,
        task="pose",
        head=PoseConfig(),
        search=replace(detection.search, weights=weights, alpha=replace(_PAPER_ALPHA, batch_size=64, augment="turn")),
        finetune=Recipe(
            steps=140 * bodies // 128, batch_size=128, lr=1e-3, optimizer="adam", weight_decay=0.0, schedule="step",
            milestones=(90 / 140, 120 / 140), warmup=0.0, augment="turn",
        ),
        macs_at=(256, 192),
        calibration_batch=64,
        scoring_batch=64,
    )  # fmt: skip


PRESETS: dict[str, dict[TaskName, FNAPlan]] = {
    "smoke": {plan.task: _smoke(plan) for plan in (TINY_DETECTION, TINY_SEGMENTATION, TINY_POSE)},
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
