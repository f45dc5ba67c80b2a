"""Masks of single objects in a COCO folder: polygons and run lengths, drawn, shrunk, turned with the image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask

from tests.data.test_checks import rewrite, root
from workbench.data.augmentation import augment_detection, augmentation
from workbench.data.coco import CocoFolder
from workbench.data.loader import DataPlan, load_data

__all__ = ["root"]  # the fixture

SQUARE = [[0, 0, 10, 0, 10, 10, 0, 10]]


def with_masks(content: dict[str, Any]) -> None:
    """A polygon of two parts, and a crowd in run lengths (40 x 30 pixels, column by column)."""
    first, second = content["annotations"]
    first["segmentation"] = [*SQUARE, [20, 20, 30, 20, 30, 25, 20, 25]]
    second |= {"segmentation": {"size": [30, 40], "counts": [600, 300, 300]}, "iscrowd": 1}


def test_masks_are_drawn_from_polygons_and_run_lengths(root: Path) -> None:
    rewrite(root, with_masks)
    data = CocoFolder(root, "train", masks=True)
    masks = data[0][1]["masks"]
    assert masks.shape == (2, 30, 40) and masks.dtype == torch.uint8
    assert masks[0].sum() == 100 + 50 and masks[0, :10, :10].all() and masks[0, 20:25, 20:30].all()
    assert masks[1, :, 20:30].all() and masks[1].sum() == 300
    assert data[1][1]["masks"].shape == (0, 30, 40)
    assert "masks" not in CocoFolder(root, "train")[0][1] and CocoFolder(root, "train").digest != data.digest
    small = CocoFolder(root, "train", max_size=20, masks=True)[0][1]["masks"]
    assert small.shape == (2, 15, 20) and small[0, :5, :5].all() and small[1].sum() == 75


def test_masks_turn_with_their_image_and_crowds_are_left_out(root: Path) -> None:
    rewrite(root, with_masks)
    image, target = CocoFolder(root, "train", masks=True)[0]
    _, learned = augment_detection(image, target, None, masks=True)
    assert len(learned["masks"]) == len(learned["boxes"]) == 1
    flip = augmentation("flip", 0)
    assert flip is not None
    flip.transforms[0].p = 1.0
    mirrored, turned = augment_detection(image, target, flip, masks=True)
    assert torch.equal(mirrored, image.flip(2)) and torch.equal(turned["masks"], target["masks"][:1].flip(2))
    assert type(turned["masks"]) is torch.Tensor


@pytest.mark.parametrize("broken", [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, float("nan")]], {"counts": [1]}, "x"])
def test_a_mask_that_is_none_is_named(root: Path, broken: object) -> None:
    def change(content: dict[str, Any]) -> None:
        with_masks(content)
        content["annotations"][1]["segmentation"] = broken

    rewrite(root, change)
    with pytest.raises(ValueError, match=r"annotation id 2 has no mask \(polygons or run lengths"):
        CocoFolder(root, "train", masks=True)
    assert len(CocoFolder(root, "train")) == 2  # boxes alone do not ask for masks


def test_compressed_run_lengths_are_read(root: Path) -> None:
    wanted = np.zeros((30, 40), dtype=np.uint8, order="F")
    wanted[4:9, 11:33] = 1

    def change(content: dict[str, Any]) -> None:
        with_masks(content)
        runs = mask.encode(wanted)
        content["annotations"][0]["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}

    rewrite(root, change)
    assert np.array_equal(CocoFolder(root, "train", masks=True)[0][1]["masks"][0].numpy(), wanted)


def test_scenes_have_masks_where_the_plan_asks_for_them() -> None:
    plan = DataPlan(image_side=64, crop_side=32, train_images=2, search_images=2, test_images=2, masks=True)
    data = load_data(plan, "detection", "scenes", seed=0)
    target = data.train[0][1]
    assert target["masks"].shape == (len(target["boxes"]), 64, 64)
