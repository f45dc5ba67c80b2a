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
from workbench.records.files import base_folder, digest, read_json, write_bytes, write_json
from workbench.records.ledger import Entry, peak_memory
from workbench.records.progress import duration, reporter
from workbench.records.run_folder import RunFolder
from workbench.records.seeds import integer
from workbench.training.loop import place, train
from workbench.training.parallel import synchronise_batch_norm
from workbench.training.recipe import Recipe

CODE_VERSION = 2  # raise it when training changes what it computes: old cached weights are then not used


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
    before_step: Callable[[np.random.Generator], None] | None = None,
    shared: bool = False,
    image_side: int = 0,
) -> Trained:
    """Trains `model` in place, or loads what the same phase left before.

    `origin` says where the initial weights come from (a specification, the key of an earlier phase). With `shared`
    the result is kept in `runs/cache/<key>`, where other runs find it; it then enters the ledger at its original
    cost, marked cached. A phase killed half-way goes on from its checkpoint.
    """
    identity = {
        "code": CODE_VERSION,
        "task": as_plain(task),
        "data": data.digest,
        "recipe": as_plain(recipe),
        "seed": study.seed,
        "origin": dict(origin),
        "threads": torch.get_num_threads() if study.device.type == "cpu" else study.device.type,
    }
    key = digest(identity)
    folder = study.run.path.parent.parent / "cache" / key if shared else study.run.path / "phases" / key
    if (kept := _load_phase(folder, model)) is not None:
        losses, entry = kept
        if name not in {known.phase for known in study.run.ledger.entries}:  # else this run itself computed it
            study.run.ledger.add(replace(entry, phase=name, cached=True))
        place(model, recipe, study.device)
        return Trained(key=key, losses=losses, entry=entry)
    estimate = _estimate(model, task, data, recipe, study, image_side)
    print(f"{name}: {recipe.steps} steps of {recipe.batch_size} images, {estimate}")
    start = time.perf_counter()
    per_image = forward_macs(model, task, data, study.device, before_step)
    synchronise_batch_norm(model, study.device)
    checkpoint = folder / "checkpoint.pt"
    before = read_json(folder / "seconds.json") if (folder / "seconds.json").is_file() else 0.0
    bar = reporter(name)

    def progress(done: int, total: int, text: str) -> None:
        bar(done, total, text)
        if done % 100 == 0:  # time spent before a kill counts too
            write_json(folder / "seconds.json", before + time.perf_counter() - start)

    history = train(
        model,
        task,
        data,
        recipe,
        seed=integer(study.seed, "training") % 2**31,
        device=study.device,
        before_step=before_step,
        checkpoint=checkpoint,
        image_side=image_side,
        progress=progress,
    )
    entry = Entry(
        phase=name,
        seconds=before + time.perf_counter() - start,
        images=history.images,
        forward_macs=per_image * history.images,
        backward_macs=2 * per_image * history.images,  # gradients of inputs and of weights cost a forward pass each
        peak_memory=peak_memory(),
    )
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "weights.safetensors", save(tensors))
    write_json(folder / "phase.json", {"losses": list(history.losses), "entry": asdict(entry), "identity": identity})
    checkpoint.unlink(missing_ok=True)
    (folder / "seconds.json").unlink(missing_ok=True)
    study.run.ledger.add(entry)
    return Trained(key=key, losses=history.losses, entry=entry)


def forward_macs(
    model: nn.Module,
    task: Any,
    data: Any,
    device: torch.device,
    before_step: Callable[[np.random.Generator], None] | None = None,
) -> int:
    """MACs of one image through `model`; for a supernet the mean over eight random paths."""
    model.to(device)
    images, _ = task.batch(data, [0], device)
    rng = np.random.default_rng(0)
    macs = []
    for _ in range(8 if before_step else 1):
        if before_step is not None:
            before_step(rng)
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


def _load_phase(folder: Path, model: nn.Module) -> tuple[tuple[float, ...], Entry] | None:
    if not (folder / "phase.json").is_file():
        return None
    record = read_json(folder / "phase.json")
    load_weights(model, folder / "weights.safetensors")
    return tuple(record["losses"]), Entry(**record["entry"])


def _estimate(model: nn.Module, task: Any, data: Any, recipe: Recipe, study: Study, image_side: int) -> str:
    """How long the phase will take, from two steps of a copy."""
    trial = copy.deepcopy(model)
    two = replace(recipe, steps=2)
    times = [time.perf_counter()]

    def clock(done: int, total: int, text: str) -> None:
        times.append(time.perf_counter())

    train(trial, task, data, two, seed=0, device=study.device, image_side=image_side, progress=clock)
    return duration((times[-1] - times[-2]) * recipe.steps)  # the first step also warms up
