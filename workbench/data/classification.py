"""Classification data from class folders: `root/split/class/image`, the layout of ImageNet."""

import json
from os import listdir
from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor

from workbench.data.checks import check_classes, class_folders, refusal
from workbench.data.images import image_files, read_image, to_tensor
from workbench.data.sets import Views
from workbench.records.files import digest, read_json, write_text


class ClassFolder(Views):
    """`data[i]` is a uint8 image (3, side, side), the centre square of a file, and its label 0..K-1.

    With `whole` it is ImageNet's way: augmentations start from the whole file, and `data[i]` is the centre of an image
    whose short side is 8/7 of `side` (256 for 224).
    Labels follow the alphabetical order of the class folders, ids that of the files. Everything is checked first:
    ValueError lists the problems. A folder that was found healthy is not looked through again: its list of files is
    kept in `cache`, if one is given, until a class folder changes.
    """

    def __init__(
        self, root: str | Path, split: str, *, side: int, cache: str | Path | None = None, whole: bool = False
    ) -> None:
        if side < 1:
            raise ValueError(f"side is a number of pixels of at least 1, but is {side}; 96 is usual.")
        self.side, self.whole = side, whole
        classes = _files(root, split, cache)
        listing = [(name, file, length) for name, files in classes.items() for file, length in files]
        self.files = tuple(Path(root) / split / name / file for name, file, _ in listing)
        self._labels = [label for label, files in enumerate(classes.values()) for _ in files]
        # Names and lengths stand for the content: reading all of ImageNet for a digest would take many minutes.
        source = {"files": digest(listing), "split": split, "side": side} | ({"whole": True} if whole else {})
        super().__init__(f"{Path(root).resolve().name}-{split}", classes, range(len(listing)), source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = self.ids[index]
        return self.memory.get(number, lambda: self._cropped(self.files[number])).clone(), self._labels[number]

    def uncropped(self, index: int) -> tuple[Tensor, int]:
        """What augmentations start from: the whole image of any size, or without `whole` the centre square."""
        number = self.ids[index]
        return (to_tensor(read_image(self.files[number])), self._labels[number]) if self.whole else self[index]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every square."""
        return [(self.side, self.side)] * len(self)

    @property
    def in_memory(self) -> bool:
        """Whole files are not kept."""
        return not self.whole and super().in_memory

    def _cropped(self, path: Path) -> Tensor:
        edge = (1 - 7 / 8) / 2 if self.whole else 0.0  # of both sides
        return to_tensor(ImageOps.fit(read_image(path), (self.side,) * 2, Image.Resampling.BILINEAR, bleed=edge))


def _files(root: str | Path, split: str, cache: str | Path | None) -> dict[str, list[tuple[str, int]]]:
    """Name and length of each image of each class, in order and found healthy; ValueError lists the problems.

    A file that is added, removed or renamed changes its folder's time or count, so that the kept list is not used. One
    that is overwritten in place does not: delete the list then.
    """
    folders = class_folders(root, split)
    state = {folder.name: [folder.stat().st_mtime_ns, len(listdir(folder))] for folder in folders}
    path = Path(cache or "") / f"classes-{digest(str((Path(root) / split).resolve()))}.json"
    try:
        kept = read_json(path) if cache is not None else {}
        if kept["digest"] == digest([state, kept["files"]]):
            return dict(kept["files"])
    except (ValueError, TypeError, KeyError):
        pass  # none yet, or damaged
    if problems := check_classes(root, split, decode=False):
        raise refusal(problems, f"{root} ({split})")
    files = {folder.name: [(file.name, file.stat().st_size) for file in image_files(folder)] for folder in folders}
    if cache is not None:
        write_text(path, json.dumps({"files": files, "digest": digest([state, files])}))
    return files
