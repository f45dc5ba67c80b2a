"""What is wrong with a data folder, in plain sentences, before any work starts."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.data.images import ENDINGS, image_fault, image_files
from workbench.records.files import inside, read_json

# Annotation tools round, and some count pixels inclusively: boxes that overhang by no more than this are clipped.
OVERHANG = 1.0  # pixels


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One sentence naming file and id. Severity "box": the annotation may be dropped and the rest used."""

    text: str
    severity: Literal["error", "box"] = "error"
    annotation: int | None = None  # the id of the annotation at fault

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class CocoFiles:
    """Where one split of a COCO-format folder lies, and its annotations as read."""

    annotations: Path
    images: Path
    content: dict[str, Any]


def check_coco(root: str | Path, split: str, *, decode: bool = True) -> list[Problem]:
    """Every problem of one split, of its keypoints too if it has any; an empty list for a healthy one. Never raises.

    `decode=False` reads only the first and last bytes of each image (minutes less on full COCO).
    """
    files, problems = read_coco(root, split, decode=decode)
    if files is not None and any("keypoints" in row for row in files.content["categories"]):
        problems += check_keypoints(files.content, str(files.annotations))
    return problems


def read_coco(
    root: str | Path, split: str, *, decode: bool, keypoints: bool = False
) -> tuple[CocoFiles | None, list[Problem]]:
    """The files of one split, None when they cannot be used at all, with every problem found on the way.

    With `keypoints` the annotations must have them, and a file of keypoints is preferred to one of instances.
    """
    root = Path(root)
    kinds = ("person_keypoints", "instances") if keypoints else ("instances",)
    choices = [root / "annotations" / f"{kind}_{split}{year}.json" for kind in kinds for year in ("", "2017")]
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        found = ", ".join(sorted(file.name for file in choices[0].parent.glob("*.json"))) or "no JSON file"
        text = f"Expected annotations at {choices[0]}, but found {found} there; name another split or move the file."
        return None, [Problem(text=text)]
    try:
        content = read_json(path)
    except ValueError as error:
        return None, [Problem(text=str(error))]
    problems = check_annotations(content, str(path))
    if any(problem.severity == "error" for problem in problems):
        return None, problems
    if keypoints:
        problems += check_keypoints(content, str(path))
    years = [root / "images" / split, root / split, root / "images" / f"{split}2017", root / f"{split}2017"]
    folders = [*years, root / "images"]
    names = [image["file_name"] for image in content["images"]]
    images = next((folder for name in names for folder in folders if (folder / name).is_file()), None)
    if images is None:
        tried = ", ".join(str(folder) for folder in folders)
        problems.append(Problem(text=f"{path} lists {len(names)} images, but none lies in any of: {tried}."))
        return None, problems
    for image in content["images"]:
        try:
            file = inside(images, image["file_name"])
        except ValueError as error:
            problems.append(Problem(text=f"{path}: image id {image['id']}: {error}"))
            continue
        fault = image_fault(file, (image["width"], image["height"]), decode=decode)
        if fault is not None:
            problems.append(Problem(text=f"{file} (image id {image['id']}) {fault}."))
    return CocoFiles(annotations=path, images=images, content=content), problems


def check_annotations(content: object, where: str) -> list[Problem]:
    """Problems of the parsed annotation file alone: keys and types, ids, references, boxes."""
    if not isinstance(content, dict):
        return [Problem(text=f"{where} should hold one JSON object, but holds a {type(content).__name__}.")]
    problems = [
        Problem(text=f"{where} has no list {table!r}; COCO instances need images, annotations and categories.")
        for table in _KEYS
        if not isinstance(content.get(table), list)
    ]
    if problems:
        return problems
    for table in _KEYS:
        problems += _check_rows(content[table], table, where)
    if problems:  # the checks below read these keys
        return problems
    if not content["images"] or not content["categories"]:
        return [Problem(text=f"{where} lists no images or no categories; there is nothing to use in it.")]
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        about = f"{where}: annotation id {annotation['id']}"
        if annotation["category_id"] not in categories:
            problems.append(Problem(text=f"{about} has the unknown category id {annotation['category_id']}."))
        if annotation["image_id"] not in images:
            problems.append(Problem(text=f"{about} belongs to the unknown image id {annotation['image_id']}."))
            continue
        image = images[annotation["image_id"]]
        fault = box_fault(annotation["bbox"], image["width"], image["height"])
        if fault is not None:
            text = f"{about} (image {image['file_name']}) has the box {annotation['bbox']}, which {fault}."
            problems.append(Problem(text=text, severity="box", annotation=annotation["id"]))
    return problems


