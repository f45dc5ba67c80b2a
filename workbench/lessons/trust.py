"""How far a search can be trusted: all networks of a small space trained alone, and what that table can tell."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.methods.experiment import new_model
from workbench.methods.presets import LADDER
from workbench.networks.backbone import Backbone
from workbench.records.files import write_text
from workbench.records.progress import Progress, silent
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.tasks.probe import Probe
from workbench.training.fit import fit
from workbench.training.recipe import Recipe

# Small batches: with 32 images some starts learn nothing in the first half, and seeds differ more than networks.
RECIPE = Recipe(steps=400, batch_size=16, lr=4e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05)


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """How the networks of the exhaustive table are trained, each alone."""

    space: str = "shuffle-81"
    scenes: SceneConfig = LADDER
    recipe: Recipe = RECIPE
    train_images: int = 4800
    test_images: int = 800


def train_table(plan: TablePlan, path: Path, seed: int, limit: int = 0, progress: Progress = silent) -> pd.DataFrame:
    """Trains the networks that the table `path` does not hold yet, at most `limit` (0: all); each row is kept at once.

    The table is of one seed, which draws scenes, weights and the order of images. Killed, it goes on where it was.
    """
    space = space_named(plan.space)
    rows = pd.read_csv(path, dtype={"choices": str}).to_dict("records") if path.is_file() else []
    archs = list(space.all())
    order = [archs[place] for place in generator(seed, "table order").permutation(len(archs))]
    known = {row["choices"] for row in rows}
    missing = [arch for arch in order if _text(arch) not in known][: limit or len(archs)]
    counts = {"train": plan.train_images, "test": plan.test_images}
    train, test = (Scenes(plan.scenes, seed, split, count) for split, count in counts.items())
    for arch in missing:
        rows.append(train_row(plan, arch, seed, train, test))
        write_text(path, pd.DataFrame(rows).to_csv(index=False))
        progress(len(rows), len(archs), f"{_text(arch)}: accuracy {rows[-1]['accuracy']:.3f}")
    return pd.DataFrame(rows)


def train_row(plan: TablePlan, arch: Arch, seed: int, train: Scenes, test: Scenes) -> dict[str, Any]:
    """One network trained alone: costs, and accuracies (0-1) on unseen scenes, by distance as well."""
    space = space_named(arch.space)
    task = Probe(categories=train.categories)
    start = time.perf_counter()
    model = new_model(lambda: task.build(Backbone(space.spec(arch))), seed, "network")
    fit(model, task, train, plan.recipe, seed=seed)
    metrics, _ = task.measure(model, test, torch.device("cpu"), rng=generator(seed, "bootstrap"))
    return {
        "choices": _text(arch),
        "seed": seed,
        **{name: round(value, 4) for name, value in metrics.items()},
        "macs": space.macs(arch, plan.scenes.image_size),
        "params": space.params(arch),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _text(arch: Arch) -> str:
    return "".join(map(str, arch.choices))
