"""Class folders as classification data."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tests.data.test_checks import write_image
from workbench.data import classification
from workbench.data.augmentation import augmentation
from workbench.data.classification import ClassFolder
from workbench.data.sets import split_train
from workbench.tasks.classification import Classification

SAMPLES = Path(os.environ.get("WORKBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(["ray/b.png", "ray/a.png", "eel/c.jpg", "eel/d.PNG"]):
        write_image(tmp_path / "train" / name, seed)
    (tmp_path / "train" / "eel" / "notes.txt").write_text("not an image")
    return tmp_path


def labels(data: ClassFolder) -> list[int]:
    return [label for _, label in (data[index] for index in range(len(data)))]


def test_items_follow_the_contract(root: Path) -> None:
    data = ClassFolder(root, "train", side=16)
    assert (data.categories, data.ids, labels(data)) == (("eel", "ray"), (0, 1, 2, 3), [0, 0, 1, 1])
    image, label = data[2]
    assert image.dtype == torch.uint8 and image.shape == (3, 16, 16) and label == 1
    view = data.take([3, 0])
    assert labels(view) == [1, 0] and torch.equal(view[0][0], data[3][0]) and view.digest != data.digest
    train, search = split_train(data, 0.5, seed=0)
    assert sorted(train.ids + search.ids) == [0, 1, 2, 3] and len(search) == 2


def test_the_centre_square_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 200
    (tmp_path / "train" / "one").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "train" / "one" / "wide.png")
    assert ClassFolder(tmp_path, "train", side=20)[0][0].eq(200).all()
    assert ClassFolder(tmp_path, "train", side=10)[0][0][:, :, 1:-1].eq(200).all()  # the filter blends the rim


def test_imagenet_is_cropped_from_the_whole_image(tmp_path: Path) -> None:
    """Augmentations start from the whole file; without one it is a short side of 256 and the centre of 224."""
    pixels = np.random.default_rng(0).integers(0, 255, (256, 400, 3), dtype=np.uint8)
    (tmp_path / "train" / "one").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "train" / "one" / "wide.png")
    data = ClassFolder(tmp_path, "train", side=224, whole=True)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)
    assert torch.equal(data[0][0], whole[:, 16:240, 88:312])
    assert torch.equal(data.uncropped(0)[0], whole) and data.take([0]).uncropped(0)[1] == 0
    square = ClassFolder(tmp_path, "train", side=224)
    assert torch.equal(square.uncropped(0)[0], square[0][0]) and square.digest != data.digest
    crop = augmentation("classify", 224)
    assert crop is not None and isinstance(crop.transforms[0], v2.RandomResizedCrop)
    assert tuple(crop.transforms[0].scale) == (0.08, 1.0)
    task = Classification(categories=data.categories)
    seeds = range(20)
    seen = [task.batch(data, [0], torch.device("cpu"), crop, seed)[0][0] for seed in seeds]
    assert {image.shape for image in seen} == {(3, 224, 224)}


def test_digest_follows_files_side_and_split(root: Path) -> None:
    digest = ClassFolder(root, "train", side=16).digest
    assert digest == ClassFolder(root, "train", side=16).digest != ClassFolder(root, "train", side=8).digest
    (root / "train" / "ray" / "a.png").rename(root / "train" / "eel" / "a.png")
    assert ClassFolder(root, "train", side=16).digest != digest


def test_a_healthy_folder_is_looked_through_once(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    looked: list[object] = []
    check = classification.check_classes
    monkeypatch.setattr(classification, "check_classes", lambda *a, **k: looked.append(a) or check(*a, **k))

    def opened() -> ClassFolder:
        return ClassFolder(root, "train", side=16, cache=cache)

    plain, first, again = ClassFolder(root, "train", side=16), opened(), opened()
    assert len(looked) == 2 and plain.digest == first.digest == again.digest and labels(again) == labels(plain)
    assert torch.equal(again[3][0], plain[3][0])
    assert ClassFolder(root, "train", side=8, cache=cache).digest == ClassFolder(root, "train", side=8).digest
    looked.clear()
    [index] = cache.iterdir()
    whole = index.read_text()
    for damaged in ("", "[]", "{}", whole[:-9], whole.replace("a.png", "e.png"), '{"digest": 3}'):
        index.write_text(damaged)
        assert opened().digest == plain.digest and len(looked) == 1, damaged
        assert index.read_text() == whole
        looked.clear()
    write_image(root / "train" / "ray" / "e.png", 8)  # one more; then one less; then another name
    assert len(opened()) == 5 and len(looked) == 1
    (root / "train" / "eel" / "c.jpg").unlink()
    assert len(opened()) == 4 and len(looked) == 2
    (root / "train" / "ray").rename(root / "train" / "manta")
    assert opened().categories == ("eel", "manta") and len(looked) == 3
    (root / "train" / "eel" / "g.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"g\.png cannot be decoded"):
        opened()


def test_memory_limit_and_ownership(root: Path) -> None:
    kept, read = ClassFolder(root, "train", side=16), ClassFolder(root, "train", side=16)
    read.memory.limit = 10
    first = kept[0][0]
    kept[0][0].zero_()
    write_image(root / "train" / "eel" / "c.jpg", 9)
    assert torch.equal(kept[0][0], first) and not torch.equal(read[0][0], first)


def test_faults_are_reported_before_work_starts(root: Path) -> None:
    with pytest.raises(ValueError, match="side"):
        ClassFolder(root, "train", side=0)
    with pytest.raises(ValueError, match="one folder per class"):
        ClassFolder(root, "val", side=16)
    file = root / "train" / "eel" / "c.jpg"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"c\.jpg cannot be decoded"):
        ClassFolder(root, "train", side=16)


@pytest.mark.parametrize(("name", "images"), [("imagenette96", 600), ("clothing96", 713)])
def test_real_photographs(name: str, images: int) -> None:
    if not (SAMPLES / name).is_dir():
        pytest.skip(f"the sample {name} is not in {SAMPLES}")
    data = ClassFolder(SAMPLES / name, "val", side=48)
    assert len(data) == images and len(data.categories) == 10 == len(set(labels(data)))
    assert data[images - 1][0].shape == (3, 48, 48)