def check_keypoints(content: Mapping[str, Any], where: str) -> list[Problem]:
    """Problems of the keypoints alone: named by the categories, three numbers for each. Never raises."""
    names = content["categories"][0].get("keypoints")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [Problem(text=f"{where}: the categories name no keypoints; give annotations that have them.")]
    if any(category.get("keypoints") != names for category in content["categories"]):
        return [Problem(text=f"{where}: the categories name different keypoints; use one skeleton for all.")]
    problems = []
    for annotation in content["annotations"]:
        if (fault := _keypoint_fault(annotation.get("keypoints"), len(names))) is not None:
            problems.append(Problem(text=f"{where}: annotation id {annotation['id']} {fault}."))
    return problems


def class_folders(root: str | Path, split: str) -> list[Path]:
    """The class folders of a split in alphabetical order; hidden ones are passed over."""
    folder = Path(root) / split
    inner = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path for path in inner if path.is_dir() and not path.name.startswith("."))


def check_classes(root: str | Path, split: str, *, decode: bool = True) -> list[Problem]:
    """Every problem of one split of class folders `root/split/class/image`. Never raises."""
    classes = class_folders(root, split)
    if not classes:
        text = f"Expected one folder per class in {Path(root) / split}, but found none; sort the images into them."
        return [Problem(text=text)]
    problems = []
    for category in classes:
        files = image_files(category)
        if not files:
            problems.append(Problem(text=f"{category} holds no image ({', '.join(ENDINGS)})."))
        faults = ((file, image_fault(file, decode=decode)) for file in files)
        problems += [Problem(text=f"{file} {fault}.") for file, fault in faults if fault is not None]
    return problems


def mask_folders(root: str | Path, split: str) -> tuple[Path, Path] | None:
    """The folders of images and masks of a split; None where there are none."""
    root = Path(root)
    choices = [(root / split / "images", root / split / "masks"), (root / "images" / split, root / "masks" / split)]
    return next(((images, masks) for images, masks in choices if images.is_dir() and masks.is_dir()), None)


def check_splits(
    root: str | Path, splits: Sequence[str] = ("train", "val"), *, keypoints: bool = False
) -> list[Problem]:
    """Problems between splits: shared image ids, identical image files, other categories. Never raises.

    Serves COCO folders (those with `annotations/`), and folders of masks and of classes, which have no ids.
    """
    problems: list[Problem] = []
    files: dict[str, list[Path]] = {}
    ids: dict[int, list[str]] = defaultdict(list)
    categories: dict[str, list[Any]] = {}
    for split in splits:
        if (Path(root) / "annotations").is_dir():
            coco, faults = read_coco(root, split, decode=False, keypoints=keypoints)
            if coco is None:
                problems += faults
                continue
            for image in coco.content["images"]:
                ids[image["id"]].append(split)
            files[split] = [coco.images / image["file_name"] for image in coco.content["images"]]
            categories[split] = sorted((row["id"], row["name"]) for row in coco.content["categories"])
        elif masked := mask_folders(root, split):
            files[split], categories[split] = image_files(masked[0]), []
        else:
            folders = class_folders(root, split)
            files[split] = [file for folder in folders for file in image_files(folder)]
            categories[split] = [folder.name for folder in folders]
    for number, owners in ids.items():
        if len(owners) > 1:
            text = f"image id {number} is in the splits {' and '.join(owners)}; give every image its own id."
            problems.append(Problem(text=f"{root}: {text}"))
    first = next(iter(categories), "")
    for split, found in categories.items():
        if found != categories[first]:
            text = f"the categories of {split} differ from those of {first}, so labels would mean other things."
            problems.append(Problem(text=f"{root}: {text}"))
    return problems + identical_files(files)


