"""Phases of a run: each trains a model once, is kept with what it cost, and is not computed again."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.methods.engine import Local
from workbench.methods.experiment import Experiment, activation_bytes, as_plain, forward_macs
from workbench.methods.rehearsal import rehearsing
from workbench.records.files import compiled, digest, fields, lock, read_json, sweep, write_bytes, write_json
from workbench.records.ledger import ENTRY, Entry, peak_memory, reset_peak_memory
from workbench.records.progress import PhaseClock, announce, duration, reporter
from workbench.records.seeds import integer
from workbench.training.checkpoint import assert_finite, steps_done
from workbench.training.fit import AlphaSide, BeforeStep, History, fit, place
from workbench.training.parallel import agree, synchronise_batch_norm, world
from workbench.training.recipe import AlternatingRecipe, Recipe, share
from workbench.training.timing import step_seconds

LOSSES = {"type": "array", "items": {"type": "number"}}
OPTIONAL = {"alpha_losses": LOSSES, "weights": "string", "activation_bytes": "integer"}
PHASE = compiled(fields({"entry": ENTRY, "identity": "object", "losses": LOSSES}, OPTIONAL), "phase")
CODE_VERSION = 3  # raise it when training changes what it computes: old cached weights are then not used


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training phase left: its key (content of everything that went into it), losses, cost, and alpha.

    `alphas` are a search's logits by epoch and choice, each (decisions, options).
    """

    key: str
    losses: tuple[float, ...]
    entry: Entry
    alpha_losses: tuple[float, ...] = ()
    alphas: tuple[tuple[Tensor, ...], ...] = ()


def train_phase(
    experiment: Experiment,
    name: str,
    model: nn.Module,
    task: Any,
    data: Any,
    recipe: Recipe | AlternatingRecipe,
    *,
    origin: Mapping[str, Any],
    before_step: BeforeStep | None = None,
    search: Callable[[nn.Module], AlphaSide] | None = None,
    prices: tuple[int, int] | None = None,
    shared: bool = False,
    image_side: int = 0,
    averaged: int = 0,
) -> Trained:
    """Trains `model` in place, or loads what the same phase left before; with `search` weights and alpha in turn.

    `origin` says where the initial weights come from (a specification, the key of an earlier phase). With `shared`
    the result is kept in `runs/cache/<key>`, where other runs find it; it then enters the ledger at its original
    cost, marked cached. A phase killed half-way goes on from its checkpoint. `prices` are the MACs of an image in a
    step of the weights and in one of alpha; else they are counted on what `before_step` makes of the model. `averaged`
    is that of `fit`.
    ValueError when the run already holds scores of this name by another search.
    """
    side = search(model) if search is not None else None
    identity = {
        "task": as_plain(task),
        "data": [data.digest, side.data.digest] if side else data.digest,
        "recipe": as_plain(recipe),
        "origin": dict(origin),
    } | ({"averaged": averaged} if averaged else {})
    with phase_folder(experiment, name, identity, shared) as (key, folder):
        if side is not None:
            experiment.run.claim(name, key)
        if (kept := load_phase(experiment, name, folder, model)) is not None:
            return _trained(key, folder, kept)
        options: dict[str, Any] = {"before_step": before_step, "image_side": image_side, "averaged": averaged}
        parts = (recipe,) if isinstance(recipe, Recipe) else (recipe.weights, recipe.alpha)
        weights, batch = parts[0], math.gcd(*(part.batch_size for part in parts))
        left = weights.steps - steps_done(folder / "checkpoint.pt")
        engine = experiment.engine if left else Local()
        processes = engine.processes(batch)
        steps = f"{weights.steps} steps" if left == weights.steps else f"the last {left} of {weights.steps} steps"
        together = f" in {processes} processes" if processes > 1 else ""
        told = f"{name}: {steps} of {weights.batch_size} images{together}"
        if left > 2:  # an estimate takes two steps
            own = share(recipe, processes)
            seconds = left * step_seconds(model, task, data, own, experiment.device, search=search, **options)
            told += f", {duration(seconds)}"
        announce(told)
        clock = PhaseClock(folder, reporter(name))
        reset_peak_memory(experiment.device)
        if prices is None:
            prices = (forward_macs(model, task, data, experiment.device, before_step),) * 2
        if engine.remote:
            model.cpu()  # sent from there, so that no process takes up the GPU of another
        work = partial(
            _fit_together,
            model,
            task,
            data,
            recipe,
            seed=training_seed(experiment),
            device=experiment.device,
            search=side,
            checkpoint=folder / "checkpoint.pt",
            **options,
        )
        history = engine.train(work, folder, batch, clock)
        scored = sum(score.seconds for score in experiment.run.scores(name)) if side is not None else 0.0
        on_alpha = 0 if isinstance(recipe, Recipe) else len(history.alpha_losses) * recipe.alpha.batch_size
        weights_macs, alpha_macs = (history.images - on_alpha) * prices[0], on_alpha * prices[1]
        entry = Entry(
            phase=name,
            seconds=max(0.0, clock.seconds - scored),  # what is scored between epochs has an entry of its own
            images=history.images,
            forward_macs=weights_macs + alpha_macs,
            # Gradients of inputs and of weights cost a forward pass each; a step of alpha needs none of the weights.
            backward_macs=2 * weights_macs + alpha_macs,
            peak_memory=0 if engine.remote else peak_memory(experiment.device),
        )
        if side is not None:
            named = {f"{e}.{n}": alpha for e, epoch in enumerate(history.alphas) for n, alpha in enumerate(epoch)}
            write_bytes(folder / "alpha.safetensors", save(named))
        found: dict[str, Any] = {"losses": list(history.losses), "alpha_losses": list(history.alpha_losses)}
        if rehearsing(experiment.run.params):
            found["activation_bytes"] = activation_bytes(model, task, data, experiment.device, batch, before_step)
        record = keep_phase(experiment, folder, model, entry, identity, found)
        return _trained(key, folder, record)


