"""Images with masks: the contract, the layouts, and what is refused with which sentence."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_coco import SAMPLES
from workbench.data.augmentation import augment_masks, augmentation
from workbench.data.checks import check_splits
from workbench.data.masks import VOID, Classes, MaskFolder, mask_classes, read_masks
from workbench.data.sets import split_train

CLASSES = Classes(names=("road", "car"), void=9)


@pytest.fixture
def root(tmp_path):
    """Two images of 12 x 8 pixels in each split; class 1 in the upper left, void in the last column."""
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (tmp_path / split / folder).mkdir(parents=True)
        for name in ("a", "b"):
            image = np.full((8, 12, 3), 60 if name == "a" else 50, dtype=np.uint8)
            image[-1, -1] = 0 if split == "train" else 30
            image[:4, :6] = 200
            mask = np.zeros((8, 12), dtype=np.uint8)
            mask[:4, :6], mask[:, -1] = 1, 9
            Image.fromarray(image).save(tmp_path / split / "images" / f"{split}_{name}.jpg")
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{split}_{name}.png")
    return tmp_path


def mask_of(root, name="train_a", split="train"):
    return root / split / "masks" / f"{name}.png"


def test_items_follow_the_contract(root):
    data = MaskFolder(root, "train", classes=CLASSES)
    image, target = data[1]
    assert (len(data), data.ids, data.categories) == (2, (0, 1), ("road", "car"))
    assert image.shape == (3, 8, 12) and image.dtype == torch.uint8
    semantic = target["semantic"]
    assert semantic.dtype == torch.int64 and semantic.shape == (8, 12)
    assert semantic[0, 0] == 1 and semantic[7, 0] == 0 and (semantic[:, -1] == VOID).all()
    assert data.sizes == [(8, 12)] * 2 and data.take([1]).ids == (1,)
    image.zero_()
    assert data[1][0].max() > 0  # the caller owns what it gets


def test_classes_may_be_named_by_the_folder(root):
    with pytest.raises(ValueError, match="does not say what the numbers in its masks mean"):
        MaskFolder(root, "train")
    (root / "classes.json").write_text(json.dumps({"classes": ["road", "car"], "void": 9}))
    assert mask_classes(root) == CLASSES
    assert MaskFolder(root, "train").categories == ("road", "car")
    for content in ({"classes": "road"}, {"classes": ["road", 3]}, {"classes": ["road", "car"], "void": "none"}, []):
        (root / "classes.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"classes\.json"):
            mask_classes(root)
    with pytest.raises(ValueError, match="void is a number behind them"):
        Classes(names=("a", "b", "c"), void=1)


def test_another_layout_and_smaller_images(root):
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        (root / "train" / folder).rename(root / folder / "train")
    data = MaskFolder(root, "train", classes=CLASSES, max_size=6)
    image, target = data[0]
    assert image.shape == (3, 4, 6) and set(target["semantic"].unique().tolist()) <= {0, 1, VOID}  # nothing between
    whole = MaskFolder(root, "train", classes=CLASSES)
    assert data.digest != whole.digest != MaskFolder(root, "train", classes=replace(CLASSES, names=("x", "y"))).digest


def test_a_mask_fits_its_turned_image_as_stored_and_upright(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stored = np.zeros((8, 12, 3), dtype=np.uint8)
    stored[:4] = 255  # the stored top is the right side once turned
    Image.fromarray(stored).save(root / "train" / "images" / "train_a.jpg", exif=exif, quality=95)
    mask = (stored[..., 0] > 0).astype(np.uint8)
    for drawn in (mask, np.rot90(mask, -1)):
        Image.fromarray(drawn).save(mask_of(root))
        image, target = MaskFolder(root, "train", classes=CLASSES)[0]
        assert image.shape == (3, *drawn.shape)
        assert target["semantic"].tolist() == drawn.tolist() == (image[0] > 128).int().tolist()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: mask_of(root).unlink(), "has no mask train_a.png"),
        (lambda root: Image.new("L", (12, 8), 5).save(mask_of(root)), "unknown class number 5; classes are 0 to 1"),
        (lambda root: Image.new("L", (12, 8), 9).save(mask_of(root)), "is empty: all of its pixels are void"),
        (lambda root: Image.new("RGB", (12, 8)).save(mask_of(root)), "its mode is RGB"),
        (lambda root: Image.new("L", (10, 8)).save(mask_of(root)), "is 10x8 pixels, but its image 12x8"),
        (lambda root: mask_of(root).write_bytes(b"no image"), "cannot be decoded"),
        (lambda root: (root / "train" / "images" / "train_a.jpg").write_bytes(b"no"), "cannot be decoded"),
        (lambda root: [f.unlink() for f in (root / "train" / "images").iterdir()], "holds no image"),
        (lambda root: (root / "train" / "masks").rename(root / "elsewhere"), "Expected images in"),
    ],
)
def test_faults_are_reported_before_work_starts(root, break_it, message):
    break_it(root)
    assert any(message in problem for problem in read_masks(root, "train", CLASSES)[1])
    with pytest.raises(ValueError, match=message):
        MaskFolder(root, "train", classes=CLASSES)
    assert read_masks(root, "val", CLASSES)[1] == []


def test_an_image_in_two_splits_is_found(root):
    assert check_splits(root) == []
    for folder, ending in (("images", "jpg"), ("masks", "png")):
        source = root / "train" / folder / f"train_a.{ending}"
        (root / "val" / folder / source.name).write_bytes(source.read_bytes())
    (problem,) = check_splits(root)
    assert "are the same image; keep it in one split" in problem


def test_masks_move_with_their_images(root):
    torch.manual_seed(0)
    data = MaskFolder(root, "train", classes=CLASSES)
    for name in ("flip", "scale"):
        outcomes = set()
        for _ in range(6):
            image, target = augment_masks(*data[0], augmentation(name, 16))
            semantic = target["semantic"]
            assert semantic.shape == image.shape[1:] and semantic.dtype == torch.int64
            assert set(semantic.unique().tolist()) <= {0, 1, VOID}
            bright = image.float().mean(0) > 150
            assert (semantic[bright] == 1).float().mean() > 0.9  # the bright corner is class 1, wherever it went
            outcomes.add(tuple(semantic.flatten().tolist()))
        assert len(outcomes) > 1
    assert augment_masks(*data[0], augmentation("scale", 16))[0].shape == (3, 16, 16)


def test_cityscapes_reads_its_own_layout(tmp_path, monkeypatch):
    for split, town in (("train", "town"), ("train", "burg"), ("train", "ville"), ("val", "town")):
        image = tmp_path / "leftImg8bit" / split / town
        labels = tmp_path / "gtFine" / split / town
        image.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.new("RGB", (8, 4), (90, 90, 90)).save(image / f"{town}_0_0_leftImg8bit.png")
        Image.fromarray(np.array([[7, 26, 4, 0]] * 4, dtype=np.uint8).repeat(2, 1)).save(
            labels / f"{town}_0_0_gtFine_labelIds.png"
        )
        for kind in ("instanceIds", "color"):
            Image.new("L", (8, 4)).save(labels / f"{town}_0_0_gtFine_{kind}.png")
        (labels / f"{town}_0_0_gtFine_polygons.json").write_text("{}")
    data = MaskFolder(tmp_path, "train")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=True))
    other_disk = MaskFolder(tmp_path, "train")
    assert len(data) == 3 and other_disk.digest == data.digest
    assert len(data.categories) == 19 and data.categories[0] == "road" and data.categories[13] == "car"
    assert data[0][1]["semantic"][0].tolist() == [0, 0, 13, 13, VOID, VOID, VOID, VOID]
    with pytest.raises(ValueError, match="does not say what"):
        MaskFolder(tmp_path / "none", "train")


def test_street_frames():
    if not (SAMPLES / "camvid").is_dir():
        pytest.skip(f"no sample data at {SAMPLES}")
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    data = MaskFolder(SAMPLES / "camvid", "val", classes=Classes(names=tuple(names), void=11))
    assert len(data) == 101 and data.sizes[0] == (180, 240)
    counts = torch.bincount(torch.cat([data[i][1]["semantic"].flatten() for i in range(20)]), minlength=256)
    assert counts[[1, 3]].sum() > counts[:11].sum() / 2 and counts[VOID] > 0  # buildings and road; some void
    train, search = split_train(data, 0.2, seed=0)
    assert not set(train.ids) & set(search.ids)
