"""Weights and alpha trained in turn, each on its own half of the data: the bilevel search of DARTS, first order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator
from workbench.training.checkpoint import load_checkpoint, save_checkpoint
from workbench.training.loop import (
    Descent,
    Task,
    layer_randomness,
    place,
    restore_training,
    training_state,
)
from workbench.training.recipe import Recipe

# What is about to move: weights while alpha stands still, weights of the search itself, or alpha.
Turn = Literal["warm", "weights", "alpha"]


@dataclass(frozen=True, kw_only=True)
class AlternatingRecipe:
    """A search plan: `weights` says how long it is; `alpha` follows its own schedule over the same steps.

    An epoch is an equal share of the steps, for reports. In the first `warm_epochs` alpha stands still.
    """

    weights: Recipe
    alpha: Recipe  # its `steps` do not count: there is at most one step of alpha after each step of the weights
    epochs: int
    warm_epochs: int
    weight_steps: int = 1  # for each step of alpha


@dataclass(frozen=True, kw_only=True)
class SearchHistory:
    """What a search leaves: losses of both sides, images seen by both, and alpha at the end of every epoch."""

    losses: tuple[float, ...]
    alpha_losses: tuple[float, ...]
    images: int
    alphas: tuple[tuple[Tensor, ...], ...]  # (epochs, searched layers), on the CPU


def train_alternating(
    model: nn.Module,
    alphas: Sequence[nn.Parameter],
    task: Task,
    weight_data: Any,
    alpha_data: Any,
    recipe: AlternatingRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    before_step: Callable[[Turn, np.random.Generator], None] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    after_epoch: Callable[[int], None] | None = None,
    checkpoint: Path | None = None,
    image_side: int = 0,
    progress: Progress = silent,
) -> SearchHistory:
    """Trains `model` in place: a step of its weights, then one of `alphas` (parameters of `model`), and again.

    Each side sees its own data, repeated as often as needed, and is frozen while the other moves: no step, no momentum,
    no decay. (Batch-norm statistics follow every batch, as always in training mode.) `before_step` runs before every
    step with the seeded generator of architectures: a supernet switches between a random path and the mixture there.
    `penalty` is added to the loss of alpha. `after_epoch` is called with the number of the finished epoch, from 0, and
    must leave the model in training mode; after an interruption it is called again for epochs that no checkpoint holds.
    The same call continues from `checkpoint`, written after every epoch, and on the CPU ends bit-identical to an
    uninterrupted run.
    """
    device = torch.device(device)
    check_recipe(recipe)
    _check_halves(weight_data, alpha_data)
    place(model, recipe.weights, device)
    model.train()
    searched = {id(alpha) for alpha in alphas}
    weights = [(name, p) for name, p in model.named_parameters() if id(p) not in searched and p.requires_grad]
    sides = {
        name: Descent(
            parameters,
            task,
            data,
            plan,
            order=generator(seed, "order", name),
            device=device,
            image_side=image_side,
            checkpoint=checkpoint,
        )
        for name, parameters, data, plan in (
            ("weights", weights, weight_data, recipe.weights),
            ("alpha", [("alpha", alpha) for alpha in alphas], alpha_data, _alpha_plan(recipe)),
        )
    }
    steps = recipe.weights.steps
    ends = [round(steps * (epoch + 1) / recipe.epochs) for epoch in range(recipe.epochs)]
    warm = round(steps * recipe.warm_epochs / recipe.epochs)
    history: list[list[Tensor]] = []
    path = generator(seed, "path")

    def move(turn: Turn, step: int) -> None:
        if before_step is not None:
            before_step(turn, path)
        _move(model, sides, "alpha" if turn == "alpha" else "weights", step, penalty if turn == "alpha" else None)

    with layer_randomness(seed, device):
        if checkpoint is not None and checkpoint.exists():
            extra = restore_training(load_checkpoint(checkpoint), model, sides, seed)
            history, path.bit_generator.state = extra["alphas"], extra["path"]
        try:
            for step in range(len(sides["weights"].losses), steps):
                move("weights" if step >= warm else "warm", step)
                if step >= warm and (step - warm + 1) % recipe.weight_steps == 0:
                    move("alpha", step)
                progress(step + 1, steps, _losses(sides))
                if step + 1 == ends[len(history)]:
                    history.append([alpha.detach().cpu().clone() for alpha in alphas])
                    if after_epoch is not None:
                        after_epoch(len(history) - 1)
                    if checkpoint is not None and sides["weights"].rank == 0:
                        extra = {"alphas": history, "path": path.bit_generator.state}
                        save_checkpoint(checkpoint, training_state(model, sides, extra))
        finally:
            for side in sides.values():
                for parameter in side.parameters:
                    parameter.requires_grad_(True)
    images = sum(len(side.losses) * side.recipe.batch_size for side in sides.values())
    return SearchHistory(
        losses=tuple(sides["weights"].losses),
        alpha_losses=tuple(sides["alpha"].losses),
        images=images,
        alphas=tuple(tuple(epoch) for epoch in history),
    )


def _alpha_plan(recipe: AlternatingRecipe) -> Recipe:
    return Recipe(**{**vars(recipe.alpha), "steps": recipe.weights.steps})


def _move(
    model: nn.Module, sides: dict[str, Descent], which: str, step: int, penalty: Callable[[], Tensor] | None
) -> None:
    """One step of one side, the other frozen: it needs no gradients, and none can reach it."""
    for name, side in sides.items():
        for parameter in side.parameters:
            parameter.requires_grad_(name == which)
            if name != which:
                parameter.grad = None
    sides[which].step(model, step, penalty)


def _losses(sides: dict[str, Descent]) -> str:
    shown = {name: side.losses[-20:] for name, side in sides.items() if side.losses}
    return ", ".join(f"{name} {np.mean(losses):.3f}" for name, losses in shown.items())


def check_recipe(recipe: AlternatingRecipe) -> None:
    """ValueError when alpha would never move, or when there are more epochs than steps."""
    if recipe.weight_steps < 1:
        raise ValueError(f"There is at least one step of the weights for each of alpha; got {recipe.weight_steps}.")
    if not 0 <= recipe.warm_epochs < recipe.epochs:
        raise ValueError(
            f"Alpha must stand still for fewer epochs than there are; got {recipe.warm_epochs} of {recipe.epochs}."
        )
    if recipe.weights.steps < recipe.epochs:
        raise ValueError(
            f"A search of {recipe.epochs} epochs needs at least as many steps; got {recipe.weights.steps}."
        )


def _check_halves(weight_data: Any, alpha_data: Any) -> None:
    shared = set(getattr(weight_data, "ids", ())) & set(getattr(alpha_data, "ids", ()))
    if weight_data is alpha_data or (shared and weight_data.name == alpha_data.name):
        raise ValueError(
            f"Weights and alpha must learn from different images, but {len(shared) or 'all'} are in both halves; split"
            " them first."
        )
