"""How long the steps of a training take, from a few of them on a copy of the model."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workbench.records.progress import Progress
from workbench.training.fit import AlphaSide, fit
from workbench.training.recipe import AlternatingRecipe, Recipe


def step_seconds(
    model: nn.Module,
    task: Any,
    data: Any,
    recipe: Recipe | AlternatingRecipe,
    device: torch.device,
    *,
    search: Callable[[nn.Module], AlphaSide] | None = None,
    **options: Any,
) -> float:
    """The mean seconds of a step of `fit` with these arguments; `search` makes the second side of a model."""

    def trial(steps: int, progress: Progress) -> None:
        twin = copy.deepcopy(model)
        short = replace(recipe, steps=steps) if isinstance(recipe, Recipe) else recipe.for_timing(steps)
        own = replace(search(twin), after_epoch=None) if search is not None else None
        fit(twin, task, data, short, seed=0, device=device, search=own, progress=progress, **options)

    return seconds_per_step(trial, (recipe if isinstance(recipe, Recipe) else recipe.weights).steps)


def seconds_per_step(trial: Callable[[int, Progress], None], steps: int) -> float:
    """The mean over some of the first of `steps`, without the very first, which also warms up.

    More than one, because the paths of a supernet differ in cost.
    """
    measured = max(1, min(8, steps // 20))
    times = [time.perf_counter()]
    trial(1 + measured, lambda done, total, text: times.append(time.perf_counter()))
    return (times[-1] - times[1]) / measured
