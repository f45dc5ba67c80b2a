"""Is everything in place? Versions, device, speed and data sets in plain words."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.records.environment import environment

MOST_PROBLEMS = 20  # shown per split, and the number of the rest


def examine(data: Path | None) -> Iterator[str]:
    """Sentences about this installation, then about each COCO-format data set at or directly below `data`."""
    if data is not None and not data.is_dir():
        raise ValueError(f"Expected a data folder, but {data} is none; give an existing folder.")
    found = environment("")
    yield f"Python {found['python']} on {found['platform']}."
    for name, version in found["packages"].items():
        yield f"{name} {version}." if version else f"{name} is missing: install the project again."
    git = found["git"]
    if git:
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
    seconds = []
    with torch.inference_mode():
        for _ in range(12):
            start = time.perf_counter()
            network(images)
            seconds.append(time.perf_counter() - start)
    return len(images) / statistics.median(seconds[3:])  # the first passes also warm up


def _data_health(data: Path) -> Iterator[str]:
    from workbench.data.checks import check_classes, check_coco, check_splits, mask_folders

    masked = [root for root in (data, *sorted(data.iterdir())) if root.is_dir() and mask_folders(root, "train")]
    for root in masked:
        yield from _mask_health(root)
    if data in masked:
        return
    if (data / "train").is_dir() and not (data / "annotations").is_dir():
        for split in ("train", "val"):
            yield from _shown(f"{data}, {split}", check_classes(data, split), "healthy class folders.")
        yield from _shown(f"{data}, between train, val", check_splits(data), "nothing shared.")
        return
    annotations = sorted([*data.glob("annotations/instances_*.json"), *data.glob("*/annotations/instances_*.json")])
    if not annotations and not masked:
        yield f"{data} holds no COCO-format data set (annotations/instances_<split>.json) and no masks."
    splits: dict[Path, list[str]] = {}
    for path in annotations:
        root, split = path.parent.parent, path.stem.removeprefix("instances_")
        splits.setdefault(root, []).append(split)
        yield from _shown(f"{root}, {split}", check_coco(root, split), "healthy.")
    for root, names in splits.items():
        yield from _shown(f"{root}, between {', '.join(names)}", check_splits(root, names), "nothing shared.")


def _mask_health(root: Path) -> Iterator[str]:
    from workbench.data.checks import check_splits, mask_folders
    from workbench.data.masks import mask_classes, read_masks

    try:
        classes = mask_classes(root)
    except ValueError as error:
        yield f"{root}: {error}"
        return
    splits = [split for split in ("train", "val", "test") if mask_folders(root, split)]
    for split in splits:
        yield from _shown(f"{root}, {split}", read_masks(root, split, classes)[1], "healthy images with masks.")
    yield from _shown(f"{root}, between {', '.join(splits)}", check_splits(root, splits), "nothing shared.")


def _shown(where: str, problems: Sequence[str], healthy: str) -> Iterator[str]:
    yield f"{where}: " + (f"{len(problems)} problems." if problems else healthy)
    yield from (f"  {problem}" for problem in problems[:MOST_PROBLEMS])
    if len(problems) > MOST_PROBLEMS:
        yield f"  ... and {len(problems) - MOST_PROBLEMS} more of {where}."
