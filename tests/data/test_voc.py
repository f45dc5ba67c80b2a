"""Pascal VOC in its own layout, in miniature: converted, and read like any COCO folder."""

from pathlib import Path

import pytest

from tests.data.test_checks import write_image
from workbench.data.checks import check_coco, check_splits
from workbench.data.coco import CocoFolder
from workbench.data.voc import CATEGORIES, write_annotations
from workbench.records.files import read_json

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


def write_voc(root: Path, year: str, part: str, name: str, *objects: tuple[object, ...]) -> None:
    folder, seed = root / f"VOC{year}", sum(map(ord, year + name))
    write_image(folder / "JPEGImages" / f"{name}.jpg", seed)
    for path in (folder / "ImageSets" / "Main" / f"{part}.txt", folder / "Annotations" / f"{name}.xml"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (folder / "ImageSets" / "Main" / f"{part}.txt").open("a") as file:
        file.write(f"{name}\n")
    size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
    text = f"<annotation>{size}{''.join(OBJECT.format(*row) for row in objects)}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit"
    write_voc(root, "2007", "trainval", "000005", ("chair", 0, 1, 1, 20, 10), ("dog", 1, 5, 5, 30, 30))
    write_voc(root, "2012", "trainval", "2008_000008", ("horse", 0, 2, 3.0, 40, 30))
    write_voc(root, "2007", "test", "000001", ("person", 0, 10, 10, 19, 19))
    return root


def test_a_devkit_is_read_where_it_lies(voc: Path) -> None:
    written = write_annotations(voc)
    assert [path.name for path in written] == ["instances_train.json", "instances_val.json"]
    train, test = CocoFolder(voc, "train"), CocoFolder(voc, "val")
    assert train.ids == (2007000005, 2008000008) and test.ids == (2007000001,)
    assert train.categories == CATEGORIES and len(CATEGORIES) == 20
    image, target = train[0]
    assert image.shape == (3, 30, 40) and target["boxes"].tolist() == [[0, 0, 20, 10], [4, 4, 30, 30]]
    assert [CATEGORIES[label - 1] for label in target["labels"].tolist()] == ["chair", "dog"]
    assert target["iscrowd"].tolist() == [0, 1]  # difficult
    assert test[0][1]["area"].tolist() == [100]
    assert check_coco(voc, "train") == check_splits(voc) == []
    assert len({row["id"] for row in read_json(written[0])["annotations"]}) == 3


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("VOC2012/ImageSets/Main/trainval.txt", None, r"Expected .*trainval\.txt; .*http"),
        ("VOC2007/Annotations/000005.xml", None, r"000005\.xml is no annotation"),
        ("VOC2007/Annotations/000001.xml", "<annotation>", "no annotation of VOC"),
        ("VOC2007/Annotations/000001.xml", "<annotation></annotation>", "it lacks size/width"),
    ],
)
def test_what_is_missing_or_broken_is_named_and_nothing_is_written(
    voc: Path, file: str, text: str | None, message: str
) -> None:
    if text is None:
        (voc / file).unlink()
    else:
        (voc / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        write_annotations(voc)
    assert not (voc / "annotations").exists()


def test_an_unknown_class_is_refused(voc: Path) -> None:
    write_voc(voc, "2007", "trainval", "000009", ("unicorn", 0, 1, 1, 5, 5))
    with pytest.raises(ValueError, match=r"000009\.xml is no annotation of VOC"):
        write_annotations(voc)
