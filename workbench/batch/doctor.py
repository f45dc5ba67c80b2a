"""Is everything in place? Versions, device, speed and data sets in plain words."""

import os
import statistics
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os.path import isdir, isfile  # unlike those of Path, they do not raise
from pathlib import Path

from workbench.records.environment import environment

# Everything else is imported where it is used, so that a missing package is first reported by its name.


def examine(data: Path | None) -> Iterator[tuple[str, bool]]:
    """Sentences about this installation, then about each data set at or directly below `data`; is it a problem?"""
    if data is not None and not data.is_dir():
        raise ValueError(f"Expected a data folder, but {data} is none; give an existing folder.")
    found = environment("")
    yield f"Python {found['python']} on {found['platform']}.", False
    for name, version in found["packages"].items():
        yield f"{name} {version}." if version else f"{name} is missing: install the project again.", not version
    if git := found["git"]:
        yield f"Commit {git['commit'] or 'none yet'}{' with local changes' if git['dirty'] else ''}.", False
    yield f"Device {found['device']}, {found['threads']} threads of {os.cpu_count()} processors.", False
    yield f"A small network sees {_images_per_second():.0f} images a second (forward only, 128 px, CPU).", False
    if data is None:
        yield "No data folder was given (--data DIR or WORKBENCH_DATA): generated scenes work without one.", False
        return
    from workbench.data.checks import refusal

    nothing = True
    for root in (data, *filter(isdir, sorted(data.iterdir()))):
        for what, check, healthy in _checks(root, whole=root == data):
            nothing, where = False, f"{root}, {what}"
            try:
                problems = check()
            except ValueError as error:
                problems = [str(error)]
            except Exception as error:  # what nobody thought of is a problem, too, and the rest is still examined
                problems = [f"{where} cannot be examined ({error!r})."]
            yield str(refusal(problems, where, "repair them")) if problems else f"{where}: {healthy}", bool(problems)
    if nothing:
        known = "annotations of COCO, images with masks, Cityscapes or class folders (data/README.md)"
        yield f"{data} holds no data set in a layout that is read here: {known}.", True


def _images_per_second() -> float:
    import torch
    from torchvision.models import shufflenet_v2_x0_5

    network, images = shufflenet_v2_x0_5(weights=None).eval(), torch.zeros(8, 3, 128, 128)
    with torch.inference_mode():
        seconds = timeit.repeat(lambda: network(images), number=1, repeat=12)
    return len(images) / statistics.median(seconds[3:])  # the first passes also warm up


def _checks(root: Path, whole: bool) -> Iterator[tuple[str, Callable[[], Sequence[str]], str]]:
    """Each thing to check in a folder: its name, what finds its problems, and what to say if there are none."""
    from workbench.data import checks, masks

    boxes, poses = (
        [path.stem.removeprefix(kind) for path in sorted(root.glob(f"annotations/{kind}*.json"))]
        for kind in ("instances_", "person_keypoints_")
    )

    def of_masks(split: str) -> list[str]:
        return masks.read_masks(root, split, masks.mask_classes(root))[1]

    masked = [split for split in ("train", "val", "test") if checks.mask_folders(root, split)]
    streets = [split for split in ("train", "val") if isdir(root / "leftImg8bit" / split)]
    known = boxes or poses or masked or streets
    # Below the given folder only what has folders in train: else the images of another layout.
    classes = isdir(root / "train") if whole else bool(checks.class_folders(root, "train"))
    in_classes = ["train", "val"] if classes and not known else []
    for split in boxes:
        yield split, partial(checks.check_coco, root, split), "healthy."
    for split in poses:
        decode = split not in boxes  # else it was done above
        check = partial(checks.check_coco, root, split, decode=decode, keypoints=True)
        yield f"{split} (keypoints)", check, "healthy."
    for split in streets:
        yield f"Cityscapes {split}", partial(masks.check_cityscapes, root, split), "healthy images with masks."
    for split in in_classes:
        yield split, partial(checks.check_classes, root, split), "healthy class folders."
    named = isfile(root / "classes.json")
    if masked and not named:  # no problem: a notebook may name the classes
        yield "masks", list, f"{root} does not say what the numbers in its masks mean, in a classes.json."
    for split in masked if named else ():
        yield split, partial(of_masks, split), "healthy images with masks."
    if splits := boxes or poses or masked or in_classes:
        check = partial(checks.check_splits, root, splits, keypoints=not boxes)
        yield f"between {', '.join(splits)}", check, "nothing shared."
