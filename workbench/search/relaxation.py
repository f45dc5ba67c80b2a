"""From the logits of a relaxed search (alpha) to an architecture, and how decided they are.

Alpha is one array per searched layer, (decisions, options): the softmax over a row weighs the options of a decision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

import numpy as np
import numpy.typing as npt

from workbench.search.limits import Limit, describe, feasible
from workbench.search.query import NoFeasibleArchitecture
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """The architecture that a set of logits stands for, and how decided they are."""

    arch: Arch
    ties: int  # decisions whose best two options are equal: there the rule decided, not the search
    entropy: float  # mean over decisions, as a share of that of equal weights (1: nothing is decided, 0: all is)
    margin: float  # mean difference between the best and the second-best weight


def derive(space: SearchSpace, alpha: Sequence[Logits], limits: Sequence[Limit] = ()) -> Derived:
    """The best option of every decision (NATS, equation 4); among equal ones the first, which spaces put plainest.

    With `limits` the most probable architecture that keeps them. ValueError when the logits are not finite or not those
    of the space; NoFeasibleArchitecture when none of the 10,000 most probable ones keeps the limits.
    """
    rows = [row for layer in alpha for row in np.asarray(layer, dtype=np.float64)]
    counts, wanted = [len(row) for row in rows], [len(decision.options) for decision in space.decisions]
    if counts != wanted:
        raise ValueError(
            f"{space.name} has {len(wanted)} decisions with {sum(wanted)} options in all; these logits are those of"
            f" {len(counts)} with {sum(counts)}. Use the alpha of a search in this space."
        )
    if not all(np.isfinite(row).all() for row in rows):
        raise ValueError("Logits are finite numbers; the search has diverged. Lower the learning rate of alpha.")
    best_first = (space.arch(choices) for choices in islice(by_probability(rows), 10_000))
    arch = next((arch for arch in best_first if feasible(arch, limits)), None)
    if arch is None:
        raise NoFeasibleArchitecture(
            f"None of the 10,000 most probable architectures of {space.name} keeps {describe(limits)}; loosen the"
            " limits or price the cost while alpha learns."
        )
    return Derived(
        arch=arch,
        ties=sum(bool((np.sort(row)[-2:] == row.max()).all()) for row in rows if len(row) > 1),
        entropy=float(np.mean([entropy(row) for row in rows])),
        margin=float(np.mean([margin(row) for row in rows])),
    )


def by_probability(rows: Sequence[Logits]) -> Iterator[list[int]]:
    """Choices of one option per row by falling sum of logits, the product of their weights; ties keep the first."""
    ranked = [np.argsort(-row, kind="stable") for row in rows]
    losses = [row[order[0]] - row[order] for row, order in zip(rows, ranked, strict=True)]  # of each rank
    heap: list[tuple[float, tuple[int, ...]]] = [(0.0, (0,) * len(rows))]
    while heap:
        loss, ranks = heappop(heap)
        yield [int(order[rank]) for order, rank in zip(ranked, ranks, strict=True)]
        last = max((place for place, rank in enumerate(ranks) if rank), default=0)
        for place in range(last, len(rows)):  # every tuple of ranks has one parent: the one with its last rank lowered
            if ranks[place] + 1 < len(losses[place]):
                lower = (*ranks[:place], ranks[place] + 1, *ranks[place + 1 :])
                more = losses[place][lower[place]] - losses[place][ranks[place]]
                heappush(heap, (loss + float(more), lower))


def softmax(logits: Logits) -> Logits:
    """Weights of the options, along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def entropy(logits: Logits) -> float:
    """Entropy of one decision as a share of the largest one possible; 0 where there is a single option."""
    if len(logits) < 2:
        return 0.0
    weights = softmax(logits)
    return float(-(weights * np.log(np.maximum(weights, 1e-300))).sum() / np.log(len(logits)))


def margin(logits: Logits) -> float:
    """The best weight minus the second best; 1 where there is a single option."""
    weights = np.sort(softmax(logits))
    return float(weights[-1] - weights[-2]) if len(weights) > 1 else 1.0
