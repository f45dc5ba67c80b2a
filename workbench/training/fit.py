"""The one training loop: any task, any network, stand-alone or supernet; with a second side, a gradient search.

Plain training is one side of parameters that descends on one data set. With a supernet whose paths are switched before
every step it is path-wise training. A gradient search has two sides in turn, each on its own half of the data: weights
and alpha, the first-order bilevel search of DARTS (NATS, section 3.2; FNA's adaptation).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator
from workbench.tasks.task import Task
from workbench.training.averaging import WeightAverage
from workbench.training.checkpoint import CheckpointTimer, load_checkpoint, save_checkpoint
from workbench.training.parallel import world
from workbench.training.recipe import AlternatingRecipe, Recipe, Turn
from workbench.training.side import Forward, Side

# Called with the model that is trained (a trial trains a copy), the turn, and the seeded generator of architectures.
# A step of several passes gets them one by one from an iterator that switches the model before each of them.
BeforeStep = Callable[[nn.Module, Turn, np.random.Generator], Iterable[Forward] | None]


@dataclass(frozen=True, kw_only=True)
class AlphaSide:
    """The second side of a gradient search: alpha, and the half of the data that it learns from.

    `penalty` of the model is added to the loss of alpha: the cost loss, which needs no images. `after_epoch` gets the
    number of the finished epoch, from 0, and must leave the model in training mode; after an interruption it is called
    again for epochs that no checkpoint holds.
    """

    parameters: Sequence[nn.Parameter]  # of the model
    data: Any
    penalty: Callable[[nn.Module], Tensor] | None = None
    after_epoch: Callable[[int], None] | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """What a training leaves: the total loss of every step, in one of several passes their mean.

    Where several processes train together it is the mean of their shares of the batch.
    """

    losses: tuple[float, ...]
    alpha_losses: tuple[float, ...]
    images: int  # seen in training, all processes, both sides and all passes of a step together
    alphas: tuple[tuple[Tensor, ...], ...]  # at the end of every epoch, on the CPU; () without a search


def fit(
    model: nn.Module,
    task: Task,
    data: Any,
    recipe: Recipe | AlternatingRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    search: AlphaSide | None = None,
    before_step: BeforeStep | None = None,
    checkpoint: Path | None = None,
    image_side: int = 0,
    averaged: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> History:
    """Trains `model` in place on `data`; with `search` and an alternating recipe, weights and alpha in turn.

    `before_step` is called before every step: a supernet is switched there to a random path, or to the mixture. What it
    returns are the passes of the step on its one batch, None is the model's own; their gradients are summed for one
    update. In a search each side is frozen while the other moves: no step, no momentum, no decay. (Batch-norm
    statistics follow every batch, as always in training mode.) With a `checkpoint` path the run can be killed at any
    moment; the same call continues, and on the CPU it ends bit-identical to an uninterrupted one. `image_side` is the
    crop of augmentations whose recipe names none. With `averaged` the weights end as a `WeightAverage` of so many of
    the last steps. So many `workers` make batches ahead (0: none); by default they do where images do not lie in
    memory. Batches are the same with any number. NonFiniteLoss is raised before a bad loss or gradient reaches the
    weights.
    """
    device = torch.device(device)
    plan = recipe if isinstance(recipe, AlternatingRecipe) else None
    own = recipe.weights if isinstance(recipe, AlternatingRecipe) else recipe
    place(model, device)
    model.train()
    alphas = list(search.parameters) if search else []
    searched = {id(alpha) for alpha in alphas}
    weights = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in searched]
    places: dict[str, Any] = {"image_side": image_side, "checkpoint": checkpoint, "workers": workers}
    sides = {"weights": Side("weights", weights, task, data, own, seed, device, **places)}
    if plan is not None and search is not None:
        _check_halves(data, search.data)
        other, named = replace(plan.alpha, steps=own.steps), [("alpha", alpha) for alpha in alphas]
        sides["alpha"] = Side("alpha", named, task, search.data, other, seed, device, penalty=search.penalty, **places)
    elif plan is not None or search is not None:
        raise ValueError("A gradient search has both: a side of alpha, and an AlternatingRecipe.")
    if own.compile and (search is not None or before_step is not None):
        raise ValueError("Only a network whose path stays the same can be compiled; train this one with compile=''.")
    # Shares its layers with the model.
    compiled = (torch.compile(model, backend=own.compile),) if own.compile else None
    path, timer = path_generator(seed), CheckpointTimer()
    average = WeightAverage(sides["weights"].parameters, own.steps, averaged)
    epochs: list[list[Tensor]] = []
    cuda = range(torch.cuda.device_count()) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # torch's own generator, which every step seeds, stays as it was outside
        if checkpoint is not None and checkpoint.exists():
            state = load_checkpoint(checkpoint)
            try:
                epochs = _restore(state, model, sides, path, average)
            except Exception as error:  # something is missing in it, or is of another training
                raise ValueError(f"{checkpoint} does not fit this training ({error!r}); delete it.") from error
        try:
            left = range(len(sides["weights"].losses), own.steps)
            sides["weights"].look_ahead(left)
            if plan is not None:
                sides["alpha"].look_ahead(step for step in left if "alpha" in plan.turns(step))
            for step in left:
                turns: tuple[Turn, ...] = plan.turns(step) if plan else ("weights",)
                for turn in turns:
                    passes = before_step(model, turn, path) if before_step is not None else compiled
                    side = "alpha" if turn == "alpha" else "weights"
                    _only_learns(sides, side)
                    sides[side].step(model, step, passes)
                average.after(step + 1)
                progress(step + 1, own.steps, _losses(sides))
                due = timer.due() or step + 1 == own.steps
                if plan is not None and step + 1 == plan.epoch_ends[len(epochs)]:
                    epochs.append([alpha.detach().cpu().clone() for alpha in alphas])
                    due = True
                    if search is not None and search.after_epoch is not None:
                        search.after_epoch(len(epochs) - 1)
                if checkpoint is not None and due and world()[0] == 0:
                    save_checkpoint(checkpoint, _state(model, sides, path, epochs, average))
        finally:
            for each in sides.values():
                each.close()
            _only_learns(sides, *sides)
    average.apply()
    return History(
        losses=tuple(sides["weights"].losses),
        alpha_losses=tuple(sides["alpha"].losses) if search else (),
        images=sum(side.passes * side.recipe.batch_size for side in sides.values()),
        alphas=tuple(tuple(epoch) for epoch in epochs),
    )


def path_generator(seed: int) -> np.random.Generator:
    """The generator that `fit` with this seed hands to `before_step`, at its beginning."""
    return generator(seed, "path")


def place(model: nn.Module, device: torch.device) -> None:
    """Moves `model` to the device and the memory format of training; another format gives other last bits."""
    model.to(device)
    model.to(memory_format=torch.channels_last)


def _only_learns(sides: Mapping[str, Side], *names: str) -> None:
    """Freezes the other sides: they need no gradients, and none may reach them."""
    for name, side in sides.items():
        for parameter in side.parameters:
            parameter.requires_grad_(name in names)
            if name not in names:
                parameter.grad = None


def _losses(sides: Mapping[str, Side]) -> str:
    names = {"weights": "loss", "alpha": "loss of alpha"}
    return ", ".join(f"{names[n]} {np.mean(side.losses[-20:]):.3f}" for n, side in sides.items() if side.losses)


def _state(
    model: nn.Module,
    sides: Mapping[str, Side],
    path: np.random.Generator,
    epochs: list[list[Tensor]],
    average: WeightAverage,
) -> dict[str, Any]:
    """What a checkpoint holds: everything that the next step depends on."""
    return {
        "model": model.state_dict(),
        "sides": {
            name: {
                "optimizer": side.optimizer.state_dict(),
                "scaler": side.scaler.state_dict(),
                "order": side.order.bit_generator.state,
                "losses": side.losses,
                "passes": side.passes,
                "queue": side.queue,
            }
            for name, side in sides.items()
        },
        "path": path.bit_generator.state,
        "epochs": epochs,
        "average": average.state(),
    }


def _restore(
    state: Mapping[str, Any],
    model: nn.Module,
    sides: Mapping[str, Side],
    path: np.random.Generator,
    average: WeightAverage,
) -> list[list[Tensor]]:
    """Takes a checkpoint back; returns alpha at the end of every finished epoch."""
    model.load_state_dict(state["model"])
    path.bit_generator.state = state["path"]
    if "average" in state:  # a checkpoint written before there were any has one pass a step and no average
        average.restore(state["average"])
    for name, side in sides.items():
        kept = state["sides"][name]
        side.optimizer.load_state_dict(kept["optimizer"])
        side.scaler.load_state_dict(kept["scaler"])
        side.order.bit_generator.state = kept["order"]
        side.losses, side.queue = list(kept["losses"]), list(kept["queue"])
        side.passes = kept.get("passes", len(side.losses))
    return list(state["epochs"])


def _check_halves(data: Any, other: Any) -> None:
    shared = set(getattr(data, "ids", ())) & set(getattr(other, "ids", ()))
    if data is other or (shared and data.name == other.name):
        raise ValueError(
            f"Weights and alpha must learn from different images, but {len(shared) or 'all'} are in both halves; split"
            " them first."
        )
