"""What NATS's network is compared with, everybody from the same pretrained weights.

The paper has no control but its baseline and the path level; random channels, an equal split and dilation 2 by hand are
ours, and so is the other slicing of kernels.
"""

from collections.abc import Sequence
from dataclasses import replace

from workbench.methods import compare
from workbench.methods.compare import Network, Result
from workbench.methods.experiment import Experiment
from workbench.methods.gradient import SeedNetwork
from workbench.methods.nats.method import network, space_of
from workbench.methods.nats.presets import NATSPlan
from workbench.search.random import RandomSearch
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import Slicing, equal_split, same_everywhere, searched_layers
from workbench.spaces.space import SearchSpace


def found_and_baselines(
    experiment: Experiment,
    pretrained: SeedNetwork,
    found: Arch,
    path_level: tuple[SearchSpace, Arch],
    *,
    everything: bool,
    best_random: Arch,
) -> list[Network]:
    """The found network first, then path level, baseline, and the best-scored network of a random search.

    With `everything` also dilation 2 by hand, random channels, the equal split, and the other slicing.
    """
    plan: NATSPlan = experiment.plan
    space = space_of(experiment)
    networks = [
        network(experiment, pretrained, "NATS", space, found),
        network(experiment, pretrained, "path level", *path_level),
        network(experiment, pretrained, "baseline", space, same_everywhere(space, (1, 1))),
        network(experiment, pretrained, "best-scored random", space, best_random),
    ]
    if everything:
        networks += [network(experiment, pretrained, "dilated by hand", space, by_hand(space))]
        known = {each.arch for each in networks if each.arch}
        searcher = RandomSearch(space, seed=experiment.seed, stream="random channels", taken=known)
        for number, query in enumerate(searcher.ask(plan.random_networks), start=1):
            name = f"random channels {number}"
            networks.append(network(experiment, pretrained, name, space, query.arch, group="random channels"))
        other: Slicing = "index" if plan.slicing == "contiguous" else "contiguous"
        networks += [
            network(experiment, pretrained, "equal split", space, equal_split(space)),
            network(experiment, pretrained, f"NATS, {other} slicing", space, found, other),
        ]
    return networks


def by_hand(space: SearchSpace) -> Arch:
    """Dilation 2 everywhere, or the largest square one that all layers of a set without it have."""
    squares = set.intersection(*({p for p in layer.dilations if p[0] == p[1]} for layer in searched_layers(space)))
    return same_everywhere(space, (2, 2) if (2, 2) in squares else max(squares))


def transfer(experiment: Experiment, networks: Sequence[Network]) -> list[Result]:
    """The same networks in another detector, without a new search (table 6)."""
    plan: NATSPlan = experiment.plan
    moved = replace(experiment, plan=replace(plan, head=plan.transfer, finetune=plan.transfer_finetune))
    return compare.train_all(moved, [replace(n, name=f"{n.name} in {plan.transfer.kind}") for n in networks])
