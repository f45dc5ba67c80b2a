"""One side of a training: parameters that descend on one data set, from batches that may be made ahead."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.augmentation import augmentation
from workbench.data.prefetch import Job, workers_for
from workbench.records.seeds import generator, integer
from workbench.tasks.task import Task
from workbench.training.parallel import average_gradients, mean_of_processes, world
from workbench.training.recipe import Recipe, amp_dtype, autocast, learning_rate, make_optimizer

SMALLEST_SCALE = 2.0**-14  # of mixed precision: 30 steps were skipped in a row, and so would all others be

Forward = Callable[[Any, Any], Mapping[str, Tensor]]  # of images and targets: losses, as a model in training mode


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or NaN; the message names the step and the last good checkpoint."""


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
    workers: int | None = None  # that make batches ahead; None: as many as `workers_for` says

    def __post_init__(self) -> None:
        recipe, (self.rank, self.processes) = self.recipe, world()
        if len(self.data) == 0:
            raise ValueError("Training needs at least one image; the data set is empty. Check its folder and split.")
        if recipe.accumulate < 1 or recipe.batch_size % (self.processes * recipe.accumulate):
            raise ValueError(
                f"A batch of {recipe.batch_size} cannot be cut into {recipe.accumulate} parts for each of"
                f" {self.processes} processes; use a multiple."
            )
        self.parameters = [parameter for _, parameter in self.named]
        self.optimizer = make_optimizer(self.named, recipe)
        half = amp_dtype(recipe, self.device) == torch.float16  # bfloat16 has the exponents of float32
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.augment = augmentation(recipe.augment, recipe.crop_side or self.image_side)
        self.order = generator(self.seed, "order", self.name)
        self.losses: list[float] = []
        self.passes = 0  # of all steps
        self.queue: list[int] = []  # what is left of the current pass over the data
        self.ahead: Any = None  # an iterator of batches, while they are made ahead

    def look_ahead(self, steps: Iterable[int]) -> None:
        """From here on the batches of exactly these steps are made ahead, unless the images lie in memory."""
        workers = workers_for(self.data) if self.workers is None else self.workers
        if workers is not None:
            jobs = self._jobs(steps, copy.deepcopy(self.order), self.queue)
            self.ahead = self.task.batches(self.data, jobs, self.device, self.augment, workers=workers)

    def close(self) -> None:
        """Ends the processes that make batches ahead."""
        if self.ahead is not None:
            self.ahead.close()

    def step(self, model: nn.Module, step: int, passes: Iterable[Forward] | None = None) -> None:
        """One update from one batch; NonFiniteLoss before a bad loss or gradient reaches the weights.

        Augmentation depends on (seed, step, index of the image), dropout and the sampling of boxes on (seed, step):
        neither on the steps before nor on who makes the batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step) * group["lr_factor"]
        indices, self.queue = self._next_batch(self.order, self.queue)
        if self.ahead is not None:
            images, targets = next(self.ahead)
        else:
            images, targets = self.task.batch(self.data, indices, self.device, self.augment, self._drawn(step))
        torch.random.manual_seed(integer(self.seed, "layers", self.name, str(step), str(self.rank)))
        self.optimizer.zero_grad(set_to_none=True)  # None, not zero: unsampled options must not feel momentum or decay
        losses, cuts = [], self.recipe.accumulate
        size = len(images) // cuts
        micro = [(images[size * k : size * (k + 1)], targets[size * k : size * (k + 1)]) for k in range(cuts)]
        for forward in passes or (model,):
            for inputs in micro:
                with autocast(self.recipe, self.device):
                    parts = forward(*inputs)
                    if self.penalty is not None:
                        parts = {**parts, "penalty": self.penalty(model)}
                    loss = torch.stack([part.float() for part in parts.values()]).sum()
                losses.append(mean_of_processes(float(loss.detach()), self.device))
                if not math.isfinite(losses[-1]):
                    raise self._not_finite("loss", step, parts)
                self.scaler.scale(loss / cuts).backward()
        self.losses.append(sum(losses) / len(losses))
        self.passes += len(losses) // cuts
        average_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm or math.inf)
        if not self.scaler.is_enabled() and not math.isfinite(norm):  # it expects a few, and skips those steps
            raise self._not_finite("gradient", step, parts)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise self._not_finite("gradient", step, parts)

    def _next_batch(self, order: np.random.Generator, queue: list[int]) -> tuple[list[int], list[int]]:
        """This process's share of the next indices of an endless sequence of shuffled passes, and what is left."""
        size = self.recipe.batch_size
        while len(queue) < size:
            queue = [*queue, *order.permutation(len(self.data)).tolist()]
        return queue[:size][self.rank :: self.processes], queue[size:]

    def _drawn(self, step: int) -> int:
        """The seed of what is drawn for the images of a step; each adds its index."""
        return integer(self.seed, "augmentation", self.name, str(step))

    def _jobs(self, steps: Iterable[int], order: np.random.Generator, queue: list[int]) -> Iterator[Sequence[Job]]:
        for step in steps:
            indices, queue = self._next_batch(order, queue)
            drawn = self._drawn(step)
            yield [(index, drawn + index) for index in indices]

    def _not_finite(self, what: str, step: int, parts: Mapping[str, Tensor]) -> NonFiniteLoss:
        values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
        written = self.checkpoint and self.checkpoint.exists()
        kept = f"the last good checkpoint is {self.checkpoint}" if written else "no checkpoint was kept"
        return NonFiniteLoss(
            f"The {what} is not finite at step {step} ({values}); {kept}. Lower the learning rate or check the boxes."
        )
