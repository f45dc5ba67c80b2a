"""Batches that other processes make ahead: the same bytes with any number of them, after a kill, on several ranks."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import nn

from tests.training import checkpoints
from workbench.data.augmentation import augmentation
from workbench.data.classification import ClassFolder
from workbench.data.coco import CocoFolder
from workbench.data.images import DamagedImage
from workbench.data.prefetch import prefetched, workers_for
from workbench.data.sets import split_train
from workbench.evaluation.recalibration import ImageBatches
from workbench.records.files import write_json
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection
from workbench.training.fit import AlphaSide, fit
from workbench.training.recipe import AlternatingRecipe, Recipe

ROOT, CPU = Path(__file__).resolve().parents[2], torch.device("cpu")
RECIPE = Recipe(steps=8, batch_size=4, lr=0.05, augment="classify", crop_side=32)


class Net(nn.Module):
    """A classifier on one convolution, with dropout; alpha scales its loss."""

    def __init__(self):
        super().__init__()
        self.channels, self.layer = [4], nn.Conv2d(3, 4, 3, stride=4)
        self.alpha = nn.Parameter(torch.ones(1, 2))

    def forward(self, images):
        return [nn.functional.dropout(self.layer(images) * self.alpha.softmax(1)[0, 0], 0.2, self.training)]


def write_classes(root):
    """Two classes of six photographs (noise) of other sizes each."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = root / "train" / "ab"[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + number, 70 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=80)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("classes"))


def folder(root):
    return ClassFolder(root, "train", side=32, whole=True)


def trained(root, workers, stop=0, **options):
    """Losses and weights; `stop` interrupts after so many steps."""
    torch.manual_seed(0)
    data = folder(root)
    task = Classification(categories=data.categories, hidden=0)
    model = task.build(Net())

    def progress(done, total, text):
        if done == stop:
            raise KeyboardInterrupt

    history = fit(model, task, data, RECIPE, seed=3, workers=workers, progress=progress, **options)
    return history.losses, model.state_dict()


def same(first, second):
    return first[0] == second[0] and all(torch.equal(first[1][name], second[1][name]) for name in first[1])


@pytest.fixture(scope="module")
def whole(root):
    return trained(root, 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_trains_the_same_network(root, whole, workers):
    assert same(trained(root, workers), whole)
    assert multiprocessing.active_children() == []


def test_images_in_memory_are_the_same_batches_without_workers(root, monkeypatch):
    """Squares that fit in memory are read here; with no memory at all by workers, whatever the number of threads."""
    data, augment = ClassFolder(root, "train", side=200), augmentation("classify", 200)
    assert data.in_memory and workers_for(data) is None and not folder(root).in_memory
    monkeypatch.setenv("WORKBENCH_MEMORY", "0")
    monkeypatch.setenv("WORKBENCH_LOADER_WORKERS", "2")
    read = ClassFolder(root, "train", side=200)
    assert not read.in_memory and workers_for(read) == 2
    task = Classification(categories=data.categories)
    chosen = ([3, 0, 5], [1, 2, 9])
    jobs = [[(index, 7 + index) for index in indices] for indices in chosen]
    ahead = task.batches(read, jobs, CPU, augment, workers=2)
    for indices, (images, targets) in zip(chosen, ahead, strict=True):
        expected, labels = task.batch(data, indices, CPU, augment, 7)
        assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True)) and targets == labels
    calibration = (ImageBatches(task, kept, [8, 2, 4], 2, CPU) for kept in (data, read))
    for kept, made in zip(*calibration, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept, made, strict=True))
    sent = pickle.loads(pickle.dumps(data))
    assert data.memory.used > 0 == sent.memory.used and torch.equal(sent[0][0], data[0][0])
    monkeypatch.setenv("WORKBENCH_LOADER_WORKERS", "many")
    with pytest.raises(ValueError, match=r"WORKBENCH_LOADER_WORKERS is a number from 0 on, .* got 'many'"):
        workers_for(read)


