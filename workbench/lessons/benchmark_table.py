"""Tables of networks trained alone, a row for each training: what searches and their noise are judged by."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.benchmark import text_of
from workbench.methods.experiment import body_of, new_model
from workbench.methods.presets import GENTLE, LADDER, LADDER_DATA, LADDER_DETECTOR, LADDER_PROBE
from workbench.networks.backbone import Backbone
from workbench.records.files import read_csv, write_text
from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.tasks.detection import Detection, DetectorConfig
from workbench.tasks.probe import Probe
from workbench.training.fit import fit
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DetectorPart:
    """How a network of a table is trained on, as the backbone of a detector."""

    head: DetectorConfig
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """How the networks of a table are trained, each alone: by the linear probe, then in a detector where one is given.

    `networks` of those whose backbones cost `macs` (from, to) at the size of the scenes; 0 stands for all.
    """

    space: str
    scenes: SceneConfig = LADDER
    recipe: Recipe
    train_images: int
    test_images: int
    detector: DetectorPart | None = None
    networks: int = 0
    macs: tuple[int, int] = (0, 10**12)


def train_table(plan: TablePlan, path: Path, seed: int, limit: int = 0, progress: Progress = silent) -> pd.DataFrame:
    """Trains the networks that the table `path` does not hold yet, at most `limit` (0: all); each row is kept at once.

    The table is of one seed, which draws scenes, weights and the order of images. Killed, it goes on where it was.
    Networks come in one random order whatever the seed, so that unfinished tables of several seeds hold the same ones.
    ValueError when the rows that it holds were trained for another number of steps.
    """
    space = space_named(plan.space)
    rows = read_csv(path, dtype={"choices": str}).to_dict("records") if path.is_file() else []
    if other := {row.get("steps") for row in rows} - {plan.recipe.steps}:
        raise ValueError(f"{path} holds trainings of {other.pop()} steps, not {plan.recipe.steps}; name another.")
    low, high = plan.macs
    archs = [arch for arch in space.all() if low <= space.macs(arch, plan.scenes.image_size) <= high]
    order = [archs[place] for place in generator(0, "table order").permutation(len(archs))]
    order = order[: plan.networks or len(order)]
    known = {row["choices"] for row in rows}
    missing = [arch for arch in order if text_of(arch) not in known][: limit or len(order)]
    data = table_scenes(plan, seed)
    for arch in missing:
        rows.append(train_row(plan, arch, seed, *data))
        write_text(path, pd.DataFrame(rows).to_csv(index=False))
        progress(len(rows), len(order), f"{text_of(arch)}: accuracy {rows[-1]['accuracy']:.3f}")
    return pd.DataFrame(rows)


def table_scenes(plan: TablePlan, seed: int) -> tuple[Scenes, Scenes]:
    """What the networks of one seed are trained and tested on."""
    counts = (("train", plan.train_images), ("test", plan.test_images))
    train, test = (Scenes(plan.scenes, seed, split, count) for split, count in counts)
    return train, test


def train_row(plan: TablePlan, arch: Arch, seed: int, train: Scenes, test: Scenes) -> dict[str, Any]:
    """One network trained alone: costs, and accuracies (0-1) on unseen scenes, by distance as well."""
    space = space_named(arch.space)
    task = Probe(categories=train.categories)
    start = time.perf_counter()
    model = new_model(lambda: task.build(Backbone(space.spec(arch))), seed, "network")
    fit(model, task, train, plan.recipe, seed=seed)
    metrics, _ = task.measure(model, test, torch.device("cpu"), rng=generator(seed, "bootstrap"))
    if plan.detector is not None:
        detection = Detection(categories=train.categories, config=plan.detector.head)
        detector = new_model(lambda: detection.build(Backbone(space.spec(arch))), seed, "detector head")
        body_of(detector).load_state_dict(body_of(model).state_dict())
        fit(detector, detection, train, plan.detector.recipe, seed=seed)
        found, _ = detection.measure(detector, test, torch.device("cpu"), rng=generator(seed, "bootstrap"))
        metrics |= {name: value for name, value in found.items() if name in ("AP", "AP_error", "AP50")}
    return {
        "choices": text_of(arch),
        "seed": seed,
        "steps": plan.recipe.steps,
        **{name: round(value, 4) for name, value in metrics.items()},
        "macs": space.macs(arch, plan.scenes.image_size),
        "params": space.params(arch),
        "seconds": round(time.perf_counter() - start, 1),
    }


EXHAUSTIVE = TablePlan(space="shuffle-81", recipe=LADDER_PROBE.recipe, train_images=3200, test_images=400)
# Detectors on the ladder, trained as DetNAS's `tiny` trains its own, for eight networks of nearly equal cost: are their
# differences larger than those between seeds?
OF_DETECTORS = TablePlan(
    space="shuffle-five",
    recipe=LADDER_PROBE.recipe,
    train_images=LADDER_DATA.train_images,
    test_images=LADDER_DATA.test_images,
    detector=DetectorPart(head=LADDER_DETECTOR, recipe=GENTLE),
    networks=8,
    macs=(6_100_000, 6_500_000),
)
