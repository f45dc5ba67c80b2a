"""What a plan of FNA says, and our own plans for each task: `smoke` and `tiny` on scenes, `small` on photographs."""

from dataclasses import dataclass, replace
from typing import Any

from workbench.data.loader import TaskName
from workbench.methods import detnas_presets as detnas
from workbench.methods.presets import MethodPlan
from workbench.spaces.layers import layer_space_name
from workbench.tasks.detection import DetectorConfig
from workbench.tasks.pose import PoseConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class CostPenalty:
    """lambda * log(gamma * cost) / log(tau), cost in billions of MACs (section 4.1, step 5)."""

    strength: float  # lambda
    scale: float = 1.0  # gamma
    base: float = 10.0  # tau


@dataclass(frozen=True, kw_only=True)
class FNAPlan(MethodPlan):
    """Everything that an FNA run does for one task, as numbers."""

    task: TaskName
    seed_network: str  # a name of `spaces.layers.seed_spec`
    depths: tuple[int, ...]  # layers of each searched stage of the supernet
    form: str  # ssd, os16, os8, or empty
    head: DetectorConfig | SegmenterConfig | PoseConfig
    search: AlternatingRecipe
    penalty: CostPenalty
    temperature: float  # alpha is divided by it before the softmax
    affine: bool  # batch norm of the searched layers keeps scale, shift and statistics (the paper's does not)
    refresh_images: int  # images that batch-norm statistics are refreshed on before fine-tuning (0: as remapped)

    @property
    def space(self) -> str:
        return layer_space_name(self.seed_network, self.depths, self.form)

    @property
    def detector(self) -> DetectorConfig | None:
        return self.head if isinstance(self.head, DetectorConfig) else None


# What a seed's weights were trained with: EfficientNet-Lite0 with x / 127.5 - 1.
LITE_INPUT: dict[str, Any] = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
IMAGENET_INPUT: dict[str, Any] = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_FAST = replace(detnas.FAST, lr=2e-3)
_ALPHA = Recipe(steps=1, batch_size=8, lr=0.05, optimizer="adam", betas=(0.5, 0.999), weight_decay=1e-3,
                schedule="constant", warmup=0.0)  # fmt: skip

TINY_DETECTION = FNAPlan(
    task="detection",
    seed_network="efficientnet-lite0-front",
    depths=(3, 3, 4, 4),
    form="",
    data=replace(detnas.TINY.data, search_images=400),
    head=replace(detnas.TINY_DETECTOR, **LITE_INPUT),
    search=AlternatingRecipe(weights=replace(_FAST, steps=100), alpha=_ALPHA, epochs=10, warm_epochs=5),
    penalty=CostPenalty(strength=0.02),
    temperature=1.0,
    affine=True,
    finetune=replace(_FAST, steps=240),
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
    head=SegmenterConfig(channels=64, rates=(1, 2, 3), **LITE_INPUT),
    finetune=replace(_FAST, steps=120),
)
TINY_POSE = replace(
    TINY_DETECTION,
    task="pose",
    data=replace(
        detnas.TINY.data, train_images=600, search_images=150, test_images=100, sizes="large",
        species=("fish", "shark", "ray", "turtle"), pose_crop=(128, 128),
    ),
    head=PoseConfig(deconvolutions=2, channels=64, flip_test=False, **LITE_INPUT),
    # Scenes turn animals any way already, and mirroring would give an animal its other eye.
    search=AlternatingRecipe(
        weights=replace(_FAST, steps=100, augment="none"), alpha=_ALPHA, epochs=10, warm_epochs=5
    ),
    finetune=replace(_FAST, steps=120, augment="none"),
)  # fmt: skip


def smoke(plan: FNAPlan) -> FNAPlan:
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
    head=replace(detnas.SMALL.detector, **LITE_INPUT),
    search=AlternatingRecipe(
        weights=replace(_PHOTOS, steps=150), alpha=replace(_ALPHA, batch_size=4), epochs=10, warm_epochs=4
    ),
    finetune=replace(_PHOTOS, steps=400),
    macs_at=(192, 256),
    calibration_batch=16,
    scoring_batch=16,
)
SMALL_SEGMENTATION = replace(
    SMALL_DETECTION,
    task="segmentation",
    form="os16",
    data=replace(SMALL_DETECTION.data, search_share=0.2, sizes="large"),  # the paper's 80 and 20
    head=SegmenterConfig(channels=96, rates=(2, 4, 6), **LITE_INPUT),
    search=replace(SMALL_DETECTION.search, weights=replace(_PHOTOS, steps=150, augment="flip")),
    finetune=replace(_PHOTOS, steps=250, augment="flip"),
    macs_at=(180, 240),
)
SMALL_POSE = replace(
    SMALL_DETECTION,
    task="pose",
    data=replace(TINY_POSE.data, image_side=128, search_share=0.2, pose_crop=(192, 144)),
    head=PoseConfig(channels=96, **LITE_INPUT),
    search=replace(SMALL_DETECTION.search, weights=replace(_PHOTOS, steps=150, augment="turn")),
    finetune=replace(_PHOTOS, steps=250, augment="turn"),
    macs_at=(192, 144),
)
