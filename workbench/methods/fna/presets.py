"""The plans of FNA and FNA++ for each task: `smoke` and `tiny` on scenes, `small` on photographs, and their options."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.data.loader import TaskName
from workbench.data.scenes.scene import SceneConfig
from workbench.methods import presets as common
from workbench.methods.plan import CostPenalty, Plan, ScoringPart, one_of
from workbench.methods.presets import FAST, IMAGENET_INPUT, LITE_INPUT, PHOTOS
from workbench.spaces.layers import layer_space_name, searched_stages, seed_spec
from workbench.tasks.pose import PoseConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class FNAPlan(Plan):
    """Everything that an FNA run does for one task, as numbers."""

    task: TaskName
    seed_network: str  # a name of `spaces.layers.seed_spec`
    depths: tuple[int, ...]  # layers of each searched stage of the supernet
    form: str  # ssd, os16, os8, or empty
    search: AlternatingRecipe
    penalty: CostPenalty
    temperature: float  # alpha is divided by it before the softmax
    affine: bool  # batch norm of the searched layers keeps scale, shift and statistics (the paper's does not)
    refresh_images: int  # images that batch-norm statistics are refreshed on before fine-tuning (0: as remapped)

    @property
    def space(self) -> str:
        return layer_space_name(self.seed_network, self.depths, self.form)


_FAST = replace(FAST, lr=2e-3)
_ALPHA = Recipe(steps=1, batch_size=8, lr=0.05, optimizer="adam", betas=(0.5, 0.999), weight_decay=1e-3,
                schedule="constant", warmup=0.0)  # fmt: skip
_SEARCH = AlternatingRecipe(weights=replace(_FAST, steps=100), alpha=_ALPHA, epochs=10, warm_epochs=5)
_LARGE = replace(common.TINY_DATA.scenes, sizes="large")

TINY_DETECTION = FNAPlan(
    task="detection",
    seed_network="efficientnet-lite0-front",
    depths=(3, 3, 4, 4),
    form="",
    data=replace(common.TINY_DATA, search_images=400),
    head=replace(common.TINY_DETECTOR, **LITE_INPUT),
    # Remapped operations begin as nearly one function, so alpha hardly decides: entropy 0.94, and 0.93 with lr 0.6.
    search=replace(_SEARCH, weights=replace(_FAST, steps=150), alpha=replace(_ALPHA, lr=0.2), warm_epochs=4),
    penalty=CostPenalty(strength=0.02),
    temperature=1.0,
    affine=True,
    # The seed need not relearn: the found network is 0.025 AP behind after 240 steps, not after 480 (seed 100).
    finetune=replace(_FAST, steps=480),
    refresh_images=0,
    macs_at=128,
    scoring=common.TINY_SCORING,
    random_networks=1,
)
TINY_SEGMENTATION = replace(
    TINY_DETECTION,
    task="segmentation",
    form="os16",
    data=replace(common.TINY_DATA, search_images=400, test_images=200, scenes=_LARGE),
    head=SegmenterConfig(channels=64, rates=(1, 2, 3), **LITE_INPUT),
    search=_SEARCH,
    finetune=replace(_FAST, steps=120),
)
TINY_POSE = replace(
    TINY_DETECTION,
    task="pose",
    data=replace(
        common.TINY_DATA, train_images=600, search_images=150, test_images=100,
        scenes=SceneConfig(species=("fish", "shark", "ray", "turtle"), sizes="large"), pose_crop=(128, 128),
    ),
    head=PoseConfig(deconvolutions=2, channels=64, flip_test=False, **LITE_INPUT),
    # Scenes turn animals any way already, and mirroring would give an animal its other eye.
    search=replace(_SEARCH, weights=replace(_SEARCH.weights, augment="none")),
    finetune=replace(_FAST, steps=120, augment="none"),
)  # fmt: skip


def smoke(plan: FNAPlan) -> FNAPlan:
    few: Any = {"train_images": 12, "search_images": 6, "test_images": 6}
    weights = replace(plan.search.weights, steps=4, batch_size=4)
    return replace(
        plan,
        depths=(2, 2, 3, 3),
        data=replace(plan.data, **few),
        search=replace(plan.search, weights=weights, alpha=replace(_ALPHA, batch_size=2), epochs=2, warm_epochs=1),
        finetune=replace(plan.finetune, steps=3, batch_size=4),
        scoring=ScoringPart(calibration_images=4, calibration_batch=4, batch=6),
    )


_PHOTOS = replace(PHOTOS, lr=1e-3)
SMALL_DETECTION = replace(
    TINY_DETECTION,
    seed_network="efficientnet-lite0",
    depths=(3, 3, 4, 4, 5, 1),
    data=replace(common.SMALL_DATA, search_share=0.4),
    head=replace(common.SMALL_DETECTOR, **LITE_INPUT),
    search=AlternatingRecipe(
        weights=replace(_PHOTOS, steps=150), alpha=replace(_ALPHA, batch_size=4), epochs=10, warm_epochs=4
    ),
    finetune=replace(_PHOTOS, steps=400),
    macs_at=(192, 256),
    scoring=ScoringPart(calibration_images=64, calibration_batch=16, batch=16),
)
SMALL_SEGMENTATION = replace(
    SMALL_DETECTION,
    task="segmentation",
    form="os16",
    data=replace(SMALL_DETECTION.data, search_share=0.2, scenes=SceneConfig(sizes="large")),  # the paper's 80 and 20
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


def two_tasks(names: Sequence[str]) -> list[TaskName]:
    """Segmentation, pose or both, in that order; ValueError for anything else."""
    allowed: tuple[TaskName, ...] = ("segmentation", "pose")
    if not names or set(names) - set(allowed) or len(set(names)) < len(names):
        raise ValueError(f"tasks are one or both of {', '.join(allowed)}, each once; got {list(names)}.")
    return [task for task in allowed if task in names]


def with_options(
    plan: FNAPlan, *, seed_network: str = "", depths: str = "", strength: float = -1.0, plain_norm: str = ""
) -> FNAPlan:
    """The plan with a notebook's own parameters in place of the preset's; empty texts and -1 leave it as it is.

    Another seed also brings the normalisation of images that its weights were trained with, and without `depths` one
    layer more than it has in every stage of several. ValueError for a value that none of them may have; whether a space
    exists is `check_plan`'s to say.
    """
    changes: dict[str, Any] = {}
    if seed_network and seed_network != plan.seed_network:
        trained_like_lite = seed_network.startswith("efficientnet-lite0") or seed_network.endswith("-tf")
        inputs = LITE_INPUT if trained_like_lite else IMAGENET_INPUT
        changes |= {"seed_network": seed_network, "head": replace(plan.head, **inputs)}
        changes["depths"] = _one_more(seed_network)
    if depths:
        if not re.fullmatch(r"\d+(\.\d+)*", depths):
            raise ValueError(
                f"depths are layers of each searched stage with dots between, such as 3.3.4.4; got {depths!r}."
            )
        changes["depths"] = tuple(int(depth) for depth in depths.split("."))
    if strength < 0 and strength != -1:
        raise ValueError(f"strength is -1 (as the preset says) or lambda, from 0 on; got {strength:g}.")
    if strength >= 0:
        changes["penalty"] = replace(plan.penalty, strength=strength)
    if plain_norm:
        changes["affine"] = one_of("plain_norm", plain_norm, ("affine", "plain")) == "affine"
    return replace(plan, **changes)


def _one_more(seed_network: str) -> tuple[int, ...]:
    spec = seed_spec(seed_network)
    layers = [sum(block.stage == stage for block in spec.blocks) for stage in searched_stages(spec)]
    return tuple(count + (count > 1) for count in layers)
