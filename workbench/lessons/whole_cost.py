"""What a found detector cost from the first step to the last, controls left out (FNA, table 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from workbench.methods.presets import IMAGENET_IMAGES
from workbench.records.ledger import Entry
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import NetworkSpec

# The columns of the paper's table.
PARTS = ("supernet pre-training", "supernet fine-tuning", "search", "target pre-training", "target fine-tuning")
TOTAL, SHARE = "whole, TMACs", "share of the first row"
IMAGENET_PASSES = 240  # of the seed's own training (that this trained the paper's seed is likely)


@dataclass(frozen=True, kw_only=True)
class WholeCost:
    """Multiply-accumulates (forward and backward) of one found detector by part, the seconds of all, and its AP."""

    name: str
    parts: Mapping[str, int]
    seconds: float
    ap: float

    @property
    def macs(self) -> int:
        return sum(self.parts.values())


def whole_cost(name: str, entries: Sequence[Entry], phases: Mapping[str, Sequence[str]], ap: float) -> WholeCost:
    """The sum of the phases that one found detector needs, without any control; ValueError names what is missing."""
    known = {entry.phase: entry for entry in entries}
    if absent := [phase for group in phases.values() for phase in group if phase not in known]:
        raise ValueError(f"The ledger of {name} lacks {absent}; it has {', '.join(known)}. Let that run finish first.")
    parts = {
        part: sum(known[phase].forward_macs + known[phase].backward_macs for phase in group)
        for part, group in phases.items()
    }
    seconds = sum(known[phase].seconds for group in phases.values() for phase in group)
    return WholeCost(name=name, parts=parts, seconds=seconds, ap=ap)


def seed_pretraining(spec: NetworkSpec) -> int:
    """MACs of the seed's own ImageNet training at 224 px: 240 passes, a backward pass counted as two forward ones."""
    return 3 * IMAGENET_PASSES * IMAGENET_IMAGES * backbone_cost(spec, 224).macs


def cost_table(costs: Sequence[WholeCost]) -> pd.DataFrame:
    """One row for each detector: TMACs of every part and in all, as a share of the first row's, seconds, AP."""
    rows = []
    for cost in costs:
        parts = {part: cost.parts[part] / 1e12 if part in cost.parts else float("nan") for part in PARTS}
        share = cost.macs / costs[0].macs
        rows.append({"detector": cost.name, **parts, TOTAL: cost.macs / 1e12, SHARE: share,
                     "seconds": cost.seconds, "AP": cost.ap})  # fmt: skip
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def cost_at(curve: Sequence[WholeCost], ap: float) -> float:
    """The least whole cost at which a curve reaches `ap`, straight between its points in AP; NaN when it does not."""
    ordered = sorted(curve, key=lambda cost: cost.macs)
    if ordered[0].ap >= ap:
        return float(ordered[0].macs)
    for low, high in pairwise(ordered):
        if low.ap < ap <= high.ap:
            return low.macs + (high.macs - low.macs) * (ap - low.ap) / (high.ap - low.ap)
    return float("nan")
