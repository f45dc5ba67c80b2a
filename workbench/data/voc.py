"""Pascal VOC 2007 and 2012 in COCO's format: annotations written once next to the images, which stay where they are."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, parse

from workbench.records.files import write_json

CATEGORIES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# What the papers train on and test on; the official counts are 5,011 + 11,540 and 4,952 images.
SPLITS = {"train": (("2007", "trainval"), ("2012", "trainval")), "val": (("2007", "test"),)}


def write_annotations(root: str | Path) -> list[Path]:
    """Writes `annotations/instances_train.json` (07+12 trainval) and `instances_val.json` (07 test) into a VOCdevkit.

    VOC counts pixels from 1 and both ends of a box belong to it. Objects marked difficult become crowds: they are not
    trained, and neither found nor missed. ValueError names the file that is missing or broken; then nothing is written.
    """
    contents = {split: _content(Path(root), parts) for split, parts in SPLITS.items()}
    written = []
    for split, content in contents.items():
        written.append(Path(root) / "annotations" / f"instances_{split}.json")
        write_json(written[-1], content)
    return written


def _content(root: Path, parts: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for year, part in parts:
        folder = root / f"VOC{year}"
        listing = folder / "ImageSets" / "Main" / f"{part}.txt"
        if not listing.is_file():
            raise ValueError(
                f"Expected {listing}; unpack the archives of http://host.robots.ox.ac.uk/pascal/VOC/ (trainval of 2007"
                " and 2012, test of 2007) into one place and give their VOCdevkit."
            )
        for name in listing.read_text(encoding="utf-8").split():
            path = folder / "Annotations" / f"{name}.xml"
            number = int(year + name if "_" not in name else name.replace("_", ""))
            try:
                tree = parse(path).getroot()
                width, height = (int(_text(tree, f"size/{side}")) for side in ("width", "height"))
                rows = [_object(found) for found in tree.iter("object")]
            except (OSError, ParseError, ValueError) as error:
                raise ValueError(f"{path} is no annotation of VOC ({error}); unpack the archive again.") from error
            file = f"VOC{year}/JPEGImages/{name}.jpg"
            images.append({"id": number, "file_name": file, "width": width, "height": height})
            annotations += [{"id": len(annotations) + n, "image_id": number, **row} for n, row in enumerate(rows, 1)]
    names = [{"id": label, "name": name} for label, name in enumerate(CATEGORIES, start=1)]
    return {"images": images, "annotations": annotations, "categories": names}


def _object(found: Element) -> dict[str, Any]:
    left, top, right, bottom = (float(_text(found, f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax"))
    box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
    crowd = int(found.findtext("difficult") == "1")
    label = CATEGORIES.index(_text(found, "name")) + 1
    return {"category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}


def _text(element: Element, path: str) -> str:
    if (text := element.findtext(path)) is None:
        raise ValueError(f"it lacks {path}")
    return text.strip()