def identical_files(files: Mapping[str, Iterable[Path]]) -> list[Problem]:
    """One problem for each image whose very bytes lie in more than one split."""
    same: dict[object, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in files.items():
        for path in paths:
            if path.is_file():
                same[path.stat().st_size].append((split, path))
    for group in list(same.values()):
        if len({split for split, _ in group}) > 1:  # files of different lengths need no reading
            for split, path in group:
                same[hashlib.sha256(path.read_bytes()).hexdigest()].append((split, path))
    problems = []
    for content, group in same.items():
        if isinstance(content, str) and len({split for split, _ in group}) > 1:
            where = " and ".join(f"{path} ({split})" for split, path in group)
            problems.append(Problem(text=f"{where} are the same image; keep it in one split."))
    return problems


def summary(problems: Sequence[Problem], what: str, advice: str, shown: int = 20) -> str:
    """The message of an error about several problems: how many, the first ones, and how many are left out."""
    lines = [f"{what} has {len(problems)} problem(s); {advice}."]
    lines += [f"- {problem}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"- and {len(problems) - shown} more")
    return "\n".join(lines)


def _is_integer(value: Any) -> bool:
    # JSON knows integers of any length; what floats cannot hold would fail later, far from its file.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_integer(value)


def _is_size(value: Any) -> bool:
    return _is_integer(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


# By hand: jsonschema takes eleven times as long, a minute and a half for the annotations of COCO.
_KEYS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "images": {"id": _is_integer, "file_name": _is_text, "width": _is_size, "height": _is_size},
    "annotations": {
        "id": _is_integer,
        "image_id": _is_integer,
        "category_id": _is_integer,
        "bbox": lambda value: isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)),
        "area": lambda value: _is_number(value) and math.isfinite(value) and value >= 0,
        "iscrowd": lambda value: isinstance(value, int) and value in (0, 1),
    },
    "categories": {"id": _is_integer, "name": _is_text},
}
_OPTIONAL = ("area", "iscrowd")


def _check_rows(rows: list[object], table: str, where: str) -> list[Problem]:
    """Missing keys, wrong types and repeated ids in one table."""
    faults, ids = [], Counter[int]()
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            faults.append(f"entry {position} of {table!r} is not a JSON object.")
            continue
        about = f"entry {position} of {table!r} (id {row.get('id', 'missing')})"
        for key, is_right in _KEYS[table].items():
            if key in row and not is_right(row[key]):
                faults.append(f"{about} has an unusable {key!r}: {row[key]!r:.80}.")
            elif key not in row and key not in _OPTIONAL:
                faults.append(f"{about} lacks the key {key!r}.")
        if _is_integer(row.get("id")):
            ids[row["id"]] += 1
    faults += [f"the id {number} stands {count} times in {table!r}." for number, count in ids.items() if count > 1]
    return [Problem(text=f"{where}: {fault}") for fault in faults]


def box_fault(box: Sequence[float], width: int, height: int) -> str | None:
    """What is wrong with an (x, y, width, height) box in pixels, as the end of a sentence, or None."""
    x, y, box_width, box_height = box
    if not all(map(math.isfinite, box)):
        return "is not finite"
    if box_width <= 0 or box_height <= 0:
        return "has no area"
    if min(x, y, width - x - box_width, height - y - box_height) < -OVERHANG:
        return f"leaves the image of {width}x{height} pixels"
    if min(x + box_width, width) <= max(x, 0) or min(y + box_height, height) <= max(y, 0):
        return "has no area inside the image"
    return None


def _keypoint_fault(keypoints: object, count: int) -> str | None:
    """What is wrong with one flat list x, y, visibility, x, ..., as the end of a sentence."""
    if not isinstance(keypoints, list) or len(keypoints) != 3 * count:
        found = len(keypoints) if isinstance(keypoints, list) else "no list"
        return f"should have {3 * count} keypoint numbers (x, y, visibility for {count} keypoints), but has {found}"
    if not all(_is_number(number) and abs(number) < 1e9 for number in keypoints):  # a NaN is not smaller
        return "has a keypoint that is no finite number"
    if bad := [value for value in keypoints[2::3] if value not in (0, 1, 2)]:
        return f"has the visibility {bad[0]}; it is 0 (not labelled), 1 (hidden) or 2 (visible)"
    return None
