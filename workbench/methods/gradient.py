"""Differentiable search on any space: weights and alpha of one supernet learn in turn, each from its own half of data.

This is the first-order bilevel search of DARTS. NATS (section 3.2) and FNA differ in it by what the weights' steps run:
the mixture of all options, or one path drawn from alpha.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from workbench.data.loader import find_file
from workbench.evaluation.scoring import Scorer
from workbench.evaluation.verdict import Verdict
from workbench.methods import candidates, compare
from workbench.methods.experiment import Experiment, body_of, forward_macs, new_model
from workbench.methods.phases import Trained, train_phase
from workbench.methods.plan import CostPenalty
from workbench.networks.backbone import Backbone
from workbench.networks.dilation_mixture import use
from workbench.networks.pretrained import SOURCES, load_torchvision, published_state, read_state
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.search.limits import Limit
from workbench.search.query import Searcher
from workbench.search.relaxation import Derived, Logits, derive
from workbench.spaces.costs import ImageSize
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace
from workbench.training.fit import AlphaSide, BeforeStep
from workbench.training.parallel import world
from workbench.training.recipe import AlternatingRecipe

WeightsOn = Literal["mixture", "paths"]


@dataclass(frozen=True, kw_only=True)
class SeedNetwork:
    """A pretrained network that a search starts from, and in plain data where its weights come from."""

    backbone: Backbone
    origin: dict[str, Any]
    top1: float | None = None  # on unseen crops, where it was trained here


def read_seed(
    spec: NetworkSpec,
    name: str,
    network: str,
    load: Callable[[Backbone, Mapping[str, Tensor]], None] = load_torchvision,
) -> SeedNetwork:
    """A network with the weights of the file `name`, and a digest of them; ValueError when they do not match.

    Instead of a file `name` may be one of `pretrained.SOURCES`, which are asked for ImageNet weights of `network`; or
    `random`, for a rehearsal.
    """
    if name == "random":
        drawn: Any = new_model(lambda: Backbone(spec), 0, "random seed network")
        return SeedNetwork(backbone=drawn, origin={"weights": name, "network": network})
    backbone, origin = Backbone(spec), {"weights": name, "network": network}
    if name in SOURCES:
        load(backbone, published_state(name, network))
    else:
        path = find_file(name)
        load(backbone, read_state(path))
        origin = {"weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}
    return SeedNetwork(backbone=backbone, origin=origin)


@dataclass(frozen=True, kw_only=True)
class GradientSearch:
    """A task's model on a supernet, and what the search left: losses, and alpha after every epoch."""

    model: nn.Module
    supernet: Supernet
    phase: str
    trained: Trained | None = None  # None: it has not ended

    @property
    def key(self) -> str:
        return self.trained.key if self.trained else ""

    @property
    def space(self) -> SearchSpace:
        return self.supernet.space

    @property
    def alphas(self) -> list[list[Logits]]:
        """Logits by epoch and choice."""
        assert self.trained is not None
        return [[alpha.double().numpy() for alpha in epoch] for epoch in self.trained.alphas]

    def derived(self, limits: tuple[Limit, ...] = ()) -> Derived:
        """The architecture that alpha stands for in the end (NATS, equation 4)."""
        return derive(self.space, self.alphas[-1], limits)


def gradient_search(
    experiment: Experiment,
    build: Callable[[], Supernet],
    recipe: AlternatingRecipe,
    *,
    phase: str,
    stream: str,
    origin: Mapping[str, Any],
    weights_on: WeightsOn,
    penalty: CostPenalty | None = None,
) -> GradientSearch:
    """Searches the space of the supernet that `build` makes, for the experiment's own task.

    Weights learn from `data.train`, alpha from `data.search`. In the first `warm_epochs` alpha stands still, and paths
    are uniform. After every epoch the derived network is in the record: entropy and margin of alpha, and once alpha
    moves its score by the supernet's own weights, a score of the supernet and not of the network. `origin` says what
    `build` makes; `stream` names the draw of initial weights.
    """
    plan, task, data = experiment.plan, experiment.task, experiment.data
    model = new_model(lambda: task.build(build()), experiment.seed, stream)
    supernet: Supernet = body_of(model)

    before_step = steps_on(weights_on)

    def mix(trained: nn.Module, turn: str, rng: np.random.Generator) -> None:
        body_of(trained).mix()

    ways = [mixture.implementation for mixture in supernet.mixtures()]
    use(supernet, "branches")  # what the method computes; how it is computed must not change its price
    draws = 1 if weights_on == "mixture" else 8  # every step of a mixture is the same
    weights_price = forward_macs(model, task, data.train, experiment.device, before_step, draws)
    alpha_price = forward_macs(model, task, data.train, experiment.device, mix, 1)
    use(supernet, ways)
    found = GradientSearch(model=model, supernet=supernet, phase=phase)
    judge = candidates.scorer(experiment, found, task)
    recorded = {score.step for score in experiment.run.scores(phase)}

    def after_epoch(epoch: int) -> None:
        if epoch not in recorded:  # all processes score it, because batch norm may gather over them
            score = derived_score(experiment, judge, recipe, phase, epoch, penalty is not None)
            if world()[0] == 0:
                experiment.run.append(score)

    def priced(trained: nn.Module) -> Tensor:
        assert penalty is not None
        return cost_loss(body_of(trained).expected_macs(plan.macs_at), penalty)

    def side(trained: nn.Module) -> AlphaSide:
        return AlphaSide(
            parameters=body_of(trained).alphas(),
            data=data.search,
            penalty=priced if penalty else None,
            after_epoch=after_epoch,
        )

    trained = train_phase(
        experiment,
        phase,
        model,
        task,
        data.train,
        recipe,
        origin={**origin, "space": supernet.space.name, "weights on": weights_on}
        | ({"penalty": vars(penalty), "macs_at": plan.macs_at} if penalty else {}),
        before_step=before_step,
        search=side,
        prices=(weights_price, alpha_price),
        image_side=plan.data.image_side,
    )
    if (name := f"score {phase}") not in {entry.phase for entry in experiment.run.ledger.entries}:
        candidates.enter_search(experiment, name, judge, scored_epochs(experiment, found))
    supernet.mix()
    return replace(found, trained=trained)


