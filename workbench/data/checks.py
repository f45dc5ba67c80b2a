"""What is wrong with a data folder, in plain sentences, before any work starts."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.data.images import ENDINGS, image_fault
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
    """Every problem of one split; an empty list for a healthy one. Never raises.

    `decode=False` reads only the first and last bytes of each picture (minutes less on full COCO).
    """
    return read_coco(root, split, decode=decode)[1]


def read_coco(
    root: str | Path, split: str, *, decode: bool, kinds: Sequence[str] = ("instances",)
) -> tuple[CocoFiles | None, list[Problem]]:
    """The files of one split, None when they cannot be used at all, with every problem found on the way.

    `kinds` are the beginnings of the annotation file's name, the first that is there is read.
    """
    folder = Path(root) / "annotations"
    choices = [folder / f"{kind}_{split}{year}.json" for kind in kinds for year in ("", "2017")]
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        found = ", ".join(sorted(file.name for file in folder.glob("*.json"))) or "no JSON file"
        text = f"Expected annotations at {choices[0]}, but found {found} there; name another split or move the file."
        return None, [Problem(text=text)]
    try:
        content = read_json(path)
    except ValueError as error:
        return None, [Problem(text=str(error))]
    problems = check_annotations(content, str(path))
    if any(problem.severity == "error" for problem in problems):
        return None, problems
    names = [image["file_name"] for image in content["images"]]
    images = _image_folder(Path(root), split, names)
    if images is None:
        tried = ", ".join(str(choice) for choice in _image_folders(Path(root), split))
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
    tables = ("images", "annotations", "categories")
    problems = [
        Problem(text=f"{where} has no list {table!r}; COCO instances need images, annotations and categories.")
        for table in tables
        if not isinstance(content.get(table), list)
    ]
    if problems:
        return problems
    for table in tables:
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
        fault = _box_fault(annotation["bbox"], image["width"], image["height"])
        if fault is not None:
            text = f"{about} (image {image['file_name']}) has the box {annotation['bbox']}, which {fault}."
            problems.append(Problem(text=text, severity="box", annotation=annotation["id"]))
    return problems


def check_classes(root: str | Path, split: str, *, decode: bool = True) -> list[Problem]:
    """Every problem of one split of class folders `root/split/class/picture`. Never raises."""
    folder = Path(root) / split
    classes = class_folders(root, split)
    if not classes:
        text = f"Expected one folder per class in {folder}, but found none; sort the pictures into class folders."
        return [Problem(text=text)]
    problems = []
    for category in classes:
        files = picture_files(category)
        if not files:
            problems.append(Problem(text=f"{category} holds no picture ({', '.join(ENDINGS)})."))
        for file in files:
            fault = image_fault(file, decode=decode)
            if fault is not None:
                problems.append(Problem(text=f"{file} {fault}."))
    return problems


def check_splits(
    root: str | Path, splits: Sequence[str] = ("train", "val"), kinds: Sequence[str] = ("instances",)
) -> list[Problem]:
    """Problems between splits: shared image ids, identical image files, other categories. Never raises.

    Serves COCO folders (those with `annotations/`) and class folders (these have no ids). `kinds` are those of
    `read_coco`.
    """
    problems: list[Problem] = []
    files: dict[str, list[Path]] = {}
    ids: dict[int, list[str]] = defaultdict(list)
    categories: dict[str, list[Any]] = {}
    for split in splits:
        if (Path(root) / "annotations").is_dir():
            coco, found = read_coco(root, split, decode=False, kinds=kinds)
            if coco is None:
                problems += found
                continue
            for image in coco.content["images"]:
                ids[image["id"]].append(split)
            files[split] = [coco.images / image["file_name"] for image in coco.content["images"]]
            categories[split] = sorted((row["id"], row["name"]) for row in coco.content["categories"])
        else:
            folders = class_folders(root, split)
            files[split] = [file for folder in folders for file in picture_files(folder)]
            categories[split] = [folder.name for folder in folders]
    for number, owners in ids.items():
        if len(owners) > 1:
            text = f"{root}: image id {number} is in the splits {' and '.join(owners)}; give every image its own id."
            problems.append(Problem(text=text))
    for split in list(categories)[1:]:
        first = next(iter(categories))
        if categories[split] != categories[first]:
            text = f"{root}: the categories of {split} differ from those of {first}, so labels would mean other things."
            problems.append(Problem(text=text))
    return problems + identical_files(files)


def class_folders(root: str | Path, split: str) -> list[Path]:
    """The class folders of a split in alphabetical order; hidden ones are passed over."""
    folder = Path(root) / split
    inner = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path for path in inner if path.is_dir() and not path.name.startswith("."))


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder in alphabetical order; other endings and hidden files are passed over."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))


def summary(problems: Sequence[Problem], what: str, advice: str, shown: int = 20) -> str:
    """The message of an error about several problems: how many, the first ones, and how many are left out."""
    lines = [f"{what} has {len(problems)} problem(s); {advice}."]
    lines += [f"- {problem}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"- and {len(problems) - shown} more")
    return "\n".join(lines)


def _check_rows(rows: list[object], table: str, where: str) -> list[Problem]:
    """Missing keys, wrong types and repeated ids in one table."""
    needed = {
        "images": {"id": _is_integer, "file_name": _is_text, "width": _is_size, "height": _is_size},
        "annotations": {"id": _is_integer, "image_id": _is_integer, "category_id": _is_integer, "bbox": _is_box},
        "categories": {"id": _is_integer, "name": _is_text},
    }[table]
    optional = {"annotations": {"area": _is_area, "iscrowd": _is_flag}}.get(table, {})
    problems = []
    ids: Counter[int] = Counter()
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            problems.append(Problem(text=f"{where}: entry {position} of {table!r} is not a JSON object."))
            continue
        about = f"{where}: entry {position} of {table!r} (id {row.get('id', 'missing')})"
        for key, is_right in {**needed, **optional}.items():
            if key not in row:
                problems += [Problem(text=f"{about} lacks the key {key!r}.")] if key in needed else []
            elif not is_right(row[key]):
                problems.append(Problem(text=f"{about} has an unusable {key!r}: {row[key]!r:.80}."))
        if _is_integer(row.get("id")):
            ids[row["id"]] += 1
    for number, count in ids.items():
        if count > 1:
            problems.append(Problem(text=f"{where}: the id {number} stands {count} times in {table!r}."))
    return problems


def _is_number(value: object) -> bool:
    # JSON knows integers of any length; what floats cannot hold would fail later, far from its file.
    return isinstance(value, float) or _is_integer(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_size(value: object) -> bool:
    return isinstance(value, int) and _is_integer(value) and value > 0


def _is_area(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and math.isfinite(value) and value >= 0


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(number) for number in value)


def _box_fault(box: list[float], width: int, height: int) -> str | None:
    """What is wrong with an (x, y, width, height) box in pixels, or None."""
    x, y, box_width, box_height = box
    if not all(math.isfinite(number) for number in box):
        return "is not finite"
    if box_width <= 0 or box_height <= 0:
        return "has no area"
    if min(x, y, width - x - box_width, height - y - box_height) < -OVERHANG:
        return f"leaves the image of {width}x{height} pixels"
    if min(x + box_width, width) <= max(x, 0) or min(y + box_height, height) <= max(y, 0):
        return "has no area inside the image"
    return None


def _image_folders(root: Path, split: str) -> list[Path]:
    images = root / "images"
    return [images / split, root / split, images / f"{split}2017", root / f"{split}2017", images]


def _image_folder(root: Path, split: str, names: Iterable[str]) -> Path | None:
    """The first usual folder that holds any of the listed files."""
    folders = [folder for folder in _image_folders(root, split) if folder.is_dir()]
    return next((folder for name in names for folder in folders if (folder / name).is_file()), None)


def identical_files(files: dict[str, list[Path]]) -> list[Problem]:
    """One problem for each picture whose very bytes lie in more than one split."""
    sizes: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in files.items():
        for path in paths:
            if path.is_file():
                sizes[path.stat().st_size].append((split, path))
    contents: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for group in sizes.values():
        if len({split for split, _ in group}) > 1:  # files of different lengths need no reading
            for split, path in group:
                contents[hashlib.sha256(path.read_bytes()).hexdigest()].append((split, path))
    problems = []
    for group in contents.values():
        if len({split for split, _ in group}) > 1:
            same = " and ".join(f"{path} ({split})" for split, path in group)
            problems.append(Problem(text=f"{same} are the same picture; keep it in one split."))
    return problems
