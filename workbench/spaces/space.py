"""A search space: named decisions with options, and the specification that each combination stands for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.spaces.arch import Arch
from workbench.spaces.costs import Cost, ImageSize, backbone_cost, block_cost, height_width
from workbench.spaces.network_spec import BlockSpec, NetworkSpec

SKIP = "skip"


@dataclass(frozen=True)
class Decision:
    """One question the search answers.

    `block` is the index of the block it decides about in the specification; None: all blocks of `stage`. The option
    `SKIP` leaves the block out; indices count the blocks of a network without such. `of_channels`: it is about a group
    of channels of the block's searched convolution, be it all of them, and a supernet mixes inside that convolution.
    """

    name: str
    options: tuple[str, ...]
    block: int | None
    stage: int
    of_channels: bool = False


@dataclass(frozen=True)
class Segment:
    """Neighbouring blocks that the same decisions govern (their indices), or a single fixed block: ()."""

    decisions: tuple[int, ...]
    blocks: tuple[BlockSpec, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchSpace:
    """All architectures that answer every decision; spaces are compared by identity (see `catalogue.space_named`).

    `build` turns one option index per decision into a specification. `build_exact` is needed where that sorts channels:
    it leaves every channel in its place. `costs` says where costs come from: a table, when that of an option does not
    depend on the other decisions ("separable"), or any one architecture, when all cost the same ("equal").
    """

    name: str
    decisions: tuple[Decision, ...]
    build: Callable[[tuple[int, ...]], NetworkSpec]
    image_size: int  # the side at which the space's costs are usually stated
    costs: Literal["separable", "equal"] = "separable"
    build_exact: Callable[[tuple[int, ...]], NetworkSpec] | None = None

    @property
    def size(self) -> int:
        """Number of architectures."""
        return prod(len(decision.options) for decision in self.decisions)

    def arch(self, choices: Sequence[int]) -> Arch:
        """A checked architecture from option indices."""
        return self.check(Arch(self.name, tuple(choices)))

    def uniform(self, option: int) -> Arch:
        """The architecture that takes the same option everywhere."""
        return self.arch((option,) * len(self.decisions))

    def check(self, arch: Arch) -> Arch:
        """Returns `arch` itself; ValueError names the decision it answers wrongly."""
        if arch.space != self.name:
            raise ValueError(f"Space {self.name} got an architecture of space {arch.space}.")
        if len(arch.choices) != len(self.decisions):
            raise ValueError(f"Space {self.name} has {len(self.decisions)} decisions; got {len(arch.choices)} choices.")
        for decision, choice in zip(self.decisions, arch.choices, strict=True):
            if not 0 <= choice < len(decision.options):
                raise ValueError(
                    f"Decision {decision.name} of space {self.name} has options 0 to {len(decision.options) - 1}"
                    f" ({', '.join(decision.options)}); got {choice}."
                )
        return arch

    def sample(self, rng: np.random.Generator) -> Arch:
        """An architecture drawn uniformly from the whole space."""
        return Arch(self.name, tuple(rng.integers(self._option_counts).tolist()))

    def mutate(self, arch: Arch, rng: np.random.Generator, probability: float) -> Arch:
        """Each decision is drawn anew with `probability`; the old option may be drawn again, as in DetNAS."""
        redraw = rng.random(len(arch.choices)) < probability
        fresh = rng.integers(self._option_counts)
        choices = (int(new) if hit else old for old, new, hit in zip(arch.choices, fresh, redraw, strict=True))
        return Arch(self.name, tuple(choices))

    def crossover(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Each decision comes from either parent with probability one half."""
        from_second = rng.random(len(first.choices)) < 0.5
        pairs = zip(first.choices, second.choices, from_second, strict=True)
        return Arch(self.name, tuple(b if take else a for a, b, take in pairs))

    def all(self) -> Iterator[Arch]:
        """Every architecture, in counting order; only sensible for small spaces."""
        for choices in np.ndindex(*self._option_counts):
            yield Arch(self.name, tuple(int(choice) for choice in choices))

    def spec(self, arch: Arch) -> NetworkSpec:
        """The network that `arch` stands for."""
        return self.build(self.check(arch).choices)

    def exact_spec(self, arch: Arch) -> NetworkSpec:
        """The network that a supernet's path of `arch` computes, channel for channel."""
        return (self.build_exact or self.build)(self.check(arch).choices)

    def segments(self, arch: Arch) -> list[Segment]:
        """The blocks of `arch` in order, gathered by the decisions that govern them.

        All architectures have equally many segments, also where their numbers of blocks differ.
        """
        by_block: dict[int, tuple[int, ...]] = {}
        by_stage: dict[int, tuple[int, ...]] = {}
        for index, decision in enumerate(self.decisions):
            governed, place = (by_stage, decision.stage) if decision.block is None else (by_block, decision.block)
            governed[place] = (*governed.get(place, ()), index)
        left_out = {d.block for d, option in self.describe(arch) if option == SKIP}
        segments: list[Segment] = []
        blocks = iter(self.spec(arch).blocks)
        for position in count():
            if position in left_out:
                segments.append(Segment(by_block[position], ()))
                continue
            if (block := next(blocks, None)) is None:
                break
            decisions = by_block.get(position, by_stage.get(block.stage, ()))
            if segments and decisions and segments[-1].decisions == decisions:
                segments[-1] = Segment(decisions, (*segments[-1].blocks, block))
            else:
                segments.append(Segment(decisions, (block,)))
        return segments

    def option_macs(self, image_size: ImageSize) -> tuple[tuple[int, ...], ...]:
        """MACs of the blocks that each option of each decision stands for; fixed blocks are in none of them.

        ValueError where an option's cost depends on the other decisions.
        """
        if self.costs != "separable":
            raise ValueError(f"The costs of {self.name} are {self.costs}: its options have none of their own.")
        return _option_macs(self, height_width(image_size))

    def macs(self, arch: Arch, image_size: ImageSize) -> int:
        """Backbone MACs at `image_size`."""
        return self._cost(arch, image_size, 0)

    def params(self, arch: Arch) -> int:
        """Backbone parameters."""
        return self._cost(arch, self.image_size, 1)

    def describe(self, arch: Arch) -> list[tuple[Decision, str]]:
        """Every decision with the option taken, in order; what figures are drawn from."""
        pairs = zip(self.decisions, self.check(arch).choices, strict=True)
        return [(decision, decision.options[choice]) for decision, choice in pairs]

    @cached_property
    def _option_counts(self) -> npt.NDArray[np.int64]:  # an array: drawing from a tuple takes twice as long
        return np.array([len(decision.options) for decision in self.decisions])

    def _cost(self, arch: Arch, image_size: ImageSize, quantity: int) -> int:
        base, table = _cost_table(self, height_width(image_size))[quantity]
        return base + sum(row[choice] for row, choice in zip(table, arch.choices, strict=True)) if table else base


