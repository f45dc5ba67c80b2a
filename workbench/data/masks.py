"""Semantic segmentation data: images and masks of the same name, or Cityscapes in its own layout."""

from dataclasses import dataclass
from hashlib import sha256
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import Cityscapes

from workbench.data.checks import mask_folders, refusal
from workbench.data.images import (
    DamagedImage,
    annotated_sizes,
    image_files,
    image_flaw,
    opened,
    read_image,
    served_size,
    to_tensor,
)
from workbench.data.sets import Views
from workbench.records.files import compiled, digest, read_json

VOID = 255  # pixels without a class: not learned, not counted
_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}}
_CLASSES = {"type": "object", "required": ["classes"], "properties": {"classes": _NAMES, "void": {"type": "integer"}}}


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
    try:
        compiled(_CLASSES, '{"classes": [names, from number 0 on], "void": number}')(content)
        return Classes(names=tuple(content["classes"]), void=int(content.get("void", VOID)))
    except ValueError as error:
        raise ValueError(f"{path} does not fit ({error}); correct it.") from error


class MaskFolder(Views):
    """`data[i]` is a uint8 image (3, H, W) and its target: `semantic` int64 (H, W), classes from 0, 255 is void.

    Reads `root/<split>/images` and `root/<split>/masks` (or `root/images/<split>`, `root/masks/<split>`); a mask is an
    8-bit image of class numbers with the name of its image. `classes` names them, None takes what the folder says of
    itself (`mask_classes`). A folder with `leftImg8bit` is Cityscapes: its fine annotations of the 19 evaluated
    classes, everything else void. `max_size` shrinks the long side of larger images. ValueError lists what is wrong.
    """

    def __init__(
        self, root: str | Path, split: str, *, classes: Classes | None = None, max_size: int | None = None
    ) -> None:
        self._table = np.arange(256, dtype=np.uint8)  # from the number in a file to the class
        if (Path(root) / "leftImg8bit").is_dir():
            source = "cityscapes"
            self._pairs, names = _cityscapes(root, split, self._table)
        else:
            source, named = Path(root).resolve().name, mask_classes(root) if classes is None else classes
            self._pairs, problems, shown = read_masks(root, split, named)
            if problems:
                raise refusal(problems, f"{root} ({split})")
            self._table[named.void], names = VOID, named.names
            self.absent = tuple(name for number, name in enumerate(names) if number not in shown)
        self.files = tuple(image for image, _ in self._pairs)
        self._sizes = []  # (width, height) as served
        for _, mask in self._pairs:
            with opened(mask) as header:
                self._sizes.append(served_size(header.size, max_size))
        # Masks may be relabelled at the same length, so their bytes are hashed; images stand by name and length.
        listing = [[i.name, i.stat().st_size, sha256(mask.read_bytes()).hexdigest()] for i, mask in self._pairs]
        files: dict[str, object] = {"files": digest(listing), "classes": names, "table": self._table.tolist()}
        more = {"split": split, "max_size": max_size}
        super().__init__(f"{source}-{split}", names, range(len(self._pairs)), files | more)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        both = self.memory.get(number, lambda: self._read(number)).clone()  # (4, H, W): the image, then the classes
        return both[:3], {"semantic": both[3].long(), "image_id": number}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every image as served; nothing is decoded."""
        return [self._sizes[number][::-1] for number in self.ids]

    def _read(self, number: int) -> Tensor:
        (path, mask_path), size = self._pairs[number], self._sizes[number]
        with opened(mask_path) as whole:
            image = read_image(path, whole.size)  # upright or not, as the mask was drawn
            mask = whole.resize(size, Image.Resampling.NEAREST)
        classes = torch.from_numpy(self._table[np.array(mask)])
        return torch.cat([to_tensor(image, size), classes[None]])


def _cityscapes(
    root: str | Path, split: str, table: npt.NDArray[np.uint8]
) -> tuple[list[tuple[Path, Path]], tuple[str, ...]]:
    """Images with masks and the names of the evaluated classes; fills the table from Cityscapes' numbers to these."""
    try:
        source = Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
    except RuntimeError as error:
        raise ValueError(f"Expected leftImg8bit/{split} and gtFine/{split} of Cityscapes in {root}: {error}") from error
    evaluated = sorted((row for row in Cityscapes.classes if not row.ignore_in_eval), key=lambda row: row.train_id)
    table[:] = VOID
    for row in evaluated:
        table[row.id] = row.train_id
    # Sorted: torchvision lists folders in the order of the disk, and ids, splits and digests follow from it.
    pairs = sorted((Path(image), Path(masks[0])) for image, masks in zip(source.images, source.targets, strict=True))
    return pairs, tuple(row.name for row in evaluated)


def check_cityscapes(root: str | Path, split: str) -> list[str]:
    """Every problem of one split of Cityscapes; images are decoded. Never raises."""
    try:
        pairs, _ = _cityscapes(root, split, np.zeros(256, dtype=np.uint8))
    except ValueError as error:
        return [str(error)]
    if not pairs:
        return [f"{Path(root) / 'leftImg8bit' / split} holds no image."]
    flaws = ((file, image_flaw(file)) for pair in pairs for file in pair)
    return [f"{file} {flaw}." for file, flaw in flaws if flaw is not None]


def read_masks(root: str | Path, split: str, classes: Classes) -> tuple[list[tuple[Path, Path]], list[str], set[int]]:
    """Every image of one split with its mask, in alphabetical order, every problem, and the numbers in the masks.

    Never raises.
    """
    folders, shown = mask_folders(root, split), set[int]()
    if folders is None:
        text = f"Expected images in {Path(root) / split / 'images'} and masks in {Path(root) / split / 'masks'}."
        return [], [text], shown
    pairs = [(image, folders[1] / f"{image.stem}.png") for image in image_files(folders[0])]
    problems = [] if pairs else [f"{folders[0]} holds no image."]
    for image, mask in pairs:
        if (flaw := image_flaw(image, decode=False)) is not None:
            problems.append(f"{image} {flaw}.")
        elif not isfile(mask):
            problems.append(f"{image} has no mask {mask.name} in {folders[1]}.")
        elif (flaw := _mask_flaw(image, mask, classes, shown)) is not None:
            problems.append(f"{mask} {flaw}.")
    return pairs, problems, shown


def _mask_flaw(image_path: Path, path: Path, classes: Classes, shown: set[int]) -> str | None:
    """What is wrong with one mask, as the end of a sentence; its numbers are added to `shown`."""
    try:
        with opened(image_path) as image, opened(path) as mask:
            if mask.mode not in ("L", "P"):
                return f"should be an 8-bit image of class numbers, but its mode is {mask.mode}"
            if mask.size not in annotated_sizes(image):
                return f"is {mask.size[0]}x{mask.size[1]} pixels, but its image {image.size[0]}x{image.size[1]}"
            numbers = np.unique(np.array(mask)).tolist()
            shown.update(numbers)
    except DamagedImage as error:
        return f"cannot be decoded ({error.__cause__})"
    known = set(range(len(classes.names))) | {classes.void}
    if unknown := [number for number in numbers if number not in known]:
        last = len(classes.names) - 1
        return f"has the unknown class number {unknown[0]}; classes are 0 to {last}, void is {classes.void}"
    return "is empty: all of its pixels are void" if numbers == [classes.void] else None
