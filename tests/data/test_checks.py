"""Every kind of badness becomes one sentence naming file and id."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench.data.checks import box_flaw, check_classes, check_coco, check_splits, read_coco
from workbench.data.coco import _annotated
from workbench.data.images import served_size
from workbench.records.files import write_json


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 9, "file_name": "b.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 90, "bbox": [5, 5, 35.5, 20], "area": 600, "iscrowd": 0},
        ],
        "categories": [{"id": 90, "name": "shark"}, {"id": 3, "name": "fish"}],
    }


def write_image(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_json(tmp_path / "annotations" / "instances_train.json", content())
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "images" / f"{name}.png", seed)
    return tmp_path


def rewrite(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = content()
    change(value)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(value))  # json also writes NaN


def test_healthy_folder_has_no_problem(root: Path) -> None:
    assert check_coco(root, "train") == []  # also a box that overhangs by half a pixel


@pytest.mark.parametrize(
    ("change", "words", "bad_boxes"),
    [
        (lambda c: c.pop("categories"), ["categories"], []),
        (lambda c: c.update(images=[]), ["no images"], []),
        (lambda c: c["images"].append(3), ["entry 2", "images"], []),
        (lambda c: c["images"][1].pop("width"), ["width", "9"], []),
        (lambda c: c["images"][1].update(height=10**400), ["height", "9"], []),
        (lambda c: c["images"][1].update(id=7), ["id 7", "2 times", "images"], []),
        (lambda c: c["images"][1].update(file_name="../../secret.png"), ["id 9", "secret.png"], []),
        (lambda c: c["images"][1].update(file_name="gone.png"), ["gone.png", "id 9", "missing"], []),
        (lambda c: c["images"][1].update(width=80), ["b.png", "40x30", "80x30"], []),
        (lambda c: c["annotations"][1].pop("bbox"), ["bbox", "id 2"], []),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), ["bbox", "id 2"], []),
        (lambda c: c["annotations"][1].update(area=float("nan")), ["area", "id 2"], []),
        (lambda c: c["annotations"][1].update(iscrowd=2), ["iscrowd", "id 2"], []),
        (lambda c: c["annotations"][1].update(id=1), ["id 1", "2 times", "annotations"], []),
        (lambda c: c["annotations"][1].update(category_id=4), ["id 2", "category id 4"], []),
        (lambda c: c["annotations"][1].update(image_id=8), ["id 2", "image id 8"], []),
        (lambda c: c["categories"][1].update(id=90), ["id 90", "2 times", "categories"], []),
        (lambda c: c["annotations"][1].update(bbox=[5, 5, 0, 20]), ["id 2", "a.png", "no area"], [2]),
        (lambda c: c["annotations"][1].update(bbox=[10, 10, 1e-9, 5]), ["id 2", "thinner than 0.01 pixels"], [2]),
        (lambda c: c["images"][1].update(file_name="x" * 300), ["id 9", "xxx", "missing"], []),
        (lambda c: c["images"][1].update(file_name="\ud800.png"), ["id 9", "\\ud800.png", "name inside"], []),
        (lambda c: c["images"][1].update(file_name="loop.png"), ["id 9", "loop.png", "name inside"], []),
        (lambda c: c["annotations"][1].update(bbox=[5, 5, 38, 20]), ["id 2", "a.png", "40x30"], [2]),
        (lambda c: c["annotations"][1].update(bbox=[-3, 5, 10, 20]), ["id 2", "a.png", "40x30"], [2]),
        (lambda c: c["annotations"][1].update(bbox=[5, 5, float("nan"), 20]), ["id 2", "not finite"], [2]),
    ],
)
def test_each_fault_is_one_sentence(
    root: Path, change: Callable[[dict[str, Any]], object], words: list[str], bad_boxes: list[int]
) -> None:
    rewrite(root, change)
    (root / "images" / "loop.png").symlink_to(root / "images" / "loop.png")
    problems = check_coco(root, "train")
    assert len(problems) == 1, problems
    files, _ = read_coco(root, "train", decode=True)
    assert list(files.bad_boxes if files else {}) == bad_boxes
    assert all(word in problems[0] for word in words), problems[0]


def test_nothing_is_capped(root: Path) -> None:
    def many(value: dict[str, Any]) -> None:
        first = value["annotations"][0]
        value["annotations"] = [{**first, "id": number, "bbox": [0, 0, 0, 0]} for number in range(300)]

    rewrite(root, many)
    found = check_coco(root, "train")
    assert [f"annotation id {number} " in problem for number, problem in enumerate(found)] == [True] * 300


def test_broken_json_and_missing_files(root: Path) -> None:
    file = root / "annotations" / "instances_train.json"
    assert "instances_val.json" in check_coco(root, "val")[0]
    shutil.rmtree(root / "images")
    assert "none lies in" in check_coco(root, "train")[0]
    file.write_text(file.read_text()[:100])
    assert "instances_train.json" in check_coco(root, "train")[0]
    file.write_text("[]")
    assert "one JSON object" in check_coco(root, "train")[0]


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
def test_truncated_images_are_found_without_decoding_all(root: Path, name: str) -> None:
    rewrite(root, lambda value: value["images"][1].update(file_name=name))
    file = root / "images" / name
    write_image(file, 1)
    assert check_coco(root, "train", decode=False) == []
    file.write_bytes(file.read_bytes()[:-40])
    for decode in (False, True):
        [problem] = check_coco(root, "train", decode=decode)
        assert name in problem and "decoded" in problem


def test_damage_inside_an_image_is_found_by_decoding(root: Path) -> None:
    file = root / "images" / "b.png"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    assert ["b.png" in problem for problem in check_coco(root, "train")] == [True]


def test_splits_that_share_ids_or_images(root: Path) -> None:
    value = content()
    value["images"] = [
        {"id": 9, "file_name": "c.png", "width": 40, "height": 30},
        {"id": 11, "file_name": "d.png", "width": 40, "height": 30},
    ]
    value["annotations"] = []
    write_json(root / "annotations" / "instances_val.json", value)
    write_image(root / "images" / "c.png", 2)
    shutil.copy(root / "images" / "a.png", root / "images" / "d.png")
    shared, same = check_splits(root)
    assert "image id 9" in shared and "train and val" in shared
    assert "a.png (train)" in same and "d.png (val)" in same
    value["images"] = [{"id": 12, "file_name": "c.png", "width": 40, "height": 30}]
    value["categories"][0]["name"] = "whale"
    write_json(root / "annotations" / "instances_val.json", value)
    assert ["categories" in problem for problem in check_splits(root)] == [True]


def test_nothing_outside_the_folder_is_read(root: Path) -> None:
    value = content()
    value["images"] = [{**value["images"][0], "id": 11, "file_name": "../outside.png"}]
    value["images"].append({**value["images"][0], "id": 12, "file_name": "c.png"})
    value["annotations"] = []
    write_json(root / "annotations" / "instances_val.json", value)
    write_image(root / "images" / "c.png", 2)
    shutil.copy(root / "images" / "a.png", root / "outside.png")
    assert "outside.png" in check_coco(root, "val")[0] and check_splits(root) == []


def test_class_folders(tmp_path: Path) -> None:
    assert "one folder per class" in check_classes(tmp_path, "train")[0]
    for seed, name in enumerate(["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png"]):
        write_image(tmp_path / name, seed)
    assert check_classes(tmp_path, "train") == [] and check_splits(tmp_path) == []
    (tmp_path / "train" / "eel").mkdir()
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "val" / "dog" / "5.png")
    (tmp_path / "train" / "dog" / "2.png").write_bytes(b"no image")
    empty_or_broken = " ".join(check_classes(tmp_path, "train"))
    assert "eel holds no image" in empty_or_broken and "2.png cannot be decoded" in empty_or_broken
    other, same = check_splits(tmp_path)
    assert "categories of val" in other
    assert "1.png (train)" in same and "5.png (val)" in same


def test_a_box_that_lies_only_in_the_tolerated_overhang_has_no_area_inside() -> None:
    assert box_flaw([-0.9, 5, 0.5, 10], (100, 100), (100, 100)) == "has no area inside the image"
    assert box_flaw([-0.9, 5, 2.0, 10], (100, 100), (100, 100)) is None


def test_a_box_is_as_thin_as_training_sees_it() -> None:
    assert box_flaw([9, 9, 0.5, 50], (4000, 3000), (4000, 3000)) is None
    assert "in the image of 64x48" in str(box_flaw([9, 9, 0.5, 50], (4000, 3000), (64, 48)))


share, sides = st.floats(0, 1) | st.floats(0, 1e-6), st.integers(1, 20_000)


@given(st.tuples(share, share), st.tuples(share, share), sides, sides, st.integers(1, 2000))
def test_boxes_that_pass_have_an_area_when_training_sees_them(corner, extent, width, height, max_size) -> None:
    box = [corner[0] * width, corner[1] * height, extent[0] * width, extent[1] * height]
    size = (width, height)
    if box_flaw(box, size, served_size(size, max_size)) is not None:
        return
    row = {"bbox": box, "label": 1}
    image = _annotated({"width": width, "height": height}, [row], Path(), max_size, 0, False)
    (x1, y1, x2, y2) = torch.tensor(image.objects["boxes"]).float()[0]
    assert x1 < x2 and y1 < y2
    assert image.size[0] - x2 < image.size[0] - x1  # mirrored, too
    assert x1 / 3 < x2 / 3 and y1 * 2.7 < y2 * 2.7  # and resized by a detector
