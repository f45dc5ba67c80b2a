"""FNA (Fang et al., ICLR 2020) and FNA++: a pretrained network adapted to a task, in architecture and in weights.

1. `seed_network`: a network pretrained on ImageNet, from a file or a package
2. `search`: its weights remapped into a supernet, and a gradient search on the task itself (section 4)
3. `derived`: the heaviest operation of every layer, skipped layers left out
4. `start`: the *seed's* weights remapped once more, into the found network (section 3); fine-tuning is the comparison's
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, gradient_search
from workbench.methods.compare import Contender, Result, body_of, train_contender
from workbench.methods.fna_plan import FNAPlan
from workbench.methods.fna_weights import Init, seed_network, task_of
from workbench.methods.gradient_search import MixtureSearch, SeedNetwork, derived_score, finished, search_phase
from workbench.methods.phases import Study, forward_macs, new_model
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.records.seeds import integer
from workbench.search.random import RandomOfCost
from workbench.search.relaxation import Derived, derive
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.space import SKIP, SearchSpace
from workbench.training.recipe import Turn

LayerSearch = MixtureSearch[Supernet]


def space_of(study: Study) -> SearchSpace:
    return space_named(study.plan.space)


def check_plan(plan: FNAPlan, seed_weights: str = "") -> str:
    """ValueError before work starts: no such space, or weights that do not match; else the space in words."""
    space = space_named(plan.space)
    seed_network(plan, seed_weights)
    return (
        f"{space.name}: {len(space.decisions)} searched layers, {space.size:.1e} networks; seed {plan.seed_network},"
        f" {space.macs(space.uniform(0), plan.macs_at) / 1e6:.0f} MMACs with {space.decisions[0].options[0]} everywhere"
    )


def search(study: Study, seed: SeedNetwork, *, init: Init = "remap", phase: str = "search") -> LayerSearch:
    """Step 2; `init="random"` starts the supernet from random weights instead, the ablation of table 5.

    After every epoch the derived network is in the record: entropy and margin of alpha, share of skipped layers, its
    MACs, and once alpha moves its score by the supernet's own weights: a score of the supernet, not of the network
    (pitfall P3), and with plain batch norm one that depends on the batches.
    """
    plan: FNAPlan = study.plan
    space, task = space_of(study), task_of(study)
    weights = seed.backbone if init == "remap" else None
    model = new_model(
        lambda: task.build(layer_supernet(plan, weights)),
        study.seed,
        "supernet",
    )
    supernet = _supernet_in(model)
    images = study.data.train
    per_path = forward_macs(
        model, task, images, study.device, lambda _model, _turn, rng: supernet.activate(space.sample(rng))
    )
    supernet.mix()
    per_mixture = forward_macs(model, task, images, study.device)
    recorded = {score.step for score in study.run.scores(phase)}
    found = LayerSearch(model=model, supernet=supernet, phase=phase)
    scorer = candidates.task_scorer(study, found, task)

    def before_step(trained: nn.Module, turn: Turn, rng: np.random.Generator) -> None:
        layers = _supernet_in(trained)
        if turn == "alpha":
            layers.mix()
        else:  # uniform while alpha stands still, then by alpha
            layers.activate(space.sample(rng) if turn == "warm" else layers.sample(rng))

    def after_epoch(epoch: int) -> None:
        if epoch not in recorded:
            study.run.append(_derived_score(study, scorer, supernet, phase, epoch))

    penalty = plan.penalty
    searched = search_phase(
        study,
        phase,
        model,
        supernet.alphas(),
        task,
        study.data.train,
        study.data.search,
        plan.search,
        per_image=per_path,
        per_alpha_image=per_mixture,
        origin={
            "space": space.name,
            "seed": seed.origin if init == "remap" else "random",
            "penalty": {**vars(penalty), "macs_at": plan.macs_at},
            "temperature": plan.temperature,
            "affine": plan.affine,
        },
        before_step=before_step,
        penalty=lambda trained: cost_penalty(
            _supernet_in(trained).expected_macs(plan.macs_at),
            strength=penalty.strength,
            scale=penalty.scale,
            base=penalty.base,
        ),
        after_epoch=after_epoch,
    )
    return finished(study, found, searched, scorer)


def _supernet_in(model: nn.Module) -> Supernet:
    supernet = body_of(model)
    assert isinstance(supernet, Supernet)
    return supernet


def layer_supernet(plan: FNAPlan, pretrained: Backbone | None) -> Supernet:
    """The supernet of the plan's space: every option of every layer holds the seed's weights remapped (section 3.3)."""
    return Supernet(
        space_named(plan.space),
        pretrained=pretrained,
        norm="own" if plan.affine else "plain",
        temperature=plan.temperature,
        alpha_noise=1e-3,
    )


def cost_penalty(macs: torch.Tensor, *, strength: float, scale: float, base: float) -> torch.Tensor:
    """The cost loss lambda * log(gamma * cost) / log(tau), cost in billions of MACs."""
    return strength * torch.log(scale * macs / 1e9) / math.log(base)


def derived(search: LayerSearch, epoch: int = -1) -> Derived:
    """Step 3, of the last or another epoch. Skipped layers drop out of the specification (section 2.2)."""
    return derive(search.space, search.alphas[epoch])


def train_all(study: Study, entrants: list[Contender], steps: int = 0) -> list[Result]:
    """The same fine-tuning for everybody, of the plan's length or `steps`; each is measured once on the test split."""
    plan: FNAPlan = study.plan
    recipe = replace(plan.finetune, steps=steps or plan.finetune.steps)
    task = task_of(study)
    return [train_contender(study, entrant, task=task, finetune=recipe, macs_at=plan.macs_at) for entrant in entrants]


