"""What all four methods do alike: start a run, train a network once, keep what was computed, look at the detections."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from workbench.networks.count import count_layers
from workbench.records.files import base_folder, compiled, digest, read_json, write_bytes, write_json
from workbench.records.ledger import ENTRY, Entry, peak_memory, reset_peak_memory
from workbench.records.progress import Progress, duration, reporter
from workbench.records.run_folder import RunFolder
from workbench.records.seeds import integer
from workbench.training.fit import BeforeStep, fit, place
from workbench.training.parallel import synchronise_batch_norm
from workbench.training.recipe import Recipe

CODE_VERSION = 2  # raise it when training changes what it computes: old cached weights are then not used

PHASE = compiled(
    {"type": "object", "required": ["entry"], "properties": {"entry": ENTRY}}, "the record of a finished phase"
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One run of a method: where it is recorded, on what data, with which seed and device."""

    run: RunFolder
    plan: Any  # the method's preset
    data: Any  # `presets.Data`, or what a method without a detector brings: data sets and a digest
    seed: int
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training phase left: its key (content of everything that went into it), losses, and cost."""

    key: str
    losses: tuple[float, ...]
    entry: Entry


def start_study(
    notebook: str,
    parameters: Mapping[str, Any],
    *,
    plan: Any,
    data: Any,
    seed: int,
    device: str,
    runs: str,
    fresh: bool,
) -> Study:
    """Opens the run folder of a notebook: the newest unfinished one of the same parameters and data, or the next."""
    found = pick_device(device)
    resolved = {**parameters, "plan": as_plain(plan)}
    run = RunFolder.open(base_folder() / runs, notebook, resolved, seed=seed, data_digest=data.digest, fresh=fresh)
    return Study(run=run, plan=plan, data=data, seed=seed, device=found)


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA when there is one; ValueError when a device is named that is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"A device is one of auto, cpu, cuda; got {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but PyTorch finds no CUDA here; use auto or cpu.")
    return torch.device(name)


def new_model(build: Callable[[], nn.Module], seed: int, name: str) -> nn.Module:
    """A model whose random initial weights depend on the seed and the name alone."""
    with torch.random.fork_rng(devices=[]):  # models are built on the CPU
        torch.random.manual_seed(integer(seed, "weights", name))
        return build()


def train_phase(
    study: Study,
    name: str,
    model: nn.Module,
    task: Any,
    data: Any,
    recipe: Recipe,
    *,
    origin: Mapping[str, Any],
    before_step: BeforeStep | None = None,
    shared: bool = False,
    image_side: int = 0,
) -> Trained:
    """Trains `model` in place, or loads what the same phase left before.

    `origin` says where the initial weights come from (a specification, the key of an earlier phase). With `shared`
    the result is kept in `runs/cache/<key>`, where other runs find it; it then enters the ledger at its original
    cost, marked cached. A phase killed half-way goes on from its checkpoint.
    """
    before_training = {"task": as_plain(task), "data": data.digest, "recipe": as_plain(recipe), "origin": dict(origin)}
    key, folder = place_of(study, before_training, shared)
    if (kept := load_phase(study, name, folder, model, recipe)) is not None:
        return Trained(key=key, losses=tuple(kept["losses"]), entry=Entry(**kept["entry"]))

    def trial(progress: Progress) -> None:
        two, copied = replace(recipe, steps=2), copy.deepcopy(model)
        fit(copied, task, data, two, seed=0, device=study.device, before_step=before_step, image_side=image_side,
            progress=progress)  # fmt: skip

    print(f"{name}: {recipe.steps} steps of {recipe.batch_size} images, {estimate(trial, recipe.steps)}")
    reset_peak_memory(study.device)
    clock = PhaseClock(folder, reporter(name))
    per_image = forward_macs(model, task, data, study.device, before_step)
    synchronise_batch_norm(model, study.device)
    history = fit(
        model,
        task,
        data,
        recipe,
        seed=integer(study.seed, "training") % 2**31,
        device=study.device,
        before_step=before_step,
        checkpoint=folder / "checkpoint.pt",
        image_side=image_side,
        progress=clock,
    )
    entry = Entry(
        phase=name,
        seconds=clock.seconds,
        images=history.images,
        forward_macs=per_image * history.images,
        backward_macs=2 * per_image * history.images,  # gradients of inputs and of weights cost a forward pass each
        peak_memory=peak_memory(study.device),
    )
    keep_phase(study, folder, model, entry, before_training, {"losses": list(history.losses)})
    return Trained(key=key, losses=history.losses, entry=entry)


def forward_macs(
    model: nn.Module,
    task: Any,
    data: Any,
    device: torch.device,
    before_step: BeforeStep | None = None,
) -> int:
    """MACs of one image through `model`; for a supernet the mean over eight random paths."""
    model.to(device)
    images, _ = task.batch(data, [0], device)
    rng = np.random.default_rng(0)
    macs = []
    for _ in range(8 if before_step else 1):
        if before_step is not None:
            before_step(model, "weights", rng)
        macs.append(count_layers(model, lambda: task.run_layers(model, images)).macs)
    return round(sum(macs) / len(macs))


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads a safetensors file into `model`; ValueError names what does not fit, and nothing is loaded by halves."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}); train the network again.") from error
    wanted = model.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    wrong = sorted(key for key in wanted.keys() & tensors.keys() if wanted[key].shape != tensors[key].shape)
    if missing or unknown or wrong:
        raise ValueError(
            f"{path} does not fit this network: missing {missing[:3]}, unknown {unknown[:3]}, other shape {wrong[:3]}"
            f" ({len(missing)}, {len(unknown)}, {len(wrong)} in all). Use the specification it was saved with."
        )
    model.load_state_dict(tensors)


def as_plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON data, for identities and records."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **{name: as_plain(part) for name, part in vars(value).items()}}
    if isinstance(value, Mapping):
        return {str(name): as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(part) for part in value]
    return value


def place_of(study: Study, before_training: Mapping[str, Any], shared: bool) -> tuple[str, Path]:
    """The key of a phase, a digest of all that it depends on, and the folder that keeps it."""
    key = digest(_identity(study, before_training))
    return key, study.run.path.parent.parent / "cache" / key if shared else study.run.path / "phases" / key


def _identity(study: Study, before_training: Mapping[str, Any]) -> dict[str, Any]:
    threads = torch.get_num_threads() if study.device.type == "cpu" else study.device.type
    return {"code": CODE_VERSION, "seed": study.seed, "threads": threads, **before_training}


def load_phase(study: Study, name: str, folder: Path, model: nn.Module, recipe: Recipe) -> dict[str, Any] | None:
    """The record of a phase that was finished before, its weights loaded into `model`; None when there is none."""
    if not (folder / "phase.json").is_file():
        return None
    record: dict[str, Any] = read_json(folder / "phase.json", PHASE)
    load_weights(model, folder / "weights.safetensors")
    if name not in {known.phase for known in study.run.ledger.entries}:  # else this run itself computed it
        study.run.ledger.add(replace(Entry(**record["entry"]), phase=name, cached=True))
    place(model, recipe, study.device)
    return record


def keep_phase(
    study: Study,
    folder: Path,
    model: nn.Module,
    entry: Entry,
    before_training: Mapping[str, Any],
    losses: Mapping[str, list[float]],
) -> None:
    """Writes weights first and the record last: a phase counts once its record is there."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "weights.safetensors", save(tensors))
    identity = _identity(study, before_training)
    write_json(folder / "phase.json", {**losses, "entry": asdict(entry), "identity": identity})
    for name in ("checkpoint.pt", PhaseClock.NAME):
        (folder / name).unlink(missing_ok=True)
    study.run.ledger.add(entry)


class PhaseClock:
    """A progress that also counts the seconds of a phase, those before a kill too."""

    NAME = "seconds.json"

    def __init__(self, folder: Path, told: Progress) -> None:
        self.path = folder / self.NAME
        self.before = float(read_json(self.path)) if self.path.is_file() else 0.0
        self.start = time.perf_counter()
        self.told = told

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.start

    def __call__(self, done: int, total: int, text: str) -> None:
        self.told(done, total, text)
        if done % 100 == 0:
            write_json(self.path, self.seconds)


def estimate(trial: Callable[[Progress], None], steps: int) -> str:
    """How long `steps` will take in words, from the two that `trial` runs: the first also warms up."""
    times = [time.perf_counter()]
    trial(lambda done, total, text: times.append(time.perf_counter()))
    return duration((times[-1] - times[-2]) * steps)
