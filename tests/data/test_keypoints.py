"""Crops around instances: where keypoints lie, what is left out, and keypoint annotations that are refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_coco import SAMPLES
from workbench.data.coco import CocoFolder
from workbench.data.keypoints import PoseCrops, mirrored
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes

NAMES = ["nose", "left_hand", "right_hand"]


@pytest.fixture
def root(tmp_path):
    """Two images of 60 x 40 pixels: an instance with three keypoints, one without any labelled, a crowd."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (60, 40), (30, 90, 150)).save(tmp_path / "images" / f"{name}.png")
    write(tmp_path, content())
    return tmp_path


def content():
    rows = [
        {"image_id": 1, "bbox": [10, 10, 20, 20], "keypoints": [15, 15, 2, 12, 20, 1, 28, 20, 2]},
        {"image_id": 2, "bbox": [0, 0, 10, 30], "keypoints": [0, 0, 0] * 3},
        {"image_id": 2, "bbox": [20, 5, 30, 30], "keypoints": [25, 10, 2, 0, 0, 0, 0, 0, 0]},
        {"image_id": 2, "bbox": [0, 0, 50, 30], "keypoints": [25, 10, 2] * 3, "iscrowd": 1},
    ]
    annotations = [{"id": n, "category_id": 1, "area": 100.0, "iscrowd": 0, **row} for n, row in enumerate(rows, 1)]
    images = [{"id": n, "file_name": f"{name}.png", "width": 60, "height": 40} for n, name in ((1, "a"), (2, "b"))]
    categories = [{"id": 1, "name": "person", "keypoints": NAMES}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(root, value, name="person_keypoints_train.json"):
    (root / "annotations" / name).write_text(json.dumps(value))


def test_every_person_with_a_labelled_keypoint_is_a_crop(root):
    data = CocoFolder(root, "train", keypoints=True)
    assert data.keypoint_names == tuple(NAMES) and data[0][1]["keypoints"].shape == (1, 3, 3)
    crops = PoseCrops(data, (50, 50))
    assert (len(crops), crops.skipped, mirrored(crops.categories)) == (2, 1, (0, 2, 1))
    image, target = crops[0]
    assert image.shape == (3, 50, 50)
    # The box of 20 px with a quarter more fills 50 px: two pixels for one, centred on (20, 20).
    assert target["keypoints"].tolist() == [[15, 15, 2], [9, 25, 1], [41, 25, 2]]
    assert np.allclose(crops.to_image(0, target["keypoints"][:, :2].numpy()), [[15, 15], [12, 20], [28, 20]])
    truth = crops.ground_truth()
    assert [row["num_keypoints"] for row in truth["annotations"]] == [3, 1]
    assert truth["annotations"][0]["keypoints"] == [15, 15, 2, 12, 20, 1, 28, 20, 2]  # the image's own pixels
    assert crops.ids == (1000, 2001) and crops.take([1]).ids == (2001,) and crops.take([1]).digest != crops.digest


def test_an_oblong_crop_keeps_the_shape_of_what_it_shows(root):
    data = CocoFolder(root, "train", keypoints=True)
    crops = PoseCrops(data, (80, 40))
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    moved = crops.to_crop(0, points)
    assert np.linalg.norm(moved[1] - moved[0]) == pytest.approx(np.linalg.norm(moved[2] - moved[0]))


def test_beyond_the_border_a_crop_is_grey(root):
    data = CocoFolder(root, "train", keypoints=True)
    corner = PoseCrops(data, (40, 40))[1][0]  # the box reaches from 20 to 50 of 60 pixels
    assert corner[:, 20, 20].tolist() == [30, 90, 150]
    wide = PoseCrops(data, (160, 40))[1][0]
    assert wide[:, 0, 20].tolist() == [110, 110, 110]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1, 2, 2]}, "should have 9 keypoint numbers .* but has 3"),
        ({"keypoints": "none"}, "but has no list"),
        ({"keypoints": [1, 2, 7] * 3}, "visibility 7; it is 0"),
        ({"keypoints": [None, 2, 2] * 3}, "no finite number"),
    ],
)
def test_broken_keypoints_are_refused(root, change, message):
    broken = content()
    broken["annotations"][0] |= change
    write(root, broken)
    with pytest.raises(ValueError, match=message):
        CocoFolder(root, "train", keypoints=True)


def test_annotations_without_keypoints_are_refused(root):
    plain = content()
    plain["categories"] = [{"id": 1, "name": "person"}]
    write(root, plain)
    with pytest.raises(ValueError, match="the categories name no keypoints"):
        CocoFolder(root, "train", keypoints=True)
    two = content()
    two["categories"].append({"id": 2, "name": "dog", "keypoints": ["tail"]})
    write(root, two)
    with pytest.raises(ValueError, match="different keypoints"):
        CocoFolder(root, "train", keypoints=True)


def test_people_without_visible_keypoints_are_said_to_be_missing(root):
    nobody = content()
    for row in nobody["annotations"]:
        row["keypoints"] = [0, 0, 0] * 3
    write(root, nobody)
    data = CocoFolder(root, "train", keypoints=True)
    with pytest.raises(ValueError, match=r"no instance with a labelled keypoint \(3 without any\)"):
        PoseCrops(data, (50, 50))


def test_keypoints_do_not_change_what_detection_reads(root):
    write(root, content(), "instances_train.json")
    assert "keypoints" not in CocoFolder(root, "train")[0][1]


def test_animals_have_their_keypoints_in_the_crop():
    config = SceneConfig(species=("fish", "turtle"), sizes="large", extras=("keypoints",))
    crops = PoseCrops(Scenes(config, 0, "train", 10), (64, 64))
    assert len(crops) > 20
    for index in range(len(crops)):
        _, target = crops[index]
        seen = target["keypoints"][target["keypoints"][:, 2] == 2]
        assert (seen[:, :2] >= 0).all() and (seen[:, :2] < 64).all()  # the box with a quarter more holds what is seen


def test_photographs_of_people():
    if not (SAMPLES / "coco_pose").is_dir():
        pytest.skip(f"no sample data at {SAMPLES}")
    data = CocoFolder(SAMPLES / "coco_pose", "val", keypoints=True)
    crops = PoseCrops(data, (96, 72))
    assert (len(crops), crops.skipped, len(crops.categories)) == (176, 0, 17)
    labelled = torch.stack([crops[index][1]["keypoints"][:, 2] > 0 for index in range(len(crops))])
    assert 0.3 < labelled.float().mean() < 1


def test_more_than_a_thousand_people_in_an_image_do_not_meet_those_of_the_next(root):
    crowded = content()
    first = crowded["annotations"][0]
    crowded["annotations"] = [{**first, "id": n, "image_id": 1 + n // 1200} for n in range(1201)]
    write(root, crowded)
    data = CocoFolder(root, "train", keypoints=True)
    crops = PoseCrops(data, (50, 50))
    assert len(crops) == 1201 and crops.ids[-1] == PoseCrops(data.take([1]), (50, 50)).ids[0]


def test_instances_keep_their_ids_when_images_are_split(root):
    """So halves of a search stay distinct, and an instance is the same one in every view."""
    data = CocoFolder(root, "train", keypoints=True)
    ids = [PoseCrops(data.take([place]), (50, 50)).ids for place in (0, 1)]
    assert ids == [(1000,), (2001,)]
