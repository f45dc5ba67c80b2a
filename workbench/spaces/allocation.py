"""Where the blocks of a residual network stand: how many in each stage, at one cost (CR-NAS, section 3.2.1).

A block costs the same in neighbouring stages of a ResNet, because the width doubles while the area quarters. So every
allocation of N blocks costs the same MACs, but not the same params: a block has four times the weights one stage on.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

from workbench.spaces.arch import Arch
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import layout_named, residual_spec
from workbench.spaces.space import Decision, SearchSpace

PREFIX = "allocation-"


def allocation_space(backbone: str) -> SearchSpace:
    """One decision for each searched stage of `backbone`: its number of blocks. The budget is not part of the space."""
    layout = layout_named(backbone)
    searched = [(number, stage.options) for number, stage in enumerate(layout.stages, start=1) if stage.options]
    return SearchSpace(
        name=PREFIX + backbone,
        decisions=tuple(Decision(f"stage {n} blocks", tuple(map(str, depths)), None, n) for n, depths in searched),
        build=partial(_build, backbone, [depths for _, depths in searched]),
        image_size=layout.image_size,
    )


def depths_of(space: SearchSpace, arch: Arch) -> tuple[int, ...]:
    """Blocks per stage of an allocation, for example (3, 4, 6, 3)."""
    return tuple(int(option) for _, option in space.describe(arch))


def allocation(space: SearchSpace, depths: Sequence[int]) -> Arch:
    """The allocation with these depths; ValueError names the stage whose depth is off the grid, and the nearest."""
    if len(depths) != len(space.decisions):
        raise ValueError(f"{space.name} has {len(space.decisions)} stages; got depths {list(depths)}.")
    choices = []
    for decision, depth in zip(space.decisions, depths, strict=True):
        if str(depth) not in decision.options:
            nearest = min(decision.options, key=lambda option: abs(int(option) - depth))
            raise ValueError(
                f"{depth} blocks in stage {decision.stage} are not on the grid of {space.name}"
                f" ({', '.join(decision.options)}); the nearest is {nearest}. A network off the grid can be built"
                " with residual_spec, but no supernet ranks it."
            )
        choices.append(decision.options.index(str(depth)))
    return space.arch(choices)


def eligible(space: SearchSpace, budget: float | None = None) -> list[Arch]:
    """Every allocation of nominal cost `budget` (None: that of the published network), in counting order.

    The nominal cost is the number of blocks; MobileNetV2's blocks are weighted (appendix A.2), and its real MACs then
    differ. ValueError names the budgets that exist when none meets the one asked for.
    """
    layout = layout_named(space.name.removeprefix(PREFIX))
    wanted = layout.budget(layout.depths) if budget is None else budget
    grid = [[int(option) for option in decision.options] for decision in space.decisions]
    costs = {depths: layout.budget(depths) for depths in product(*grid)}
    found = [allocation(space, depths) for depths, cost in costs.items() if abs(cost - wanted) < 1e-9]
    if not found:
        low, high = min(costs.values()), max(costs.values())
        nearest = min(set(costs.values()), key=lambda cost: abs(cost - wanted))
        raise ValueError(
            f"No allocation of {space.name} costs {wanted:g} blocks; its budgets run from {low:g} to {high:g},"
            f" the nearest is {nearest:g}."
        )
    return found


def centre_of_mass(depths: Sequence[int]) -> float:
    """Mean stage of a block, counted from 1: large is deep."""
    return sum(stage * depth for stage, depth in enumerate(depths, start=1)) / sum(depths)


def _build(backbone: str, options: Sequence[tuple[int, ...]], choices: tuple[int, ...]) -> NetworkSpec:
    return residual_spec(backbone, [depths[choice] for depths, choice in zip(options, choices, strict=True)])
