"""The exported backbone and neck give the detector's own maps, for any number of images of any size."""

import json
from dataclasses import replace
from importlib import util

import numpy as np
import pytest
import torch

from workbench.methods import detector_export
from workbench.methods.detector_export import TOLERANCE, export_detector
from workbench.methods.detector_file import load_detector, save_detector
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.spaces.catalogue import space_named
from workbench.tasks.detection import Detection, DetectorConfig


def saved(folder, config: DetectorConfig) -> Detection:
    """A detector of two stages whose batch norms have statistics, as after training, on disk."""
    space = space_named("shuffle-seven")
    task = Detection(categories=("fish", "eel"), config=config)
    torch.manual_seed(0)
    model = task.build(Backbone(space.spec(space.uniform(0))))
    model.train()
    for _ in range(3):
        model.backbone(torch.rand(4, 3, 64, 64))
    save_detector(folder, model, task, space.spec(space.uniform(0)), image_side=64)
    return task


CONFIG = replace(TINY_DETECTOR, pyramid_channels=8, pyramid_levels=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    saved(folder, CONFIG)
    return folder, export_detector(folder)


def test_torch_export_gives_the_detectors_own_maps_at_other_sizes(exported):
    folder, (own, program, _) = exported
    assert (own.form, program.form, program.path) == ("PyTorch", "torch.export", folder / "backbone_neck.pt2")
    assert 0 <= program.difference <= TOLERANCE
    images = torch.randn(5, 3, 112, 48)
    with torch.inference_mode():
        maps = list(load_detector(folder)[0].backbone(images).values())
        read = list(torch.export.load(program.path).module()(images).values())
    assert [tuple(found.shape) for found in read] == [(5, 8, 28, 12), (5, 8, 14, 6), (5, 8, 7, 3)]
    for ours, theirs, again in zip(maps, read, program.maps(images), strict=True):
        assert torch.equal(theirs, again)
        assert float((ours - theirs).abs().max()) <= TOLERANCE * float(ours.abs().max())


def test_onnx_gives_the_detectors_own_maps(exported):
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    folder, (*_, onnx) = exported
    assert onnx.path == folder / "backbone_neck.onnx" and 0 <= onnx.difference <= TOLERANCE and not onnx.note
    session = runtime.InferenceSession(onnx.path, providers=["CPUExecutionProvider"])
    # What a program without this package has: the file, and what arch.json says of the input.
    detector = json.loads((folder / "arch.json").read_text())["detector"]
    pixels = np.random.default_rng(0).random((1, 3, 96, 80), dtype=np.float32)
    mean, deviation = (np.array(detector[name], np.float32)[:, None, None] for name in ("image_mean", "image_std"))
    found = session.run(None, {"images": (pixels - mean) / deviation})
    model = load_detector(folder)[0]
    with torch.inference_mode():
        batch, _ = model.transform([torch.from_numpy(pixels[0])])
        maps = model.backbone(batch.tensors).values()
    for ours, theirs in zip(maps, found, strict=True):
        assert np.abs(ours.numpy() - theirs).max() <= TOLERANCE * float(ours.abs().max())


def test_without_the_extra_the_reason_is_said(tmp_path, monkeypatch):
    saved(tmp_path, CONFIG)
    monkeypatch.setattr(
        detector_export, "find_spec", lambda name: None if name == "onnxscript" else util.find_spec(name)
    )
    *_, onnx = export_detector(tmp_path)
    assert onnx.maps is None and onnx.path is None and onnx.note.startswith("onnxscript not installed: pip install")
    assert not (tmp_path / "backbone_neck.onnx").exists()


@pytest.mark.parametrize(("factor", "kept"), [(1 + 1e-5, True), (1 + 1e-3, False), (float("nan"), False)])
def test_a_form_with_other_maps_is_not_kept(tmp_path, factor, kept):
    def read(data):
        assert data == b"data"
        return lambda images: [images, factor * images]

    path, images = tmp_path / "backbone_neck.onnx", torch.rand(1, 3, 8, 8)
    arguments = ("ONNX", path, b"data", read, lambda images: [images, images], images)
    if kept:
        assert detector_export._kept(*arguments).difference == pytest.approx(1e-5, rel=0.05)
    else:
        with pytest.raises(RuntimeError, match="ONNX gives other maps than the network: they differ by"):
            detector_export._kept(*arguments)
    assert path.exists() == kept


def test_a_folder_without_a_detector_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no detector \(arch.json is missing\)"):
        export_detector(tmp_path)
