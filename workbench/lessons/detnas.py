"""What the lesson on DetNAS asks about the method: is recalibration needed?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.insight.architecture_plots import OPERATION_COLOURS, Cell, plot_strips
from workbench.insight.style import VERMILLION, new_axes
from workbench.methods import candidates
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace


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
        ax.axvline(limit, color=VERMILLION, linestyle="--")
        note = f" limit: {share:.0%} of uniform\n paths are within"
        ax.text(limit, 0.94, note, transform=ax.get_xaxis_transform(), va="top", color=VERMILLION, fontsize=9)
    ax.set(xlabel=xlabel, ylabel="density", yticks=[])
    ax.legend(loc="upper left")
    return ax


def operation_shares(space: SearchSpace, archs: Sequence[Arch]) -> pd.DataFrame:
    """Share of each operation (columns) in each stage (rows) over a set of architectures."""
    picks = [(f"stage {decision.stage}", option) for arch in archs for decision, option in space.describe(arch)]
    frame = pd.DataFrame(picks, columns=["stage", "operation"])
    shares = pd.crosstab(frame["stage"], frame["operation"], normalize="index")
    return shares.reindex(columns=space.decisions[0].options, fill_value=0.0)
