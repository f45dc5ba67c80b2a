"""How a network is trained: optimiser, learning rate schedule, batch and length, as one value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from workbench.records.files import LATER

# What is about to move: weights while alpha is frozen, weights of a search or of plain training, or alpha.
Turn = Literal["warm", "weights", "alpha"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training plan. `milestones` and `warmup` are shares of `steps`, so that it can be shortened as a whole."""

    steps: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)  # of adam and adamw
    weight_decay: float = 1e-4
    decay_norm: bool = False  # weight decay on the scales of norm layers, too
    decay_bias: bool = False  # and on biases
    bias_lr_factor: float = 1.0  # 2 in DetNAS's detectors
    # Of the backbone below a new pyramid: a pre-trained one forgets less while the head has learned nothing yet.
    body_lr_factor: float = field(default=1.0, metadata=LATER)
    eps: float = 1e-8  # added to the denominators of adam, adamw and rmsprop
    schedule: Literal["constant", "step", "cosine", "linear", "poly"] = "cosine"  # poly: (1 - progress) ** 0.9
    cosine_floor: float = 0.0  # share of lr that the cosine ends at
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # step schedule: where lr is divided by 10
    warmup: float = 0.02
    warmup_factor: float = 1 / 3
    clip_norm: float | None = None
    augment: str = "none"
    crop_side: int = 0  # pixels, of augmentations that crop; 0: the side of the data's images
    amp: bool = True  # mixed precision; without an `amp_dtype` on CUDA only
    # auto: bfloat16 where the GPU has it, else float16 with scaled losses
    amp_dtype: Literal["auto", "float16", "bfloat16"] = field(default="auto", metadata=LATER)
    # Forward and backward passes that a batch is cut into, to save memory; losses are means over a part. Batch norm
    # sees a part at a time, and region detectors sample boxes in it: they train differently.
    accumulate: int = field(default=1, metadata=LATER)
    compile: str = field(default="", metadata=LATER)  # "inductor", or another backend of torch.compile; "": not


@dataclass(frozen=True, kw_only=True)
class AlternatingRecipe:
    """A plan of a gradient search: `weights` says how long it is; alpha has its own schedule over the same steps.

    An epoch is an equal share of the steps, for reports. In the first `warm_epochs` alpha stands still. ValueError when
    alpha would never move, or when there are more epochs than steps.
    """

    weights: Recipe
    alpha: Recipe  # its `steps` do not count: there is at most one step of alpha after each step of the weights
    epochs: int
    warm_epochs: int
    weight_steps: int = 1  # for each step of alpha

    def __post_init__(self) -> None:
        epochs, warm, steps = self.epochs, self.warm_epochs, self.weights.steps
        if self.weight_steps < 1:
            raise ValueError(f"There is at least one step of the weights for each of alpha; got {self.weight_steps}.")
        if not 0 <= warm < epochs:
            raise ValueError(f"Alpha must stand still for fewer epochs than there are; got {warm} of {epochs}.")
        if steps < epochs:
            raise ValueError(f"A search of {epochs} epochs needs at least as many steps; got {steps}.")

    @property
    def epoch_ends(self) -> list[int]:
        """How many steps are done at the end of each epoch."""
        return [round(self.weights.steps * (epoch + 1) / self.epochs) for epoch in range(self.epochs)]

    def for_timing(self, steps: int) -> "AlternatingRecipe":
        """One epoch of `steps`, with alpha moving from the first."""
        return replace(self, weights=replace(self.weights, steps=steps), epochs=1, warm_epochs=0)

    def turns(self, step: int) -> tuple[Turn, ...]:
        """Which side moves at `step` (from 0)."""
        done = step - round(self.weights.steps * self.warm_epochs / self.epochs) + 1  # since alpha moves
        if done < 1:
            return ("warm",)
        return ("weights", "alpha") if done % self.weight_steps == 0 else ("weights",)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of `step` (from 0): linear warm-up from `warmup_factor`, then the schedule."""
    progress = step / max(1, recipe.steps)
    if recipe.schedule == "constant":
        factor = 1.0
    elif recipe.schedule == "step":
        factor = 0.1 ** sum(progress >= milestone for milestone in recipe.milestones)
    elif recipe.schedule == "cosine":
        half_wave = 0.5 * (1 + math.cos(math.pi * progress))
        factor = recipe.cosine_floor + (1 - recipe.cosine_floor) * half_wave
    else:
        factor = (1 - progress) ** (0.9 if recipe.schedule == "poly" else 1.0)
    warmup_steps = recipe.warmup * recipe.steps
    if step < warmup_steps:
        factor *= recipe.warmup_factor + (1 - recipe.warmup_factor) * step / warmup_steps
    return recipe.lr * factor


def amp_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision on this device; None: float32 everywhere."""
    if not recipe.amp or (recipe.amp_dtype == "auto" and device.type != "cuda"):
        return None
    named = recipe.amp_dtype
    if named == "auto":
        named = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return torch.bfloat16 if named == "bfloat16" else torch.float16


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Inside, layers compute with the recipe's precision: for training, and for scoring what was trained so."""
    dtype = amp_dtype(recipe, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def make_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of these named parameters: weights, norms and biases in own groups.

    Where a detector's body, the backbone below its pyramid, learns at another rate, it has groups of its own.
    Each group carries `lr_factor`; the loop sets `lr = learning_rate(...) * lr_factor` at every step.
    """
    decays = {"weights": True, "norms": recipe.decay_norm, "biases": recipe.decay_bias}
    rates = {"weights": 1.0, "norms": 1.0, "biases": recipe.bias_lr_factor}
    groups: dict[tuple[bool, str], dict[str, Any]] = {
        (in_body, kind): {
            "params": [],
            "weight_decay": recipe.weight_decay if decays[kind] else 0.0,
            "lr_factor": rates[kind] * (recipe.body_lr_factor if in_body else 1.0),
        }
        for in_body in (False, True)
        for kind in decays
    }
    for name, parameter in parameters:
        kind = "biases" if name.endswith("bias") else "norms" if parameter.ndim == 1 else "weights"
        in_body = recipe.body_lr_factor != 1.0 and name.startswith("backbone.body.")
        groups[in_body, kind]["params"].append(parameter)
    used = [group for group in groups.values() if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(used, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(used, lr=recipe.lr, momentum=recipe.momentum, eps=recipe.eps)
    adam = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return adam(used, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)


def share(recipe: Recipe | AlternatingRecipe, processes: int) -> Recipe | AlternatingRecipe:
    """The recipe of one of so many processes: its part of every batch."""

    def of_one(side: Recipe) -> Recipe:
        return replace(side, batch_size=side.batch_size // processes)

    if isinstance(recipe, AlternatingRecipe):
        return replace(recipe, weights=of_one(recipe.weights), alpha=of_one(recipe.alpha))
    return of_one(recipe)
