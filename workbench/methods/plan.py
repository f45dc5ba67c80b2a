"""What a plan says, in parts: frozen values that a preset fills and single parameters of a notebook override."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import DataPlan
from workbench.methods.rehearsal import REHEARSAL, rehearsed
from workbench.spaces.costs import ImageSize
from workbench.tasks.detection import DetectorConfig
from workbench.tasks.pose import PoseConfig
from workbench.tasks.probe import ProbeConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class ClassifierPart:
    """How a backbone is trained as a classifier before it goes into a detector; the head on top is DetNAS's."""

    recipe: Recipe
    hidden: int = 1024  # channels of the convolution before the linear layer; 0: none, as in a ResNet
    dropout: float = 0.0
    label_smoothing: float = 0.0
    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD


@dataclass(frozen=True, kw_only=True)
class ScoringPart:
    """How a candidate is scored by inherited weights: batch norm recalibrated on training images, then measured."""

    calibration_images: int
    calibration_batch: int
    batch: int = 32


@dataclass(frozen=True, kw_only=True)
class OneShotPart:
    """How a supernet is trained path by path: as a classifier, then in the detector."""

    pretrain: Recipe
    finetune: Recipe
    aligned_options: bool = False  # start the options of a decision as one function (ours, for short trainings)
    paths: Literal["uniform", "fair"] = "uniform"  # of a step; the sandwich needs logits, which detectors have not
    averaged: int = 0  # the weights are the mean of so many of the last quarter (0: the last ones)


@dataclass(frozen=True, kw_only=True)
class RerankPart:
    """How the best networks of a search are trained on their own before one of them is kept (ours)."""

    networks: int  # as many random ones are trained alike
    share: float  # of the steps of a full training, pre-training and fine-tuning


@dataclass(frozen=True, kw_only=True)
class CostPenalty:
    """The cost loss lambda * log(gamma * cost) / log(tau), cost in billions of MACs (FNA)."""

    strength: float  # lambda
    scale: float = 1.0  # gamma
    base: float = 10.0  # tau


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the plan of every method says."""

    data: DataPlan
    head: DetectorConfig | SegmenterConfig | PoseConfig | ProbeConfig
    classifier: ClassifierPart | None = None  # pre-training; without it networks begin with random or given weights
    fitness: Literal["AP", "AP50"] = "AP"  # of detectors, by which they are scored
    scoring: ScoringPart
    finetune: Recipe  # of the found network and of everything it is compared with
    macs_at: ImageSize  # at which MACs are stated
    random_networks: int  # unscored ones among the controls
    frozen_control: bool = False  # also train the head on a frozen random backbone
    timings: int = 9  # repeats of what a notebook times, at most
    rerank: RerankPart | None = None  # None: the search's best is taken, as in the papers
    deviations: tuple[str, ...] = ()  # of a paper's plan from the paper, each with its reason


def preset_named(presets: Mapping[str, Any], name: str) -> Any:
    """The preset of that name, or its rehearsal (`rehearsal.REHEARSAL`); ValueError lists the names there are."""
    whole = name.removesuffix(REHEARSAL)
    if whole not in presets:
        near = get_close_matches(whole, presets, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A preset is one of {', '.join(presets)}; got {name!r}.{hint}")
    return presets[name] if whole == name else rehearsed(presets[whole])


def shortened(plan: Any, max_steps: int) -> Any:
    """The plan with no recipe longer than `max_steps` (0 leaves it as it is); schedules shrink as a whole.

    A gradient search keeps its epochs, as long as each can have a step.
    """
    if max_steps < 0:
        raise ValueError(f"max_steps is 0 (as long as the preset says) or a number of steps; got {max_steps}.")
    if max_steps == 0:
        return plan
    changes: dict[str, Any] = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, Recipe):
            changes[field.name] = replace(value, steps=min(value.steps, max_steps))
        elif is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = shortened(value, max_steps)
    if isinstance(plan, AlternatingRecipe):
        epochs = min(plan.epochs, changes["weights"].steps)
        return replace(plan, **changes, epochs=epochs, warm_epochs=plan.warm_epochs * epochs // plan.epochs)
    return replace(plan, **changes)


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` itself; ValueError when the parameter `name` is none of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"The parameter {name} is one of {', '.join(allowed)}; got {value!r}.")
    return value


def input_sizes(plan: Any, data: Any) -> list[tuple[int, int]]:
    """Heights and widths that enter the backbone, of every search and training image: resized and padded."""
    sizes = [size for part in (data.search, data.train) for size in part.sizes]
    head = getattr(plan, "head", None)  # a lesson's plan may have none
    return [head.input_size(*size) for size in sizes] if isinstance(head, DetectorConfig) else sizes
