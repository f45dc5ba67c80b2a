"""How fast: ratios of two things that are timed in turn in one run, so that what else the machine does hits both."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from workbench.data.coco import CocoFolder
from workbench.data.images import Memory
from workbench.data.loader import load_data
from workbench.data.prefetch import one_thread, workers_for
from workbench.evaluation.recalibration import keeping_statistics, recalibrate
from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates
from workbench.methods.candidates import KeptSupernet
from workbench.methods.crnas import presets as crnas
from workbench.methods.crnas.method import beam_search, reusing
from workbench.methods.detnas import presets as detnas
from workbench.methods.engine import Local, open_engine
from workbench.methods.experiment import Experiment, body_of, new_model, start_experiment
from workbench.methods.nats import presets as nats
from workbench.networks.backbone import Backbone
from workbench.networks.count import count_backbone, saved_bytes
from workbench.networks.dilation_mixture import SIDES, usual_implementation
from workbench.networks.supernet import Supernet
from workbench.records.progress import announce
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import dilation_space_name
from workbench.spaces.space import SearchSpace
from workbench.training.fit import fit, place
from workbench.training.recipe import make_optimizer

CPU = torch.device("cpu")
Call = Callable[[], object]
STEPS, SETTLED = 32, 8  # of a training from files: after so many all images were read once


class Figure(NamedTuple):
    """A figure with its quartiles, over `n` rounds in which its parts were timed one after the other."""

    name: str
    value: float
    low: float
    high: float
    n: int
    what: str


def in_turn(calls: Sequence[Call], rounds: int) -> np.ndarray:
    """Seconds (rounds, calls) of each call, or those that it returns; a first round, which does not count, warms up.

    Every second round goes backwards, so that none always follows the same other one.
    """
    seconds = np.zeros((rounds + 1, len(calls)))
    for turn, row in enumerate(seconds):
        for index in range(len(calls))[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            own = calls[index]()
            row[index] = own if isinstance(own, float) else time.perf_counter() - start
    return seconds[1:]


def figure(name: str, values: np.ndarray, what: str) -> Figure:
    low, median, high = np.percentile(values, [25, 50, 75])
    return Figure(name, float(median), float(low), float(high), len(values), what)


def figures(rounds: int = 10) -> Iterator[Figure]:
    """All of them, of small plans on the CPU with PyTorch's threads as they are set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield supernet_step(3 * rounds, folder)
        yield from candidate(rounds, folder)
        yield prefixes(max(2, rounds // 3), folder)
        yield from mixtures(2 * rounds)
        yield from images_from_files(max(2, rounds // 3), folder)
        yield from workers_of_ray(max(2, rounds // 3), folder)
    yield costs(rounds)


def _supernet(plan: Any, space: SearchSpace, folder: Path) -> tuple[Experiment, Scorer]:
    """An experiment on generated scenes, and what scores candidates by the weights of an untrained supernet."""
    data = load_data(plan.data, "detection", "scenes", "", seed=0)
    options: dict[str, Any] = {"seed": 0, "device": "cpu", "runs": str(folder), "fresh": False}
    experiment = start_experiment("bench", {"space": space.name}, plan=plan, data=data, **options)
    model = new_model(lambda: experiment.task.build(Supernet(space)), 0, "bench").eval()
    place(model, CPU)
    return experiment, candidates.scorer(experiment, KeptSupernet(model, body_of(model), "bench"), experiment.task)


def supernet_step(rounds: int, folder: Path) -> Figure:
    """A training step of one path of a supernet, over that of the same network on its own."""
    space, recipe = space_named(detnas.TINY.space), detnas.TINY.finetune
    experiment, judge = _supernet(detnas.TINY, space, folder)
    images, targets = experiment.task.batch(experiment.data.train, range(8), CPU)
    arch = space.uniform(1)
    judge.supernet.activate(arch)
    alone = experiment.task.build(Backbone(space.spec(arch)))
    place(alone, CPU)
    seconds = in_turn([_step(model.train(), recipe, images, targets) for model in (judge.model, alone)], rounds)
    return figure("supernet step / stand-alone step", seconds[:, 0] / seconds[:, 1], f"{space.name}, 8 images")


def _step(model: nn.Module, recipe: Any, images: Any, targets: Any) -> Call:
    optimizer = make_optimizer(model.named_parameters(), recipe)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return step


def candidate(rounds: int, folder: Path) -> Iterator[Figure]:
    """Where the time of scoring a candidate of DetNAS goes, and what images in memory save."""
    space = space_named(detnas.TINY.space)
    experiment, judge = _supernet(detnas.TINY, space, folder)
    task, data, found, rng = experiment.task, experiment.data, list[Any](), np.random.default_rng(0)
    judge.supernet.activate(space.uniform(1))

    def recalibrated() -> None:
        with keeping_statistics(judge.model):
            recalibrate(judge.model, task, judge.calibration)

    def forward() -> None:
        found[:] = task.outputs(judge.model, data.search, CPU, judge.scored.batch_size)

    def measured() -> None:
        task.summarise(data.search, iter(found), rng, True)

    def images_anew() -> None:
        for batches in (judge.calibration, judge.scored):
            batches.data.memory = Memory()
            list(batches)

    forward()
    seconds = in_turn([forward, recalibrated, measured, images_anew], rounds)
    scoring = seconds[:, :3].sum(axis=1)
    what = f"{space.name}, {len(data.search)} images, recalibrated on {len(judge.calibration.indices)}; random weights"
    for index, name in enumerate(("forward", "recalibration", "metric")):
        yield figure(f"share of a candidate: {name}", seconds[:, index] / scoring, what)
    yield figure("candidates a minute without recalibration / with", scoring / (scoring - seconds[:, 1]), what)
    anew = 1 + seconds[:, 3] / scoring
    yield figure("candidates a minute with images in memory / drawn anew", anew, f"{what}; scenes of 128 pixels")


def prefixes(rounds: int, folder: Path) -> Figure:
    """The last two steps of a beam with reused prefixes, and with each candidate computed from the image on."""
    part = replace(crnas.SPECIES.beam, searched_blocks=2)
    plan = replace(crnas.SPECIES, beam=part, data=replace(crnas.SPECIES.data, search_images=32))
    space = space_named(dilation_space_name(plan.supernet_backbone, plan.deeper))
    experiment, plain = _supernet(plan, space, folder)

    def beam(judge: Scorer) -> None:
        search = beam_search(experiment, judge)
        while queries := search.ask(search.evaluations):
            search.tell([judge(q.arch, phase="bench", step=0, completions=q.completions) for q in queries])

    seconds = in_turn([lambda: beam(plain), lambda: beam(reusing(experiment, plain))], rounds)
    what = f"the last 2 of {len(space.decisions)} decisions, building the prefixes included"
    return figure("candidates a minute with reused prefixes / without", seconds[:, 0] / seconds[:, 1], what)


def mixtures(rounds: int) -> Iterator[Figure]:
    """Each layer of NATS's supernet as the search computes it, over branches alone: a step of the weights, memory."""
    plan: Any = nats.TINY
    supernet = Supernet(space_named(plan.space)).to(memory_format=torch.channels_last)
    supernet.mix()
    entering: list[torch.Tensor] = []
    for layer in supernet.mixtures():
        layer.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0].detach()))
    with torch.no_grad():
        supernet(torch.rand(16, 3, plan.macs_at, plan.macs_at).contiguous(memory_format=torch.channels_last))
    seen = set()
    for layer, features in zip(supernet.mixtures(), tuple(entering), strict=True):
        if features.shape in seen:
            continue
        seen.add(features.shape)
        ways: list[Any] = [usual_implementation(layer), dict.fromkeys(SIDES, "branches")]

        def step(way: Any, layer: Any = layer, features: torch.Tensor = features) -> None:
            layer.implementation = way
            layer.alpha.requires_grad_(False)
            layer(features).sum().backward()

        seconds = in_turn([partial(step, way) for way in ways], rounds)
        _, channels, side, _ = features.shape
        what = f"{channels} channels, {side} x {side}, {len(layer.dilations)} dilations"
        yield figure("mixture / branches: time, weights learn", seconds[:, 0] / seconds[:, 1], what)
        for learning in ("both learn", "weights learn"):  # without a gradient of alpha branches need not be kept
            layer.alpha.requires_grad_(learning == "both learn")
            kept = []
            for layer.implementation in ways:
                kept.append(saved_bytes(layer, partial(layer, features)))
            yield figure(f"mixture / branches: memory, {learning}", np.array([kept[0] / kept[1]]), what)


def images_from_files(rounds: int, folder: Path) -> Iterator[Figure]:
    """Training from JPEG files that are read anew for every batch, over training with the images decoded in memory."""
    space, many = space_named(detnas.TINY.space), 64
    experiment, _ = _supernet(detnas.TINY, space, folder)
    data = _as_files(experiment.data.train.take(range(many)), folder)
    recipe = replace(detnas.TINY.finetune, steps=STEPS)
    data.memory.limit = 0  # as where a data set is larger than memory
    readers = [None, 0, workers_for(data)]

    def trained(workers: int | None) -> float:
        data.memory, ends = Memory(), list[float]()
        if workers is not None:
            data.memory.limit = 0
        model = experiment.task.build(Backbone(space.spec(space.uniform(1))))

        def progress(done: int, total: int, text: str) -> None:
            ends.append(time.perf_counter())

        fit(model, experiment.task, data, recipe, seed=0, workers=workers, progress=progress)
        return ends[-1] - ends[SETTLED]

    seconds = in_turn([partial(trained, workers) for workers in readers], rounds)
    what = f"batches of {recipe.batch_size}; {many} JPEG files of 480 x 480 pixels, shrunk to 128"
    for index, workers in enumerate(readers[1:], 1):
        name = f"training, images a second: files with {workers} loader workers / in memory"
        yield figure(name, seconds[:, 0] / seconds[:, index], what)


def workers_of_ray(rounds: int, folder: Path, many: int = 8) -> Iterator[Figure]:
    """Candidates scored by two workers of one thread, over one of them, and over this process with two threads."""
    space, threads, rng = space_named(detnas.TINY.space), torch.get_num_threads(), np.random.default_rng(0)
    judge: Any = _supernet(detnas.TINY, space, folder)[1]
    calls: list[dict[str, Any]] = [{"arch": space.sample(rng), "phase": "bench", "step": 0} for _ in range(many)]
    try:
        with one_thread():  # as many as the workers then have
            engine = open_engine("ray", 2, "cpu")
    except ValueError as error:
        announce(f"no figures of Ray: {error}")
        return

    def here() -> None:
        torch.set_num_threads(2)
        list(Local().each(judge, calls))
        torch.set_num_threads(threads)

    def asked(at_once: int) -> None:
        for first in range(0, many, at_once):
            list(engine.each(judge, calls[first : first + at_once]))

    seconds = in_turn([partial(asked, many), partial(asked, 1), here], rounds)
    what = f"{many} candidates of {space.name}"
    for index, name in enumerate(("one worker", "this process with two threads"), 1):
        yield figure(f"two workers of Ray / {name}, candidates a minute", seconds[:, index] / seconds[:, 0], what)


def _as_files(scenes: Any, root: Path) -> CocoFolder:
    """Scenes as JPEG files in COCO's layout, enlarged to the size that photographs often have."""
    truth = scenes.ground_truth()
    (root / "annotations").mkdir()
    (root / "train").mkdir()
    scale = 480 / scenes.config.image_size
    for index, image in enumerate(truth["images"]):
        image |= {"file_name": f"{index}.jpg", "height": 480, "width": 480}
        pixels = scenes[index][0].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((480, 480)).save(root / "train" / image["file_name"], quality=90)
    for row in truth["annotations"]:
        row |= {"bbox": [scale * number for number in row["bbox"]], "area": scale**2 * row["area"]}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(truth), encoding="utf-8")
    return CocoFolder(root, "train", max_size=128)


def costs(rounds: int, many: int = 2000) -> Figure:
    """How many architectures the table of a space costs while PyTorch counts one on the meta device."""
    space = space_named("shuffle-20")
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(many)]

    def table() -> None:
        for arch in archs:
            space.macs(arch, 224)

    seconds = in_turn([table, lambda: count_backbone(lambda: Backbone(space.spec(archs[0])), 224)], rounds)
    a_second = many / np.median(seconds[:, 0])
    what = f"{space.name} at 224 px; {a_second:,.0f} architectures a second"
    return figure("costs by the table / by counting, a second", many * seconds[:, 1] / seconds[:, 0], what)


def as_markdown(found: Sequence[Figure]) -> str:
    """The figures as a table."""
    lines = ["| figure | median | quartiles | n | of what |", "|---|---:|---:|---:|---|"]
    for row in found:
        low, high = (f"{value:.3g}" for value in (row.low, row.high))
        lines.append(f"| {row.name} | {row.value:.3g} | {low} to {high} | {row.n} | {row.what} |")
    return "\n".join(lines) + "\n"
