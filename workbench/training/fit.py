"""The one training loop: any task, any network, stand-alone or supernet; with a second side, a gradient search.

Plain training is one side of parameters that descends on one data set. With a supernet whose paths are switched before
every step it is path-wise training. A gradient search has two sides in turn, each on its own half of the data: weights
and alpha, the first-order bilevel search of DARTS (NATS, section 3.2; FNA's adaptation).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.augmentation import augmentation
from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator, integer
from workbench.tasks.task import Task
from workbench.training.averaging import WeightAverage
from workbench.training.checkpoint import load_checkpoint, save_checkpoint
from workbench.training.parallel import average_gradients, mean_of_processes, world
from workbench.training.recipe import AlternatingRecipe, Recipe, Turn, learning_rate, make_optimizer

CHECKPOINT_EVERY = 100  # steps; also at the end of every epoch of a search
SMALLEST_SCALE = 2.0**-14  # of mixed precision: 30 steps were skipped in a row, and so would all others be

Forward = Callable[[Any, Any], Mapping[str, Tensor]]  # of images and targets: losses, as a model in training mode
# Called with the model that is trained (a trial trains a copy), the turn, and the seeded generator of architectures.
# A step of several passes gets them one by one from an iterator that switches the model before each of them.
BeforeStep = Callable[[nn.Module, Turn, np.random.Generator], Iterable[Forward] | None]


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or NaN; the message names the step and the last good checkpoint."""


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
    progress: Progress = silent,
) -> History:
    """Trains `model` in place on `data`; with `search` and an alternating recipe, weights and alpha in turn.

    `before_step` is called before every step: a supernet is switched there to a random path, or to the mixture. What it
    returns are the passes of the step on its one batch, None is the model's own; their gradients are summed for one
    update. In a search each side is frozen while the other moves: no step, no momentum, no decay. (Batch-norm
    statistics follow every batch, as always in training mode.) With a `checkpoint` path the run can be killed at any
    moment; the same call continues, and on the CPU it ends bit-identical to an uninterrupted one. `image_side` is the
    crop of augmentations whose recipe names none. With `averaged` the weights end as a `WeightAverage` of so many of
    the last steps. NonFiniteLoss is raised before a bad loss or gradient reaches the weights.
    """
    device = torch.device(device)
    plan = recipe if isinstance(recipe, AlternatingRecipe) else None
    own = recipe.weights if isinstance(recipe, AlternatingRecipe) else recipe
    place(model, device)
    model.train()
    alphas = list(search.parameters) if search else []
    searched = {id(alpha) for alpha in alphas}
    weights = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in searched]
    sides = {"weights": Side("weights", weights, task, data, own, seed, device, image_side, checkpoint)}
    if plan is not None and search is not None:
        _check_halves(data, search.data)
        other, named = replace(plan.alpha, steps=own.steps), [("alpha", alpha) for alpha in alphas]
        sides["alpha"] = Side(
            "alpha", named, task, search.data, other, seed, device, image_side, checkpoint, search.penalty
        )
    elif plan is not None or search is not None:
        raise ValueError("A gradient search has both: a side of alpha, and an AlternatingRecipe.")
    path = path_generator(seed)
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
            for step in range(len(sides["weights"].losses), own.steps):
                turns: tuple[Turn, ...] = plan.turns(step) if plan else ("weights",)
                for turn in turns:
                    passes = before_step(model, turn, path) if before_step is not None else None
                    side = "alpha" if turn == "alpha" else "weights"
                    _only_learns(sides, side)
                    sides[side].step(model, step, passes)
                average.after(step + 1)
                progress(step + 1, own.steps, _losses(sides))
                due = step + 1 == own.steps or (step + 1) % CHECKPOINT_EVERY == 0
                if plan is not None and step + 1 == plan.epoch_ends[len(epochs)]:
                    epochs.append([alpha.detach().cpu().clone() for alpha in alphas])
                    due = True
                    if search is not None and search.after_epoch is not None:
                        search.after_epoch(len(epochs) - 1)
                if checkpoint is not None and due and world()[0] == 0:
                    save_checkpoint(checkpoint, _state(model, sides, path, epochs, average))
        finally:
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


