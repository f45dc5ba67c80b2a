"""The papers' splits: their counts on data of official size, and miniature folders of the official layouts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.data.test_checks import write_image
from workbench.data.coco import CocoFolder
from workbench.data.loader import DataPlan, load_data
from workbench.data.sets import Views
from workbench.data.splits import SPLITS, TRAIN2017, SplitName
from workbench.records.files import write_json


class Official(Views):
    """As many ids as an official data set has; every hundredth image has no object."""

    def __init__(self, size: int) -> None:
        super().__init__("official", (), range(size), {})

    def with_objects(self) -> Self:
        return self.take([place for place, number in enumerate(self.ids) if number % 100])


@pytest.mark.parametrize(
    ("name", "size", "counts"),
    [
        ("detnas", TRAIN2017, (113_287, 5_000)),
        ("crnas", TRAIN2017, (113_287, 5_000)),
        ("detnas-voc", 16_551, (11_551, 5_000)),
        ("fna", TRAIN2017, (59_144, 59_143)),
        ("fna-cityscapes", 2_975, (2_380, 595)),
    ],
)
def test_counts_are_those_of_the_papers(name: SplitName, size: int, counts: tuple[int, int]) -> None:
    data = Official(size)
    train, search = SPLITS[name].cut(data, Path(), 0)
    dropped = 0 if name == "fna-cityscapes" else sum(1 for number in data.ids if number % 100 == 0)
    assert not set(train.ids) & set(search.ids)
    if name == "fna":  # both halves are trained on
        assert len(train) + len(search) == size - dropped
        assert not any(number % 100 == 0 for number in (*train.ids, *search.ids))
        assert abs(len(train) - len(search)) < 200
        whole = [len(part) + sum(n % 100 == 0 for n in set(data.ids) - set(part.ids)) for part in (train, search)]
        assert min(whole) >= min(counts)
    else:
        gone = dropped - sum(1 for number in search.ids if number % 100 == 0)
        assert (len(train) + (gone if dropped else 0), len(search)) == counts
        assert not dropped or not any(number % 100 == 0 for number in train.ids)
    again = SPLITS[name].cut(Official(size), Path(), 0)
    assert again[0].ids == train.ids and SPLITS[name].cut(data, Path(), 1)[1].ids != search.ids


def annotations(numbers: list[int], boxes: dict[int, list[list[float]]]) -> dict[str, Any]:
    rows: Iterator[tuple[int, list[float]]] = ((number, box) for number in numbers for box in boxes.get(number, []))
    return {
        "images": [{"id": n, "file_name": f"{n:012}.png", "width": 40, "height": 30} for n in numbers],
        "annotations": [
            {"id": place, "image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for place, (number, box) in enumerate(rows, start=1)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO 2017 in miniature: its names, an image without an object, and its two boxes without height."""
    boxes: dict[int, list[list[float]]] = {number: [[1.0, 1, 20, 20]] for number in (*range(1, 7), 11)}
    boxes[2].append([3.0, 9, 12, 0])
    boxes[5].append([7.0, 7, 10, 0])
    for split, numbers in (("train", list(range(1, 9))), ("val", [11, 12])):
        write_json(tmp_path / "annotations" / f"instances_{split}2017.json", annotations(numbers, boxes))
        for number in numbers:
            write_image(tmp_path / f"{split}2017" / f"{number:012}.png", number)
    return tmp_path


def test_images_without_objects_are_not_trained_on(coco: Path) -> None:
    assert CocoFolder(coco, "train", bad_boxes="drop").with_objects().ids == (1, 2, 3, 4, 5, 6)
    data = load_data(
        DataPlan(image_side=0, crop_side=32, split="detnas"), "detection", str(coco), seed=0, bad_boxes="drop"
    )
    assert data.full_train.ids == (1, 2, 3, 4, 5, 6) and "2 bad boxes dropped" in data.description
    assert set(data.train.ids) < set(data.full_train.ids) and len(data.test) == 2
    assert len(data.search) == 1 and data.search.ids[0] not in data.train.ids


def test_natss_halves_go_by_the_year_of_the_image(coco: Path) -> None:
    plan = DataPlan(image_side=0, crop_side=32, split="nats")
    with pytest.raises(
        ValueError, match=r"instances_train2014\.json is needed, from annotations_trainval2014\.zip \(https"
    ):
        load_data(plan, "detection", str(coco), seed=0, bad_boxes="drop")
    path = coco / "annotations" / "instances_train2014.json"
    write_json(path, annotations([1, 2, 3, 8], {}))
    for seed in (0, 1):
        data = load_data(plan, "detection", str(coco), seed=seed, bad_boxes="drop")
        assert (data.train.ids, data.search.ids) == ((1, 2, 3), (4, 5, 6))
    write_json(path, annotations([100], {}))
    with pytest.raises(ValueError, match=r"All images of .* are on one side"):
        load_data(plan, "detection", str(coco), seed=0, bad_boxes="drop")


@pytest.mark.parametrize(("name", "split"), list(SPLITS.items()))
def test_what_is_absent_is_named_with_its_layout_and_address(name: SplitName, split: Any) -> None:
    plan = DataPlan(image_side=0, crop_side=32, split=name)
    for data, message in (("nowhere", "was not found"), ("scenes", "needs data and pretrain_data to be folders")):
        with pytest.raises(ValueError, match=message) as caught:
            load_data(plan, "detection", data, seed=0)
        text = str(caught.value)
        assert split.made_for in text and "http" in split.made_for and "image-net.org" in text
