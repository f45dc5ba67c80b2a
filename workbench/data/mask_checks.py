"""What is wrong with a folder of semantic masks, in plain sentences, before any work starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.data.checks import Problem, identical_files, picture_files
from workbench.data.images import image_fault
from workbench.records.files import read_json

VOID = 255  # pixels without a class: not learned, not counted


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The names of the numbers 0, 1, ... in a mask, and the number that means no class."""

    names: tuple[str, ...]
    void: int = VOID

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= VOID or not 0 <= self.void <= VOID or self.void < len(self.names):
            raise ValueError(
                f"Masks name 2 to {VOID} classes, numbered from 0, and void is a number behind them up to {VOID}; got"
                f" {len(self.names)} classes and void {self.void}."
            )


def mask_classes(root: str | Path) -> Classes:
    """Classes as `classes.json` of the folder names them: {"classes": [names from 0], "void": 255}.

    ValueError when there is none, or when it holds something else.
    """
    path = Path(root) / "classes.json"
    if not path.is_file():
        raise ValueError(
            f"{root} does not say what the numbers in its masks mean: name the classes, or put a classes.json there"
            ' ({"classes": ["road", ...], "void": 255}).'
        )
    content = read_json(path)
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'{path} should hold {{"classes": [names, from number 0 on], "void": number}}.')
    void = content.get("void", VOID)
    if not isinstance(void, int) or isinstance(void, bool):
        raise ValueError(f"{path}: void is a number; got {void!r}.")
    return Classes(names=tuple(names), void=void)


def mask_folders(root: str | Path, split: str) -> tuple[Path, Path] | None:
    """The folders of pictures and masks of a split; None where there are none."""
    root = Path(root)
    choices = [(root / split / "images", root / split / "masks"), (root / "images" / split, root / "masks" / split)]
    return next(((images, masks) for images, masks in choices if images.is_dir() and masks.is_dir()), None)


def mask_pairs(root: str | Path, split: str) -> list[tuple[Path, Path]]:
    """Every picture with its mask, in alphabetical order; pictures without one are left to `check_masks`."""
    folders = mask_folders(root, split)
    if folders is None:
        return []
    pairs = [(picture, folders[1] / f"{picture.stem}.png") for picture in picture_files(folders[0])]
    return [(picture, mask) for picture, mask in pairs if mask.is_file()]


def check_masks(root: str | Path, split: str, classes: Classes) -> list[Problem]:
    """Every problem of one split; an empty list for a healthy one. Never raises."""
    folders = mask_folders(root, split)
    if folders is None:
        text = f"Expected pictures in {Path(root) / split / 'images'} and masks in {Path(root) / split / 'masks'}."
        return [Problem(text=text)]
    pictures = picture_files(folders[0])
    if not pictures:
        return [Problem(text=f"{folders[0]} holds no picture.")]
    problems = []
    for picture in pictures:
        mask = folders[1] / f"{picture.stem}.png"
        fault = image_fault(picture, decode=False)
        if fault is not None:
            problems.append(Problem(text=f"{picture} {fault}."))
        elif not mask.is_file():
            problems.append(Problem(text=f"{picture} has no mask {mask.name} in {folders[1]}."))
        elif (fault := _mask_fault(picture, mask, classes)) is not None:
            problems.append(Problem(text=f"{mask} {fault}."))
    return problems


def check_mask_splits(root: str | Path, splits: Sequence[str]) -> list[Problem]:
    """One problem for each picture whose very bytes lie in two splits; equal names alone mean nothing."""
    return identical_files({split: [picture for picture, _ in mask_pairs(root, split)] for split in splits})


def _mask_fault(picture: Path, path: Path, classes: Classes) -> str | None:
    """What is wrong with one mask, as the end of a sentence."""
    try:
        with Image.open(picture) as image, Image.open(path) as mask:
            if mask.mode not in ("L", "P"):
                return f"should be an 8-bit picture of class numbers, but its mode is {mask.mode}"
            if mask.size != image.size:
                return f"is {mask.size[0]}x{mask.size[1]} pixels, but its picture {image.size[0]}x{image.size[1]}"
            numbers = np.unique(np.array(mask)).tolist()
    except Exception as error:  # decoders raise nearly every type on broken bytes
        return f"cannot be decoded ({error})"
    known = set(range(len(classes.names))) | {classes.void}
    if unknown := [number for number in numbers if number not in known]:
        last = len(classes.names) - 1
        return f"has the unknown class number {unknown[0]}; classes are 0 to {last}, void is {classes.void}"
    if numbers == [classes.void]:
        return "is empty: all of its pixels are void"
    return None
