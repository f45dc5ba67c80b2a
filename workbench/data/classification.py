"""Classification data from class folders: `root/split/class/picture`, the layout of ImageNet."""

from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor

from workbench.data.checks import check_classes, class_folders, picture_files, summary
from workbench.data.images import MEMORY_LIMIT, Memory, read_image, to_tensor
from workbench.data.views import Views
from workbench.records.files import digest


class ClassFolder(Views):
    """`data[i]` is a uint8 image (3, side, side), the centre square of a picture, and its label 0..K-1.

    Labels follow the alphabetical order of the class folders, ids that of the files. Everything is checked first:
    ValueError lists the problems. What was decoded last stays in memory, up to `memory_limit` bytes.
    """

    def __init__(self, root: str | Path, split: str, *, side: int, memory_limit: int = MEMORY_LIMIT) -> None:
        if side < 1:
            raise ValueError(f"side is a number of pixels of at least 1, but is {side}; 96 is usual.")
        problems = check_classes(root, split, decode=False)
        if problems:
            raise ValueError(summary(problems, f"{root} ({split})", "mend the files named here"))
        folders = class_folders(root, split)
        self.name = f"{Path(root).resolve().name}-{split}"
        self.categories: tuple[str, ...] = tuple(folder.name for folder in folders)
        self.side = side
        self._files = [(path, label) for label, folder in enumerate(folders) for path in picture_files(folder)]
        # Names and lengths stand for the content: reading all of ImageNet for a digest would take many minutes.
        listing = [[path.parent.name, path.name, path.stat().st_size] for path, _ in self._files]
        self._source = {"files": digest(listing), "split": split, "side": side}
        self._memory = Memory[Tensor](memory_limit)
        self._choose(tuple(range(len(self._files))))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = self.ids[index]
        path, label = self._files[number]
        return self._memory.get(number, lambda: _read(path, self.side)).clone(), label

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of every picture, without decoding any."""
        return tuple(self._files[number][1] for number in self.ids)


def _read(path: Path, side: int) -> Tensor:
    return to_tensor(ImageOps.fit(read_image(path), (side, side), Image.Resampling.BILINEAR))
