"""The one training loop: any task, any network, stand-alone or supernet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.batches import augmentation
from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator, integer
from workbench.training.checkpoint import load_checkpoint, save_checkpoint
from workbench.training.parallel import average_gradients, everywhere, world
from workbench.training.recipe import Recipe, learning_rate, make_optimizer


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
    rank, processes = world()
    _check(recipe, data, processes)
    place(model, recipe, device)
    model.train()
    optimizer = make_optimizer(model, recipe)
    mixed = recipe.amp and device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=mixed)
    rngs = {"order": generator(seed, "order"), "path": generator(seed, "path")}
    augment = augmentation(recipe.augment, image_side)
    losses: list[float] = []
    queue: list[int] = []  # what is left of the current pass over the data

    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device.type == "cuda" else []):
        torch.random.manual_seed(integer(seed, "layers", str(rank)))  # dropout, box sampling, augmentation
        if checkpoint is not None and checkpoint.exists():
            losses, queue = _restore(load_checkpoint(checkpoint), model, optimizer, scaler, rngs)
            if rank:  # the checkpoint holds the first process's generator; the others must not repeat its draws
                torch.random.manual_seed(integer(seed, "layers", str(rank), str(len(losses))))
        for step in range(len(losses), recipe.steps):
            indices, queue = _next_batch(queue, len(data), recipe.batch_size, rngs["order"])
            if before_step is not None:
                before_step(rngs["path"])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step) * group["lr_factor"]
            images, targets = task.batch(data, indices[rank::processes], device, augment)
            with torch.autocast(device.type, enabled=mixed):
                parts = model(images, targets)
                loss = torch.stack([part.float() for part in parts.values()]).sum()
            losses.append(float(loss.detach()))
            if not everywhere(math.isfinite(losses[-1]), device):
                raise NonFiniteLoss(_non_finite_message("loss", step, parts, checkpoint))
            optimizer.zero_grad(set_to_none=True)  # None, not zero: unsampled options must not feel momentum or decay
            scaler.scale(loss).backward()
            average_gradients(model)
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm or math.inf)
            if not mixed and not math.isfinite(norm):  # mixed precision expects some, and skips those steps
                raise NonFiniteLoss(_non_finite_message("gradient", step, parts, checkpoint))
            scaler.step(optimizer)
            scaler.update()
            progress(step + 1, recipe.steps, f"loss {np.mean(losses[-20:]):.3f}")
            last = step + 1 == recipe.steps
            if checkpoint is not None and rank == 0 and (last or (step + 1) % checkpoint_every == 0):
                save_checkpoint(checkpoint, _state(model, optimizer, scaler, rngs, losses, queue))
    return History(losses=tuple(losses), images=len(losses) * recipe.batch_size)


def place(model: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Moves `model` to the device and memory format of the recipe; another format gives other last bits."""
    model.to(device)
    model.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)


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


def _state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rngs: dict[str, np.random.Generator],
    losses: list[float],
    queue: list[int],
) -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "rngs": {name: rng.bit_generator.state for name, rng in rngs.items()},
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": cuda,
        "losses": losses,
        "queue": queue,
    }


def _restore(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rngs: dict[str, np.random.Generator],
) -> tuple[list[float], list[int]]:
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    for name, rng in rngs.items():
        rng.bit_generator.state = state["rngs"][name]
    torch.set_rng_state(state["torch_rng"])
    if state["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return state["losses"], state["queue"]


def _non_finite_message(what: str, step: int, parts: dict[str, Tensor], checkpoint: Path | None) -> str:
    values = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
    kept = (
        f"the last good checkpoint is {checkpoint}" if checkpoint and checkpoint.exists() else "no checkpoint was kept"
    )
    return f"The {what} is not finite at step {step} ({values}); {kept}. Lower the learning rate or check the boxes."
