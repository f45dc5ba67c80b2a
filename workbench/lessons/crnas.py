"""The lesson on CR-NAS: networks drawn and compared with the paper's, what reusing prefixes saves."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from workbench.evaluation.prefix_reuse import beam_macs, clocked
from workbench.insight.architecture_plots import DILATION_COLOURS, Cell, plot_strips
from workbench.insight.plots import SIZES
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.style import BLUE, PURPLE, QUIET, SERIES, new_axes
from workbench.insight.tables import paper_table, stored_results
from workbench.insight.widgets.allocation_desk import scores_in_words
from workbench.methods.candidates import scorer
from workbench.methods.compare import Result
from workbench.methods.crnas.method import beam, prefix_memory, reusing
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.plan import input_sizes
from workbench.records.score import Score
from workbench.search.query import Query
from workbench.spaces.allocation import PREFIX, centre_of_mass, depths_of
from workbench.spaces.branches import spatial_dilation
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import LAYOUTS, dilatable_blocks


def made_up(prefix: Sequence[int]) -> float:
    """A score to try a beam on: dilations count for more in later blocks, and less next to dilated ones."""
    return sum(place * option for place, option in enumerate(prefix, 1)) - 2 * sum(a * b for a, b in pairwise(prefix))


def made_up_scores(queries: Sequence[Query]) -> list[Score]:
    """The scores of a beam's candidates by `made_up`."""
    costs: dict[str, Any] = {"macs": 0, "params": 0, "seconds": 0.0, "seed": 0, "phase": "made up", "step": 0}
    return [Score(arch=query.arch, metrics={"AP": made_up(query.arch.choices)}, **costs) for query in queries]


def reuse_table(experiment: Experiment, supernet: TrainedSupernet, *, measured: bool) -> pd.DataFrame:
    """What reusing prefixes saves: backbone MACs per image of a whole beam; with `measured` also seconds, by two beams.

    The two beams must agree in every score, which the column `largest difference` shows. Seconds are empty when a
    search was interrupted; one row alone says that prefixes do not fit into memory and were computed again.
    """
    plan, run = experiment.plan, experiment.run
    plain = scorer(experiment, supernet, experiment.task)
    ways = {"recomputed": plain, "reused": reusing(experiment, plain)}
    macs = beam_macs(supernet.supernet.space, plan.beam.width, input_sizes(plan, experiment.data)[0])
    frame = pd.DataFrame({"prefixes": list(ways), "backbone MACs per image": macs})
    if ways["reused"].reuse is None:
        needed = f"recomputed ({prefix_memory(experiment, plain) / 2**30:.1f} GiB would be needed)"
        return frame.head(1).assign(prefixes=needed)
    if measured:
        scores: list[list[Score]] = []
        clocks = []
        for way, judge in ways.items():
            phase = f"beam, {way}"
            known = run.load(f"clock {phase}", judge.origin)
            whole = not run.scores(phase)
            with clocked(supernet.supernet) as clock:
                scores.append(beam(experiment, judge, phase=phase, reuse=False))
            if known is None:
                built = judge.reuse.seconds if judge.reuse else 0.0
                known = {"seconds": sum(clock) + built} if whole else {}
                run.store(f"clock {phase}", judge.origin, known)
            clocks.append(known.get("seconds", float("nan")))
        frame["backbone seconds"] = clocks
        frame["seconds"] = [sum(score.seconds for score in row) for row in scores]
        pairs = zip(*scores, strict=True)
        frame["largest difference"] = max(abs(a.metrics[plan.fitness] - b.metrics[plan.fitness]) for a, b in pairs)
    return frame


