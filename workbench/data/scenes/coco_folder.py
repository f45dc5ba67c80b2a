"""Generated scenes as a COCO-format folder on disk: somebody's data, for who has none at hand."""

import io
from pathlib import Path

from PIL import Image

from workbench.data.scenes.tasks import Scenes
from workbench.records.files import digest, write_bytes, write_json


def write_scenes(home: Path, train: Scenes, test: Scenes) -> Path:
    """A folder below `home`, named for what it holds, from which `CocoFolder` reads these scenes, pixel by pixel.

    Its splits are `train` and `val`. The annotations of a split are written last: where they are, nothing is written.
    """
    root = home / f"scenes-{digest([train.digest, test.digest])}"
    for split, scenes in (("train", train), ("val", test)):
        annotations = root / "annotations" / f"instances_{split}.json"
        if annotations.is_file():
            continue
        truth = scenes.ground_truth()
        for index, image in enumerate(truth["images"]):
            image["file_name"] = f"{image['id']:08}.png"
            buffer = io.BytesIO()
            Image.fromarray(scenes.scene(index).image).save(buffer, "PNG")
            write_bytes(root / "images" / split / image["file_name"], buffer.getvalue())
        write_json(annotations, truth)
    return root
