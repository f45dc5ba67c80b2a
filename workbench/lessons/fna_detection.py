"""What the lesson on FNA for detection counts: operations, whole models, whole searches, the sweep over the penalty."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.evaluation.statistics import pareto_front
from workbench.insight.plots import plot_parts
from workbench.insight.style import BLUE, FAINT, GREEN, ORANGE, QUIET, RIGHT, SKY, new_axes
from workbench.insight.tables import paper_table
from workbench.lessons import whole_cost as costing
from workbench.lessons.whole_cost import PARTS, WholeCost, whole_cost
from workbench.methods import compare
from workbench.methods.compare import Network, Result, slug
from workbench.methods.experiment import Experiment, forward_macs
from workbench.methods.fna import method as fna
from workbench.methods.fna.presets import FNAPlan
from workbench.methods.gradient import SeedNetwork
from workbench.methods.plan import input_sizes
from workbench.methods.reranking import reranking_phases
from workbench.records.files import base_folder
from workbench.records.run_folder import RunFolder, read_table
from workbench.search.relaxation import Derived
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace

COST_COLOURS = dict(zip(PARTS, (SKY, BLUE, ORANGE, GREEN, QUIET), strict=True))
# Its phases by the column of FNA's cost table.
PHASES = {
    "supernet pre-training": ("pretrain supernet",),
    "supernet fine-tuning": ("finetune supernet",),
    "search": ("evolution",),
    "target pre-training": ("pretrain detnas",),
    "target fine-tuning": ("finetune detnas",),
}


def find_detnas_run(experiment: Experiment, given: str, preset: str, data: str, runs: str) -> RunFolder | None:
    """The DetNAS run to compare with: `given`, or the newest finished one of this preset, data and seed; None if none.

    ValueError when the given folder is no finished run of DetNAS, or of other data.
    """
    wanted = (preset, data, experiment.seed, 0)
    if given:
        run = RunFolder(base_folder() / Path(given).expanduser())
        if run.notebook != "10_detnas" or run.status != "finished":
            raise ValueError(f"{given} is no finished run of 10_detnas, but one of {run.notebook} ({run.status}).")
        if (theirs := _comparable(run)) != wanted:
            raise ValueError(
                f"{given} has preset, data, seed and max_steps {theirs}, this run needs {wanted}: compare whole runs on"
                " the same images."
            )
        return run
    folders = sorted((base_folder() / runs / "10_detnas").glob("*-*"), key=lambda path: path.stat().st_mtime)
    known = (RunFolder(folder) for folder in reversed(folders) if (folder / "params.json").is_file())
    return next((run for run in known if run.status == "finished" and _comparable(run) == wanted), None)


def _comparable(run: RunFolder) -> tuple[object, ...]:
    return (run.params.get("preset"), run.params.get("data"), run.seed, run.params.get("max_steps", 0))


def detnas_cost(experiment: Experiment, run: RunFolder) -> WholeCost:
    """What DetNAS's detector of that run cost, and its AP on the test split: NaN where its scenes are not ours."""
    found = [row.get("AP") for row in read_table(run.path, "comparison")["rows"] if row.get("network") == "DetNAS"]
    if not found or not isinstance(found[0], float):
        raise ValueError(f"The comparison of {run.path} has no AP of DetNAS; run 10_detnas again.")
    ours = run.params.get("data") != "scenes" or run.data_digest == experiment.run.data_digest
    ap, entries = found[0] if ours else float("nan"), run.ledger.entries
    return whole_cost("DetNAS", entries, PHASES | {"search": (*PHASES["search"], *reranking_phases(entries))}, ap)