@dataclass
class Side:
    """Some parameters descending on one data set: optimiser, learning rate, and the order of the images."""

    name: str  # "weights" or "alpha"
    named: Sequence[tuple[str, nn.Parameter]]
    task: Task
    data: Any
    recipe: Recipe
    seed: int
    device: torch.device
    image_side: int = 0
    checkpoint: Path | None = None  # only named in messages
    penalty: Callable[[nn.Module], Tensor] | None = None  # of the model, added to the loss

    def __post_init__(self) -> None:
        recipe, (self.rank, self.processes) = self.recipe, world()
        if len(self.data) == 0:
            raise ValueError("Training needs at least one image; the data set is empty. Check its folder and split.")
        if recipe.batch_size % self.processes:
            raise ValueError(
                f"A batch of {recipe.batch_size} cannot be shared by {self.processes} processes; use a multiple."
            )
        self.parameters = [parameter for _, parameter in self.named]
        self.optimizer = make_optimizer(self.named, recipe)
        self.mixed = recipe.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.mixed)
        self.augment = augmentation(recipe.augment, recipe.crop_side or self.image_side)
        self.order = generator(self.seed, "order", self.name)
        self.losses: list[float] = []
        self.passes = 0  # of all steps
        self.queue: list[int] = []  # what is left of the current pass over the data

    def step(self, model: nn.Module, step: int, passes: Iterable[Forward] | None = None) -> None:
        """One update from one batch; NonFiniteLoss before a bad loss or gradient reaches the weights.

        Augmentation depends on (seed, step, index of the image), dropout and the sampling of boxes on (seed, step):
        neither on the steps before nor on who makes the batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step) * group["lr_factor"]
        indices = self._next_batch()[self.rank :: self.processes]
        drawn = integer(self.seed, "augmentation", self.name, str(step))
        images, targets = self.task.batch(self.data, indices, self.device, self.augment, drawn)
        torch.random.manual_seed(integer(self.seed, "layers", self.name, str(step), str(self.rank)))
        self.optimizer.zero_grad(set_to_none=True)  # None, not zero: unsampled options must not feel momentum or decay
        losses = []
        for forward in passes or (model,):
            with torch.autocast(self.device.type, enabled=self.mixed):
                parts = forward(images, targets)
                if self.penalty is not None:
                    parts = {**parts, "penalty": self.penalty(model)}
                loss = torch.stack([part.float() for part in parts.values()]).sum()
            losses.append(mean_of_processes(float(loss.detach()), self.device))
            if not math.isfinite(losses[-1]):
                raise self._not_finite("loss", step, parts)
            self.scaler.scale(loss).backward()
        self.losses.append(sum(losses) / len(losses))
        self.passes += len(losses)
        average_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm or math.inf)
        if not self.mixed and not math.isfinite(norm):  # mixed precision expects a few, and skips those steps
            raise self._not_finite("gradient", step, parts)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.mixed and self.scaler.get_scale() < SMALLEST_SCALE:
            raise self._not_finite("gradient", step, parts)

    def _next_batch(self) -> list[int]:
        """The next indices of an endless sequence of shuffled passes."""
        size = self.recipe.batch_size
        while len(self.queue) < size:
            self.queue = [*self.queue, *self.order.permutation(len(self.data)).tolist()]
        batch, self.queue = self.queue[:size], self.queue[size:]
        return batch

    def _not_finite(self, what: str, step: int, parts: Mapping[str, Tensor]) -> NonFiniteLoss:
        values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
        written = self.checkpoint and self.checkpoint.exists()
        kept = f"the last good checkpoint is {self.checkpoint}" if written else "no checkpoint was kept"
        return NonFiniteLoss(
            f"The {what} is not finite at step {step} ({values}); {kept}. Lower the learning rate or check the boxes."
        )


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
