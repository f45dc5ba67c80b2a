"""The tables of the lesson on NATS: epochs, assignments, networks, times, and what a sweep is about."""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import nn

from workbench.evaluation.latency import latencies_ms
from workbench.evaluation.statistics import mean_interval
from workbench.insight.plots import SIZES, plot_parts
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.style import BLUE, FAINT, GREEN, ORANGE, PURPLE, QUIET, SKY, VERMILLION, YELLOW, new_axes
from workbench.methods.compare import Result
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.nats.implementation import measured_on
from workbench.methods.nats.method import space_of
from workbench.methods.nats.presets import NATSPlan
from workbench.methods.plan import input_sizes
from workbench.networks.backbone import Backbone
from workbench.networks.dilation_mixture import DilationMixture, use
from workbench.networks.supernet import Supernet
from workbench.search.relaxation import Derived
from workbench.spaces.arch import Arch
from workbench.spaces.branches import searched_width
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    channel_dilation_name,
    dilation_name,
    equal_split,
    same_everywhere,
    searched_layers,
)
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import dilatable_blocks
from workbench.spaces.space import SearchSpace
from workbench.training.fit import AlphaSide, fit


def chosen_implementations(experiment: Experiment, supernet: Supernet, phase: str) -> pd.DataFrame:
    """How each searched layer is computed on each side, with the milliseconds where they were measured."""
    measured = experiment.run.load(f"implementations {phase}", measured_on(experiment, supernet.space)) or {}
    rows: list[dict[str, Any]] = []
    for index, (layer, searched) in enumerate(zip(supernet.mixtures(), searched_layers(supernet.space), strict=True)):
        for side, chosen in layer.implementation.items():
            timed = {f"{name} ms": value for name, value in measured["ms"][index][side].items()} if measured else {}
            rows.append({"block": searched.block, "who learns": side, **timed, "chosen": chosen})
    return pd.DataFrame(rows)


def step_ratio(experiment: Experiment, model: nn.Module, turns: int = 5) -> float:
    """Time of a search step of `model` (weights, then alpha) as it is computed, over that by branches alone.

    The two are timed in turn on copies, the fastest of `turns` each: what the machine does besides hits both alike.
    """
    models, best = [copy.deepcopy(model) for _ in range(2)], [float("inf")] * 2
    use(body_of(models[1]), "branches")
    for _ in range(min(turns, experiment.plan.timings)):
        for which, trial in enumerate(models):
            marks: list[float] = []
            fit(
                trial,
                experiment.task,
                experiment.data.train,
                experiment.plan.search.for_timing(2),
                seed=0,
                device=experiment.device,
                search=AlphaSide(parameters=body_of(trial).alphas(), data=experiment.data.search),
                progress=lambda done, total, text, marks=marks: marks.append(time.perf_counter()),
            )
            best[which] = min(best[which], marks[1] - marks[0])  # the first step also warms up
    return best[0] / best[1]


# Square dilations from light to dark, the others in colours that no square has.
DILATION_COLOURS: dict[str, Any] = {
    "1x1": FAINT, "2x2": SKY, "3x3": BLUE, "4x4": PURPLE, "5x5": QUIET,
    "1x3": ORANGE, "3x1": GREEN, "1x5": VERMILLION, "5x1": YELLOW,
}  # fmt: skip
# What a sweep varies, with the usual values: those of the tiny preset.
USUAL: dict[str, Any] = {
    "groups": "n16", "dilations": "C", "kernels": "replicated", "slicing": "contiguous", "warm epochs": "3 of 8",
    "max_steps": 0,
}  # fmt: skip
GROUPS = ("n1", "n2", "n4", "n8", "n16", "n32", "c1", "c2", "c4", "c8", "c16", "c32", "c64")


def network_table(results: Sequence[Result]) -> pd.DataFrame:
    """Dilations, predicted spread of the field (pixels, last map) and AP by size of every trained network."""
    rows: list[dict[str, Any]] = []
    for result in results:
        spec = result.network.spec
        row = {"network": result.network.name, "dilated share": dilated_share(spec)}
        row["convolutions"] = sum(max(1, len(spec.blocks[index].dilations)) for index in dilatable_blocks(spec))
        row["sigma"], row["sigma wide"] = predicted_sigma(spec)[-1]
        rows.append(row | {size: result.metrics.get(size, float("nan")) for size in SIZES})
    return pd.DataFrame(rows)


