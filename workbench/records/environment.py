"""Where a run was computed: versions, commit, threads and platform."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "faster-coco-eval", "pycocotools")


def environment(data_digest: str) -> dict[str, Any]:
    """The content of env.json; `git` is None outside a git checkout."""
    import torch  # here and not above: reading records must not cost the seconds that importing torch takes

    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(Path(__file__).resolve().parents[2]),
        "data_digest": data_digest,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "platform": platform.platform(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout whose top is `folder` and whether it has changes; None when it is no checkout."""
    if not (folder / ".git").exists() or _git(folder, "rev-parse", "--git-dir") is None:
        return None  # perhaps installed into some other project's checkout: its commit would say nothing about us
    return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": bool(_git(folder, "status", "--porcelain"))}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
