"""The best networks of a search, each trained on its own for a short while before one is kept. No paper here does so.

Inherited weights blur the order of the best; a short training of each may tell them apart, at a small part of what full
training costs. As many random networks are trained alike: what would this second choice find without a search?
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pandas as pd
from torch import nn

from workbench.methods import candidates, compare
from workbench.methods.compare import Network
from workbench.methods.experiment import Experiment
from workbench.methods.plan import RerankPart
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.network_spec import NetworkSpec
from workbench.training.recipe import Recipe

Draw = Callable[[int, Collection[Arch]], Sequence[Arch]]  # that many random architectures, none of those

RANDOM = "re-ranked random"


def rerank(
    experiment: Experiment,
    scores: Sequence[Score],
    draw: Draw,
    spec_of: Callable[[Arch], NetworkSpec],
    *,
    initialise: Callable[[nn.Module], None] | None = None,
) -> pd.DataFrame:
    """The plan's best few of `scores`, best first, then as many random ones: one row each, all trained alike.

    Columns `network`, `arch`, `by the supernet` (NaN where it was not scored) and `alone` (both the plan's fitness on
    the search split), and `kept`. Training sees the train split only. Where the plan re-ranks nothing the one row is
    the best by the supernet, and nothing is trained.
    """
    plan = experiment.plan
    part, metric = plan.rerank, plan.fitness
    found = [score.arch for score in candidates.top(scores, metric, part.networks if part else 1)]
    drawn = draw(len(found), found) if part else []
    names = [f"re-ranked {n}" for n in range(1, 1 + len(found))]
    names += [f"{RANDOM} {n}" for n in range(1, 1 + len(drawn))]
    frame = pd.DataFrame({"network": names, "arch": [*found, *drawn]})
    known = {score.arch: score.metrics.get(metric) for score in scores}
    frame["by the supernet"] = frame["arch"].map(known).astype(float)
    frame["alone"] = float("nan")
    if part:
        pairs = zip(names, frame["arch"], strict=True)
        networks = [Network(name=name, spec=spec_of(arch), arch=arch) for name, arch in pairs]
        results = compare.train_all(shortly(experiment, part), networks, initialise=initialise)
        frame["alone"] = [result.metrics[metric] for result in results]
    chosen = kept(frame)
    return frame.assign(kept=[arch == chosen for arch in frame["arch"]])


def reranking_phases(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The phases of a ledger that belong to the cost of the kept network: not those of the random control."""
    return tuple(entry.phase for entry in entries if re.search(r" re-ranked-\d+$", entry.phase))


def shortly(experiment: Experiment, part: RerankPart) -> Experiment:
    """The experiment with a share of the steps, in which the search split is what is measured on: no test split."""
    plan, data = experiment.plan, experiment.data

    def cut(recipe: Recipe) -> Recipe:
        return replace(recipe, steps=max(1, round(part.share * recipe.steps)))

    classifier = plan.classifier and replace(plan.classifier, recipe=cut(plan.classifier.recipe))
    return replace(
        experiment,
        plan=replace(plan, classifier=classifier, finetune=cut(plan.finetune)),
        data=replace(data, full_train=data.train, test=data.search, crops_test=data.crops_search),
    )


def kept(frame: pd.DataFrame) -> Arch:
    """The found network that is best alone, never a random one; the best by the supernet where none was trained."""
    return _best_alone(frame[~frame["network"].str.startswith(RANDOM)])


def controls(frame: pd.DataFrame) -> dict[str, Arch]:
    """What the kept network must beat in full training, by the names of their rows; {} where nothing was re-ranked.

    The best by the supernet (which is what the papers take; left out where it is the kept one), and the random network
    that is best alone.
    """
    drawn = frame[frame["network"].str.startswith(RANDOM)]
    first, found = frame["arch"][0], kept(frame)
    without = {} if first == found else {"not re-ranked": first}
    return without | ({RANDOM: _best_alone(drawn)} if len(drawn) else {})


def _best_alone(frame: pd.DataFrame) -> Arch:
    arch: Arch = frame.sort_values("alone", ascending=False, kind="stable")["arch"].iloc[0]
    return arch