@lru_cache(maxsize=256)
def _option_macs(space: SearchSpace, image_size: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    (_, added), _ = _cost_table(space, image_size)
    own, size = [0] * len(space.decisions), image_size
    for segment in space.segments(space.uniform(0)):
        for block in segment.blocks:
            cost, size = block_cost(block, size)
            for decision in segment.decisions:
                own[decision] += cost.macs
    return tuple(tuple(base + more for more in row) for base, row in zip(own, added, strict=True))


CostTable = tuple[int, tuple[tuple[int, ...], ...]]  # base cost, and what each option adds to it; () for equal costs


@lru_cache(maxsize=256)
def _cost_table(space: SearchSpace, image_size: tuple[int, int]) -> tuple[CostTable, CostTable]:
    """MACs and params of the all-first architecture, and for each decision what each other option adds."""
    first = (0,) * len(space.decisions)

    def cost(index: int, option: int) -> Cost:
        return backbone_cost(space.build((*first[:index], option, *first[index + 1 :])), image_size)

    base = backbone_cost(space.build(first), image_size)
    searched = () if space.costs == "equal" else enumerate(space.decisions)
    costs = [[cost(index, option) for option in range(len(decision.options))] for index, decision in searched]
    macs = tuple(tuple(each.macs - base.macs for each in row) for row in costs)
    params = tuple(tuple(each.params - base.params for each in row) for row in costs)
    return (base.macs, macs), (base.params, params)
