"""From the parameters of a notebook to data sets."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.test_checks import write_picture
from workbench.methods import crnas_presets, detnas_presets, nats_presets
from workbench.methods.presets import load_data

SMOKE = detnas_presets.SMOKE.data


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Twenty images to train on and two to test with, of two classes."""
    for number in range(22):
        split = "train" if number < 20 else "val"
        write_picture(tmp_path / "classes" / split / ("eel", "ray")[number % 2] / f"{number}.png", number)
    return tmp_path / "classes"


def test_pre_training_says_which_images_it_does_not_see(classes: Path) -> None:
    data = load_data(SMOKE, "scenes", str(classes), 0)
    assert (len(data.crops), len(data.crops_search)) == (18, 2) and not set(data.crops.ids) & set(data.crops_search.ids)
    assert "(18 images at 32 px, 2 more kept unseen for searches by accuracy)" in data.description
    data = load_data(replace(SMOKE, crops_search_share=0.0), "scenes", str(classes), 0)
    assert len(data.crops) == 20 and len(data.crops_search) == 1
    assert "(20 images at 32 px, 1 of them also for searches by accuracy)" in data.description


def test_the_papers_pre_train_on_all_of_imagenet() -> None:
    for presets in (detnas_presets.PRESETS, nats_presets.PRESETS, crnas_presets.PRESETS):
        for name, plan in presets.items():
            assert plan.data.crops_search_share == (0.0 if name.startswith("paper") else 0.1), name


def test_class_folders_are_looked_through_once_and_must_fit(classes: Path, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    data = load_data(SMOKE, "scenes", str(classes), 0, runs=runs)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "cache").iterdir()}
    assert len(kept) == 2 and load_data(SMOKE, "scenes", str(classes), 0, runs=runs).digest == data.digest
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (classes / "val" / "ray" / "copy.png").write_bytes((classes / "train" / "ray" / "1.png").read_bytes())
    with pytest.raises(ValueError, match=r"must be unseen in training: .*1\.png"):
        load_data(SMOKE, "scenes", str(classes), 0, runs=runs)
    (classes / "val" / "ray").rename(classes / "val" / "whale")
    with pytest.raises(ValueError, match="must name the same classes"):
        load_data(SMOKE, "scenes", str(classes), 0, runs=runs)
