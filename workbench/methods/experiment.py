"""One run of a method: where it is recorded, on what data, for which task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from workbench.data.scenes.tasks import Scenes
from workbench.methods.engine import Engine, Local, open_engine
from workbench.networks.count import count_layers, saved_bytes
from workbench.records.files import base_folder, write_json
from workbench.records.parameters import injected
from workbench.records.progress import headless, shell
from workbench.records.run_folder import RunFolder
from workbench.records.seeds import integer
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection, DetectorConfig
from workbench.tasks.pose import Pose, PoseConfig
from workbench.tasks.probe import Probe, ProbeConfig
from workbench.tasks.segmentation import Segmentation
from workbench.training.fit import BeforeStep
from workbench.training.recipe import Turn


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run of a method: where it is recorded, on what data, with which seed and device."""

    run: RunFolder
    plan: Any  # the method's preset
    data: Any  # `data.loader.Data`, or data sets and a digest that a lesson brings
    seed: int
    device: torch.device
    engine: Engine = field(default_factory=Local)

    @property
    def task(self) -> Any:
        """What the plan's head does: detection, segmentation, pose, or the probe at given centres."""
        head, categories = self.plan.head, self.data.train.categories
        if isinstance(head, DetectorConfig):
            return Detection(categories=categories, config=head, metric=self.plan.fitness)
        if isinstance(head, PoseConfig):
            return Pose(categories=categories, config=head)
        if isinstance(head, ProbeConfig):
            return Probe(categories=categories, config=head)
        return Segmentation(categories=categories, config=head)

    @property
    def classification(self) -> Classification | Probe:
        """What backbones are pre-trained for: the class of a crop, or on the ladder of what lies at given centres."""
        part = self.plan.classifier
        if part is None:
            raise ValueError("This plan pre-trains nothing; give it a classifier, or start from weights of your own.")
        if isinstance(self.data.crops, Scenes):
            return Probe(categories=self.data.crops.categories, metric="top1")
        return Classification(
            categories=self.data.crops.categories,
            hidden=part.hidden,
            dropout=part.dropout,
            label_smoothing=part.label_smoothing,
            image_mean=part.image_mean,
            image_std=part.image_std,
        )


def check_parameters() -> None:
    """ValueError for a parameter that papermill set and this notebook does not have; for a notebook's first cells."""
    injected()


def start_experiment(
    notebook: str,
    parameters: Mapping[str, Any],
    *,
    plan: Any,
    data: Any,
    seed: int,
    device: str,
    runs: str,
    fresh: bool,
    engine: str = "local",
    workers: int = 0,
) -> Experiment:
    """Opens the run folder of a notebook: the newest unfinished one of the same parameters and data, or the next.

    Where nobody is watching, the folder also gets the parameters that were set, and a cell that fails fails the run.
    (`python -m workbench run` writes the same in the end, with the path of the notebook, and replaces it.)
    `engine` and `workers` are those of `open_engine`: recorded, but no part of what makes a run the same.
    """
    found = pick_device(device)
    helpers = open_engine(engine, workers, found.type)
    resolved = {**parameters, "plan": as_plain(plan)}
    own = {"seed": seed, "data_digest": data.digest, "fresh": fresh, "engine": helpers.name}
    run = RunFolder.open(base_folder() / runs, notebook, resolved, **own)
    if headless() and shell() is not None:
        given = injected()
        who = "nbconvert, or papermill without parameters" if given is None else "papermill"
        command = {"notebook": f"{notebook}.ipynb", "parameters": given or {}, "ran_by": who}
        write_json(run.path / "command.json", command)
        shell().events.register("post_run_cell", lambda result: _note_failure(run, result))
    return Experiment(run=run, plan=plan, data=data, seed=seed, device=found, engine=helpers)


def _note_failure(run: RunFolder, result: Any) -> None:
    """After every cell: the run fails with its error, unless it was finished before."""
    error = result.error_before_exec or result.error_in_exec
    if error is not None and run.status == "running":
        run.fail(f"cell In [{result.execution_count}]: {type(error).__name__}: {error}")


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA when there is one; ValueError when a device is named that is not here."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"A device is one of auto, cpu, cuda; got {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but PyTorch finds no CUDA here; use auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def new_model(build: Callable[[], nn.Module], seed: int, name: str) -> nn.Module:
    """A model whose random initial weights depend on the seed and the name alone."""
    with torch.random.fork_rng(devices=[]):  # models are built on the CPU
        torch.random.manual_seed(integer(seed, "weights", name))
        return build()


def body_of(model: nn.Module) -> Any:
    """The backbone inside a task's model: below a pyramid where the task has one."""
    backbone = model.get_submodule("backbone")
    return getattr(backbone, "body", backbone)


def forward_macs(
    model: nn.Module,
    task: Any,
    data: Any,
    device: torch.device,
    before_step: BeforeStep | None = None,
    draws: int = 8,
) -> int:
    """MACs of one image through `model`; for a supernet the mean over the paths of so many random steps."""
    model.to(device)
    images, _ = task.batch(data, [0], device)
    rng = np.random.default_rng(0)
    macs = []
    for _ in range(draws if before_step else 1):
        passes = before_step(model, "warm", rng) if before_step is not None else None
        macs += [count_layers(model, lambda: task.run_layers(model, images)).macs for _ in passes or (model,)]
    return round(sum(macs) / len(macs))


def activation_bytes(
    model: nn.Module, task: Any, data: Any, device: torch.device, few: int, before_step: BeforeStep | None = None
) -> int:
    """Bytes that a training step keeps of one image until its backward pass: the mean of `few`, the most of its turns.

    It runs a step of each turn, after which norm layers have other statistics.
    """
    images, targets = task.batch(data, range(few), device)
    rng, most = np.random.default_rng(0), 0
    turns: tuple[Turn, ...] = ("weights", "alpha") if before_step is not None else ("weights",)
    for turn in turns:
        passes = before_step(model, turn, rng) if before_step is not None else None
        for forward in passes or (model,):
            most = max(most, saved_bytes(model, partial(forward, images, targets)))
    return most // few


def as_plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON data, for identities and records; see `files.LATER`."""
    if is_dataclass(value) and not isinstance(value, type):
        omitted = {f.name for f in fields(value) if f.metadata.get("later") and getattr(value, f.name) == f.default}
        parts = {name: as_plain(part) for name, part in vars(value).items() if name not in omitted}
        return {"type": type(value).__name__, **parts}
    if isinstance(value, Mapping):
        return {str(name): as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(part) for part in value]
    return value
