"""From the parameters of a notebook to data sets."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_checks import write_image
from workbench.data import loader
from workbench.data.coco import CocoFolder
from workbench.data.loader import DataPlan, TaskName, load_data
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.data.sets import split_train
from workbench.records.files import read_json, write_json

SMOKE = DataPlan(image_side=96, crop_side=32, train_images=24, search_images=8, test_images=8, crops=32)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Twenty images to train on and two to test with, of two classes."""
    for number in range(22):
        split = "train" if number < 20 else "val"
        write_image(tmp_path / "classes" / split / ("eel", "ray")[number % 2] / f"{number}.png", number)
    return tmp_path / "classes"


def test_pre_training_says_which_images_it_does_not_see(classes: Path) -> None:
    data = load_data(SMOKE, "detection", "scenes", str(classes), seed=0)
    assert (len(data.crops), len(data.crops_search)) == (18, 2) and not set(data.crops.ids) & set(data.crops_search.ids)
    assert "(18 images at 32 px, 2 more kept unseen for searches by accuracy)" in data.description
    data = load_data(replace(SMOKE, crops_search_share=0.0), "detection", "scenes", str(classes), seed=0)
    assert len(data.crops) == 20 and len(data.crops_search) == 1
    assert "(20 images at 32 px, 1 of them also for searches by accuracy)" in data.description


