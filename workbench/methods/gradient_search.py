"""What the gradient methods share: a supernet whose weights and alpha are searched in turn, kept like any phase."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save
from torch import nn

from workbench.evaluation.scoring import Scorer, Switchable
from workbench.methods.candidates import enter_search
from workbench.methods.phases import (
    PhaseClock,
    Study,
    Trained,
    as_plain,
    estimate,
    keep_phase,
    load_phase,
    place_of,
)
from workbench.networks.backbone import Backbone
from workbench.records.files import write_bytes
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.progress import Progress, reporter
from workbench.records.score import Score
from workbench.records.seeds import integer
from workbench.search.relaxation import Derived, Logits
from workbench.spaces.space import SearchSpace
from workbench.training.fit import AlphaSide, BeforeStep, fit
from workbench.training.parallel import synchronise_batch_norm
from workbench.training.recipe import AlternatingRecipe


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a gradient search left beside its weights: the losses of alpha, and alpha after every epoch by layer."""

    trained: Trained
    alpha_losses: tuple[float, ...]
    alphas: tuple[tuple[torch.Tensor, ...], ...]


class Mixable(Switchable, Protocol):
    """A supernet that can also compute the mixture of all its networks."""

    def mix(self) -> None: ...


Mixture = TypeVar("Mixture", bound=Mixable)


@dataclass(frozen=True, kw_only=True)
class SeedNetwork:
    """A pretrained network that a search starts from, and in plain data where its weights come from."""

    backbone: Backbone
    origin: dict[str, Any]
    top1: float | None = None  # on unseen crops, where it was trained here


@dataclass(frozen=True, kw_only=True)
class MixtureSearch(Generic[Mixture]):
    """A task's model on a mixed supernet, and what the search left: losses, and alpha after every epoch."""

    model: nn.Module
    supernet: Mixture
    phase: str
    searched: Searched | None = None  # None: it has not ended

    @property
    def key(self) -> str:
        return self.searched.trained.key if self.searched else ""

    @property
    def space(self) -> SearchSpace:
        return self.supernet.space

    @property
    def alphas(self) -> list[list[Logits]]:
        """Logits by epoch and layer."""
        assert self.searched is not None
        return [[alpha.double().numpy() for alpha in epoch] for epoch in self.searched.alphas]


def derived_score(
    study: Study, scorer: Scorer, found: Derived, told: Mapping[str, float], phase: str, epoch: int
) -> Score:
    """The record of an epoch: what alpha stands for, `told` about it, and its score once alpha moves."""
    arch, space = found.arch, scorer.supernet.space
    if epoch >= study.plan.search.warm_epochs:
        score = scorer(arch, phase=phase, step=epoch)
        return replace(score, metrics={**score.metrics, **told})
    return Score(
        arch=arch,
        metrics=dict(told),
        macs=space.macs(arch, study.plan.macs_at),
        params=space.params(arch),
        seconds=0.0,
        seed=study.seed,
        phase=phase,
        step=epoch,
    )


def scored_epochs(study: Study, phase: str, metric: str) -> list[Score]:
    """The derived networks of the epochs in which alpha moved, in order."""
    return [score for score in study.run.scores(phase) if metric in score.metrics or score.error]


def finished(
    study: Study, search: MixtureSearch[Mixture], searched: Searched, scorer: Scorer
) -> MixtureSearch[Mixture]:
    """The search with what it left, its scores in the ledger (once), the supernet computing the mixture again."""
    if (name := f"score {search.phase}") not in {entry.phase for entry in study.run.ledger.entries}:
        enter_search(study, name, scorer, scored_epochs(study, search.phase, scorer.task.metric))
    search.supernet.mix()
    return replace(search, searched=searched)


