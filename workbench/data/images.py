"""Pictures from files: always upright RGB, and a bounded memory of them."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MEMORY_LIMIT = 2 * 2**30  # bytes of decoded or drawn images that one data set keeps: 40,000 of 128 x 128 pixels

_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
# A whole JPEG ends with its end-of-image marker, a whole PNG with its IEND chunk.
_LAST_BYTES = (b"\xff\xd9", b"IEND\xaeB`\x82")


def read_image(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture as RGB, turned as its EXIF tag says. Transparency is dropped, 16 bits become 8.

    `size` is the (width, height) that annotations were made for: a picture that has this size only as it is stored
    is not turned, because its boxes were drawn by a tool that ignored the tag.
    """
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        if size is not None and turned.size != size and image.size == size:
            turned = image
        if turned.mode.startswith("I"):  # convert() would cut 16-bit grey at 255 instead of scaling it
            turned = Image.fromarray((np.asarray(turned) // 257).astype(np.uint8))
        if "transparency" in turned.info:  # a palette with transparent entries converts without a warning only so
            turned = turned.convert("RGBA")
        return turned.convert("RGB")


def image_fault(path: Path, size: tuple[int, int] | None = None, *, decode: bool = True) -> str | None:
    """What is wrong with a picture file, as the end of a sentence ("is missing"), or None for a good one.

    `size` (width, height) is the size it should have. With `decode=False` only the first and the last bytes are read
    (0.1 ms); a file that does not end as it should is decoded all the same.
    """
    if not path.is_file():
        return "is missing"
    try:
        with Image.open(path) as image:
            stored = image.size
            sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        if decode or not _ends_properly(path):
            read_image(path)
    except Exception as error:  # decoders raise nearly every type on broken bytes
        return f"cannot be decoded ({error})"
    if size is not None and size not in (stored, stored[::-1] if sideways else stored):
        return f"is {stored[0]}x{stored[1]} pixels, but its annotation says {size[0]}x{size[1]}"
    return None


def to_tensor(image: Image.Image) -> Tensor:
    """The picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Kept = TypeVar("Kept", bound=Sized)


class Memory(Generic[Kept]):
    """What was read or drawn, by number: what was used last stays, up to `limit` bytes; the rest is made again."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[int, Kept] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def get(self, number: int, make: Callable[[], Kept]) -> Kept:
        """What has this number, made if it is not there; a caller that writes into it copies it first."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        made = make()
        if made.nbytes <= self.limit:
            self._kept[number] = made
            self.used += made.nbytes
        while self.used > self.limit:
            self.used -= self._kept.popitem(last=False)[1].nbytes
        return made


def _ends_properly(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16))
        return file.read().endswith(_LAST_BYTES)
