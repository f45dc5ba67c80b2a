"""What the lesson on DetNAS asks: what networks are made of and cost, whether recalibration is needed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.insight.architecture_plots import OPERATION_COLOURS, Cell, plot_strips
from workbench.insight.plots import plot_parts
from workbench.insight.style import BLUE, GREEN, ORANGE, QUIET, SKY, VERMILLION, new_axes
from workbench.insight.tables import paper_table
from workbench.methods import candidates
from workbench.methods.experiment import Experiment, new_model
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.paths import path_wise, step_paths
from workbench.networks.supernet import Supernet
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.space import SearchSpace
from workbench.tasks.probe import Probe
from workbench.tasks.task import Images, Targets
from workbench.training.fit import fit, path_generator, place
from workbench.training.recipe import Recipe


def recalibration_check(experiment: Experiment, supernet: TrainedSupernet, scores: Sequence[Score]) -> pd.DataFrame:
    """Fitness of the first few recorded architectures `with` recalibration and, scored again, `without`; rows by key.

    RuntimeError when none of them can be scored without.
    """
    rows = [score for score in scores if score.error is None][: experiment.plan.recalibration_check]
    judge = candidates.scorer(experiment, supernet, experiment.task, recalibrated=False)
    stale = candidates.score_all(experiment, [row.arch for row in rows], judge, "without recalibration")
    metric = experiment.plan.fitness
    pairs = [(row.metrics[metric], other.metrics.get(metric)) for row, other in zip(rows, stale, strict=True)]
    return pd.DataFrame(pairs, columns=["with", "without"], index=[row.arch.key for row in rows], dtype=float)


class SmallStep(NamedTuple):
    """A small supernet inside a probe, a batch, and where the package's own training step leads from there."""

    model: nn.Module
    batch: tuple[Images, Targets]
    rate: float
    path: tuple[int, ...]
    weights: list[Tensor]


def small_step(seed: int) -> SmallStep:
    """One step of path-wise training on one scene, without momentum and weight decay: only the gradient.

    One, because sums over a batch depend on its order, and batch norm magnifies the rounding.
    """
    space, scenes = space_named("shuffle-tiny"), Scenes(SceneConfig(), seed, "train", 1)
    task, rate = Probe(categories=scenes.categories), 0.1
    before, after = (new_model(lambda: task.build(Supernet(space)), seed, "small step") for _ in range(2))
    plain = Recipe(steps=1, batch_size=1, lr=rate, momentum=0, weight_decay=0, schedule="constant", warmup=0)
    fit(after, task, scenes, plain, seed=0, before_step=path_wise(step_paths(space), "uniform", task))
    place(before, device := torch.device("cpu"))  # the memory format of training
    batch, path = task.batch(scenes, [0], device), space.sample(path_generator(0)).choices
    return SmallStep(before, batch, rate, path, list(after.parameters()))


def plot_op_strip(space: SearchSpace, archs: Mapping[str, Arch]) -> Axes:
    """Networks of a shuffle space: colour and letter are the operation of a block."""
    colours = dict(zip(space.decisions[0].options, OPERATION_COLOURS, strict=False))  # some spaces have three
    letters = {"shuffle 3x3": "3", "shuffle 5x5": "5", "shuffle 7x7": "7"}
    rows = {
        name: [Cell(decision.stage, colours[o], letters.get(o, "X")) for decision, o in space.describe(arch)]
        for name, arch in archs.items()
    }
    return plot_strips(rows, colours)


def plot_cost_histogram(
    samples: Mapping[str, Sequence[float]], limit: float | None, xlabel: str, ax: Axes | None = None
) -> Axes:
    """Distributions of a cost over random architectures, with the limit of the search and the share within it."""
    ax = ax or new_axes()
    values = np.concatenate([np.asarray(sample) for sample in samples.values()])
    bins = np.linspace(values.min(), values.max(), 60).tolist()
    for label, sample in samples.items():
        ax.hist(sample, bins=bins, density=True, histtype="step", linewidth=1.8, label=label)
    if limit is not None:
        share = float(np.mean(np.asarray(next(iter(samples.values()))) <= limit))
        ax.axvline(limit, color=VERMILLION, linestyle="--", label=f"limit: {share:.0%} of uniform paths keep it")
    ax.set(xlabel=xlabel, ylabel="density", yticks=[])
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # the legend stands above the curves
    ax.legend(loc="upper left")
    return ax


def operation_shares(space: SearchSpace, archs: Sequence[Arch]) -> pd.DataFrame:
    """Share of each operation (columns) in each stage (rows) over a set of architectures."""
    picks = [(f"stage {decision.stage}", option) for arch in archs for decision, option in space.describe(arch)]
    frame = pd.DataFrame(picks, columns=["stage", "operation"])
    shares = pd.crosstab(frame["stage"], frame["operation"], normalize="index")
    return shares.reindex(columns=space.decisions[0].options, fill_value=0.0)


def plot_operation_shares(sets: Mapping[str, pd.DataFrame]) -> Axes:
    """Tables of `operation_shares`, of published networks and our own, as bars in the same axes."""
    frame = pd.concat(sets)
    frame.index = pd.Index([", ".join(names) for names in frame.index])
    return plot_parts(frame, dict(zip(frame, OPERATION_COLOURS, strict=False)), "share of the blocks of a stage (0-1)")


# Parts of the paper's cost table, the phases of a run that stand for them, and a colour.
COSTS: dict[str, tuple[tuple[str, ...], Any]] = {
    "supernet pre-training": (("pretrain supernet",), SKY),
    "supernet fine-tuning": (("finetune supernet",), BLUE),
    "evolutionary search": (("evolution",), ORANGE),
    "target pre-training and fine-tuning": (("pretrain detnas", "finetune detnas"), GREEN),
}


def cost_shares(entries: Sequence[Entry]) -> pd.DataFrame:
    """Where the cost of one found network lies, in the paper (GPU-days) and in a run (seconds): a row each, sum 1."""
    days = paper_table("detnas_cost").set_index("stage")["GPU-days"].astype(float)[list(COSTS)]
    ours = {part: sum(e.seconds for e in entries if e.phase in phases) for part, (phases, _) in COSTS.items()}
    seconds = pd.Series(ours)
    rows = {f"paper ({days.sum():g} GPU-days)": days, f"this run ({seconds.sum():.0f} s)": seconds}
    return pd.DataFrame({name: row / row.sum() for name, row in rows.items()}).T


def plot_cost_shares(shares: pd.DataFrame) -> Axes:
    """The table of `cost_shares` as bars in the same axes."""
    return plot_parts(shares, {part: colour for part, (_, colour) in COSTS.items()}, "share of the cost (0-1)")


def plot_paper_networks() -> Axes:
    """The networks of the paper's main comparison: AP on COCO over the FLOPs of the backbone."""
    ax, frame = new_axes(6.5, 3.2), paper_table("detnas_main")
    for row in frame.to_dict("records"):
        place = float(row["FLOPs"].rstrip("G")), float(row["AP"])
        ax.plot(*place, "o", color=BLUE if row["backbone"].startswith("DetNAS") else QUIET)
        ax.annotate(row["backbone"], place, xytext=(7, -3), textcoords="offset points", fontsize=9)
    ax.set(xlabel="GFLOPs of the backbone, as printed", ylabel="AP on COCO (0-1)", xlim=(0, 9.5), ylim=(0.36, 0.43))
    return ax
