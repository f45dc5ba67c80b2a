"""What NATS's network is compared with, everybody from the same pretrained weights (section 12 of the specification).

The paper has no control but its baseline and the path level; random channels, an equal split and dilation 2 by hand are
ours, and so is the other reading of how kernels are cut.
"""

from collections.abc import Sequence
from dataclasses import replace

from workbench.methods import candidates
from workbench.methods.compare import Contender, Result
from workbench.methods.gradient_search import SeedNetwork
from workbench.methods.nats import space_of, start
from workbench.methods.nats_presets import NATSPlan
from workbench.methods.phases import Study
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import (
    Reading,
    decoded,
    equal_split,
    same_everywhere,
    searched_layers,
)
from workbench.spaces.space import SearchSpace


def contender(
    study: Study,
    pretrained: SeedNetwork,
    name: str,
    space: SearchSpace,
    arch: Arch,
    reading: Reading | None = None,
    group: str = "",
) -> Contender:
    """The network of `arch` with the seed's kernels, cut as the plan reads the paper or as told."""
    way: Reading = reading or study.plan.reading
    return Contender(
        name=name,
        spec=decoded(space, arch, way),
        arch=arch,
        group=group,
        start=start(pretrained, space, arch, way),
    )


def contenders(
    study: Study,
    pretrained: SeedNetwork,
    found: Arch,
    path_level: tuple[SearchSpace, Arch],
    *,
    everything: bool,
    best_random: Arch,
) -> list[Contender]:
    """The found network first, then path level, baseline, and the best-scored network of a random search.

    With `everything` also dilation 2 by hand, random channels, the equal split, and the other reading.
    """
    plan: NATSPlan = study.plan
    space = space_of(study)
    entrants = [
        contender(study, pretrained, "NATS", space, found),
        contender(study, pretrained, "path level", *path_level),
        contender(study, pretrained, "baseline", space, same_everywhere(space, (1, 1))),
        contender(study, pretrained, "best-scored random", space, best_random),
    ]
    if everything:
        rng = generator(study.seed, "random channels")
        entrants += [contender(study, pretrained, "dilated by hand", space, by_hand(space))]
        entrants += [
            contender(study, pretrained, f"random channels {number}", space, space.sample(rng), group="random channels")
            for number in range(1, plan.random_networks + 1)
        ]
        other: Reading = "index" if plan.reading == "contiguous" else "contiguous"
        entrants += [
            contender(study, pretrained, "equal split", space, equal_split(space)),
            contender(study, pretrained, f"NATS, {other} reading", space, found, other),
        ]
    return entrants


def by_hand(space: SearchSpace) -> Arch:
    """Dilation 2 everywhere, or the largest square one that all layers of a set without it have."""
    squares = set.intersection(*({p for p in layer.genotypes if p[0] == p[1]} for layer in searched_layers(space)))
    return same_everywhere(space, (2, 2) if (2, 2) in squares else max(squares))


def transfer(study: Study, entrants: Sequence[Contender]) -> list[Result]:
    """The same networks in another detector, without a new search (table 6)."""
    plan: NATSPlan = study.plan
    moved = replace(study, plan=replace(plan, detector=plan.transfer, finetune=plan.transfer_finetune))
    return candidates.train_all(moved, [replace(e, name=f"{e.name} in {plan.transfer.kind}") for e in entrants])
