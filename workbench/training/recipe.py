"""How a network is trained: optimiser, learning rate schedule, batch and length, as one value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training plan.

    Fractions (`milestones`, `warmup`) are shares of `steps`, so that a plan can be shortened as a whole.
    """

    steps: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)  # of adam and adamw
    weight_decay: float = 1e-4
    decay_norm: bool = False  # weight decay on the scales of norm layers
    decay_bias: bool = False  # and on all biases
    bias_lr_factor: float = 1.0  # 2 in DetNAS's detectors
    eps: float = 1e-8  # added to the denominators of adam, adamw and rmsprop
    schedule: Literal["constant", "step", "cosine", "linear", "poly"] = "cosine"  # poly: (1 - progress) ** 0.9
    cosine_floor: float = 0.0  # share of lr that the cosine ends at
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)  # step schedule: where lr is divided by 10
    warmup: float = 0.02
    warmup_factor: float = 1 / 3
    clip_norm: float | None = None
    augment: str = "none"
    crop_side: int = 0  # pixels, of augmentations that crop; 0: the side of the data's pictures
    amp: bool = True  # mixed precision, on CUDA only
    channels_last: bool = True


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


def make_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the trainable ones of these named parameters: weights, norms, biases in own groups.

    Each group carries `lr_factor`; the loop sets `lr = learning_rate(...) * lr_factor` at every step.
    """
    weights, norms, biases = [], [], []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        if name.endswith("bias"):
            biases.append(parameter)
        elif parameter.ndim == 1:
            norms.append(parameter)
        else:
            weights.append(parameter)
    norm_decay = recipe.weight_decay if recipe.decay_norm else 0.0
    bias_decay = recipe.weight_decay if recipe.decay_bias else 0.0
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay, "lr_factor": 1.0},
        {"params": norms, "weight_decay": norm_decay, "lr_factor": 1.0},
        {"params": biases, "weight_decay": bias_decay, "lr_factor": recipe.bias_lr_factor},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.lr, momentum=recipe.momentum, eps=recipe.eps)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
