"""Training state on disk: written atomically, read without pickle's power to execute code."""

import io
from pathlib import Path
from typing import Any

import torch

from workbench.records.files import write_bytes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings, lists and dicts; a kill leaves the old file or the new one, never a half."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The saved state; ValueError when the file is broken or holds anything but plain values and tensors."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint that can be read safely ({type(error).__name__});"
            " delete it to start this phase anew."
        ) from error
