"""One healthy file of every format that is read, and how it is read."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tests.batch.test_report import finished
from tests.evaluation.test_benchmark import SPACE, table
from tests.evaluation.test_verdict import comparison
from tests.records.test_score import score
from tests.robustness.mutations import Subject
from workbench.batch.report import find_runs, write_html, write_markdown
from workbench.batch.run import parameters_of
from workbench.batch.tables import collect
from workbench.data.augmentation import augmentation
from workbench.data.checks import check_coco
from workbench.data.classification import ClassFolder
from workbench.data.coco import CocoFolder
from workbench.data.images import image_flaw, read_image
from workbench.data.keypoints import PoseCrops
from workbench.data.masks import MaskFolder
from workbench.evaluation.benchmark import read_tables
from workbench.evaluation.verdict import judge
from workbench.insight import tables
from workbench.methods import phases
from workbench.methods.detector_file import predict_images, save_detector
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import read_state
from workbench.records.files import write_json
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder
from workbench.spaces.catalogue import space_named
from workbench.tasks.detection import Detection
from workbench.training.checkpoint import load_checkpoint

CPU = torch.device("cpu")


def subjects(root: Path) -> Iterator[Subject]:
    """All of them, made below `root`."""
    yield from of_a_run(root)
    yield from of_a_detector(root)
    yield from of_a_phase(root)
    yield from of_annotations(root)
    yield from of_images(root)
    yield from of_class_folders(root)
    yield from of_tables_and_weights(root)
    yield from of_a_notebook(root)


def of_a_run(root: Path) -> Iterator[Subject]:
    run = finished(root / "runs", 0, 0.5)
    run.append(score(step=0))
    run.append(score(step=1))
    run.ledger.add(Entry(phase="search", seconds=2.5, images=64, forward_macs=3_000_000))
    run.save_verdict(asdict(comparison()) | {"sentence": judge([comparison()]).sentence})
    run.store("probe", "k", {"loss": [0.5]})
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    run.save_figure(figure, "line", "a line")
    plt.close(figure)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A lesson")]), run.path / "notebook.ipynb")
    page = root / "written" / "report"

    def report(path: Path) -> None:
        runs = find_runs([run.path])
        write_html(runs, page.with_suffix(".html"))
        write_markdown(runs, page.with_suffix(".md"))
        collect(runs, "main").to_csv(index=False)

    names = ("params.json", "env.json", "evaluations.jsonl", "ledger.json", "status", "command.json")
    names += ("figures/captions.json", "figures/line.png", "tables/main.json", "verdicts.json", "notebook.ipynb")
    for name in names:
        # A run that is said not to be finished is named as a folder.
        named = run.path.name if name in ("status", "params.json") else ""
        yield Subject(name=f"run: {name}", path=run.path / name, use=report, named=named)

    def continued(path: Path) -> None:
        again = RunFolder.open(root / "written", "lesson", {}, seed=0, data_digest="d")
        again.append(score(step=0))
        again.save_verdict(asdict(comparison()) | {"sentence": "won"})
        again.ledger.add(Entry(phase="search", seconds=2.5, images=64, forward_macs=3_000_000))
        again.scores("x")

    started = RunFolder.open(root / "written", "lesson", {}, seed=0, data_digest="d")
    continued(started.path)
    for name in ("params.json", "env.json", "evaluations.jsonl", "ledger.json", "status", "verdicts.json"):
        yield Subject(name=f"continued run: {name}", path=started.path / name, use=continued)
    stored = run.path / "phases" / "probe.json"
    yield Subject(name="run: phases/probe.json", path=stored, use=lambda path: run.load("probe", "k"))


def of_a_detector(root: Path) -> Iterator[Subject]:
    space = space_named("shuffle-tiny")
    spec = space.spec(space.uniform(0))
    task = Detection(categories=("eel", "ray"), config=TINY_DETECTOR)
    folder = root / "detector"
    save_detector(folder, task.build(Backbone(spec)), task, spec, image_side=96, arch=space.uniform(0))
    photograph(folder / "a.png", 0)
    for name in ("arch.json", "weights.safetensors"):
        # Values that fit may ask for other weights: the sentence then names these; or for other images.
        yield Subject(
            name=f"detector: {name}",
            path=folder / name,
            use=lambda _: predict_images(folder, [folder / "a.png"], root / "written"),
            named="detector",
        )


def of_a_phase(root: Path) -> Iterator[Subject]:
    def model() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Linear(3, 2)

    run = finished(root / "runs", 1, 0.5)
    experiment: Any = SimpleNamespace(run=run, seed=0, device=CPU)
    with phases.phase_folder(experiment, "search", {"what": "search"}, shared=False) as (key, folder):
        entry = Entry(phase="search", seconds=2.5, images=64, forward_macs=3_000_000)
        found = {"losses": [0.5, 0.25], "alpha_losses": [0.5, 0.25]}
        phases.keep_phase(experiment, folder, model(), entry, {"what": "search"}, found)
        save_file({"0.0": torch.zeros(2, 3), "1.0": torch.ones(2, 3)}, folder / "alpha.safetensors")

    def load(path: Path) -> None:
        record = phases.load_phase(experiment, "search", folder, model())
        if record is not None:
            phases._trained(key, folder, record)

    for name in ("phase.json", "weights.safetensors", "alpha.safetensors"):
        yield Subject(name=f"phase: {name}", path=folder / name, use=load, named=folder.name)
    torch.save({"model": model().state_dict(), "sides": {"weights": {"losses": [0.5]}}}, folder / "checkpoint.pt")
    yield Subject(name="phase: checkpoint.pt", path=folder / "checkpoint.pt", use=load_checkpoint)
    write_json(folder / "seconds.json", 12.5)
    clock = phases.PhaseClock
    yield Subject(name="phase: seconds.json", path=folder / "seconds.json", use=lambda path: clock(path.parent, print))


def of_annotations(root: Path) -> Iterator[Subject]:
    home = root / "coco"
    images, rows = [], []
    for number in range(3):
        photograph(home / "images" / f"{number}.png", number)
        images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
        rows.append({"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 15], "area": 300.0})
        rows[-1] |= {"iscrowd": 0, "keypoints": [6, 6, 2, 20, 15, 1]}
    names = {"id": 1, "name": "fish", "keypoints": ["head", "tail"]}
    (home / "annotations").mkdir()
    content = {"images": images, "annotations": rows, "categories": [names]}
    path = home / "annotations" / "instances_train.json"
    path.write_text(json.dumps(content))

    space = space_named("shuffle-tiny")
    task = Detection(categories=("eel",) * 3, config=TINY_DETECTOR)
    model = task.build(Backbone(space.spec(space.uniform(0))))

    def detect(path: Path) -> None:
        check_coco(home, "train")
        data = CocoFolder(home, "train", max_size=32, bad_boxes="drop")
        images, targets = task.batch(data, range(len(data)), CPU, augmentation("flip", 32), 0)
        with torch.no_grad():
            assert all(loss.isfinite() for loss in model(images, targets).values())  # training would begin
        data.ground_truth()

    def pose(path: Path) -> None:
        crops = PoseCrops(CocoFolder(home, "train", bad_boxes="drop", keypoints=True), (32, 24))
        crops[0], crops.ground_truth()

    yield Subject(name="annotations: boxes", path=path, use=detect, named="coco")
    yield Subject(name="annotations: keypoints", path=path, use=pose, named="coco")


def of_images(root: Path) -> Iterator[Subject]:
    def read(path: Path) -> None:
        if image_flaw(path) is None:  # what doctor calls healthy is read, at any size
            read_image(path)
        read_image(path, largest=16)

    for ending in ("jpg", "png", "bmp", "webp", "gif", "tif"):
        path = root / "images" / f"a.{ending}"
        photograph(path, 3)
        yield Subject(name=f"image: {ending}", path=path, use=read)
    home = root / "streets"
    for split in ("train", "val"):
        photograph(home / split / "images" / "a.png", 0)
        (home / split / "masks").mkdir()
        Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 2).save(home / split / "masks" / "a.png")
    write_json(home / "classes.json", {"classes": ["road", "car"], "void": 255})

    def masks(path: Path) -> None:
        MaskFolder(home, "train", max_size=20)[0]

    for name in ("train/masks/a.png", "train/images/a.png", "classes.json"):
        yield Subject(name=f"masks: {name}", path=home / name, use=masks, named="streets")


def of_class_folders(root: Path) -> Iterator[Subject]:
    home, cache = root / "classes", root / "written" / "cache"
    for name in ("eel/1.png", "ray/2.png"):
        photograph(home / "train" / name, len(name))

    def read(path: Path) -> None:
        ClassFolder(home, "train", side=16, cache=cache)[0]

    read(cache)
    (path,) = cache.glob("classes-*.json")
    yield Subject(name="list of class folders", path=path, use=read)
    yield Subject(name="class folders: image", path=home / "train" / "eel" / "1.png", use=read)


def of_tables_and_weights(root: Path) -> Iterator[Subject]:
    folder = root / "benchmark"
    folder.mkdir()
    path = folder / f"{SPACE.name}-seed0.csv"
    table(seeds=1)[0].head(9).to_csv(path, index=False)
    yield Subject(name="exhaustive table", path=path, use=lambda _: read_tables(folder, SPACE), named="benchmark")
    results = root / "results"
    results.mkdir()
    rows = [{"seed": s, "preset": "tiny", "data": "", "network": n, "AP": 0.1 * s} for s in (0, 1) for n in ("a", "b")]
    pd.DataFrame(rows).to_csv(results / "10_detnas.csv", index=False)

    def stored(path: Path) -> None:
        before, tables.DATA = tables.DATA, root
        try:
            tables.stored_seeds("10_detnas", "AP")
        finally:
            tables.DATA = before

    yield Subject(name="stored seeds", path=results / "10_detnas.csv", use=stored)
    state = {"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)}
    save_file(state, root / "seed.safetensors")
    torch.save({"state_dict": state}, root / "seed.pth")
    for name in ("seed.safetensors", "seed.pth"):
        yield Subject(name=f"weights: {name}", path=root / name, use=read_state)


def of_a_notebook(root: Path) -> Iterator[Subject]:
    path = root / "lesson.ipynb"
    cell = new_code_cell('preset: str = "tiny"\nseed: int = 0', metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    yield Subject(name="notebook to run", path=path, use=parameters_of)


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
