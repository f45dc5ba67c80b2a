"""Scenes that were written as a COCO-format folder are read back as they were drawn, and are written once."""

import torch

from workbench.data.checks import check_coco, check_splits
from workbench.data.coco import CocoFolder
from workbench.data.scenes.coco_folder import write_scenes
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes


def test_a_written_folder_is_healthy_and_holds_the_same_scenes(tmp_path):
    config = SceneConfig(image_size=64)
    sets = {"train": Scenes(config, 0, "train", 4), "val": Scenes(config, 0, "test", 2)}
    root = write_scenes(tmp_path, *sets.values())
    assert [*check_coco(root, "train"), *check_coco(root, "val"), *check_splits(root)] == []
    for split, drawn in sets.items():
        read = CocoFolder(root, split)
        assert read.categories == drawn.categories and read.ids == drawn.ids
        for (image, target), (other, truth) in zip(read, drawn, strict=True):
            assert torch.equal(image, other) and torch.equal(target["labels"], truth["labels"])
            assert torch.allclose(target["boxes"], truth["boxes"].float()) and target["image_id"] == truth["image_id"]


def test_what_is_whole_is_left_and_what_was_torn_is_written_again(tmp_path):
    sets = [Scenes(SceneConfig(image_size=64), 0, split, 2) for split in ("train", "test")]
    root = write_scenes(tmp_path, *sets)
    images = sorted(root.rglob("*.png"))
    images[0].write_bytes(b"torn")
    assert write_scenes(tmp_path, *sets) == root and images[0].read_bytes() == b"torn"
    (root / "annotations" / "instances_train.json").unlink()  # what a killed writer leaves
    write_scenes(tmp_path, *sets)
    assert check_coco(root, "train") == []
    other = write_scenes(tmp_path, Scenes(SceneConfig(image_size=64), 1, "train", 2), sets[1])
    assert other != root and other.parent == root.parent