def search_phase(
    study: Study,
    name: str,
    model: nn.Module,
    alphas: Sequence[nn.Parameter],
    task: Any,
    weight_data: Any,
    alpha_data: Any,
    recipe: AlternatingRecipe,
    *,
    per_image: int,
    origin: Mapping[str, Any],
    per_alpha_image: int = 0,
    before_step: BeforeStep | None = None,
    penalty: Callable[[nn.Module], torch.Tensor] | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> Searched:
    """A gradient search in place, kept and continued like a training phase; always in the run's own folder.

    `per_image` are the MACs of a forward pass, for the ledger, `per_alpha_image` those of a step of alpha where they
    differ (a mixture runs every operation, a path one). `before_step` and `penalty` are those of `fit`. What
    `after_epoch` takes is not in its seconds, and it must leave the model training.
    ValueError when the run already holds epochs of this name by another search.
    """
    before_training = {
        "task": as_plain(task),
        "data": [weight_data.digest, alpha_data.digest],
        "recipe": as_plain(recipe),
        "origin": dict(origin),
    }
    key, folder = place_of(study, before_training, shared=False)
    steps, side = recipe.weights.steps, study.plan.data.image_side
    if study.run.scores(name) and study.run.load(f"epochs of {name}", key) is None:
        raise ValueError(
            f"{study.run.path} holds epochs of {name!r} by another search (other seed weights, device, thread count or"
            " version of the code); start anew with --fresh."
        )
    study.run.store(f"epochs of {name}", key, {"epochs": recipe.epochs})
    if (kept := load_phase(study, name, folder, model, recipe.weights)) is not None:
        tensors = load_file(folder / "alpha.safetensors")
        history = [tuple(tensors[f"{epoch}.{layer}"] for layer in range(len(alphas))) for epoch in range(recipe.epochs)]
        trained = Trained(key=key, losses=tuple(kept["losses"]), entry=Entry(**kept["entry"]))
        return Searched(trained=trained, alpha_losses=tuple(kept["alpha_losses"]), alphas=tuple(history))

    def trial(progress: Progress) -> None:
        twin, own = copy.deepcopy((model, list(alphas)))  # together: the copied alphas are parameters of the copy
        short = replace(recipe, weights=replace(recipe.weights, steps=2), epochs=1, warm_epochs=0)
        alpha = AlphaSide(parameters=own, data=alpha_data, recipe=short, penalty=penalty)
        fit(twin, task, weight_data, short.weights, seed=0, device=study.device, search=alpha,
            before_step=before_step, image_side=side, progress=progress)  # fmt: skip

    print(f"{name}: {steps} steps of {recipe.weights.batch_size} images, {estimate(trial, steps)}")
    reset_peak_memory(study.device)
    clock = PhaseClock(folder, reporter(name))
    synchronise_batch_norm(model, study.device)

    def untimed(epoch: int) -> None:
        began = time.perf_counter()
        if after_epoch is not None:
            after_epoch(epoch)
        clock.start += time.perf_counter() - began

    found = fit(
        model,
        task,
        weight_data,
        recipe.weights,
        seed=integer(study.seed, "training") % 2**31,
        device=study.device,
        search=AlphaSide(parameters=alphas, data=alpha_data, recipe=recipe, penalty=penalty, after_epoch=untimed),
        before_step=before_step,
        checkpoint=folder / "checkpoint.pt",
        image_side=side,
        progress=clock,
    )
    on_alpha = len(found.alpha_losses) * recipe.alpha.batch_size
    on_weights = (found.images - on_alpha) * per_image
    mixed = on_alpha * (per_alpha_image or per_image)
    entry = Entry(
        phase=name,
        seconds=clock.seconds,
        images=found.images,
        forward_macs=on_weights + mixed,
        # A step of alpha needs the gradients of the inputs, but none of the weights.
        backward_macs=2 * on_weights + mixed,
        peak_memory=peak_memory(study.device),
    )
    named = {f"{e}.{n}": alpha for e, epoch in enumerate(found.alphas) for n, alpha in enumerate(epoch)}
    write_bytes(folder / "alpha.safetensors", save(named))
    losses = {"losses": list(found.losses), "alpha_losses": list(found.alpha_losses)}
    keep_phase(study, folder, model, entry, before_training, losses)
    trained = Trained(key=key, losses=found.losses, entry=entry)
    return Searched(trained=trained, alpha_losses=found.alpha_losses, alphas=found.alphas)
