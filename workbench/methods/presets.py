"""From the parameters of a notebook to the plan of a run: presets and overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from workbench.data.loader import DataPlan
from workbench.spaces.costs import ImageSize
from workbench.tasks.detection import DetectorConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """What the plan of every search says."""

    data: DataPlan
    finetune: Recipe  # of the found network and of everything it is compared with
    macs_at: ImageSize  # at which MACs are stated
    calibration_images: int  # training images on which batch norm is measured anew before a network is scored
    calibration_batch: int
    scoring_batch: int = 32
    random_networks: int  # unscored ones among the controls


@dataclass(frozen=True, kw_only=True)
class ClassifierPlan(MethodPlan):
    """What a search says whose backbones are trained as classifiers first, then in a detector."""

    detector: DetectorConfig
    pretrain: Recipe
    classifier_hidden: int
    classifier_dropout: float
    label_smoothing: float
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    fitness: Literal["AP", "AP50"]  # by which networks are scored on the supernet


def preset_named(presets: Mapping[str, Any], name: str) -> Any:
    """The preset of that name; ValueError lists the names there are."""
    if name not in presets:
        near = get_close_matches(name, presets, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"A preset is one of {', '.join(presets)}; got {name!r}.{hint}")
    return presets[name]


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


def input_sizes(plan: Any, data: Any) -> list[tuple[int, int]]:
    """Heights and widths that enter the backbone, of every search and training image: resized and padded."""
    sizes = []
    for part in (data.search, data.train):
        for height, width in part.sizes:
            if (detector := getattr(plan, "detector", None)) is not None:
                height, width = detector.input_size(height, width)
            sizes.append((height, width))
    return sizes


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` itself; ValueError when the parameter `name` is none of the allowed ones."""
    if value not in allowed:
        raise ValueError(f"The parameter {name} is one of {', '.join(allowed)}; got {value!r}.")
    return value