def dilated_share(spec: NetworkSpec) -> float:
    """Share of the channels of all 3x3 convolutions that could be dilated that are."""
    blocks = [spec.blocks[index] for index in dilatable_blocks(spec)]
    dilated = sum(channels for block in blocks for channels, *rates in block.dilations if rates != [1, 1])
    return dilated / sum(searched_width(block) for block in blocks)


def latency_table(experiment: Experiment, groups: Sequence[str]) -> pd.DataFrame:
    """Milliseconds of one image through backbones with an equal split of every layer, and through detectors.

    With contiguous parts N allows no more and no thinner convolutions. Ratios are to the baseline, measured in turn.
    """
    plan: NATSPlan = experiment.plan
    height, width = input_sizes(plan, experiment.data)[0]
    image = torch.rand(1, 3, height, width, device=experiment.device).contiguous(memory_format=torch.channels_last)
    base = space_of(experiment)
    specs = {"baseline": base.spec(same_everywhere(base, (1, 1)))}
    for name in groups:
        try:
            space = space_named(channel_dilation_name(plan.backbone, name, plan.dilations))
        except ValueError:
            continue  # this number of groups does not fit the channels
        specs[name] = space.spec(equal_split(space))
    models = []
    for spec in specs.values():
        model = new_model(lambda spec=spec: experiment.task.build(Backbone(spec)), 0, "latency")  # type: ignore[misc]
        models.append(model.to(experiment.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    parts = [max(1, *(len(block.dilations) for block in spec.blocks)) for spec in specs.values()]
    frame = pd.DataFrame({"groups": list(specs), "convolutions in a layer, at most": parts})
    calls: dict[str, Any] = {"backbone ms": [(body_of(model), image) for model in models]}
    calls["detector ms"] = [(model, [image[0]]) for model in models]
    for name, timed in calls.items():
        frame[name] = [median for median, *_ in latencies_ms(timed, repeats=plan.timings)]
    for part in ("backbone", "detector"):
        frame[f"{part} ratio"] = frame[f"{part} ms"] / frame[f"{part} ms"].iloc[0]
    return frame


def sweep_table(experiment: Experiment, results: Sequence[Result], found: Derived, max_steps: int) -> pd.DataFrame:
    """What a sweep is about, a row for each setting that this run trained: AP, and that of the run's own baseline.

    The run's own setting always; path level (n1) and the other slicing of kernels where they are among the results.
    """
    plan: NATSPlan = experiment.plan
    by_name = {result.network.name: result for result in results}
    other = "index" if plan.slicing == "contiguous" else "contiguous"
    settings = {"NATS": {}, "path level": {"groups": "n1"}, f"NATS, {other} slicing": {"slicing": other}}
    rows = []
    for name, changed in settings.items():
        if name not in by_name or (name == "path level" and plan.groups == "n1"):
            continue
        ap, baseline = (by_name[each].metrics["AP"] for each in (name, "baseline"))
        row = {each: getattr(plan, each) for each in ("groups", "dilations", "kernels", "slicing")} | changed
        row |= {"backbone": plan.backbone, "warm epochs": f"{plan.search.warm_epochs} of {plan.search.epochs}"}
        row |= {"max_steps": max_steps, "AP": ap, "baseline AP": baseline, "gain": ap - baseline}
        entropy = None if name == "path level" else found.entropy
        rows.append(row | {"entropy": entropy, "dilated share": dilated_share(by_name[name].network.spec)})
    return pd.DataFrame(rows)


def varied(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of a sweep over `column`: those with the usual values of everything else, of one preset and data set."""
    first = frame.iloc[0]
    usual = USUAL | {name: first[name] for name in ("preset", "data")}
    others = {name: value for name, value in usual.items() if name != column}
    return frame[(frame[list(others)] == pd.Series(others)).all(axis=1)]


def gain_sentence(frame: pd.DataFrame, column: str, printed: Mapping[str, float]) -> str:
    """Which value of a swept parameter gained most, here and in the paper, and how many gains of ours exceed noise."""
    gains = {str(value): rows["gain"].to_numpy() for value, rows in frame.groupby(column)}
    ours, theirs = max(gains, key=lambda value: float(gains[value].mean())), max(printed, key=printed.__getitem__)
    repeated = [mean_interval(values) for values in gains.values() if len(values) > 1]
    beyond = sum(mean.low > 0 or mean.high < 0 for mean in repeated)
    return (
        f"The mean gain is largest at {ours} here ({gains[ours].mean():+.3f}) and at {theirs} in the paper"
        f" ({printed[theirs]:+.3f}); of our {len(repeated)} settings with several seeds {beyond} differ from zero by"
        " their 95 % intervals."
    )


def assignment_table(space: SearchSpace, arch: Arch) -> pd.DataFrame:
    """Share of the groups of every searched layer that chose each dilation (NATS, equation 5), a row for each layer."""
    picks = [(decision.stage, decision.block, dilation) for decision, dilation in space.describe(arch)]
    frame = pd.DataFrame(picks, columns=["stage", "block", "dilation"])
    offered = [name for name in DILATION_COLOURS if any(name in decision.options for decision in space.decisions)]
    shares = pd.crosstab([frame["stage"], frame["block"]], frame["dilation"], normalize="index")
    return shares.reindex(columns=offered, fill_value=0.0).reset_index()


def kernel_maps(layer: DilationMixture, group: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """The taps of every dilation on the common grid, and the composite kernel, of one group of channels.

    Values are the root mean square of the weights over the group's channels.
    """
    shares = layer.shares().detach()
    mixtures = {}
    for index, dilation in enumerate(layer.dilations):
        alone = torch.zeros_like(shares)
        alone[:, index] = 1
        mixtures[f"{dilation_name(dilation)}\nweight {float(shares[group, index]):.2f}"] = alone
    mixtures["composite\nkernel"] = shares
    maps = {}
    for name, weights in mixtures.items():
        kernel = layer.composite_kernel(weights.repeat_interleave(layer.group_channels, dim=0)).detach()
        rows = kernel.unflatten(0, (-1, layer.group_channels))[group]
        maps[name] = rows.square().mean(dim=(0, 1)).sqrt().cpu().numpy()
    return maps


def plot_assignments(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """For each network a row of bars: the share of the groups of every layer that chose each dilation."""
    height = 1.0 + 0.34 * max(len(table) for table in tables.values())
    _, axes = plt.subplots(1, len(tables), figsize=(1.5 + 2.8 * len(tables), height), sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        names = "stage " + table["stage"].astype(str) + ", block " + table["block"].astype(str)
        plot_parts(table.set_index(names), DILATION_COLOURS, "share of groups", ax=ax)
        ax.set(xlim=(0, 1), title=title)
        ax.get_legend().set_visible(ax is axes[0][-1])
    return axes[0][0]


def plot_sweep(
    frame: pd.DataFrame,
    column: str,
    order: Sequence[str],
    ax: Axes | None = None,
    *,
    printed: Mapping[str, float] | None = None,
) -> Axes:
    """AP of the found network minus that of its run's baseline, for each value of a swept parameter.

    Dots are seeds; the bar is the mean with its 95 % t-interval, where there are two seeds or more. Diamonds are the
    gains that the paper `printed`, by value.
    """
    ax, known = ax or new_axes(4.6, 3.2), printed or {}
    present = [value for value in order if value in known or (frame[column] == value).any()]
    for place, value in enumerate(present):
        gains = frame.loc[frame[column] == value, "gain"].to_numpy()
        ax.plot([place] * len(gains), gains, "o", color=BLUE, alpha=0.5, markersize=5)
        if len(gains) > 1:
            mean = mean_interval(gains)
            ax.errorbar(place, mean.value, [[mean.value - mean.low], [mean.high - mean.value]], fmt="_", color=QUIET,
                        markersize=16, capsize=4)  # fmt: skip
    theirs = [known.get(value, np.nan) for value in present]
    ax.plot(theirs, "D", color=VERMILLION, markerfacecolor="none", label="paper, COCO")
    ax.axhline(0, color=QUIET, linewidth=1, linestyle=":")
    ax.set_xticks(range(len(present)), present)
    ax.set(xlabel=column, ylabel="AP - AP of the baseline", xlim=(-0.5, len(present) - 0.5))
    return ax