def random_search(study: Study, search: LayerSearch, found: Arch) -> list[Score]:
    """The control: random networks of the found one's MACs (within a tenth), as many as the search scored."""
    plan: FNAPlan = study.plan
    evaluations = plan.search.epochs - plan.search.warm_epochs
    try:
        return candidates.search(
            study,
            random_of_cost(study, search.space, found, search.phase),
            candidates.task_scorer(study, search, task_of(study)),
            phase=f"random on {search.phase}",
            evaluations=evaluations,
            generation=evaluations,
        )
    finally:
        search.supernet.mix()


def random_of_cost(study: Study, space: SearchSpace, found: Arch, name: str) -> RandomOfCost:
    """Random networks that cost what `found` does; `name` says which draw it is."""

    def macs(arch: Arch) -> int:
        return space.macs(arch, study.plan.macs_at)

    return RandomOfCost(space, seed=integer(study.seed, name), cost=macs, target=macs(found))


def trajectory(study: Study, search: LayerSearch) -> pd.DataFrame:
    """One row for each epoch: entropy and margin of alpha, expected and derived MACs, skips, and the score if any.

    Both MACs are of the whole backbone, fixed blocks included.
    """
    rows = [
        {"epoch": score.step + 1, "network": score.arch.key, "MACs": score.macs, **score.metrics}
        for score in study.run.scores(search.phase)
    ]
    frame = pd.DataFrame(rows)
    space, size = search.space, study.plan.macs_at
    fixed = space.macs(space.uniform(0), size) - sum(row[0] for row in space.option_macs(size))
    return frame.assign(**{"expected MACs": frame["expected MACs"] + fixed})


def scored_epochs(study: Study, search: LayerSearch) -> list[Score]:
    """The derived networks of the epochs in which alpha moved, in order."""
    return gradient_search.scored_epochs(study, search.phase, task_of(study).metric)


def _derived_score(study: Study, scorer: Scorer, supernet: Supernet, phase: str, epoch: int) -> Score:
    found = derive(supernet.space, supernet.alpha_values())
    with torch.no_grad():
        expected = float(supernet.expected_macs(study.plan.macs_at))
    options = [option for _, option in supernet.space.describe(found.arch)]
    told = {
        "entropy": found.entropy,
        "margin": found.margin,
        "expected MACs": expected,
        "skipped": options.count(SKIP) / len(options),
    }
    return derived_score(study, scorer, found, told, phase, epoch)
