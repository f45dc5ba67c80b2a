"""A saved detector on any image, and a saved detector that is damaged."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.data.test_images import bomb
from workbench.methods.detector_file import load_detector, predict_images, save_detector
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.records.files import read_json
from workbench.records.ledger import peak_memory, reset_peak_memory
from workbench.spaces.catalogue import space_named
from workbench.tasks.detection import Detection

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a detector of random weights, whose classes have names that a figure could take for formulas."""
    space = space_named("shuffle-tiny")
    spec = space.spec(space.uniform(0))
    task = Detection(categories=("a$x_$", "\\frac{"), config=TINY_DETECTOR)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build(Backbone(spec))
    save_detector(tmp_path / "run", model, task, spec, image_side=96, arch=space.uniform(0))
    return tmp_path / "run"


@pytest.mark.parametrize("size", [(20_000, 10), (1, 97), (200, 1), (3, 200), (1, 1)])
def test_images_of_any_shape_have_a_result(run: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / f"{'ü' * 120}.png"  # a name of 244 bytes
    Image.new("RGB", size, (90, 120, 30)).save(path)
    (told,) = predict_images(run, [path], tmp_path / "out", threshold=0.0)
    with Image.open(told["drawing"]) as figure:
        assert figure.width == 900 and 75 <= figure.height <= 1800


def test_boxes_are_in_pixels_of_the_file_also_where_it_is_drawn_smaller(run: Path, tmp_path: Path) -> None:
    told = []
    for side in (1000, 4000):  # one scene at two sizes; the larger one is shrunk while it is read
        Image.effect_noise((100, 50), 90).convert("RGB").resize((side, side // 2)).save(tmp_path / f"{side}.png")
        told += predict_images(run, [tmp_path / f"{side}.png"], tmp_path / "out", threshold=0.0)
    reach = [max(found["box"][2] for found in record["detections"]) for record in told]
    assert 500 < reach[0] <= 1000 and 2048 < reach[1] <= 4000


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "I;16", "L"])
def test_large_images_take_bounded_memory_and_time(run: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.png" if mode == "I;16" else "a.gif" if mode == "L" else "a.jpg")
    sizes = {"RGB": (12_000, 9_000), "CMYK": (6_000, 4_000)}  # 108 and 24 megapixels
    grey = np.full((4_000, 6_000), 40_000, np.uint16)
    image = Image.fromarray(grey) if mode == "I;16" else Image.new(mode, sizes.get(mode, (6_000, 4_000)))
    image.save(path)
    image.close()
    reset_peak_memory(CPU)
    idle, start = peak_memory(CPU), time.process_time()
    predict_images(run, [path], tmp_path / "out")
    assert time.process_time() - start < 5 and peak_memory(CPU) - idle < 2**30


def test_a_bomb_is_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(100_000, 100_000))
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    with pytest.raises(ValueError, match=r"bomb\.png cannot be decoded \(10,000 megapixels, more than 200\)"):
        predict_images(run, [tmp_path / "good.png", tmp_path / "bomb.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def change(record: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        record = record[int(name) if name.isdecimal() else name]  # type: ignore[call-overload]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image_side", 10**9),
        ("image_side", "96"),
        ("categories", {"a": 1}),
        ("categories", []),
        ("detector", []),
        ("detector.kind", "yolo"),
        ("detector.head_convs", 10**9),
        ("detector.unknown", 1),
        ("spec.blocks", []),
        ("spec.taps", [-1]),
        ("spec.blocks.1.kernel", 10**6),
        ("spec.blocks.1.kernel", 3.5),
        ("spec.blocks.1.out_channels", 10**9),
        ("spec.blocks.1.kind", "mystery"),
        ("spec.blocks.1.dilations", [[1, 1]]),
    ],
)
def test_a_damaged_description_is_one_sentence(run: Path, path: str, value: Any) -> None:
    record = read_json(run / "arch.json")
    change(record, path, value)
    (run / "arch.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"arch\.json (does not fit|does not describe a detector).*(run the notebook again)"
    ):
        load_detector(run)


def test_a_description_of_another_network_takes_no_memory(run: Path) -> None:
    """Within all bounds, and yet 512 blocks of 16,384 channels, as nobody could hold them."""
    record = read_json(run / "arch.json")
    wide = {**record["spec"]["blocks"][0], "kind": "conv", "out_channels": 16_384, "stage": 1}
    record["spec"]["blocks"] = [wide, *[{**wide, "in_channels": 16_384}] * 511]
    record["spec"]["taps"] = [511]
    (run / "arch.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"weights\.safetensors does not fit this network|does not describe a detector"
    ):
        load_detector(run)


def test_weights_that_are_damaged_or_not_finite_are_named(run: Path) -> None:
    path = run / "weights.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    first = next(tensor for tensor in tensors.values() if tensor.is_floating_point())
    first.view(-1)[0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(
        ValueError, match=r"weights\.safetensors cannot be read .* is not finite.*train the network again"
    ):
        load_detector(run)
    for content in (b"", whole[:1000], whole[:-5], os.urandom(9)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.safetensors cannot be read as safetensors"):
            load_detector(run)
    path.unlink()
    with pytest.raises(ValueError, match=r"weights\.safetensors cannot be read as safetensors"):
        load_detector(run)
