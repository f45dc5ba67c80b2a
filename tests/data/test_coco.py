"""A COCO-format folder as detection data."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_checks import content, rewrite, root, write_image
from workbench.data.coco import CocoFolder
from workbench.data.sets import split_train

__all__ = ["root"]  # the fixture

SAMPLES = Path(os.environ.get("WORKBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))


def test_items_follow_the_contract(root: Path) -> None:
    data = CocoFolder(root, "train")
    assert (len(data), data.ids, data.categories) == (2, (7, 9), ("fish", "shark"))  # in id order: 3, 90
    image, target = data[0]
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40)
    assert target["boxes"].dtype == torch.float32 and target["labels"].tolist() == [1, 2]
    assert target["boxes"].tolist() == [[0, 0, 10, 10], [5, 5, 40, 25]]  # half a pixel of overhang is clipped
    assert target["area"].tolist() == [100, 600] and target["iscrowd"].tolist() == [0, 0]
    assert target["image_id"] == 7
    empty = data[1][1]
    assert empty["boxes"].shape == (0, 4) and empty["labels"].dtype == torch.int64
    assert torch.equal(image, torch.tensor(np.array(Image.open(root / "images" / "a.png"))).permute(2, 0, 1))


@pytest.mark.parametrize("folder", ["images/train", "train", "images/train2017", "train2017", "images"])
def test_layouts(root: Path, folder: str) -> None:
    (root / "images").rename(root / "moved")
    (root / folder).parent.mkdir(exist_ok=True)
    (root / "moved").rename(root / folder)
    assert CocoFolder(root, "train")[1][0].shape == (3, 30, 40)


def test_coco_2017_names(root: Path) -> None:
    (root / "annotations" / "instances_train.json").rename(root / "annotations" / "instances_train2017.json")
    (root / "images").rename(root / "train2017")
    assert CocoFolder(root, "train").ids == CocoFolder(root, "train2017").ids == (7, 9)


def test_max_size_scales_boxes_and_areas_with_the_image(root: Path) -> None:
    data = CocoFolder(root, "train", max_size=20)
    image, target = data[0]
    assert image.shape == (3, 15, 20)
    assert target["boxes"].tolist() == [[0, 0, 5, 5], [2.5, 2.5, 20, 12.5]]
    assert target["area"].tolist() == [25, 150]
    assert data.ground_truth()["images"][0] == {"id": 7, "width": 20, "height": 15}
    assert CocoFolder(root, "train", max_size=100)[0][0].shape == (3, 30, 40)  # never enlarged


def test_ground_truth_says_what_the_targets_say(root: Path) -> None:
    truth = CocoFolder(root, "train").ground_truth()
    assert truth["categories"] == [{"id": 1, "name": "fish"}, {"id": 2, "name": "shark"}]
    assert truth["annotations"][1] == {
        "id": 2,
        "image_id": 7,
        "category_id": 2,
        "bbox": [5.0, 5.0, 35.0, 20.0],
        "area": 600.0,
        "iscrowd": 0,
    }


def test_a_bad_box_is_dropped_and_listed(root: Path) -> None:
    """As train2017 of COCO needs it, which has boxes of no height."""
    healthy = {CocoFolder(root, "train", bad_boxes=choice).digest for choice in ("few", "drop", "error")}
    rewrite(root, lambda value: value["annotations"][0].update(bbox=[1, 1, 5, 0]))
    with pytest.raises(ValueError, match=r'1 problem(.|\n)*bad_boxes="drop"(.|\n)*annotation id 1 .*no area'):
        CocoFolder(root, "train", bad_boxes="error")
    data = CocoFolder(root, "train")
    assert [problem.bad_box for problem in data.dropped] == [1]
    assert data[0][1]["labels"].tolist() == [2] and len(data.ground_truth()["annotations"]) == 1
    assert data.digest == CocoFolder(root, "train", bad_boxes="drop").digest
    assert len(healthy) == 1  # what was dropped counts, not what might have been
    with pytest.raises(ValueError, match="bad_boxes is one of few, drop, error; got 'none'"):
        CocoFolder(root, "train", bad_boxes="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(("boxes", "bad", "few"), [(30, 1, True), (30, 2, False), (300, 3, True), (300, 4, False)])
def test_one_bad_box_in_a_hundred_is_few_and_one_always_is(root: Path, boxes: int, bad: int, few: bool) -> None:
    def change(value: dict[str, Any]) -> None:
        first = value["annotations"][0]
        value["annotations"] = [{**first, "id": n, "bbox": [0, 0, 9, 0 if n < bad else 9]} for n in range(boxes)]

    rewrite(root, change)
    assert len(CocoFolder(root, "train", bad_boxes="drop").dropped) == bad
    if few:
        assert len(CocoFolder(root, "train").dropped) == bad
    else:
        with pytest.raises(ValueError, match=f'{bad} problem.*out of {boxes}; .*bad_boxes="drop"'):
            CocoFolder(root, "train")


def test_worse_faults_are_refused_all_at_once(root: Path) -> None:
    with pytest.raises(ValueError, match="max_size"):
        CocoFolder(root, "train", max_size=0)
    (root / "images" / "b.png").write_bytes(b"")
    rewrite(root, lambda value: value["annotations"][0].update(bbox=[1, 1, 5, 0]))
    with pytest.raises(ValueError, match=r"2 problem(.|\n)*no area(.|\n)*b\.png"):
        CocoFolder(root, "train", bad_boxes="drop")


def test_views_and_digests(root: Path) -> None:
    data = CocoFolder(root, "train")
    view = data.take([1])
    assert view.ids == (9,) and view[0][1]["image_id"] == 9 and len(view.ground_truth()["images"]) == 1
    assert data.take([0, 1]).digest == data.digest == CocoFolder(root, "train").digest
    others = {view.digest, data.digest, CocoFolder(root, "train", max_size=20).digest}
    rewrite(root, lambda value: value["annotations"].pop())
    assert len(others | {CocoFolder(root, "train").digest}) == 4


def test_images_too_large_for_memory_are_read_again(root: Path) -> None:
    kept, read = CocoFolder(root, "train"), CocoFolder(root, "train")
    read.memory.limit = 100
    kept[0][0].zero_()  # what is returned belongs to the caller
    first = kept[0][0]
    assert torch.equal(first, read[0][0]) and first.any()
    write_image(root / "images" / "a.png", 5)
    assert torch.equal(first, kept[0][0]) and not torch.equal(first, read[0][0])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1", "LA", "CMYK"])
def test_any_mode_becomes_rgb(root: Path, mode: str) -> None:
    name = "b.jpg" if mode == "CMYK" else "b.png"
    grey = np.full((30, 40), 128, dtype=np.uint8)
    grey[:, :20] = 255
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(root / "images" / name, **({"transparency": b"\0\1"} if mode == "P" else {}))
    rewrite(root, lambda value: value["images"][1].update(file_name=name))
    pixels = CocoFolder(root, "train")[1][0]
    assert pixels.shape == (3, 30, 40) and (pixels[:, :, :16] > 250).all()
    assert mode == "1" or ((pixels[:, :, 24:] > 120) & (pixels[:, :, 24:] < 136)).all()


def test_exif_turns_the_image_unless_annotated_as_stored(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stored = np.zeros((30, 40, 3), dtype=np.uint8)
    stored[:10] = 255  # the stored top is the right side once turned
    Image.fromarray(stored).save(root / "images" / "b.png", exif=exif)
    assert CocoFolder(root, "train")[1][0][0, 0].eq(255).all()
    rewrite(root, lambda value: value["images"][1].update(width=30, height=40))
    image = CocoFolder(root, "train")[1][0]
    assert image.shape == (3, 40, 30) and image[0, :, 20:].eq(255).all() and image[0, :, :20].eq(0).all()


def many(root: Path, ids: list[int]) -> CocoFolder:
    def change(value: dict[str, Any]) -> None:
        value["images"] = [{**value["images"][0], "id": number} for number in ids]
        value["annotations"] = []

    rewrite(root, change)
    return CocoFolder(root, "train")


def test_search_split_depends_on_ids_and_seed_alone(root: Path) -> None:
    data = many(root, list(range(100, 140)))
    train, search = split_train(data, 0.25, seed=3)
    assert len(search) == 10 and sorted(train.ids + search.ids) == list(data.ids)
    turned, found = split_train(many(root, list(range(139, 99, -1))), 0.25, seed=3)
    assert set(found.ids) == set(search.ids) and set(turned.ids) == set(train.ids)
    assert set(split_train(data, 0.25, seed=4)[1].ids) != set(search.ids)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="fraction"):
            split_train(data, fraction, seed=3)
    assert len(split_train(data.take([0, 1]), 0.01, seed=0)[1]) == 1
    with pytest.raises(ValueError, match="at least 2"):
        split_train(data.take([0]), 0.5, seed=0)


def test_optional_keys_have_the_usual_meaning(root: Path) -> None:
    assert content()["annotations"][1]["area"] == 600
    rewrite(root, lambda value: [value["annotations"][1].pop(key) for key in ("area", "iscrowd")])
    target = CocoFolder(root, "train")[0][1]
    assert target["area"].tolist() == [100, 710] and target["iscrowd"].tolist() == [0, 0]


@pytest.mark.parametrize(("name", "categories", "images"), [("aquarium", 7, 190), ("coco_tiny80", 80, 158)])
def test_real_photographs(name: str, categories: int, images: int) -> None:
    if not (SAMPLES / name).is_dir():
        pytest.skip(f"the sample {name} is not in {SAMPLES}")
    data = CocoFolder(SAMPLES / name, "val", max_size=160)
    assert len(data.categories) == categories and len(data) == images
    turned = data.take(range(images - 1, -1, -1))
    assert turned.sizes == data.sizes[::-1] and len(set(data.sizes)) > 1
    assert [tuple(data[index][0].shape[1:]) for index in range(0, images, 10)] == data.sizes[::10]
    for image, target in (data[index] for index in range(0, images, 10)):
        height, width = image.shape[1:]
        assert max(height, width) == 160
        boxes = target["boxes"]
        assert (boxes >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all() and target["labels"].max() <= categories