def steps_on(weights_on: WeightsOn) -> BeforeStep:
    """What every step of such a search runs: the mixture, or while weights learn on `paths` one that alpha draws."""

    def before_step(trained: nn.Module, turn: str, rng: np.random.Generator) -> None:
        net: Supernet = body_of(trained)
        if turn == "alpha" or weights_on == "mixture":
            net.mix()
        else:
            net.activate(net.space.sample(rng) if turn == "warm" else net.sample(rng))

    return before_step


def cost_loss(macs: Tensor, penalty: CostPenalty) -> Tensor:
    """lambda * log(gamma * cost) / log(tau), cost in billions of MACs (FNA)."""
    return penalty.strength * torch.log(penalty.scale * macs / 1e9) / math.log(penalty.base)


def derived_score(
    experiment: Experiment, judge: Scorer, recipe: AlternatingRecipe, phase: str, epoch: int, priced: bool
) -> Score:
    """The record of an epoch: the network that alpha stands for, how decided it is, and its score once alpha moves."""
    supernet, size = judge.supernet, experiment.plan.macs_at
    space, found = supernet.space, derive(supernet.space, supernet.alpha_values())
    metrics = {"entropy": found.entropy, "margin": found.margin, "ties": float(found.ties)}
    if priced:
        with torch.no_grad():
            expected = float(supernet.expected_macs(size))
        options = [option for _, option in space.describe(found.arch)]
        metrics |= {"expected MACs": expected, "skipped": options.count(SKIP) / len(options)}
    if epoch >= recipe.warm_epochs:
        score = judge(found.arch, phase=phase, step=epoch)
        return replace(score, metrics={**score.metrics, **metrics})
    return Score(
        arch=found.arch,
        metrics=metrics,
        macs=space.macs(found.arch, size),
        params=space.params(found.arch),
        seconds=0.0,
        seed=experiment.seed,
        phase=phase,
        step=epoch,
    )


def scored_epochs(experiment: Experiment, search: GradientSearch) -> list[Score]:
    """The derived networks of the epochs in which alpha moved, in order."""
    metric = experiment.task.metric
    return [score for score in experiment.run.scores(search.phase) if metric in score.metrics or score.error]


def random_control(experiment: Experiment, search: GradientSearch, searcher: Searcher) -> list[Score]:
    """Candidates of a random `searcher`, as many as the search scored, by the weights of its supernet."""
    evaluations = min(len(scored_epochs(experiment, search)), search.space.size)
    try:
        return candidates.search(
            experiment,
            searcher,
            candidates.scorer(experiment, search, experiment.task),
            phase=f"random on {search.phase}",
            evaluations=evaluations,
            generation=evaluations,
        )
    finally:
        search.supernet.mix()


def verdict(
    experiment: Experiment,
    table: pd.DataFrame,
    search: GradientSearch,
    drawn: Sequence[Score],
    *,
    found: str,
    baseline: str,
    random: str = "best-scored random",
    stored: str = "",
) -> Verdict:
    """The verdict on the network of `search` (`compare.verdict`), with the best of its `random_control` if trained.

    Its reasons are how decided alpha is, and the supernet's scores of the found network and of the random one.
    """
    metric, phase = experiment.task.metric, search.phase
    gap = candidates.score_gap(scored_epochs(experiment, search)[-1], candidates.best(drawn, metric), metric)
    phases = {found: (phase, f"score {phase}"), random: (phase, f"random on {phase}")}
    rows = set(table["network"])
    return compare.verdict(
        experiment,
        table,
        found=found,
        baseline=baseline,
        random=random if random in rows else "",
        searches={name: phases[name] for name in phases if name in rows},
        why=f"the entropy of alpha is {search.derived().entropy:.2f} of 1, and {gap}",
        stored=stored,
    )


def fixed_macs(space: SearchSpace, image_size: ImageSize) -> int:
    """MACs of the blocks that no decision governs, which the expected MACs leave out."""
    return space.macs(space.uniform(0), image_size) - sum(row[0] for row in space.option_macs(image_size))


def trajectory(experiment: Experiment, search: GradientSearch) -> pd.DataFrame:
    """One row for each epoch: the derived network, its MACs, entropy and margin of alpha, and its score if any.

    Where cost has a price also the expected MACs and the share of skipped layers. All MACs are of the whole backbone.
    """
    rows = [
        {"epoch": score.step + 1, "network": score.arch.key, "MACs": score.macs, **score.metrics}
        for score in experiment.run.scores(search.phase)
    ]
    frame = pd.DataFrame(rows)
    if "expected MACs" in frame:
        frame["expected MACs"] += fixed_macs(search.space, experiment.plan.macs_at)
    return frame
