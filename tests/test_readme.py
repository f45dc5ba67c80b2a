"""What the README promises: its Python runs, its images are there and light, its links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from workbench.methods.detector_file import predict_images, save_detector
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.spaces.catalogue import space_named
from workbench.tasks.detection import Detection

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
GLOSSARY = (PROJECT / "notebooks" / "GLOSSARY.md").read_text(encoding="utf-8")
MOST_BYTES = 150_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a detector, named as in the README, and a photograph."""
    monkeypatch.chdir(tmp_path)
    space, task = space_named("shuffle-tiny"), Detection(categories=("eel", "fish"), config=TINY_DETECTOR)
    spec = space.spec(space.uniform(0))
    folder = Path("runs/10_detnas/<run>")
    save_detector(folder, task.build(Backbone(spec)), task, spec, image_side=64)
    Image.new("RGB", (96, 48), "teal").save("photo.jpg")
    return folder


def test_the_python_of_the_readme_loads_a_detector_and_its_backbone(run: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    code = next(block for block in blocks if "load_detector" in block)
    names: dict = {}
    exec(code, names)  # its own lines, so that they cannot become wrong
    assert {"boxes", "scores", "labels"} <= set(names["found"])
    maps = names["backbone"](torch.zeros(2, 3, 64, 64))
    channels, strides = names["backbone"].channels, names["backbone"].strides
    assert [each.shape[1] for each in maps] == [*channels]
    assert [each.shape[2] for each in maps] == [64 // stride for stride in strides]


def test_predictions_are_told_with_their_classes_and_boxes_in_pixels(run: Path) -> None:
    (told,) = predict_images(run, [Path("photo.jpg")], Path("out"), threshold=0.0)
    assert told["image"] == "photo.jpg" and Path(told["drawing"]).is_file()
    assert {found["class"] for found in told["detections"]} <= {"eel", "fish"} and told["detections"]
    boxes = torch.tensor([found["box"] for found in told["detections"]])
    assert (boxes >= 0).all() and boxes[:, 2].max() > 64 and (boxes <= torch.tensor([96, 48, 96, 48])).all()


def test_images_are_light_and_can_be_read_aloud() -> None:
    images = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert len(images) == 4 and all(len(alt) > 40 for alt, _ in images)
    assert [path for _, path in images if (PROJECT / path).stat().st_size > MOST_BYTES] == []


@pytest.mark.parametrize(("text", "home"), [(README, PROJECT), (GLOSSARY, PROJECT / "notebooks")])
def test_links_to_files_lead_somewhere(text: str, home: Path) -> None:
    links = [link for link in re.findall(r"\]\((.*?)\)", text) if not link.startswith("https://")]
    assert links and [link for link in links if not (home / link).exists()] == []
