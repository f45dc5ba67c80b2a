"""What FNA's network is compared with, and how many steps its remapped weights save."""

from collections.abc import Sequence

import pandas as pd

from workbench.evaluation.statistics import losses_at, share_of_steps
from workbench.methods.compare import Network, Result
from workbench.methods.experiment import Experiment
from workbench.methods.fna.method import network, random_of_cost, seed_form
from workbench.methods.gradient import SeedNetwork
from workbench.spaces.arch import Arch
from workbench.spaces.costs import backbone_cost
from workbench.spaces.space import SearchSpace


def seed_macs(experiment: Experiment) -> int:
    """Backbone MACs of the seed network itself."""
    return backbone_cost(seed_form(experiment), experiment.plan.macs_at).macs


def found_and_baselines(
    experiment: Experiment,
    seed: SeedNetwork,
    space: SearchSpace,
    found: Arch,
    best_random: Arch,
    controls: str,
    suffix: str = "",
) -> list[Network]:
    """The found network, the seed network, and the controls that `controls` asks for.

    `basic` adds the best-scored random network, and the found one from random weights, which says what remapping is
    worth; `all` also adds random networks of equal cost. `suffix` is added to the names, where tasks share a run.
    """
    spec = space.spec(found)
    networks = [
        network(experiment, seed, f"FNA{suffix}", spec, found),
        network(experiment, seed, f"seed network{suffix}", seed_form(experiment)),
    ]
    if controls in ("basic", "all"):
        winner = space.spec(best_random)
        networks.append(network(experiment, seed, f"best-scored random{suffix}", winner, best_random))
        networks.append(network(experiment, seed, f"FNA, random weights{suffix}", spec, found, init="random"))
    if controls == "all":
        searcher = random_of_cost(experiment, space, found, "random networks", taken={found, best_random})
        for number, query in enumerate(searcher.ask(experiment.plan.random_networks), start=1):
            name, group = f"random network {number}{suffix}", f"random network{suffix}"
            networks.append(network(experiment, seed, name, space.spec(query.arch), query.arch, group))
    return networks


def start_table(results: Sequence[Result], suffix: str = "") -> pd.DataFrame:
    """The found network from remapped and from random weights: losses, and the steps that the latter's last loss takes.

    Empty where the comparison has no random start (`controls` none).
    """
    named = {name: f"{name}{suffix}" for name in ("FNA", "FNA, random weights")}
    losses = {result.network.name: result.losses for result in results}
    if not set(named.values()) <= set(losses):
        return pd.DataFrame()
    level = losses[named["FNA, random weights"]]
    return pd.DataFrame(
        [
            {"network": name, **losses_at(losses[name]), "share of steps": share_of_steps(losses[name], level)}
            for name in named.values()
        ]
    )
