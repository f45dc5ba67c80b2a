"""NATS (Peng et al., NeurIPS 2019): dilations by channel, searched by gradient on a pretrained backbone.

1. `seed_network`: a pretrained backbone, trained here or read from a file
2. `search`: mixtures of dilated copies of its kernels, weights and alpha trained in turn in the detector (section 3.2)
3. `derived`: per group of channels the heaviest dilation (equations 4 to 6)
4. `start`: the *pretrained* kernels cut into the found parts (section 3.4); fine-tuning is the comparison's
"""

import copy
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates
from workbench.methods.candidates import classification_task, detection_task
from workbench.methods.compare import Start
from workbench.methods.gradient_search import Searched, search_phase
from workbench.methods.nats_presets import NATSPlan
from workbench.methods.phases import Study, forward_macs, new_model, train_phase
from workbench.methods.presets import Data, input_sizes
from workbench.networks.backbone import Backbone
from workbench.networks.mixed_dilation import SIDES, Implementation, Side
from workbench.networks.mixed_supernet import MixedSupernet, measure_implementations
from workbench.networks.seeds import load_torchvision, read_state
from workbench.networks.weight_reuse import reuse_weights
from workbench.records.files import base_folder
from workbench.records.score import Score
from workbench.search.random import RandomSearch
from workbench.search.relaxation import Derived, derive
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    Reading,
    base_spec,
    channel_dilation_name,
    layer_choices,
    logits,
    searched_layers,
    votes,
)
from workbench.spaces.residual import check_dilations
from workbench.spaces.space import SearchSpace
from workbench.training.alternating import check_recipe, train_alternating


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A pretrained backbone and in plain data where its weights come from."""

    backbone: Backbone
    origin: dict[str, Any]
    top1: float | None  # on unseen crops, where it was trained here


@dataclass(frozen=True, kw_only=True)
class MixedSearch:
    """The detector on its mixed supernet, and what the search left: losses, and alpha after every epoch."""

    model: nn.Module
    supernet: MixedSupernet
    phase: str
    searched: Searched | None = None  # None: it has not ended

    @property
    def key(self) -> str:
        return self.searched.trained.key if self.searched else ""

    @property
    def alphas(self) -> list[list[npt.NDArray[np.float64]]]:
        """Logits by epoch and layer."""
        assert self.searched is not None
        return [[alpha.double().numpy() for alpha in epoch] for epoch in self.searched.alphas]

    @property
    def space(self) -> SearchSpace:
        return self.supernet.space


def space_of(study: Study, groups: str = "") -> SearchSpace:
    """The space of the plan, or that with another number of groups ("n1": one dilation for each layer)."""
    plan: NATSPlan = study.plan
    return space_named(channel_dilation_name(plan.backbone, groups or plan.groups, plan.genotypes))


def check_plan(plan: NATSPlan, data: Data, seed_weights: str = "") -> str:
    """ValueError before work starts: groups that do not fit, dilations larger than a map, weights that do not match.

    Returns the space in words.
    """
    check_recipe(plan.search)
    space = space_named(plan.space)
    smallest = min(input_sizes(plan, data), key=min)
    for genotype in dict.fromkeys(pair for layer in searched_layers(space) for pair in layer.genotypes):
        everywhere = [
            layer.genotypes.index(genotype) if genotype in layer.genotypes else 0 for layer in searched_layers(space)
        ]
        groups = [layer.groups for layer in searched_layers(space)]
        choices = [choice for choice, count in zip(everywhere, groups, strict=True) for _ in range(count)]
        check_dilations(space.spec(space.arch(choices)), smallest)
    if seed_weights:
        _from_file(plan, seed_weights)
    layers = searched_layers(space)
    return (
        f"{space.name}: {len(layers)} searched convolutions, {len(space.decisions)} groups, {logits(space)} logits;"
        f" the smallest picture that enters is {smallest[0]} x {smallest[1]} px"
    )


def seed_network(study: Study, seed_weights: str = "") -> Seed:
    """The backbone that kernels are taken from: read from a file, or trained as a classifier on the crops.

    What is trained is kept in `runs/cache` by content, so that a sweep pays for it once.
    """
    plan: NATSPlan = study.plan
    if seed_weights:
        backbone, key = _from_file(plan, seed_weights)
        return Seed(backbone=backbone, origin={"weights": key}, top1=None)
    task = classification_task(study)
    spec = base_spec(space_of(study))
    model = new_model(lambda: task.build(Backbone(spec)), study.seed, "seed network")
    trained = train_phase(
        study,
        "pretrain seed network",
        model,
        task,
        study.data.crops,
        plan.pretrain,
        origin={"spec": spec.to_json()},
        shared=True,
        image_side=plan.data.crop_side,
    )
    body = model.get_submodule("backbone")
    assert isinstance(body, Backbone)
    top1 = task.evaluate(model, study.data.crops_test, study.device)["top1"]
    return Seed(backbone=body.cpu(), origin={"pretrained": trained.key}, top1=top1)


def search(study: Study, seed: Seed, groups: str = "", phase: str = "") -> MixedSearch:
    """Step 2 in the plan's space or with other groups; `phase` is its name in the record.

    After every epoch the derived network is in the record: its entropy and margin, and once alpha moves its accuracy by
    the weights of the supernet, batch norm recalibrated. It is scored on the half of the data that alpha learns from.
    """
    plan: NATSPlan = study.plan
    space, task = space_of(study, groups), detection_task(study)
    phase = phase or f"search {groups or plan.groups}"
    model = new_model(lambda: task.build(MixedSupernet(space, seed.backbone, plan.kernels)), study.seed, "mixture")
    supernet = model.get_submodule("backbone.body")
    assert isinstance(supernet, MixedSupernet)
    supernet.use("branches")  # what the method computes; the other way must not change its price
    per_image = forward_macs(model, task, study.data.train, study.device)
    chosen = implementations(study, supernet, phase)
    supernet.use(chosen)
    recorded = {score.step for score in study.run.scores(phase)}
    found = MixedSearch(model=model, supernet=supernet, phase=phase)
    scorer = candidates.detection_scorer(study, found)

    def after_epoch(epoch: int) -> None:
        if epoch not in recorded:
            study.run.append(_derived_score(study, scorer, supernet, phase, epoch))
        supernet.mix()

    searched = search_phase(
        study,
        phase,
        model,
        supernet.alphas(),
        task,
        study.data.train,
        study.data.search,
        plan.search,
        per_image=per_image,
        origin={
            "space": space.name,
            "seed": seed.origin,
            "kernels": plan.kernels,
            "implementations": list(chosen),
        },
        after_epoch=after_epoch,
    )
    return replace(found, searched=searched)


def implementations(study: Study, supernet: MixedSupernet, phase: str) -> list[dict[Side, Implementation]]:
    """How each searched layer is computed: as the plan says, or the faster way of each side by a short measurement.

    What was measured stays with the run, so that a continued run computes as before, to the last bit.
    """
    if study.plan.implementation != "auto":
        return [dict.fromkeys(SIDES, study.plan.implementation) for _ in supernet.mixtures()]
    known = study.run.load(f"implementations {phase}", supernet.space.name)
    if known is None:
        height, width = input_sizes(study.plan, study.data)[0]
        batch = min(study.plan.search.weights.batch_size, 16)
        images = torch.zeros(batch, 3, height, width, device=study.device)
        known = {"ms": measure_implementations(supernet, images.contiguous(memory_format=torch.channels_last))}
        study.run.store(f"implementations {phase}", supernet.space.name, known)
    return [{side: min(ms, key=ms.get) for side, ms in row.items()} for row in known["ms"]]


def implementation_table(study: Study, search: MixedSearch) -> pd.DataFrame:
    """What was measured and chosen for each searched layer and side; empty where the plan forces one way."""
    known = study.run.load(f"implementations {search.phase}", search.space.name)
    rows = []
    for layer, by_side in zip(searched_layers(search.space), (known or {"ms": []})["ms"], strict=False):
        for side, ms in by_side.items():
            times = {f"{name} ms": value for name, value in ms.items()}
            rows.append({"block": layer.block, "who learns": side, **times, "chosen": min(ms, key=ms.get)})
    return pd.DataFrame(rows)


def step_ratio(study: Study, search: MixedSearch, steps: int = 5) -> float:
    """Time of a search step (weights, then alpha) as it is computed, over that of the same step by branches alone.

    Both are timed in turn on copies, the median of `steps` each.
    """
    plan, task = study.plan, detection_task(study)
    short = replace(plan.search, weights=replace(plan.search.weights, steps=steps), epochs=1, warm_epochs=0)
    chosen = [layer.implementation for layer in search.supernet.mixtures()]
    medians = []
    for ways in (chosen, "branches"):
        model = copy.deepcopy(search.model)
        supernet = model.get_submodule("backbone.body")
        assert isinstance(supernet, MixedSupernet)
        supernet.use(ways)
        marks = [time.perf_counter()]
        train_alternating(
            model,
            supernet.alphas(),
            task,
            study.data.train,
            study.data.search,
            short,
            seed=0,
            device=study.device,
            progress=lambda done, total, text, marks=marks: marks.append(time.perf_counter()),
        )
        medians.append(float(np.median(np.diff(marks)[1:])))  # the first step also warms up
    return medians[0] / medians[1]


def derived(search: MixedSearch, epoch: int = -1) -> Derived:
    """Step 3, of the last or another epoch."""
    return derive(search.space, search.alphas[epoch])


def start(seed: Seed, space: SearchSpace, arch: Arch, reading: Reading) -> Start:
    """Step 4: the network of `arch` with the seed's weights."""
    # Beside the specification only the order of the channels tells two networks apart: equal ones are trained once.
    origin = {**seed.origin, "order": arch.to_json() if reading == "index" else "contiguous"}
    return Start(weights=reuse_weights(space, arch, seed.backbone, reading), origin=origin)


