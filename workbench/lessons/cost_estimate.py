"""What a search will cost, from a few steps of everything that it trains and a few candidates that it scores."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from workbench.methods import candidates
from workbench.methods.detnas import method as detnas
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.fna import method as fna
from workbench.methods.gradient import GradientSearch, steps_on
from workbench.methods.paths import path_wise, step_paths
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.ledger import Entry
from workbench.training.fit import AlphaSide
from workbench.training.recipe import Recipe
from workbench.training.timing import step_seconds

PRETRAIN, SUPERNET, SEARCH = "pre-train the supernet", "train the supernet", "score candidates of the search"
RANDOM, NETWORKS = "score random candidates", "train the networks to compare"
PHASES = {"pretrain supernet": PRETRAIN, "finetune supernet": SUPERNET, "search": SUPERNET, "evolution": SEARCH}
PHASES |= {"score search": SEARCH, "random": RANDOM, "random on search": RANDOM}


def cost_estimate(experiment: Experiment, method: str, networks: int) -> pd.DataFrame:
    """Nothing is trained yet: each kind of `work`, how often it is done (`times`), and its seconds, each and in all.

    `method` is DetNAS or FNA; `networks` will be trained for the comparison. Measuring on the test split is left out.
    """
    plan, data, rows = experiment.plan, experiment.data, list[tuple[str, int, float]]()

    def time_steps(
        work: str, build: Callable[[], nn.Module], recipe: Any, *, crops: bool = False, times: int = 1, **options: Any
    ) -> nn.Module:
        task, part = (experiment.classification, data.crops) if crops else (experiment.task, data.train)
        model = new_model(lambda: task.build(build()), experiment.seed, "estimate")
        options["image_side"] = plan.data.crop_side if crops else plan.data.image_side
        steps = (recipe if isinstance(recipe, Recipe) else recipe.weights).steps
        rows.append((work, times * steps, step_seconds(model, task, part, recipe, experiment.device, **options)))
        return model

    if method == "DetNAS":
        part, space = plan.supernet, detnas.space_of(experiment)
        paths = path_wise(step_paths(space, part.paths), part.paths, experiment.task)
        if plan.classifier:
            time_steps(PRETRAIN, lambda: Supernet(space), part.pretrain, crops=True, before_step=paths)
        model = time_steps(SUPERNET, lambda: Supernet(space), part.finetune, before_step=paths)
        spec, evaluations = space.spec(space.sample(np.random.default_rng(0))), plan.evaluations
    else:
        seed = fna.seed_network(plan)
        options: dict[str, Any] = {"before_step": steps_on("paths")}
        options["search"] = lambda model: AlphaSide(parameters=body_of(model).alphas(), data=data.search)
        model = time_steps(SUPERNET, lambda: fna.supernet(plan, seed.backbone), plan.search, **options)
        spec, evaluations = fna.seed_form(experiment), plan.search.epochs - plan.search.warm_epochs
    begun = GradientSearch(model=model, supernet=body_of(model), phase="estimate")  # any supernet in a model would do
    judge, rng = candidates.scorer(experiment, begun, experiment.task), np.random.default_rng(0)
    scores = [judge(judge.supernet.space.sample(rng), phase="estimate", step=0) for _ in range(3)]
    seconds = float(np.mean([score.seconds for score in scores[1:]]))  # the first also warms up
    rows += [(SEARCH, evaluations, seconds), (RANDOM, evaluations, seconds)]
    if plan.classifier:
        time_steps(NETWORKS, lambda: Backbone(spec), plan.classifier.recipe, crops=True, times=networks)
    time_steps(NETWORKS, lambda: Backbone(spec), plan.finetune, times=networks)
    frame = pd.DataFrame(rows, columns=["work", "times", "seconds each"])
    return frame.assign(seconds=frame["times"] * frame["seconds each"])


def seconds_spent(entries: Sequence[Entry]) -> dict[str, float]:
    """The seconds of a ledger by the `work` of an estimate; what came from the cache counts as if it were done now."""
    spent: dict[str, float] = {}
    for entry in entries:
        network = entry.phase.startswith(("pretrain ", "finetune "))
        if work := PHASES.get(entry.phase, NETWORKS if network else ""):
            spent[work] = spent.get(work, 0.0) + entry.seconds
    return spent
