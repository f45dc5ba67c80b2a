"""The one training loop: any task, any network, stand-alone or supernet."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.augmentation import augmentation
from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator, integer
from workbench.training.checkpoint import load_checkpoint, save_checkpoint
from workbench.training.parallel import average_gradients, everywhere, world
from workbench.training.recipe import Recipe, learning_rate, make_optimizer

SMALLEST_SCALE = 2.0**-14  # of mixed precision: 30 steps were skipped in a row, and so would all others be


class Task(Protocol):
    """What the loop needs of a task: batches in torchvision's detection convention."""

    def batch(
        self, data: Any, indices: Sequence[int], device: torch.device, augment: v2.Transform | None = None
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]: ...


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or NaN; the message names the step and the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What a training run leaves: the total loss of every step (of this process, where several train together)."""

    losses: tuple[float, ...]
    images: int  # training images seen, all processes together


class Descent:
    """Some parameters descending on one data set: optimiser, learning rate, the order of the images, and its state."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        task: Task,
        data: Any,
        recipe: Recipe,
        *,
        order: np.random.Generator,
        device: torch.device,
        image_side: int = 0,
        checkpoint: Path | None = None,
    ) -> None:
        named = list(parameters)
        self.parameters = [parameter for _, parameter in named]
        self.task = task
        self.data = data
        self.recipe = recipe
        self.order = order
        self.device = device
        self.checkpoint = checkpoint  # only named in messages
        self.rank, self.processes = world()
        _check(recipe, data, self.processes)
        self.optimizer = make_optimizer(named, recipe)
        self.mixed = recipe.amp and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.mixed)
        self.augment = augmentation(recipe.augment, recipe.crop_side or image_side)
        self.losses: list[float] = []
        self.queue: list[int] = []  # what is left of the current pass over the data

    def step(self, model: nn.Module, step: int, penalty: Callable[[], Tensor] | None = None) -> float:
        """One step at the learning rate of `step`; NonFiniteLoss before a bad loss or gradient reaches the weights.

        `penalty` is one term of the loss more, that needs no images.
        """
        indices, self.queue = _next_batch(self.queue, len(self.data), self.recipe.batch_size, self.order)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step) * group["lr_factor"]
        images, targets = self.task.batch(self.data, indices[self.rank :: self.processes], self.device, self.augment)
        with torch.autocast(self.device.type, enabled=self.mixed):
            parts = model(images, targets)
            if penalty is not None:
                parts = {**parts, "penalty": penalty()}
            loss = torch.stack([part.float() for part in parts.values()]).sum()
        self.losses.append(float(loss.detach()))
        if not everywhere(math.isfinite(self.losses[-1]), self.device):
            raise NonFiniteLoss(_non_finite_message("loss", step, parts, self.checkpoint))
        self.optimizer.zero_grad(set_to_none=True)  # None, not zero: unsampled options must not feel momentum or decay
        self.scaler.scale(loss).backward()
        average_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm or math.inf)
        if not self.mixed and not math.isfinite(norm):  # mixed precision expects a few, and skips those steps
            raise NonFiniteLoss(_non_finite_message("gradient", step, parts, self.checkpoint))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.mixed and self.scaler.get_scale() < SMALLEST_SCALE:
            raise NonFiniteLoss(_non_finite_message("gradient", step, parts, self.checkpoint))
        return self.losses[-1]

    @property
    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the model and torch's generator; `restore` takes it back."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "order": self.order.bit_generator.state,
            "losses": self.losses,
            "queue": self.queue,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.order.bit_generator.state = state["order"]
        self.losses, self.queue = list(state["losses"]), list(state["queue"])