def test_scenes_are_those_of_the_plan_at_the_side_of_the_plan() -> None:
    asked = SceneConfig(classes="ladder", species=("shark",), distances=(20, 30), image_size=200, extras=("masks",))
    data = load_data(replace(SMOKE, scenes=asked), "detection", "scenes", "scenes", seed=3)
    drawn = replace(asked, image_size=96, extras=())
    for split, size in (("train", 24), ("search", 8), ("test", 8)):
        assert getattr(data, split).digest == Scenes(drawn, 3, split, size).digest
    assert data.crops.digest == data.train.digest  # whole scenes: a crop would cut off the dots
    assert data.crops.config == drawn and data.crops.categories == data.train.categories == ("red dot", "yellow dot")
    people = load_data(replace(SMOKE, scenes=asked), "pose", "scenes", seed=3).train
    assert people.source.config == replace(drawn, extras=("keypoints",))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Twenty images to train on and two to test with, each with a person and its keypoints; one box has no height."""
    for split, numbers in (("train", range(20)), ("val", range(20, 22))):
        images, annotations = [], []
        for number in numbers:
            write_image(tmp_path / "people" / "images" / f"{number}.png", number)
            images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
            row = {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20 if number else 0]}
            annotations.append({**row, "keypoints": [10, 10, 2, 20, 20, 1 if number else 2]})
        categories = [{"id": 1, "name": "person", "keypoints": ["left_hand", "right_hand"]}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(tmp_path / "people" / "annotations" / f"instances_{split}.json", content)
    return tmp_path / "people"


@pytest.mark.parametrize("task", ["detection", "pose"])
def test_a_bad_box_is_said_in_the_description_of_every_task(coco: Path, task: TaskName) -> None:
    data = load_data(SMOKE, task, str(coco), seed=0)
    assert "1 bad boxes dropped (" in data.description and "annotation id 0 (image 0.png)" in data.description
    assert len(data.test) == 2 and len(data.train) + len(data.search) == len(data.full_train)
    assert not set(data.train.ids) & set(data.search.ids)
    with pytest.raises(ValueError, match=r'bad_boxes="drop"(.|\n)*has no area'):
        load_data(SMOKE, task, str(coco), seed=0, bad_boxes="error")
    with pytest.raises(ValueError, match="bad_boxes is one of few, drop, error; got 'all'"):
        load_data(SMOKE, task, "scenes", seed=0, bad_boxes="all")


def test_splits_must_be_unseen_and_name_the_same(coco: Path) -> None:
    write_image(coco / "images" / "20.png", 3)
    with pytest.raises(ValueError, match=r"must be unseen in training: .*3\.png"):
        load_data(SMOKE, "detection", str(coco), seed=0)
    path = coco / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace("left_hand", "left_foot"))
    with pytest.raises(ValueError, match="name other keypoints"):
        load_data(SMOKE, "pose", str(coco), seed=0)
    path.write_text(path.read_text().replace("person", "dog"))
    with pytest.raises(ValueError, match="must name the same classes; they name person and dog"):
        load_data(SMOKE, "detection", str(coco), seed=0)


def test_ids_are_compared_where_files_are_too_many_to_be_read(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "FEW_FILES", 0)
    path = coco / "annotations" / "instances_val.json"
    content = read_json(path)
    content["categories"][0]["id"] = content["annotations"][0]["category_id"] = 7
    content["annotations"].pop()
    write_json(path, content)
    other = load_data(SMOKE, "detection", str(coco), seed=0)  # the same names get the same labels, whatever their ids
    assert other.train.categories == other.test.categories == ("person",)
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = 3
    write_json(path, content)
    with pytest.raises(ValueError, match="must be unseen in training: The image id 3 is in the splits train and val"):
        load_data(SMOKE, "detection", str(coco), seed=0)


def test_a_split_without_objects_is_refused_and_a_class_that_training_never_shows_is_said(coco: Path) -> None:
    for split in ("train", "val"):
        path = coco / "annotations" / f"instances_{split}.json"
        content = read_json(path)
        content["categories"] += [{**content["categories"][0], "id": n, "name": f"{n}\x1b$"} for n in range(2, 7)]
        write_json(path, content)
    described = load_data(SMOKE, "detection", str(coco), seed=0).description
    assert r"training never shows 2\x1b$, 3\x1b$, 4\x1b$ and 2 more classes" in described
    kept = content["annotations"]
    for crowds in ([], [{**row, "iscrowd": 1} for row in kept]):
        write_json(path, {**content, "annotations": crowds})
        with pytest.raises(ValueError, match=r"The val split of .*people has 2 images and no object in them"):
            load_data(SMOKE, "detection", str(coco), seed=0)
    write_json(path, content)
    train = coco / "annotations" / "instances_train.json"
    content = read_json(train)
    _, search = split_train(CocoFolder(coco, "train"), SMOKE.search_share, seed=0)
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] not in search.ids]
    write_json(train, content)
    with pytest.raises(ValueError, match=r"The search split of .* no object in them.*take another seed"):
        load_data(SMOKE, "detection", str(coco), seed=0)


def test_masks_without_one_of_the_classes_are_said(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "val")):
        write_image(tmp_path / split / "images" / f"{number}.png", number)
        (tmp_path / split / "masks").mkdir(exist_ok=True)
        Image.new("L", (40, 30), number % 2).save(tmp_path / split / "masks" / f"{number}.png")
    loaded = load_data(SMOKE, "segmentation", str(tmp_path), seed=0, classes="road,car,sky")
    assert loaded.description.endswith("; training never shows sky")


def test_pose_says_that_it_counts_crops(coco: Path) -> None:
    for data in (str(coco), "scenes"):
        loaded = load_data(SMOKE, "pose", data, seed=0)
        counts = " / ".join(str(len(part)) for part in (loaded.train, loaded.search, loaded.test))
        assert f", crops of 256 x 192 px ({counts} instances)" in loaded.description


def test_the_papers_pre_train_on_all_of_imagenet() -> None:
    from workbench.methods.crnas import presets as crnas_presets
    from workbench.methods.detnas import presets as detnas_presets
    from workbench.methods.nats import presets as nats_presets

    for presets in (detnas_presets.PRESETS, nats_presets.PRESETS, crnas_presets.PRESETS):
        for name, plan in presets.items():
            assert plan.data.crops_search_share == (0.0 if name.startswith("paper") else 0.1), name


def test_class_folders_are_looked_through_once_and_must_fit(classes: Path, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    data = load_data(SMOKE, "detection", "scenes", str(classes), seed=0, runs=runs)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "cache").iterdir()}
    again = load_data(SMOKE, "detection", "scenes", str(classes), seed=0, runs=runs)
    assert len(kept) == 2 and again.digest == data.digest
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (classes / "val" / "ray" / "copy.png").write_bytes((classes / "train" / "ray" / "1.png").read_bytes())
    with pytest.raises(ValueError, match=r"must be unseen in training: .*1\.png"):
        load_data(SMOKE, "detection", "scenes", str(classes), seed=0, runs=runs)
    (classes / "val" / "ray").rename(classes / "val" / "whale")
    with pytest.raises(ValueError, match="must name the same classes"):
        load_data(SMOKE, "detection", "scenes", str(classes), seed=0, runs=runs)