def test_detections_are_augmented_and_scored_the_same(tmp_path, monkeypatch):
    """Images of other sizes, boxes, masks, some without an object."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "images" / "train").mkdir(parents=True)
    for number in range(6):
        pixels = rng.integers(0, 256, (50 + 5 * number, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "train" / f"{number}.jpg")
        for k in range(number % 3):
            box = [5.0 + k, 7.0, 20.0, 30.0]
            corners = [[5.0 + k, 7.0, 25.0 + k, 7.0, 25.0 + k, 37.0, 5.0 + k, 37.0]]
            of = {"id": len(rows), "image_id": number, "category_id": 1, "iscrowd": 0, "area": 600.0}
            rows.append({**of, "bbox": box, "segmentation": corners})
    sizes = [{"id": n, "file_name": f"{n}.jpg", "width": 80, "height": 50 + 5 * n} for n in range(6)]
    content = {"images": sizes, "annotations": rows, "categories": [{"id": 1, "name": "fish"}]}
    write_json(tmp_path / "annotations" / "instances_train.json", content)
    data = CocoFolder(tmp_path, "train", max_size=64, masks=True)
    task, augment = Detection(categories=data.categories), augmentation("crop", 64)
    jobs = [[(index, 5 + index) for index in (4, 0, 5, 2)]]
    expected = task.batch(data, [4, 0, 5, 2], CPU, augment, 5)
    for workers in (0, 2):
        ((images, targets),) = task.batches(data, jobs, CPU, augment, workers=workers)
        assert all(torch.equal(a, b) for a, b in zip(images, expected[0], strict=True))
        for target, other in zip(targets, expected[1], strict=True):
            assert target.keys() == other.keys() and all(torch.equal(target[name], other[name]) for name in target)

    def heard(data):
        return list(task.outputs(Eye(), data, CPU, 4))

    kept = heard(data)
    monkeypatch.setenv("WORKBENCH_MEMORY", "0")
    monkeypatch.setenv("WORKBENCH_LOADER_WORKERS", "2")
    ahead = heard(CocoFolder(tmp_path, "train", max_size=64, masks=True))
    for (index, target, output), (other, read, said) in zip(kept, ahead, strict=True):
        assert index == other and torch.equal(output["mean"], said["mean"]) and target.keys() == read.keys()
        assert all(torch.equal(torch.as_tensor(target[name]), torch.as_tensor(read[name])) for name in target)


class Eye(nn.Module):
    def forward(self, images):
        return [{"mean": image.mean()} for image in images]


def test_both_sides_of_a_search_are_made_ahead(root):
    data = folder(root)
    task = Classification(categories=data.categories, hidden=0)
    recipe = AlternatingRecipe(weights=RECIPE, alpha=RECIPE, epochs=4, warm_epochs=1, weight_steps=2)
    found = []
    for workers in (0, 1):
        torch.manual_seed(0)
        model = task.build(Net())
        weights, other = split_train(data, 0.5, seed=0)
        side = AlphaSide(parameters=[model.backbone.alpha], data=other)
        history = fit(model, task, weights, recipe, seed=0, search=side, workers=workers)
        found.append(((history.losses, history.alpha_losses), model.state_dict()))
    assert len(found[0][0][1]) == 3 and same(*found)


def test_killed_and_continued_with_another_number_of_workers(root, whole, tmp_path):
    """SIGKILL of the training process ends its workers, too."""
    path = tmp_path / "checkpoint.pt"
    script = """if True:
        import sys, time, pytest
        from pathlib import Path
        from tests.training import checkpoints, test_ahead
        def wait(done, total, text):
            print(done, flush=True)
            time.sleep(600 if done == 6 else 0)
        fit = test_ahead.fit
        test_ahead.fit = lambda *a, progress, **o: fit(*a, progress=wait, **o)
        with pytest.MonkeyPatch.context() as patch:
            checkpoints.every(2, patch)
            test_ahead.trained(Path(sys.argv[1]), 3, checkpoint=Path(sys.argv[2]))
    """
    command = [sys.executable, "-c", script, str(root), str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as victim:
        assert any(line.strip() == "6" for line in victim.stdout)
        left = psutil.Process(victim.pid).children(recursive=True)
        assert len(left) >= 4  # the fork server and its workers
        victim.send_signal(signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        checkpoints.every(2, patch)
        with pytest.raises(KeyboardInterrupt):
            trained(root, 1, stop=7, checkpoint=path)
    assert same(trained(root, 2, checkpoint=path), whole)
    _, alive = psutil.wait_procs(left, timeout=30)
    assert alive == []


def test_ranks_with_workers_equal_ranks_without(root, tmp_path):
    """Two processes with a worker each; this one is the first."""
    threads = torch.get_num_threads()
    other = mp.spawn(_second, args=(str(root), str(tmp_path)), nprocs=1, join=False)
    here, without = _joined(0, root, tmp_path)
    assert other.join(120)
    torch.set_num_threads(threads)
    there = torch.load(tmp_path / "second.pt", weights_only=True)
    assert same(here, without) and all(torch.equal(here[1][name], there[name]) for name in there)


def _second(index, root, folder):
    (_, weights), _ = _joined(1, root, folder)
    torch.save(weights, f"{folder}/second.pt")


def _joined(rank, root, folder):
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        torch.set_num_threads(1)
        return trained(root, 1), trained(root, 0)
    finally:
        dist.destroy_process_group()


def test_a_damaged_image_is_named(tmp_path, root):
    """Damaged after it was checked; the workers end although the error is kept."""
    data = folder(write_classes(tmp_path))
    data.files[7].write_bytes(data.files[7].read_bytes()[:300])
    task = Classification(categories=data.categories, hidden=0)
    for workers in (0, 1):
        with pytest.raises(DamagedImage) as kept:
            fit(task.build(Net()), task, data, RECIPE, seed=0, workers=workers)
        assert str(kept.value).startswith(f"{data.files[7]} cannot be decoded (")
        assert str(kept.value).endswith("mend it or leave it out.")
        assert multiprocessing.active_children() == []


class Deadly(ClassFolder):
    """One image kills who reads it, as a bug of a decoder or a lack of memory would."""

    def uncropped(self, index):
        if index == 5 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 4:
            raise RuntimeError("a bug")
        return super().uncropped(index)


def test_a_worker_that_dies_names_its_image(root):
    data = Deadly(root, "train", side=32, whole=True)
    task = Classification(categories=data.categories, hidden=0)

    def read(indices):
        return list(task.batches(data, [[(n, n)] for n in indices], CPU, augmentation("classify", 32), workers=1))

    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"died while it read .*/train/a/10\.jpg .*WORKBENCH_LOADER_WORKERS=0\.$"):
        read([0, 1, 5])
    assert time.monotonic() - begun < 60 and multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match="a bug"):
        read([4])


def test_no_more_than_two_batches_are_held_ready_for_each_worker():
    asked = []

    def jobs():
        for number in range(20):
            asked.append(number)
            yield [(number, None)]

    made = prefetched(_index, None, jobs(), workers=2)
    assert int(next(made).images.flat[0]) == 0
    time.sleep(0.5)
    assert len(asked) <= 5  # four ahead of the one that was taken
    assert [int(batch.images.flat[0]) for batch in made] == list(range(1, 20))


def _index(index, seed):
    return torch.tensor([index]), index