def random_search(study: Study, search: MixedSearch) -> list[Score]:
    """The control: random networks of the same space, as many as the search scored, by the weights of its supernet."""
    scorer = candidates.detection_scorer(study, search)
    evaluations = min(study.plan.search.epochs - study.plan.search.warm_epochs, search.space.size)
    try:
        return candidates.search(
            study,
            RandomSearch(search.space, seed=study.seed),
            scorer,
            phase=f"random on {search.phase}",
            evaluations=evaluations,
            generation=evaluations,
        )
    finally:
        search.supernet.mix()


def trajectory(study: Study, search: MixedSearch) -> pd.DataFrame:
    """One row for each epoch: entropy, margin, ties of alpha, the key of the derived network, and its score if any."""
    rows = [
        {"epoch": score.step + 1, "network": score.arch, **score.metrics} for score in study.run.scores(search.phase)
    ]
    return pd.DataFrame(rows)


def scored_epochs(study: Study, search: MixedSearch) -> list[Score]:
    """The derived networks of the epochs in which alpha moved, in order."""
    return [score for score in study.run.scores(search.phase) if study.plan.fitness in score.metrics or score.error]


def vote_table(space: SearchSpace, arch: Arch) -> pd.DataFrame:
    """Share of the groups of every searched layer that voted for each genotype (equation 5), a row for each layer."""
    rows = []
    for layer, chosen in zip(searched_layers(space), layer_choices(space, arch), strict=True):
        shares = dict(zip(layer.genotypes, np.array(votes(layer, chosen)) / layer.groups, strict=True))
        names = {f"{height}x{width}": share for (height, width), share in shares.items()}
        rows.append({"stage": layer.stage, "block": layer.block, "channels": layer.channels, **names})
    return pd.DataFrame(rows).fillna(0.0)


def _derived_score(study: Study, scorer: Scorer, supernet: MixedSupernet, phase: str, epoch: int) -> Score:
    found = derive(supernet.space, supernet.alpha_values())
    firmness = {"entropy": found.entropy, "margin": found.margin, "ties": float(found.ties)}
    if epoch >= study.plan.search.warm_epochs:
        score = scorer(found.arch, phase=phase, step=epoch)
        return replace(score, metrics={**score.metrics, **firmness})
    space = supernet.space
    return Score(
        arch=found.arch.key,
        choices=found.arch.choices,
        space=space.name,
        metrics=firmness,
        macs=space.macs(found.arch, study.plan.macs_at),
        params=space.params(found.arch),
        seconds=0.0,
        seed=study.seed,
        phase=phase,
        step=epoch,
    )


def _from_file(plan: NATSPlan, seed_weights: str) -> tuple[Backbone, str]:
    """The backbone with the weights of a file, and a digest of them; ValueError when they do not match."""
    path = next((p for p in (Path(seed_weights), base_folder() / seed_weights) if p.is_file()), Path(seed_weights))
    backbone = Backbone(base_spec(space_named(plan.space)))
    load_torchvision(backbone, read_state(path))
    return backbone, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
