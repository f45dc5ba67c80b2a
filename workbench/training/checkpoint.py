"""Training state on disk: written atomically, read without pickle's power to execute code."""

import io
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from workbench.records.environment import machine_setting
from workbench.records.files import write_bytes

FIRST_SECONDS, USUAL_SECONDS = 20.0, 180.0  # of training until a checkpoint is due


class CheckpointTimer:
    """Says when a checkpoint is due: soon after the beginning, then every few minutes, however long a step takes.

    WORKBENCH_CHECKPOINT_SECONDS gives another time, also for the first; 0 is after every step.
    """

    def __init__(self) -> None:
        self.usual = machine_setting("WORKBENCH_CHECKPOINT_SECONDS", USUAL_SECONDS)
        self.next = monotonic() + min(FIRST_SECONDS, self.usual)

    def due(self) -> bool:
        """Whether it is time; then the next one is due later."""
        if (now := monotonic()) < self.next:
            return False
        self.next = now + self.usual
        return True


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings, lists and dicts; a kill leaves the old file or the new one, never a half."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def steps_done(path: Path) -> int:
    """How many steps of a training are in its checkpoint; 0 where there is none yet."""
    return len(load_checkpoint(path)["sides"]["weights"]["losses"]) if path.exists() else 0


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The saved state; ValueError when the file is broken or holds anything but plain values and finite tensors."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        len(state["sides"]["weights"]["losses"])
        assert_finite(state["model"])
        return state
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint that can be read safely ({type(error).__name__});"
            " delete it to start this phase anew."
        ) from error


def assert_finite(tensors: Mapping[str, Tensor]) -> None:
    """ValueError names the first tensor that holds a number that is not finite: no training writes such weights."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
