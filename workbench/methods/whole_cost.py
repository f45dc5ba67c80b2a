"""What a found detector cost from the first step to the last: FNA beside DetNAS on the same data (FNA, table 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from workbench.insight.plots import BLACK, BLUE, GREEN, ORANGE, SKY, new_axes
from workbench.methods.phases import Study
from workbench.records.files import base_folder, read_json
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import NetworkSpec

# Phases of either method by the column of the paper's table.
DETNAS_PHASES = {
    "supernet pre-training": ("pretrain supernet",),
    "supernet fine-tuning": ("finetune supernet",),
    "search": ("evolution",),
    "target pre-training": ("pretrain detnas",),
    "target fine-tuning": ("finetune detnas",),
}
FNA_PHASES = {"search": ("search",), "target fine-tuning": ("finetune fna",)}
COLOURS = {
    "supernet pre-training": SKY,
    "supernet fine-tuning": BLUE,
    "search": ORANGE,
    "target pre-training": GREEN,
    "target fine-tuning": BLACK,
}
TOTAL, SHARE = "whole, TMACs", "share of the first row"
IMAGENET_PASSES = 240  # of the seed's own training (section 5; that this trained the paper's seed is likely)
IMAGENET_IMAGES = 1_281_167


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


def find_detnas_run(study: Study, given: str, preset: str, data: str, runs: str) -> RunFolder | None:
    """The DetNAS run to compare with: `given`, or the newest finished one of this preset, data and seed; None if none.

    ValueError when the given folder is no finished run of DetNAS, or of other data.
    """
    wanted = (preset, data, study.seed, 0)
    if given:
        run = RunFolder(base_folder() / Path(given).expanduser())
        if run.notebook != "10_detnas" or run.status != "finished":
            raise ValueError(f"{given} is no finished run of 10_detnas, but one of {run.notebook} ({run.status}).")
        if (theirs := _comparable(run)) != wanted:
            raise ValueError(
                f"{given} has preset, data, seed and max_steps {theirs}, this run needs {wanted}: compare whole runs on"
                " the same pictures."
            )
        return run
    folders = sorted((base_folder() / runs / "10_detnas").glob("*-*"), key=lambda path: path.stat().st_mtime)
    known = (RunFolder(folder) for folder in reversed(folders) if (folder / "params.json").is_file())
    return next((run for run in known if run.status == "finished" and _comparable(run) == wanted), None)


def _comparable(run: RunFolder) -> tuple[object, ...]:
    return (run.params.get("preset"), run.params.get("data"), run.seed, run.params.get("max_steps", 0))


def detnas_cost(run: RunFolder) -> WholeCost:
    """What DetNAS's detector of that run cost, and its AP on the test split."""
    rows = read_json(run.path / "tables" / "comparison.json")["rows"]
    ap = next(float(row["AP"]) for row in rows if row["network"] == "DetNAS")
    return whole_cost("DetNAS", run.ledger.entries, DETNAS_PHASES, ap)


def seed_pretraining(spec: NetworkSpec) -> int:
    """MACs of the seed's own ImageNet training at 224 px: 240 passes, a backward pass counted as two forward ones."""
    return 3 * IMAGENET_PASSES * IMAGENET_IMAGES * backbone_cost(spec, 224).macs


def cost_table(costs: Sequence[WholeCost]) -> pd.DataFrame:
    """One row for each detector: TMACs of every part and in all, as a share of the first row's, seconds, AP."""
    rows = []
    for cost in costs:
        parts = {part: cost.parts[part] / 1e12 if part in cost.parts else float("nan") for part in COLOURS}
        share = cost.macs / costs[0].macs
        rows.append({"detector": cost.name, **parts, TOTAL: cost.macs / 1e12, SHARE: share,
                     "seconds": cost.seconds, "AP": cost.ap})  # fmt: skip
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def plot_whole_cost(costs: Sequence[WholeCost], ax: Axes | None = None) -> Axes:
    """Whole cost in TMACs as bars made of parts."""
    ax = ax or new_axes(7.5, 0.9 + 0.5 * len(costs))
    for row, cost in enumerate(costs):
        left = 0.0
        for part, macs in cost.parts.items():
            ax.barh(row, macs / 1e12, left=left, color=COLOURS[part], edgecolor="white")
            left += macs / 1e12
        ax.text(left, row, f" {left:.1f} TMACs, AP {cost.ap:.3f}", va="center", fontsize=9)
    ax.set_yticks(range(len(costs)), [cost.name for cost in costs])
    ax.invert_yaxis()
    ax.margins(x=0.3)
    ax.set(xlabel="multiply-accumulates of forward and backward passes, 10^12")
    used = {part for cost in costs for part in cost.parts}
    ax.legend(handles=[Patch(color=c, label=p) for p, c in COLOURS.items() if p in used], fontsize=8, ncols=3,
              loc="lower center", bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    return ax


def plot_cost_curves(curves: Mapping[str, Sequence[WholeCost]], ax: Axes | None = None) -> Axes:
    """AP over whole cost, a point for each length of fine-tuning; where does a curve reach another's AP?"""
    ax = ax or new_axes(6.4, 3.6)
    for index, (name, costs) in enumerate(curves.items()):
        ordered = sorted(costs, key=lambda cost: cost.macs)
        style = "o-" if len(ordered) > 1 else "D"
        macs = [cost.macs / 1e12 for cost in ordered]
        ax.plot(macs, [cost.ap for cost in ordered], style, color=f"C{index}", label=name)
    ax.set(xlabel="whole cost, 10^12 multiply-accumulates", ylabel="AP on the test split (0-1)")
    ax.set_xlim(left=0)
    ax.legend(fontsize=9)
    return ax


def cost_at(curve: Sequence[WholeCost], ap: float) -> float:
    """The least whole cost at which a curve reaches `ap`, straight between its points in AP; NaN when it does not."""
    ordered = sorted(curve, key=lambda cost: cost.macs)
    if ordered[0].ap >= ap:
        return float(ordered[0].macs)
    for low, high in pairwise(ordered):
        if low.ap < ap <= high.ap:
            return low.macs + (high.macs - low.macs) * (ap - low.ap) / (high.ap - low.ap)
    return float("nan")
