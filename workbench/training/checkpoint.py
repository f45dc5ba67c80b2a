"""Training state on disk: written atomically, read without pickle's power to execute code."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.records.files import write_bytes


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