def train(
    model: nn.Module,
    task: Task,
    data: Any,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    before_step: Callable[[np.random.Generator], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    image_side: int = 0,
    progress: Progress = silent,
) -> History:
    """Trains `model` in place on `data` and returns the losses.

    `before_step` runs before every step with the seeded generator of architectures: a supernet activates a random
    path there. With a `checkpoint` path the run can be killed at any moment; the same call continues, and on the CPU
    it ends bit-identical to an uninterrupted one. `image_side` is the crop of classification augmentations.
    NonFiniteLoss is raised before a bad loss or gradient reaches the weights.
    """
    device = torch.device(device)
    place(model, recipe, device)
    model.train()
    descent = Descent(
        model.named_parameters(),
        task,
        data,
        recipe,
        order=generator(seed, "order"),
        device=device,
        image_side=image_side,
        checkpoint=checkpoint,
    )
    path = generator(seed, "path")
    with layer_randomness(seed, device):
        if checkpoint is not None and checkpoint.exists():
            extra = restore_training(load_checkpoint(checkpoint), model, {"weights": descent}, seed)
            path.bit_generator.state = extra["path"]
        for step in range(len(descent.losses), recipe.steps):
            if before_step is not None:
                before_step(path)
            descent.step(model, step)
            progress(step + 1, recipe.steps, f"loss {np.mean(descent.losses[-20:]):.3f}")
            last = step + 1 == recipe.steps
            if checkpoint is not None and descent.rank == 0 and (last or (step + 1) % checkpoint_every == 0):
                extra = {"path": path.bit_generator.state}
                save_checkpoint(checkpoint, training_state(model, {"weights": descent}, extra))
    return History(losses=tuple(descent.losses), images=len(descent.losses) * recipe.batch_size)


def place(model: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Moves `model` to the device and memory format of the recipe; another format gives other last bits."""
    model.to(device)
    model.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)


@contextmanager
def layer_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generator seeded inside (dropout, box sampling, augmentation), and as it was outside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device.type == "cuda" else []):
        torch.random.manual_seed(integer(seed, "layers", str(world()[0])))
        yield


def training_state(model: nn.Module, descents: Mapping[str, Descent], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds; `extra` is plain data of the caller."""
    device = next(iter(descents.values())).device
    return {
        "model": model.state_dict(),
        "descents": {name: descent.state for name, descent in descents.items()},
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "extra": dict(extra),
    }


def restore_training(
    state: Mapping[str, Any], model: nn.Module, descents: Mapping[str, Descent], seed: int
) -> dict[str, Any]:
    """Takes a checkpoint back, inside `layer_randomness`, and returns its `extra`."""
    model.load_state_dict(state["model"])
    for name, descent in descents.items():
        descent.restore(state["descents"][name])
    rank = world()[0]
    if rank:  # the checkpoint holds the first process's generator; the others must not repeat its draws
        done = sum(len(descent.losses) for descent in descents.values())
        torch.random.manual_seed(integer(seed, "layers", str(rank), str(done)))
    else:
        torch.set_rng_state(state["torch_rng"])
        device = next(iter(descents.values())).device
        if state["cuda_rng"] is not None and device.type == "cuda":  # of this device alone: others may be gone
            torch.cuda.set_rng_state(state["cuda_rng"], device)
    return dict(state["extra"])


def _next_batch(queue: list[int], size: int, batch_size: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """The next indices of an endless sequence of shuffled passes, and what remains of the current pass."""
    while len(queue) < batch_size:
        queue = [*queue, *rng.permutation(size).tolist()]
    return queue[:batch_size], queue[batch_size:]


def _check(recipe: Recipe, data: Any, processes: int) -> None:
    if len(data) == 0:
        raise ValueError("Training needs at least one image; the data set is empty. Check its folder and split.")
    if recipe.batch_size % processes:
        raise ValueError(f"A batch of {recipe.batch_size} cannot be shared by {processes} processes; use a multiple.")


def _non_finite_message(what: str, step: int, parts: dict[str, Tensor], checkpoint: Path | None) -> str:
    values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
    kept = (
        f"the last good checkpoint is {checkpoint}" if checkpoint and checkpoint.exists() else "no checkpoint was kept"
    )
    return f"The {what} is not finite at step {step} ({values}); {kept}. Lower the learning rate or check the boxes."
