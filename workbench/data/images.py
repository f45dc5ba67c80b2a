"""Images from files, always upright RGB, and a bounded memory of them."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import isfile  # unlike that of Path, it does not raise for a name that no file can have
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from workbench.records.environment import machine_setting

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")  # PIL knows forty more; for some it starts programs
MOST_PIXELS = 200_000_000  # of one image; four bytes each while it is decoded
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images in 0-1, for each colour
MEMORY_LIMIT = 2.0  # GiB of decoded or drawn images that one data set keeps: 40,000 of 128 x 128 pixels

_SIDEWAYS = (5, 6, 7, 8)  # orientations in EXIF that swap width and height
# A whole JPEG ends with its end-of-image marker, a whole PNG with its IEND chunk.
_LAST_BYTES = (b"\xff\xd9", b"IEND\xaeB`\x82")


def image_files(folder: Path) -> list[Path]:
    """The images in a folder in alphabetical order; other endings and hidden files are passed over."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))


class DamagedImage(ValueError):
    """An image file that cannot be used: the message names it, its cause says why."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image file at `path`, of which only the header was read; DamagedImage for whatever goes wrong in it.

    Formats are those of `FORMATS`, whatever the name of the file says, and sizes up to `MOST_PIXELS`.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is compared here
    try:
        with Image.open(path, formats=FORMATS) as image:
            most = MOST_PIXELS // 4 if image.format == "WEBP" else MOST_PIXELS  # its decoder holds four copies
            if (pixels := image.width * image.height) > most:
                raise ValueError(f"{pixels / 1e6:,.0f} megapixels, more than {most / 1e6:,.0f}")
            yield image
    except DamagedImage:  # of another file that was read meanwhile
        raise
    except Exception as error:  # decoders raise nearly every type on broken bytes
        raise DamagedImage(f"{path} cannot be decoded ({error}); mend it or leave it out.") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_image(path: Path, size: tuple[int, int] | None = None, *, largest: int = 0) -> Image.Image:
    """The image as RGB, turned as its EXIF tag says. Transparency is dropped, 16 bits become 8.

    `size` is the (width, height) that annotations were made for: an image that has this size only as it is stored
    is not turned, because its boxes were drawn by a tool that ignored the tag. With `largest` the long side is shrunk
    to so many pixels while it is read. DamagedImage names a file that cannot be decoded.
    """
    with opened(path) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that nobody reads
        if largest:
            # PIL cannot do 16 bits in two steps, which are faster.
            image.thumbnail((largest, largest), reducing_gap=None if image.mode.startswith("I") else 2.0)
        image.load()
        if size is None or image.size != size or annotated_sizes(image)[-1] == size:
            ImageOps.exif_transpose(image, in_place=True)
        turned: Image.Image = image
        if turned.mode.startswith("I"):  # convert() would cut 16-bit grey at 255 instead of scaling it
            turned = Image.fromarray((np.asarray(turned) // 257).clip(0, 255).astype(np.uint8))
        if "transparency" in turned.info:  # a palette with transparent entries converts without a warning only so
            turned = turned.convert("RGBA")
        return turned.convert("RGB")


def image_flaw(path: Path, size: tuple[int, int] | None = None, *, decode: bool = True) -> str | None:
    """What is wrong with an image file, as the end of a sentence ("is missing"), or None for a good one.

    `size` (width, height) is the size it should have. With `decode=False` only the first and the last bytes are read
    (0.1 ms); a file that does not end as it should is decoded all the same.
    """
    if not isfile(path):
        return "is missing"
    try:
        with opened(path) as image:
            stored, fitting = image.size, annotated_sizes(image)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16))
            whole = file.read().endswith(_LAST_BYTES)
        if decode or not whole:
            read_image(path)
    except (DamagedImage, OSError) as error:
        return f"cannot be decoded ({error.__cause__ or error})"
    if size is not None and size not in fitting:
        return f"is {stored[0]}x{stored[1]} pixels, but its annotation says {size[0]}x{size[1]}"
    return None


def annotated_sizes(image: Image.Image) -> tuple[tuple[int, int], ...]:
    """The sizes (width, height) that annotations of an opened image may be made for: as stored, and upright."""
    sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (image.size, image.size[::-1]) if sideways else (image.size,)


def served_size(stored: tuple[int, int], max_size: int | None) -> tuple[int, int]:
    """(width, height) of an image whose long side is shrunk to `max_size`, never enlarged."""
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size is a number of pixels of at least 1, but is {max_size}; None keeps all sizes.")
    shrink = 1.0 if max_size is None else min(1.0, max_size / max(stored))
    return max(1, round(stored[0] * shrink)), max(1, round(stored[1] * shrink))


def to_tensor(image: Image.Image, size: tuple[int, int] | None = None) -> Tensor:
    """The image as uint8 (3, H, W), resized to (width, height) where it has another size."""
    if size is not None and image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class Memory:
    """What was read or drawn, by number: what was used last stays, up to `limit` bytes; the rest is made again.

    WORKBENCH_MEMORY gives another limit, in GiB. What it holds does not travel to other processes.
    """

    def __init__(self) -> None:
        self.limit, self.used = int(machine_setting("WORKBENCH_MEMORY", MEMORY_LIMIT) * 2**30), 0
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, ()

    def get(self, number: int, make: Callable[[], Any]) -> Any:
        """What has this number, made if it is not there: an array or tensor, to be copied before it is written into."""
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
