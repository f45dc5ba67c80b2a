"""Semantic segmentation data: pictures and masks of the same name, or Cityscapes in its own layout."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import Cityscapes

from workbench.data.checks import summary
from workbench.data.images import MEMORY_LIMIT, Memory, read_image, to_tensor
from workbench.data.mask_checks import VOID, Classes, check_masks, mask_classes, mask_pairs
from workbench.data.scenes import Scenes
from workbench.data.views import Views
from workbench.records.files import digest


class MaskFolder(Views):
    """`data[i]` is a uint8 image (3, H, W) and its target: `semantic` int64 (H, W), classes from 0, 255 is void.

    Reads `root/<split>/images` and `root/<split>/masks` (or `root/images/<split>`, `root/masks/<split>`); a mask is an
    8-bit picture of class numbers with the name of its image. `classes` names them, None takes what the folder says of
    itself (`mask_classes`). `max_size` shrinks the long side of larger pictures. ValueError lists what is wrong.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        classes: Classes | None = None,
        max_size: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        named = mask_classes(root) if classes is None else classes
        if problems := check_masks(root, split, named):
            raise ValueError(summary(problems, f"{root} ({split})", "mend the files named here"))
        table = np.arange(256, dtype=np.uint8)
        table[named.void] = VOID
        pairs = mask_pairs(root, split)
        self._open(Path(root).resolve().name, split, pairs, named.names, table, max_size, memory_limit)

    @classmethod
    def cityscapes(
        cls, root: str | Path, split: str, *, max_size: int | None = None, memory_limit: int = MEMORY_LIMIT
    ) -> Self:
        """Cityscapes' fine annotations: its 19 evaluated classes, everything else void (`data/README.md`)."""
        try:
            source = Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
        except RuntimeError as error:
            raise ValueError(
                f"Expected Cityscapes at {root}, with leftImg8bit/{split} and gtFine/{split}: {error}"
            ) from error
        evaluated = sorted((row for row in Cityscapes.classes if not row.ignore_in_eval), key=lambda row: row.train_id)
        table = np.full(256, VOID, dtype=np.uint8)
        for row in evaluated:
            table[row.id] = row.train_id
        # Sorted: torchvision lists folders in the order of the disk, and ids, splits and digests follow from it.
        pairs = sorted(
            (Path(image), Path(masks[0])) for image, masks in zip(source.images, source.targets, strict=True)
        )
        data = cls.__new__(cls)
        data._open("cityscapes", split, pairs, [row.name for row in evaluated], table, max_size, memory_limit)
        return data

    def _open(
        self,
        name: str,
        split: str,
        pairs: Sequence[tuple[Path, Path]],
        classes: Sequence[str],
        table: npt.NDArray[np.uint8],
        max_size: int | None,
        memory_limit: int,
    ) -> None:
        self.name = f"{name}-{split}"
        self.categories: tuple[str, ...] = tuple(classes)
        self._pairs = list(pairs)
        self._table = table  # from the number in a file to the class
        self._stored = [_size(image, max_size) for image, _ in pairs]
        # Masks may be relabelled at the same length, so their bytes are hashed; pictures stand by name and length.
        listing = [[image.name, image.stat().st_size, sha256(mask.read_bytes()).hexdigest()] for image, mask in pairs]
        content = {"files": digest(listing), "classes": list(classes), "table": table.tolist()}
        self._source = {**content, "split": split, "max_size": max_size}
        self._memory = Memory[Tensor](memory_limit)
        self._choose(tuple(range(len(self._pairs))))

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        number = self.ids[index]
        both = self._memory.get(number, lambda: self._read(number)).clone()  # (4, H, W): the picture, then the classes
        return both[:3], {"semantic": both[3].long(), "image_id": number}

    def target(self, index: int) -> dict[str, Any]:
        """The target alone; no picture is decoded for it."""
        number = self.ids[index]
        if number in self._memory:
            return self[index][1]
        return {"semantic": self._read_mask(number).long(), "image_id": number}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every picture as served; nothing is decoded."""
        return [self._stored[number] for number in self.ids]

    def _read(self, number: int) -> Tensor:
        height, width = self._stored[number]
        picture = read_image(self._pairs[number][0])
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return torch.cat([to_tensor(picture), self._read_mask(number)[None]])

    def _read_mask(self, number: int) -> Tensor:
        """uint8 (H, W), classes as served."""
        height, width = self._stored[number]
        with Image.open(self._pairs[number][1]) as opened:
            mask = opened.copy()
        if mask.size != (width, height):
            mask = mask.resize((width, height), Image.Resampling.NEAREST)
        return torch.from_numpy(self._table[np.array(mask)])


def _size(path: Path, max_size: int | None) -> tuple[int, int]:
    with Image.open(path) as image:
        width, height = image.size
    shrink = 1.0 if max_size is None else min(1.0, max_size / max(width, height))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


class SceneMasks:
    """The semantic maps of generated scenes: `data[i]` is a uint8 image (3, H, W) and {"semantic": int64 (H, W)}."""

    def __init__(self, scenes: Scenes) -> None:
        if "semantic" not in scenes.config.extras:
            raise ValueError("These scenes keep no semantic maps; draw them with extras=('semantic',).")
        self.scenes = scenes
        self.name = f"{scenes.name} masks"
        self.categories = scenes.config.semantic_categories
        self.ids = scenes.ids
        self.digest = scenes.digest

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        return self.scenes[index][0], self.target(index)

    def target(self, index: int) -> dict[str, Any]:
        """The target alone."""
        target = self.scenes.target(index)
        return {"semantic": target["semantic"], "image_id": target["image_id"]}

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every scene."""
        return self.scenes.sizes

    def take(self, indices: Sequence[int]) -> "SceneMasks":
        """A view on some of the scenes, in this order."""
        return SceneMasks(self.scenes.take(indices))
