"""What FNA's network is compared with."""

from collections.abc import Sequence

import pandas as pd

from workbench.evaluation.statistics import losses_at, share_of_steps
from workbench.methods import fna
from workbench.methods.compare import Contender, Result
from workbench.methods.fna_plan import FNAPlan
from workbench.methods.fna_weights import contender, seed_form
from workbench.methods.gradient_search import SeedNetwork
from workbench.methods.phases import Study
from workbench.spaces.arch import Arch
from workbench.spaces.costs import backbone_cost
from workbench.spaces.space import SearchSpace


def seed_macs(study: Study) -> int:
    """Backbone MACs of the seed network itself."""
    return backbone_cost(seed_form(study), study.plan.macs_at).macs


def contenders(
    study: Study, seed: SeedNetwork, space: SearchSpace, found: Arch, best_random: Arch, controls: str, suffix: str = ""
) -> list[Contender]:
    """The found network and the seed network; with `basic` also the best-scored random one.

    With `all` the found network from random weights, and random networks of its cost without a search, too. `suffix` is
    added to the names, where several tasks share a run.
    """
    plan: FNAPlan = study.plan
    spec = space.spec(found)
    entrants = [
        contender(study, seed, f"FNA{suffix}", spec, found),
        contender(study, seed, f"seed network{suffix}", seed_form(study)),
    ]
    if controls in ("basic", "all"):
        winner = space.spec(best_random)
        entrants.append(contender(study, seed, f"best-scored random{suffix}", winner, best_random))
    if controls == "all":
        entrants.append(contender(study, seed, f"FNA, random weights{suffix}", spec, found, init="random"))
        searcher = fna.random_of_cost(study, space, found, "random networks")
        for number, query in enumerate(searcher.ask(plan.random_networks), start=1):
            drawn = contender(study, seed, f"random network {number}{suffix}", space.spec(query.arch), query.arch)
            entrants.append(drawn)
    return entrants


def start_table(results: Sequence[Result], suffix: str = "") -> pd.DataFrame:
    """The found network from remapped and from random weights: losses, and the steps that the latter's last loss takes.

    Empty where the comparison has no random start (`controls` other than all).
    """
    named = {name: f"{name}{suffix}" for name in ("FNA", "FNA, random weights")}
    losses = {result.contender.name: result.losses for result in results}
    if not set(named.values()) <= set(losses):
        return pd.DataFrame()
    level = losses[named["FNA, random weights"]]
    return pd.DataFrame(
        [
            {"network": name, **losses_at(losses[name]), "share of steps": share_of_steps(losses[name], level)}
            for name in named.values()
        ]
    )
