"""What is wrong with a data folder, one sentence for each problem that names file and id, before any work starts."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from os.path import isfile
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from workbench.data.images import ENDINGS, image_files, image_flaw, served_size
from workbench.records.files import inside, plain, read_json

# Annotation tools round, and some count pixels inclusively: boxes that overhang by no more than this are clipped.
OVERHANG = 1.0  # pixels
LEAST_SIDE = 0.01  # pixels of the image that is trained on: float32 keeps such sides apart anywhere in an image
MOST_SHOWN = 20  # problems in one error

Found = TypeVar("Found")


class CocoFiles(NamedTuple):
    """One split of a COCO folder, as far as it can be used."""

    annotations: Path
    content: dict[str, Any]
    images: dict[int, Path]  # by id; without those whose name leads out of the folder
    bad_boxes: dict[int, str]  # what is wrong with those that may be dropped, by the id of their annotation


def refusal(problems: Collection[str], where: str, advice: str = "mend the files named here") -> ValueError:
    """The error about several problems: how many, the first ones, and how many are left out."""
    lines = [f"{where} has {len(problems)} problem(s); {advice}.", *(f"- {problem}" for problem in problems)]
    if len(problems) > MOST_SHOWN:
        lines[MOST_SHOWN + 1 :] = [f"- and {len(problems) - MOST_SHOWN} more"]
    return ValueError(plain("\n".join(lines), keep="\n"))


def check_coco(root: str | Path, split: str, *, decode: bool = True, keypoints: bool = False) -> list[str]:
    """Every problem of one split, of its keypoints too if it has any; an empty list for a healthy one. Never raises.

    `decode=False` reads only the first and last bytes of each image (minutes less on full COCO); `keypoints` as at
    `read_coco`.
    """
    files, problems = read_coco(root, split, decode=decode, keypoints=keypoints)
    if files is not None:
        problems = [*files.bad_boxes.values(), *problems]
        if not keypoints and any("keypoints" in row for row in files.content["categories"]):
            problems += _check_keypoints(files.content, str(files.annotations))
    return problems


def read_coco(
    root: str | Path, split: str, *, decode: bool, keypoints: bool = False, max_size: int | None = None
) -> tuple[CocoFiles | None, list[str]]:
    """The files of one split, None when they cannot be used at all, with every problem found on the way.

    Boxes are checked as training sees them, in images shrunk to `max_size`. With `keypoints` the annotations must have
    them, and a file of keypoints is preferred to one of instances.
    """
    root = Path(root)
    kinds = ("person_keypoints", "instances") if keypoints else ("instances",)
    choices = [root / "annotations" / f"{kind}_{split}{year}.json" for kind in kinds for year in ("", "2017")]
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        found = ", ".join(sorted(file.name for file in choices[0].parent.glob("*.json"))) or "no JSON file"
        text = f"Expected annotations at {choices[0]}, but found {found} there; name another split or move the file."
        return None, [text]
    try:
        content = read_json(path)
    except ValueError as error:
        return None, [str(error)]
    if problems := _check_annotations(content, str(path)):
        return None, problems
    if keypoints:
        problems += _check_keypoints(content, str(path))
    years = [root / "images" / split, root / split, root / "images" / f"{split}2017", root / f"{split}2017"]
    folders = [*years, root / "images", root]
    names = [image["file_name"] for image in content["images"]]
    home = next((folder for name in names for folder in folders if isfile(folder / name)), None)
    if home is None:
        tried = ", ".join(str(folder) for folder in folders)
        return None, [*problems, f"{path} lists {len(names)} images, but none lies in any of: {tried}."]
    files: dict[int, Path] = {}
    for image in content["images"]:
        try:
            files[image["id"]] = file = inside(home, image["file_name"])
        except ValueError as error:
            problems.append(f"{path}: image id {image['id']}: {error}")
            continue
        if (flaw := image_flaw(file, (image["width"], image["height"]), decode=decode)) is not None:
            problems.append(f"{file} (image id {image['id']}) {flaw}.")
    return CocoFiles(path, content, files, _bad_boxes(content, str(path), max_size)), problems


def _check_annotations(content: object, where: str) -> list[str]:
    """Problems of the parsed annotation file alone: keys and types, ids, references, boxes."""
    if not isinstance(content, dict):
        return [f"{where} should hold one JSON object, but holds a {type(content).__name__}."]
    if missing := [table for table in _KEYS if not isinstance(content.get(table), list)]:
        needed = "COCO instances need images, annotations and categories."
        return [f"{where} has no list {table!r}; {needed}" for table in missing]
    if flaws := [flaw for table in _KEYS for flaw in _row_flaws(content[table], table)]:
        return [f"{where}: {flaw}" for flaw in flaws]  # the checks below read these keys
    if not content["images"] or not content["categories"]:
        return [f"{where} lists no images or no categories; there is nothing to use in it."]
    images, categories = ({row["id"] for row in content[table]} for table in ("images", "categories"))
    problems = []
    for annotation in content["annotations"]:
        about = f"{where}: annotation id {annotation['id']}"
        if annotation["category_id"] not in categories:
            problems.append(f"{about} has the unknown category id {annotation['category_id']}.")
        if annotation["image_id"] not in images:
            problems.append(f"{about} belongs to the unknown image id {annotation['image_id']}.")
    return problems


def _bad_boxes(content: Mapping[str, Any], where: str, max_size: int | None) -> dict[int, str]:
    images, bad = {image["id"]: image for image in content["images"]}, {}
    for row in content["annotations"]:
        image = images[row["image_id"]]
        size = (image["width"], image["height"])
        if (flaw := box_flaw(row["bbox"], size, served_size(size, max_size))) is not None:
            about = f"{where}: annotation id {row['id']} (image {image['file_name']})"
            bad[row["id"]] = plain(f"{about} has the box {row['bbox']}, which {flaw}.")
    return bad


def _check_keypoints(content: Mapping[str, Any], where: str) -> list[str]:
    """Problems of the keypoints alone: named by the categories, three numbers for each."""
    names = content["categories"][0].get("keypoints")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return [f"{where}: the categories name no keypoints; give annotations that have them."]
    if any(category.get("keypoints") != names for category in content["categories"]):
        return [f"{where}: the categories name different keypoints; use one skeleton for all."]
    flaws = ((row["id"], _keypoint_flaw(row.get("keypoints"), len(names))) for row in content["annotations"])
    return [f"{where}: annotation id {number} {flaw}." for number, flaw in flaws if flaw is not None]


def class_folders(root: str | Path, split: str) -> list[Path]:
    """The class folders of a split in alphabetical order; hidden ones are passed over."""
    return sorted(path for path in Path(root, split).glob("[!.]*") if path.is_dir())


def check_classes(root: str | Path, split: str, *, decode: bool = True) -> list[str]:
    """Every problem of one split of class folders `root/split/class/image`. Never raises."""
    classes = {folder: image_files(folder) for folder in class_folders(root, split)}
    if not classes:
        text = f"Expected one folder per class in {Path(root) / split}, but found none; sort the images into them."
        return [text]
    empty = [f"{folder} holds no image ({', '.join(ENDINGS)})." for folder, files in classes.items() if not files]
    flaws = ((file, image_flaw(file, decode=decode)) for files in classes.values() for file in files)
    return empty + [f"{file} {flaw}." for file, flaw in flaws if flaw is not None]


def mask_folders(root: str | Path, split: str) -> tuple[Path, Path] | None:
    """The folders of images and masks of a split; None where there are none."""
    root = Path(root)
    choices = [(root / split / "images", root / split / "masks"), (root / "images" / split, root / "masks" / split)]
    return next(((images, masks) for images, masks in choices if images.is_dir() and masks.is_dir()), None)


def check_splits(root: str | Path, splits: Sequence[str] = ("train", "val"), *, keypoints: bool = False) -> list[str]:
    """Problems between splits: shared image ids, identical image files, other categories. Never raises.

    Serves COCO folders (those with `annotations/`), and folders of masks and of classes, which have no ids.
    """
    problems: list[str] = []
    files: list[tuple[str, Path]] = []
    ids: list[tuple[str, int]] = []
    categories: dict[str, list[Any]] = {}
    for split in splits:
        if (Path(root) / "annotations").is_dir():
            coco, flaws = read_coco(root, split, decode=False, keypoints=keypoints)
            if coco is None:
                problems += flaws
                continue
            ids += [(split, image["id"]) for image in coco.content["images"]]
            found = list(coco.images.values())
            categories[split] = sorted((row["id"], row["name"]) for row in coco.content["categories"])
        elif masked := mask_folders(root, split):
            found, categories[split] = image_files(masked[0]), []
        else:
            folders = class_folders(root, split)
            found = [file for folder in folders for file in image_files(folder)]
            categories[split] = [folder.name for folder in folders]
        files += [(split, file) for file in found if file.is_file()]
    first = next(iter(categories), "")
    for split in categories:
        if categories[split] != categories[first]:
            text = f"the categories of {split} differ from those of {first}, so labels would mean other things."
            problems.append(f"{root}: {text}")
    return problems + shared_images(ids, files)


def shared_images(ids: Iterable[tuple[str, int]], files: Iterable[tuple[str, Path]]) -> list[str]:
    """Image ids and identical image files, each given with its split, that stand in more than one."""
    problems = []
    for group in _shared(ids, lambda number: number):
        where = " and ".join(split for split, _ in group)
        problems.append(f"The image id {group[0][1]} is in the splits {where}; give every image its own id.")
    for candidates in _shared(files, lambda file: file.stat().st_size):  # other files need no reading
        for same in _shared(candidates, lambda file: hashlib.sha256(file.read_bytes()).digest()):
            where = " and ".join(f"{file} ({split})" for split, file in same)
            problems.append(f"{where} are the same image; keep it in one split.")
    return problems


def _shared(found: Iterable[tuple[str, Found]], key: Callable[[Found], object]) -> list[list[tuple[str, Found]]]:
    """Groups of what has the same key in more than one split, as pairs of split and found thing."""
    groups: dict[object, list[tuple[str, Found]]] = defaultdict(list)
    for split, thing in found:
        groups[key(thing)].append((split, thing))
    return [group for group in groups.values() if len({split for split, _ in group}) > 1]


def _is_integer(value: Any, least: int = 1 - 2**53) -> bool:
    # JSON knows integers of any length; what floats cannot hold would fail later, far from its file.
    return type(value) is int and least <= value < 2**53


_is_size = partial(_is_integer, least=1)


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


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


def _row_flaws(rows: list[object], table: str) -> list[str]:
    """Missing keys, wrong types and repeated ids in one table."""
    flaws, ids = [], Counter[int]()
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            flaws.append(f"entry {position} of {table!r} is not a JSON object.")
            continue
        about = f"entry {position} of {table!r} (id {row.get('id', 'missing')})"
        for key, is_right in _KEYS[table].items():
            if key in row and not is_right(row[key]):
                flaws.append(f"{about} has an unusable {key!r}: {row[key]!r:.80}.")
            elif key not in row and key not in _OPTIONAL:
                flaws.append(f"{about} lacks the key {key!r}.")
        if _is_integer(row.get("id")):
            ids[row["id"]] += 1
    return flaws + [f"the id {number} stands {n} times in {table!r}." for number, n in ids.items() if n > 1]


def box_flaw(box: Sequence[float], size: tuple[int, int], served: tuple[int, int]) -> str | None:
    """What is wrong with an (x, y, width, height) box in pixels, as the end of a sentence, or None.

    `size` is (width, height) of its image, `served` that of the image as training sees it.
    """
    (x, y, box_width, box_height), (width, height) = box, size
    if not all(map(math.isfinite, box)):
        return "is not finite"
    if box_width <= 0 or box_height <= 0:
        return "has no area"
    if min(x, y, width - x - box_width, height - y - box_height) < -OVERHANG:
        return f"leaves the image of {width}x{height} pixels"
    across, down = min(x + box_width, width) - max(x, 0), min(y + box_height, height) - max(y, 0)
    if across <= 0 or down <= 0:
        return "has no area inside the image"
    if across * served[0] < LEAST_SIDE * width or down * served[1] < LEAST_SIDE * height:
        return f"is thinner than {LEAST_SIDE} pixels in the image of {served[0]}x{served[1]} that is trained on"
    return None


def _keypoint_flaw(keypoints: object, count: int) -> str | None:
    """What is wrong with one flat list x, y, visibility, x, ..., as the end of a sentence."""
    if not isinstance(keypoints, list) or len(keypoints) != 3 * count:
        found = len(keypoints) if isinstance(keypoints, list) else "no list"
        return f"should have {3 * count} keypoint numbers (x, y, visibility for {count} keypoints), but has {found}"
    if not all(_is_number(number) and abs(number) < 1e9 for number in keypoints):  # a NaN is not smaller
        return "has a keypoint that is no finite number"
    if bad := [value for value in keypoints[2::3] if value not in (0, 1, 2)]:
        return f"has the visibility {bad[0]}; it is 0 (not labelled), 1 (hidden) or 2 (visible)"
    return None