def _fit_together(
    model: nn.Module, task: Any, data: Any, recipe: Any, *, device: torch.device, checkpoint: Path, **options: Any
) -> History:
    """`fit` in each of the processes that share a training, once they agree on what it is."""
    if world()[1] > 1:
        known = {"the version of PyTorch": torch.__version__, "the version of the code": CODE_VERSION}
        known |= {"steps done before": steps_done(checkpoint), "the recipe": digest(as_plain(recipe))}
        agree(**known, **{"the initial weights": hashlib.sha256(save(_on_cpu(model))).hexdigest()[:16]})
    synchronise_batch_norm(model, device)
    return fit(model, task, data, recipe, device=device, checkpoint=checkpoint, **options)


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}


def training_seed(experiment: Experiment) -> int:
    """The seed that every training of a run has."""
    return integer(experiment.seed, "training") % 2**31


def _trained(key: str, folder: Path, record: Mapping[str, Any]) -> Trained:
    alphas: dict[int, list[Tensor]] = {}
    if record.get("alpha_losses"):
        tensors = read_tensors(folder / "alpha.safetensors")
        for epoch, layer in sorted(tuple(map(int, name.split("."))) for name in tensors):
            alphas.setdefault(epoch, []).append(tensors[f"{epoch}.{layer}"])
    return Trained(
        key=key,
        losses=tuple(record["losses"]),
        entry=Entry(**record["entry"]),
        alpha_losses=tuple(record.get("alpha_losses", ())),
        alphas=tuple(tuple(epoch) for epoch in alphas.values()),
    )


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads a safetensors file into `model`; ValueError names what does not fit, and nothing is loaded by halves."""
    model.load_state_dict(fitting_weights(model, path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; ValueError when it is broken or holds numbers that are not finite."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
        assert_finite(tensors)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}); train the network again.") from error
    return tensors


def fitting_weights(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file for `model`, which may be on the meta device; ValueError if they do not fit."""
    tensors = read_tensors(path)
    wanted = model.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    common = sorted(wanted.keys() & tensors.keys())
    wrong = [n for n in common if (wanted[n].shape, wanted[n].dtype) != (tensors[n].shape, tensors[n].dtype)]
    if missing or unknown or wrong:
        raise ValueError(
            f"{path} does not fit this network: missing {missing[:3]}, unknown {unknown[:3]}, other shape {wrong[:3]}"
            f" ({len(missing)}, {len(unknown)}, {len(wrong)} in all). Use the specification it was saved with."
        )
    return tensors


@contextmanager
def phase_folder(
    experiment: Experiment, name: str, before_training: Mapping[str, Any], shared: bool
) -> Iterator[tuple[str, Path]]:
    """The key of a phase, a digest of all that it depends on, and the folder that keeps it.

    One of the cache is locked meanwhile: what another run is computing there is waited for, not computed twice.
    """
    run, key = experiment.run, digest(_identity(experiment, before_training))
    folder = run.path.parent.parent / "cache" / key if shared else run.path / "phases" / key
    if not shared or world()[0] > 0:  # a run is locked as a whole; of processes that train together the first locks
        yield key, folder
        return
    if (held := lock(folder / ".lock")) is None:
        print(f"{name}: another run computes this and keeps it in {folder}; waiting for its result.")
        held = lock(folder / ".lock", wait=-1)
    try:
        sweep(folder)
        yield key, folder
    finally:
        assert held is not None  # without a limit on waiting
        held.release()


def _identity(experiment: Experiment, before_training: Mapping[str, Any]) -> dict[str, Any]:
    device = experiment.device.type
    threads = torch.get_num_threads() if device == "cpu" else device
    return {"code": CODE_VERSION, "seed": experiment.seed, "threads": threads, **before_training}


def load_phase(experiment: Experiment, name: str, folder: Path, model: nn.Module) -> dict[str, Any] | None:
    """The record of a phase that was finished before, its weights loaded into `model`; None when there is none.

    A damaged one is a ValueError in a run, and in the cache as good as none, with a printed sentence.
    """
    if not (folder / "phase.json").is_file():
        return None
    try:
        record: dict[str, Any] = read_json(folder / "phase.json", PHASE)
        if digest(record["identity"]) != folder.name or record.get("weights", "") not in ("", _hash(folder)):
            raise ValueError(f"{folder} does not hold what its phase.json says; delete it and run the notebook again.")
        load_weights(model, folder / "weights.safetensors")
    except ValueError as error:
        if experiment.run.path in folder.parents:
            raise
        print(f"{name}: it is computed again, because it is damaged in the cache: {error}")
        return None
    if name not in {known.phase for known in experiment.run.ledger.entries}:  # else this run itself computed it
        experiment.run.ledger.add(replace(Entry(**record["entry"]), phase=name, cached=True))
    place(model, experiment.device)
    return record


def keep_phase(
    experiment: Experiment,
    folder: Path,
    model: nn.Module,
    entry: Entry,
    before_training: Mapping[str, Any],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes weights first and the record last (a phase counts once its record is there), and returns the record."""
    write_bytes(folder / "weights.safetensors", save(_on_cpu(model)))
    record = {**found, "entry": asdict(entry), "identity": _identity(experiment, before_training)}
    record["weights"] = _hash(folder)
    write_json(folder / "phase.json", record)
    for name in ("checkpoint.pt", PhaseClock.NAME):
        (folder / name).unlink(missing_ok=True)
    experiment.run.ledger.add(entry)
    return record


def _hash(folder: Path) -> str:
    path = folder / "weights.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"