def architecture_of(spec: NetworkSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks in each searched stage, and one dilation for each residual block."""
    rates = tuple(spatial_dilation(spec.blocks[index])[0] for index in dilatable_blocks(spec))
    searched = LAYOUTS[spec.name.split()[0]].searched
    return tuple(sum(block.stage == stage for block in spec.blocks) for stage in searched), rates


def architecture_table(results: Sequence[Result]) -> pd.DataFrame:
    """Backbone, blocks, dilations, predicted spread of the field (pixels, last map) and AP by size of each network."""
    rows = []
    for result in results:
        depths, rates = architecture_of(result.network.spec)
        row: dict[str, Any] = {"network": result.network.name, "backbone": result.network.spec.name.split()[0]}
        row |= {"blocks": ".".join(map(str, depths)), "dilations": "".join(map(str, rates))}
        row["centre of mass"] = centre_of_mass(depths)
        row["sigma"] = predicted_sigma(result.network.spec)[-1][0]
        rows.append(row | {size: result.metrics.get(size, float("nan")) for size in SIZES})
    return pd.DataFrame(rows)


def alone_against_supernet(results: Sequence[Result], scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """Undilated networks that were also ranked: columns `network`, `depths`, and the metric as `supernet`, `alone`."""
    ranked = {depths_of(space_named(s.arch.space), s.arch): s for s in scores if not s.error}
    rows: list[dict[str, Any]] = []
    for result in results:
        depths, rates = architecture_of(result.network.spec)
        if max(rates) == 1 and depths in ranked and depths not in {row["depths"] for row in rows}:
            row = {"network": result.network.name, "depths": depths, "supernet": ranked[depths].metrics[metric]}
            rows.append({**row, "alone": result.metrics[metric]})
    return pd.DataFrame(rows)


def plot_networks(specs: Mapping[str, NetworkSpec], image_size: ImageSize = 224) -> Axes:
    """Residual networks: colour and number are the dilation of a block."""
    rows, notes = {}, {}
    for name, spec in specs.items():
        blocks = [spec.blocks[index] for index in dilatable_blocks(spec)]
        rates = [spatial_dilation(block)[0] for block in blocks]
        pairs = zip(blocks, rates, strict=True)
        rows[name] = [Cell(b.stage, DILATION_COLOURS.get(r, PURPLE), str(r) if r > 1 else "") for b, r in pairs]
        count = backbone_cost(spec, image_size).params
        notes[name] = f"{count / 1e6:.1f}M params" if count >= 1e6 else f"{count / 1e3:.0f}k params"
    return plot_strips(rows, {f"dilation {rate}": colour for rate, colour in DILATION_COLOURS.items()}, notes=notes)


def known_allocations(scores: Sequence[Score], backbone: str) -> dict[tuple[int, ...], str]:
    """What is known of undilated allocations, in words: scores of a stage supernet, else stored networks."""
    stored, _ = stored_results("crnas_networks", ["network"])
    same = stored["backbone"] == backbone
    known: dict[tuple[int, ...], str] = {}
    for blocks, rows in stored[same & stored["dilations"].str.fullmatch("1+")].groupby("blocks"):
        sizes = ", ".join(f"{name} {rows[column].mean():.3f}" for column, name in SIZES.items())
        told = f"stored, trained alone: AP of {sizes}; n = {rows['seed'].nunique()}"
        known[tuple(map(int, blocks.split(".")))] = told
    return known | scores_in_words([s for s in scores if s.arch.space == PREFIX + backbone], "AP", "by the supernet")


def plot_params(groups: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Axes:
    """Params (millions) against centre of mass of every allocation of one budget; their MACs are equal."""
    ax = new_axes(7, 3.4)
    for (label, (centres, params)), colour in zip(groups.items(), SERIES, strict=False):
        ax.scatter(centres, np.asarray(params) / 1e6, s=14, color=colour, alpha=0.7, label=label)
    ax.set(xlabel="centre of mass: mean stage of a block", ylabel="backbone params (millions)")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def moves(pairs: Mapping[str, tuple[NetworkSpec, NetworkSpec]]) -> pd.DataFrame:
    """Networks before and after a search: where their blocks stand, and the predicted spread of their last map.

    `place` is the mean stage of a block, 0 where all stand in the first searched stage and 1 where all stand in the
    last; `sigma` is in pixels.
    """
    rows = []
    for name, specs in pairs.items():
        for when, spec in zip(("before", "after"), specs, strict=True):
            depths, _ = architecture_of(spec)
            place = (centre_of_mass(depths) - 1) / (len(depths) - 1)
            rows.append({"network": name, "when": when, "place": place, "sigma": predicted_sigma(spec)[-1][0]})
    return pd.DataFrame(rows)


def plot_moves(frame: pd.DataFrame) -> Axes:
    """A row for each pair of `moves`, in two panels: an arrow from before to after."""
    _, axes = plt.subplots(1, 2, figsize=(11, 1.2 + 0.42 * frame["network"].nunique()), sharey=True)
    labels = {"place": "mean stage of a block (0: first, 1: last)", "sigma": "predicted sigma, last map (px, log)"}
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        pairs = frame.pivot(index="network", columns="when", values=column).loc[frame["network"].unique()]
        for line, (before, after) in enumerate(zip(pairs["before"], pairs["after"], strict=True)):
            ax.plot(before, line, "o", color=QUIET)
            ax.annotate("", (after, line), (before, line), arrowprops={"arrowstyle": "-|>", "color": BLUE, "lw": 1.6})
        ax.scatter(pairs["after"], range(len(pairs)), s=0)  # arrows do not count for the limits of the axes
        ax.set(xlabel=label, ylim=(len(pairs) - 0.5, -0.5))
    axes[0].set_yticks(range(len(pairs)), list(pairs.index))
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_formatter(ScalarFormatter())
    axes[1].xaxis.set_minor_formatter(ScalarFormatter())
    return axes[0]


def gains_by_size(table: pd.DataFrame) -> pd.DataFrame:
    """AP of the found network less its baseline's by the size of the objects: the paper's table 1, and this run."""
    frame = paper_table("crnas_main")
    printed = frame[["APs", "APm", "APl"]].astype(float).set_axis(list(SIZES.values()), axis=1)
    rows = printed.iloc[1::2].to_numpy() - printed.iloc[::2].to_numpy()  # each follows its baseline
    gains = pd.DataFrame(rows, index=frame["backbone"].iloc[::2].to_list(), columns=printed.columns)
    ours = table.set_index("network").reindex(columns=list(SIZES))
    gains.loc["this run"] = (ours.loc["CR-NAS"] - ours.loc["baseline"]).to_numpy()
    return gains


def gains_by_level(table: pd.DataFrame) -> pd.DataFrame:
    """What moving blocks gains in AP, and what dilations gain after it: the paper's table 4, and this run."""
    frame = paper_table("crnas_ablation").set_index("backbone").drop(columns="source")
    steps = frame.apply(pd.to_numeric).diff(axis=1).iloc[:, 1:].set_axis(["blocks moved", "dilations on top"], axis=1)
    ours = table.set_index("network")["AP"]
    base, stage, both = (ours[name] for name in ("baseline", "stage only", "CR-NAS"))
    steps.loc["this run"] = [stage - base, both - stage]
    return steps