def operation_costs(space: SearchSpace, image_size: ImageSize) -> pd.DataFrame:
    """MMACs of each operation: a row for the first and one for the further layers of every stage."""
    rows = [
        {"stage": decision.stage, "layers": "further" if SKIP in decision.options else "first"}
        | {name: cost / 1e6 for name, cost in zip(decision.options, costs, strict=True)}
        for decision, costs in zip(space.decisions, space.option_macs(image_size), strict=True)
    ]
    return pd.DataFrame(rows).drop_duplicates(["stage", "layers"]).sort_values(["stage", "layers"])


def whole_models(experiment: Experiment, results: Sequence[Result]) -> pd.DataFrame:
    """MMACs of backbone and whole model at the size that images enter with, params of both in thousands.

    FNA prices the backbone only, which may be a small part of the model.
    """
    size = input_sizes(experiment.plan, experiment.data)[0]  # of the first search image
    rows: list[dict[str, Any]] = []
    for result in results:
        whole = forward_macs(result.model, experiment.task, experiment.data.search, experiment.device)
        macs = {"backbone MMACs": backbone_cost(result.network.spec, size).macs / 1e6, "whole model MMACs": whole / 1e6}
        params = {"backbone k params": result.params / 1e3, "whole model k params": result.detector_params / 1e3}
        rows.append({"network": result.network.name, **macs, **params})
    return pd.DataFrame(rows)


def change_sentence(name: str, seed: NetworkSpec, found: NetworkSpec) -> str:
    """Where a found network is deeper or shallower than its seed, and how its kernels and expansions differ."""
    kind = Counter(block.kind for block in found.blocks).most_common(1)[0][0]  # of what is searched
    layers = [[block for block in spec.blocks if block.kind == kind] for spec in (seed, found)]
    depths = [Counter(block.stage for block in blocks) for blocks in layers]
    moved = [f"stage {s} from {depths[0][s]} to {depths[1][s]}" for s in depths[0] if depths[0][s] != depths[1][s]]
    kernel = [np.mean([block.kernel for block in blocks]) for blocks in layers]
    width = [np.mean([block.expansion for block in blocks]) for blocks in layers]
    return (
        f"{name} changes the depth of {', '.join(moved) or 'no stage'}; the mean kernel went from {kernel[0]:.1f} to"
        f" {kernel[1]:.1f}, the mean expansion from {width[0]:.1f} to {width[1]:.1f}."
    )


def price_sentence(frame: pd.DataFrame) -> str:
    """What operations cost as multiples of the plainest one, on average over the layers of `operation_costs`."""
    first, *others = [name for name in frame if name not in ("stage", "layers", SKIP)]
    ratios = [f"{name} {(frame[name] / frame[first]).mean():.2f}" for name in others]
    return f"As multiples of {first}, on average over the layers: {', '.join(ratios)}."


def front_sentences(frame: pd.DataFrame) -> list[str]:
    """What networks of a sweep over the strength of the penalty cost and reach, on average over their seeds."""
    sums = frame.groupby("strength")[["MACs", "AP"]].mean()
    rows = {f"λ = {strength:g}": (row["MACs"], row["AP"]) for strength, row in sums.iterrows()}
    rows["The seed network"] = (frame["seed network MACs"].mean(), frame["seed network AP"].mean())
    return [f"{name}: {macs / 1e6:.1f} MMACs, AP {ap:.3f}." for name, (macs, ap) in rows.items()]


def sweep_table(experiment: Experiment, results: Sequence[Result], found: Derived) -> pd.DataFrame:
    """What a sweep over the strength of the penalty is about: one row, MACs and accuracy of all."""
    plan: FNAPlan = experiment.plan
    metric = experiment.task.metric
    by_name = {result.network.name: result for result in results}
    own = by_name["FNA"]
    arch = own.network.arch
    assert arch is not None
    options = [option for _, option in fna.space_of(experiment).describe(arch)]
    norm = "affine" if plan.affine else "plain"
    row: dict[str, Any] = {
        "strength": plan.penalty.strength,
        "task": plan.task,
        "seed network": plan.seed_network,
        "norm": norm,
    }
    row |= {"MACs": own.macs, metric: own.metrics[metric]}
    row |= {"skipped": options.count(SKIP) / len(options), "entropy": found.entropy}
    for name in ("seed network", "best-scored random"):
        known = by_name.get(name)
        costs = (known.macs, known.metrics[metric]) if known else (None, None)
        row |= dict(zip((f"{name} MACs", f"{name} {metric}"), costs, strict=True))
    return pd.DataFrame([row])


