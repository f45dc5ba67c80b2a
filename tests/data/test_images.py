"""Any image file becomes upright RGB or one sentence that names it; nothing is started, nothing huge is decoded."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.images import DamagedImage, image_flaw, read_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(started) print\nshowpage\n%%EOF\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says so many pixels, and has not one."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (EPS, "cannot identify image file"),
        (b"", "cannot identify image file"),
        (bomb(20_000, 10_001), "200 megapixels, more than 200"),
        (bomb(2**31 - 1, 2**31 - 1), "megapixels, more than 200"),
        (bomb(20_000, 9_999), "truncated"),  # small enough: it is read, and has no pixels
    ],
)
def test_what_is_no_image_is_named_with_the_reason(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DamagedImage, match=rf"photo\.jpg cannot be decoded \(.*{why}.*\); mend it or leave it out\.$"):
        read_image(path)
    assert why in str(image_flaw(path)) and str(image_flaw(path)).startswith("cannot be decoded (")


def test_an_image_that_is_damaged_in_its_middle_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DamagedImage, match=r"a\.png cannot be decoded"):
        read_image(tmp_path / "a.png")
    with pytest.raises(DamagedImage, match=r"nowhere\.png cannot be decoded"):
        read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "bmp", "jpg"])
@pytest.mark.parametrize("size", [(1, 97), (200, 1), (3, 200), (20_000, 10)])
def test_odd_shapes_are_shrunk_while_they_are_read(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    if ending == "webp" and max(size) > 16_383:
        size = (16_000, 10)
    path = tmp_path / f"odd.{ending}"
    Image.new("RGB", size, (200, 30, 90)).save(path)
    assert read_image(path).size == size
    small = read_image(path, largest=128)
    assert max(small.size) == min(128, max(size)) and min(small.size) >= 1 and small.mode == "RGB"
    assert np.allclose(np.array(small)[0, 0], (200, 30, 90), atol=8)


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "P", "1", "RGBA", "LA"])
def test_large_images_of_any_mode_are_shrunk(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (3000, 100), 255)
    image = Image.fromarray(np.full((100, 3000), 65535, np.uint16)) if mode == "I;16" else grey.convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    assert np.array(read_image(path, largest=300)).min() > 250
