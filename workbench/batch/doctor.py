"""Is everything in place? Versions, device, speed and data sets in plain words."""

import os
import statistics
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.records.environment import environment

if TYPE_CHECKING:
    from workbench.data.checks import Problem

MOST_PROBLEMS = 20  # shown per split, and the number of the rest


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
    from workbench.data.checks import check_splits

    nothing = True
    for root in (data, *sorted(folder for folder in data.iterdir() if folder.is_dir())):
        for splits, check, healthy in _data_sets(root, whole=root == data):
            nothing = False
            try:
                for split in splits:
                    yield from _shown(f"{root}, {split}", check(split), healthy)
            except ValueError as error:
                yield f"{root}: {error}"
                continue
            yield from _shown(f"{root}, between {', '.join(splits)}", check_splits(root, splits), "nothing shared.")
    if nothing:
        yield f"{data} holds no COCO-format data set (annotations/instances_<split>.json) and no masks."


def _data_sets(root: Path, whole: bool) -> "Iterator[tuple[list[str], Callable[[str], Sequence[Problem]], str]]":
    """The splits of each data set in a folder, what checks one, and the good news; classes only in the `whole`."""
    from workbench.data import checks, masks

    if masked := [split for split in ("train", "val", "test") if checks.mask_folders(root, split)]:
        yield (
            masked,
            lambda split: masks.check_masks(root, split, masks.mask_classes(root)),
            "healthy images with masks.",
        )
    if paths := sorted(root.glob("annotations/instances_*.json")):
        yield [path.stem.removeprefix("instances_") for path in paths], partial(checks.check_coco, root), "healthy."
    elif whole and not masked and (root / "train").is_dir():
        yield ["train", "val"], partial(checks.check_classes, root), "healthy class folders."


def _shown(where: str, problems: "Sequence[Problem]", healthy: str) -> Iterator[str]:
    yield f"{where}: " + (f"{len(problems)} problems." if problems else healthy)
    yield from (f"  {problem}" for problem in problems[:MOST_PROBLEMS])
    if len(problems) > MOST_PROBLEMS:
        yield f"  ... and {len(problems) - MOST_PROBLEMS} more of {where}."
