"""Where a run was computed: versions, commit, threads and platform; and how it may use its machine."""

import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "faster-coco-eval", "pycocotools")


def environment(data_digest: str) -> dict[str, Any]:
    """The content of env.json; `git` is None outside a git checkout, a missing package has the version None."""
    import torch  # here and not above: reading records must not cost the seconds that importing torch takes

    versions = {name: [found.version for found in metadata.distributions(name=name)] for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "packages": {name: next(iter(found), None) for name, found in versions.items()},
        "git": _git_state(Path(__file__).resolve().parents[2]),
        "data_digest": data_digest,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "platform": platform.platform(),
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout whose top is `folder` and whether it has changes; None when it is no checkout."""
    if not (folder / ".git").exists():
        return None  # perhaps installed into some other project's checkout: its commit would say nothing about us
    command = ["git", "status", "--porcelain=v2", "--branch"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = result.stdout.splitlines()
    commit = lines[0].removeprefix("# branch.oid ")
    dirty = any(not line.startswith("#") for line in lines)
    return {"commit": None if commit == "(initial)" else commit, "dirty": dirty}


def machine_setting(name: str, usual: float) -> float:
    """A number from an environment variable: how a machine is used, never what is computed. ValueError for others."""
    text = os.environ.get(name, "").strip()
    try:
        value = float(text or usual)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"The environment variable {name} is a number from 0 on, {usual:g} by default; got {text!r}.")
    return value
