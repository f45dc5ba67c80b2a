"""Is everything in place? Versions, device, speed and data sets in plain words."""

import os
import statistics
import timeit
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.records.environment import environment

if TYPE_CHECKING:
    from workbench.data.checks import Problem


def examine(data: Path | None) -> Iterator[str]:
    """Sentences about this installation, then about each data set at or directly below `data`."""
    if data is not None and not data.is_dir():
        raise ValueError(f"Expected a data folder, but {data} is none; give an existing folder.")
    found = environment("")
    yield f"Python {found['python']} on {found['platform']}."
    for name, version in found["packages"].items():
        yield f"{name} {version}." if version else f"{name} is missing: install the project again."
    if git := found["git"]:
        yield f"Commit {git['commit'] or 'none yet'}{' with local changes' if git['dirty'] else ''}."
    yield f"Device {found['device']}, {found['threads']} threads of {os.cpu_count()} processors."
    yield f"A small network sees {_images_per_second():.0f} images a second (forward only, 128 px, CPU)."
    if data is None:
        yield "No data folder was given (--data DIR or WORKBENCH_DATA): generated scenes work without one."
    else:
        yield from _data_health(data)


def _images_per_second() -> float:
    import torch
    from torchvision.models import shufflenet_v2_x0_5

    network, images = shufflenet_v2_x0_5(weights=None).eval(), torch.zeros(8, 3, 128, 128)
    with torch.inference_mode():
        seconds = timeit.repeat(lambda: network(images), number=1, repeat=12)
    return len(images) / statistics.median(seconds[3:])  # the first passes also warm up


def _data_health(data: Path) -> Iterator[str]:
    from workbench.data.checks import refusal

    nothing = True
    for root in (data, *sorted(folder for folder in data.iterdir() if folder.is_dir())):
        for what, problems, healthy in _checks(root, whole=root == data):
            nothing = False
            where = f"{root}, {what}"
            yield str(refusal(problems, where, "repair them")) if problems else f"{where}: {healthy}"
    if nothing:
        yield f"{data} holds no COCO-format data set (annotations/instances_<split>.json) and no masks."


def _checks(root: Path, whole: bool) -> "Iterator[tuple[str, Sequence[Problem], str]]":
    """Each thing checked in a folder: its name, its problems, and what to say if there are none."""
    from workbench.data import checks, masks

    annotated = [path.stem.removeprefix("instances_") for path in sorted(root.glob("annotations/instances_*.json"))]
    masked = [split for split in ("train", "val", "test") if checks.mask_folders(root, split)]
    in_classes = ["train", "val"] if whole and not (annotated or masked) and (root / "train").is_dir() else []
    for split in annotated:
        yield split, checks.check_coco(root, split), "healthy."
    for split in in_classes:
        yield split, checks.check_classes(root, split), "healthy class folders."
    try:
        for split in masked:
            yield split, masks.check_masks(root, split, masks.mask_classes(root)), "healthy images with masks."
    except ValueError as error:  # no problem: a notebook may name the classes
        yield "masks", [], str(error)
    if splits := annotated or masked or in_classes:
        yield f"between {', '.join(splits)}", checks.check_splits(root, splits), "nothing shared."