def train_short(experiment: Experiment, network: Network, share: int) -> Result:
    """`network` fine-tuned for one `share`-th of the steps, the schedule shrunk as a whole."""
    named = replace(network, name=f"{network.name}, 1/{share} of the steps")
    return compare.train_network(experiment, named, steps=max(1, experiment.plan.finetune.steps // share))


def cost_curves(
    experiment: Experiment, results: Sequence[Result], short: Mapping[str, Mapping[int, Result]]
) -> dict[str, list[WholeCost]]:
    """Whole cost and AP of FNA, and of the seed network without any search, at every length of fine-tuning.

    `short` holds the trainings of both for one n-th of the steps, by n.
    """
    entries, by_name = experiment.run.ledger.entries, {result.network.name: result for result in results}

    def cost(name: str, result: Result, *searches: str) -> WholeCost:
        phases = {"search": searches, "target fine-tuning": (f"finetune {slug(result.network.name)}",)}
        return whole_cost(name, entries, {part: named for part, named in phases.items() if named}, result.metrics["AP"])

    curves: dict[str, list[WholeCost]] = {}
    for name, told, searches in (("FNA", "FNA", ("search",)), ("seed network", "seed network, no search", ())):
        shorter = sorted(short[name].items(), reverse=True)
        curves[name] = [cost(f"{told}, 1/{share}", result, *searches) for share, result in shorter]
        curves[name].append(cost(told, by_name[name], *searches))
    return curves


def gap_sentence(experiment: Experiment, curves: Mapping[str, Sequence[WholeCost]], short: Iterable[int]) -> str:
    """How far the seed network's AP is above FNA's at every length of fine-tuning, the shortest first."""
    whole = experiment.plan.finetune.steps
    lengths = [max(1, whole // share) for share in sorted(short, reverse=True)] + [whole]
    gaps = [seed.ap - found.ap for seed, found in zip(curves["seed network"], curves["FNA"], strict=True)]
    told = ", ".join(f"{gap:+.3f} after {steps} steps" for gap, steps in zip(gaps, lengths, strict=True))
    return f"AP of the seed network minus AP of the found one: {told}."


def cost_rows(curves: Mapping[str, Sequence[WholeCost]], whole: Sequence[WholeCost], seed: SeedNetwork) -> pd.DataFrame:
    """The cost table: DetNAS first if there is one, FNA at its own length and at DetNAS's AP, with the seed's training.

    Shares are of the first row. A row is left empty where FNA does not reach DetNAS's AP, which may be unknown.
    """
    others = list(whole[1:])
    rows = [*others, *reversed(curves["FNA"]), *reversed(curves["seed network"])]
    frame = costing.cost_table(rows)
    first = rows[0].macs
    extra: list[dict[str, Any]] = []
    for other in (other for other in others if not math.isnan(other.ap)):
        macs = costing.cost_at(curves["FNA"], other.ap)
        name = f"FNA, least cost with at least {other.name}'s AP (between measured lengths)"
        extra.append({"detector": name, costing.TOTAL: macs / 1e12, costing.SHARE: macs / first, "AP": other.ap})
    own = whole[0].macs + costing.seed_pretraining(seed.backbone.spec)
    name = "FNA, with its seed's ImageNet training (240 passes, as the paper's seed likely had)"
    extra.append({"detector": name, costing.TOTAL: own / 1e12, costing.SHARE: own / first, "AP": whole[0].ap})
    return pd.concat([frame, pd.DataFrame(extra)], ignore_index=True)


def plot_front(frame: pd.DataFrame, metric: str = "AP") -> Axes:
    """Found networks of a sweep over the strength of the penalty: MACs against accuracy, a dot for each seed.

    Crosses are means; the line joins those means that no other beats in both; networks without a search in grey.
    """
    ax = new_axes(6.4, 3.8)
    means = []
    palette = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, max(1, frame["strength"].nunique())))
    for colour, (strength, rows) in zip(palette, frame.groupby("strength"), strict=True):
        ax.plot(rows["MACs"] / 1e6, rows[metric], "o", color=colour, alpha=0.55, markersize=5)
        means.append((rows["MACs"].mean() / 1e6, rows[metric].mean()))
        ax.plot(*means[-1], "X", color=colour, mec=QUIET, markersize=9, label=f"λ = {strength:g} (n = {len(rows)})")
    front = pareto_front([cost for cost, _ in means], [value for _, value in means])
    ax.plot(*zip(*(means[index] for index in front), strict=True), color=QUIET, linewidth=1)
    for column, marker in (("seed network", "s"), ("best-scored random", "^")):
        # Runs of one seed at several strengths share their seed network.
        known = frame.dropna(subset=[f"{column} {metric}"]).drop_duplicates([f"{column} MACs", f"{column} {metric}"])
        if len(known):
            label = f"{column} (n = {len(known)})"
            ax.plot(known[f"{column} MACs"] / 1e6, known[f"{column} {metric}"], marker, color=QUIET, markersize=5,
                    label=label, linestyle="none")  # fmt: skip
    ax.set(xlabel="backbone MMACs", ylabel=f"{metric} on the test split (0-1)")
    ax.legend(**RIGHT)
    return ax


def plot_whole_cost(costs: Sequence[WholeCost]) -> Axes:
    """Whole cost in TMACs as bars made of parts."""
    frame = pd.DataFrame({cost.name: cost.parts for cost in costs}).T / 1e12
    aps = ["" if math.isnan(cost.ap) else f", AP {cost.ap:.3f}" for cost in costs]
    notes = [f"{cost.macs / 1e12:.3g} TMACs{ap}" for cost, ap in zip(costs, aps, strict=True)]
    return plot_parts(frame, COST_COLOURS, "multiply-accumulates of forward and backward passes, 10¹²", notes=notes)


def plot_printed_cost() -> Axes:
    """The paper's cost table in GPU-days, in the parts and colours of `plot_whole_cost`."""
    frame = paper_table("fna_detection_cost").set_index("method")
    numbers = frame.drop(columns="source").apply(pd.to_numeric, errors="coerce")
    parts, whole = numbers[list(PARTS)].copy(), numbers["total GPU-days"]
    parts["parts not known"] = (whole - parts.sum(axis=1)).clip(lower=0).round(6)
    notes = [f"{days:g} GPU-days" for days in whole]
    return plot_parts(parts, COST_COLOURS | {"parts not known": FAINT}, "GPU-days, as printed", notes=notes)


def plot_cost_curves(curves: Mapping[str, Sequence[WholeCost]]) -> Axes:
    """AP over whole cost, a point for each length of fine-tuning; a line across where only the cost is known."""
    ax = new_axes(6.4, 3.6)
    for name, costs in curves.items():
        if math.isnan(costs[0].ap):
            ax.axvline(costs[0].macs / 1e12, color=QUIET, linestyle=":", label=f"{name} (its AP is of other scenes)")
            continue
        macs, aps = zip(*sorted((cost.macs / 1e12, cost.ap) for cost in costs), strict=True)
        ax.plot(macs, aps, "o-" if len(macs) > 1 else "D", label=name)
    ax.set(xlabel="whole cost, 10¹² multiply-accumulates", ylabel="AP on the test split (0-1)")
    ax.set_xlim(left=0)
    ax.legend(fontsize=9)
    return ax
