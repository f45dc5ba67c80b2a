"""Figures of the trust lesson."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from workbench.evaluation.statistics import Interval
from workbench.insight.pipeline import Step, seconds_of
from workbench.insight.style import QUIET, RIGHT, SERIES, new_axes, tau_text
from workbench.lessons.trust import TrustPlan
from workbench.records.ledger import Entry
from workbench.spaces.catalogue import space_named
from workbench.spaces.space import SearchSpace

CHANCE = 0.5


def trust_steps(plan: TrustPlan, rows: pd.DataFrame, name: str, entries: Sequence[Entry] = ()) -> list[Step]:
    """The lesson as a pipeline; `name` is that of the supernet's recipe."""
    table = (f"{len(rows)} trainings of {rows['choices'].nunique()} networks",)
    trained = (f"{plan.supernet.steps:,} steps, {name}", *seconds_of(entries, f"train supernet ({name})"))
    scored = (f"{space_named(plan.table.space).size} networks", *seconds_of(entries, f"search supernet ({name})"))
    orders, runs = ("tau with the table", "and of what is free"), (f"{plan.runs:,} runs of each", "regret")
    score, noise = "Score every network", "noise of a score"
    return [
        Step(name="Stored table", role="given", facts=table, hands_on="the truth"),
        Step(name="Train a supernet", role="trained", facts=trained, hands_on="shared weights"),
        Step(name=score, role="measured", facts=scored, hands_on="scores", dropped="the supernet"),
        Step(name="Compare orders", role="measured", facts=orders, hands_on=noise),
        Step(name="Simulate searches", role="searched", facts=runs),
    ]


def kernels(space: SearchSpace, choices: str) -> str:
    """The kernels of a network, block by block, such as "3 7 7 5"."""
    names = (decision.options[int(choice)] for decision, choice in zip(space.decisions, choices, strict=True))
    return " ".join(name.rpartition("x")[2] for name in names)


def plot_table(scores: pd.DataFrame, sigma: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """All networks, the worst first: the mean over seeds coloured by predicted sigma, every training a small mark."""
    ax = ax or new_axes(9.5, 4.0)
    means = scores.mean(axis=1).sort_values()
    places = np.arange(len(means))
    for marker, seed in zip("x+1234", scores.columns, strict=False):
        values = scores.loc[means.index, seed]
        ax.scatter(places, values, marker=marker, s=18, color=QUIET, linewidths=0.8, label=f"seed {seed}")
    colours = [sigma[choices] for choices in means.index]
    dots = ax.scatter(
        places, means, c=colours, cmap="viridis", s=26, edgecolors=QUIET, linewidths=0.5, zorder=3, label="mean"
    )
    ax.axhline(CHANCE, color=QUIET, linestyle=":", linewidth=1)
    ax.text(len(means) - 1, CHANCE, "chance", ha="right", va="bottom", fontsize=9, color=QUIET)
    ax.figure.colorbar(dots, ax=ax, label="predicted sigma of the field (px)", pad=0.02)
    ax.set(xlabel="network, the worst first", ylabel="test accuracy (0-1)")
    ax.legend(loc="upper left", fontsize=9)
    return ax


def plot_distances(rows: pd.DataFrame, space: SearchSpace, networks: Sequence[str], ax: Axes | None = None) -> Axes:
    """Accuracy by the distance of the dot, mean over seeds and the range of seeds, of a few networks."""
    ax = ax or new_axes(7.0, 3.6)
    columns = {int(name.split()[2]): name for name in rows.columns if name.startswith("accuracy at ")}
    for colour, choices in zip(SERIES, networks, strict=False):
        values = rows[rows["choices"] == choices].sort_values("seed")[list(columns.values())]
        label = f"{kernels(space, choices)} (n = {len(values)})"
        ax.plot(list(columns), values.mean(), "o-", color=colour, markersize=4, label=label)
        ax.fill_between(list(columns), values.min(), values.max(), color=colour, alpha=0.15, linewidth=0)
    ax.axhline(CHANCE, color=QUIET, linestyle=":", linewidth=1)
    ax.set(xlabel="distance of the dot (px)", ylabel="test accuracy (0-1)")
    ax.legend(title="kernels", title_fontsize=9, **RIGHT)
    return ax


def plot_predictors(
    predictors: Mapping[str, Mapping[str, float]], means: pd.Series, best: Sequence[str], table: pd.DataFrame
) -> Axes:
    """Each predictor against the table's means, with tau from `predictor_table`; networks in `best` are orange."""
    _, axes = plt.subplots(1, len(predictors), figsize=(3.1 * len(predictors), 3.3), sharey=True, squeeze=False)
    for ax, (name, values) in zip(axes[0], predictors.items(), strict=True):
        row = table[table["predictor"] == name].iloc[0]
        tau = Interval(row["tau"], row["low"], row["high"], int(row["n"]))
        for index, colour, label in ((means.index.difference(best), SERIES[0], "others"), (best, SERIES[1], "best")):
            both = [choices for choices in index if choices in values]
            label = "top quarter" if label == "best" else label
            ax.scatter([values[choices] for choices in both], means[both], s=16, color=colour, label=label)
        ax.set_title(tau_text(tau), fontsize=9)
        ax.set(xlabel=name)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if max(values.values()) > 1000:
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0][0].set(ylabel="mean accuracy in the table (0-1)")
    axes[0][-1].legend(fontsize=9, loc="lower right")
    return axes[0][0]


def plot_regret(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Mean regret (bold) and what 10 % and 90 % of the runs stay below (thin), by evaluations; an axes for each table.

    A search with one row is a point with a bar.
    """
    _, axes = plt.subplots(1, len(tables), figsize=(5.2 * len(tables), 3.8), sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for colour, (name, part) in zip(SERIES, table.groupby("search", sort=False), strict=False):
            if name == "no search":
                ax.axhline(part["regret"].iloc[0], color=QUIET, linestyle=":", linewidth=1, label=name)
                continue
            if len(part) == 1:
                ax.vlines(part["evaluations"], part["low"], part["high"], color=colour, linewidth=1.5)
                ax.plot(part["evaluations"], part["regret"], "s", color=colour, label=name)
                continue
            ax.plot(part["evaluations"], part["regret"], color=colour, linewidth=2, label=name)
            for end in ("low", "high"):
                ax.plot(part["evaluations"], part[end], color=colour, linewidth=0.8)
            ax.fill_between(part["evaluations"], part["low"], part["high"], color=colour, alpha=0.08, linewidth=0)
        ax.set(xlabel="evaluations", title=title)
        ax.set_ylim(bottom=0)
    axes[0][0].set(ylabel="regret: best mean in the table less\nthat of the network chosen")
    axes[0][-1].legend(**RIGHT)
    return axes[0][0]
