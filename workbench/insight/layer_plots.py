"""Figures of the search over layers: networks as bars, alpha as maps, its cost, and the front of a sweep."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from workbench.evaluation.statistics import pareto_front, smoothed
from workbench.insight.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, new_axes
from workbench.search.relaxation import Logits, softmax
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.space import SearchSpace

# How wide a layer is inside: an inverted residual times its input, a bottleneck as a share of its output.
WIDTH_COLOURS = {1: "0.7", 3: SKY, 6: BLUE, 0.125: SKY, 0.25: BLUE}
INITIAL_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


def plot_layers(networks: Mapping[str, NetworkSpec], ax: Axes | None = None) -> Axes:
    """One row for each network, one bar for each layer: its height is the kernel, its colour the expansion.

    Stages stand at the same places in all rows, so a gap is a layer that others have. "3:2" is a 3x3 kernel with
    dilation 2.
    """
    rows = list(networks.values())
    stages = sorted({block.stage for spec in rows for block in spec.blocks if _layered(block)})
    widest = {
        stage: max(sum(_layered(b) and b.stage == stage for b in spec.blocks) for spec in rows) for stage in stages
    }
    starts, position = {}, 0.0
    for stage in stages:
        starts[stage] = position
        position += widest[stage] + 0.7
    ax = ax or new_axes(max(7.0, 1.9 + 0.33 * position), 1.2 + 0.62 * len(rows))
    for row, spec in enumerate(rows):
        place = dict(starts)
        for block in spec.blocks:
            if not _layered(block):
                continue
            colour = WIDTH_COLOURS.get(block.expansion, PURPLE)
            height = 0.11 * block.kernel
            left = place[block.stage]
            ax.add_patch(Rectangle((left + 0.06, row + 0.95 - height), 0.88, height, color=colour))
            dark = "white" if colour == BLUE else "black"
            ax.text(left + 0.5, row + 0.9, _kernel(block), ha="center", va="bottom", fontsize=8, color=dark)
            place[block.stage] += 1
        depth = [sum(_layered(b) and b.stage == stage for b in spec.blocks) for stage in stages]
        ax.text(position - 0.3, row + 0.6, "  depths " + ".".join(map(str, depth)), va="center", fontsize=8)
    for stage in stages:
        channels = next(block.out_channels for spec in rows for block in spec.blocks if block.stage == stage)
        centre = starts[stage] + widest[stage] / 2
        ax.text(centre, -0.05, f"stage {stage}\n{channels} ch", ha="center", va="bottom", fontsize=8)
    ax.set(xlim=(-0.2, position + 3.2), ylim=(len(rows), -0.1), xticks=[])
    ax.set_yticks([row + 0.6 for row in range(len(rows))], list(networks))
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    used = {b.expansion: b.kind for spec in rows for b in spec.blocks if _layered(b)}
    words = {"mbconv": "expansion {:g}", "bottleneck": "inner width {:g}", "basic": "basic block"}
    handles = [Patch(color=WIDTH_COLOURS.get(e, PURPLE), label=words[used[e]].format(e)) for e in sorted(used)]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.45, 0.0), ncols=4, fontsize=9)
    return ax


def plot_alpha(space: SearchSpace, epochs: Mapping[str, Sequence[Logits]]) -> Axes:
    """Weights of the operations: a row for each layer, a column for each operation, a panel for each epoch."""
    options = max((decision.options for decision in space.decisions), key=len)
    size = (1.4 + 2.4 * len(epochs), 1.0 + 0.22 * len(space.decisions))
    figure, axes = plt.subplots(1, len(epochs), figsize=size, sharey=True, squeeze=False)
    top = max(float(softmax(row).max()) for alphas in epochs.values() for row in alphas)
    image = None
    for ax, (name, alphas) in zip(axes[0], epochs.items(), strict=True):
        grid = np.full((len(space.decisions), len(options)), np.nan)
        for row, (decision, logits) in enumerate(zip(space.decisions, alphas, strict=True)):
            weights = softmax(np.asarray(logits, dtype=float))[0]
            for option, weight in zip(decision.options, weights, strict=True):
                grid[row, options.index(option)] = weight
            best = options.index(decision.options[int(weights.argmax())])
            ax.plot(best, row, "o", color=VERMILLION, markersize=4)
        image = ax.imshow(grid, aspect="auto", cmap="cividis", vmin=0, vmax=top)
        ax.set_title(name, fontsize=10)
        ax.set_xticks(range(len(options)), options, rotation=60, fontsize=8)
        ax.grid(False)
    names = [decision.name.replace("stage ", "s").replace(" layer ", " l") for decision in space.decisions]
    axes[0][0].set_yticks(range(len(names)), names, fontsize=8)
    assert image is not None
    figure.colorbar(image, ax=list(axes[0]), label="weight (dot: heaviest)", shrink=0.8)
    first: Axes = axes[0][0]
    return first


def plot_costs(
    trajectories: Mapping[str, pd.DataFrame], warm_epochs: int, seed_macs: Mapping[str, int], ax: Axes | None = None
) -> Axes:
    """Backbone MACs by epoch, of one search or several: expected over alpha, of the derived network, of the seed."""
    ax = ax or new_axes(6.0, 3.2)
    for index, (name, frame) in enumerate(trajectories.items()):
        colour = INITIAL_COLOURS[index % len(INITIAL_COLOURS)]
        ax.plot(frame["epoch"], frame["expected MACs"] / 1e6, color=colour, label=f"{name}: expected over alpha")
        ax.plot(
            frame["epoch"], frame["MACs"] / 1e6, "o--", color=colour, markersize=4, label=f"{name}: derived network"
        )
        ax.axhline(seed_macs[name] / 1e6, color=colour, linestyle=":", linewidth=1, label=f"{name}: seed network")
    ax.axvline(warm_epochs + 0.5, color="0.75", linewidth=1)
    ax.set(xlabel="epoch (alpha moves right of the grey line)", ylabel="backbone MMACs")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_front(frame: pd.DataFrame, metric: str = "AP", ax: Axes | None = None) -> Axes:
    """Found networks of a sweep over the strength of the penalty: MACs against accuracy, a dot for each seed.

    Crosses are means; the line joins those means that no other beats in both; networks without a search in grey.
    """
    ax = ax or new_axes(6.4, 3.8)
    means = []
    palette = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, max(1, frame["strength"].nunique())))
    for colour, (strength, rows) in zip(palette, frame.groupby("strength"), strict=True):
        ax.plot(rows["MACs"] / 1e6, rows[metric], "o", color=colour, alpha=0.55, markersize=5)
        means.append((rows["MACs"].mean() / 1e6, rows[metric].mean()))
        ax.plot(*means[-1], "X", color=colour, markersize=9, label=f"λ = {strength:g} (n = {len(rows)})")
    front = pareto_front([cost for cost, _ in means], [value for _, value in means])
    ax.plot(*zip(*(means[index] for index in front), strict=True), color=BLACK, linewidth=1)
    for column, marker in (("seed network", "s"), ("best-scored random", "^")):
        # Runs of one seed at several strengths share their seed network.
        known = frame.dropna(subset=[f"{column} {metric}"]).drop_duplicates([f"{column} MACs", f"{column} {metric}"])
        if len(known):
            label = f"{column} (n = {len(known)})"
            ax.plot(known[f"{column} MACs"] / 1e6, known[f"{column} {metric}"], marker, color="0.55", markersize=5,
                    label=label, linestyle="none")  # fmt: skip
    ax.set(xlabel="backbone MMACs", ylabel=f"{metric} on the test split (0-1)")
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_grid(frame: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Accuracy by how the supernet and the found network began (table 5): columns supernet, target, and `metric`."""
    ax = ax or new_axes(4.4, 3.2)
    table = frame.pivot(index="supernet", columns="target", values=metric)
    order = [name for name in ("random", "remap") if name in table.index]
    table = table.loc[order, [name for name in ("random", "remap") if name in table.columns]]
    ax.imshow(table.to_numpy(), cmap="cividis", vmin=0)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        light = value > 0.6 * np.nanmax(table.to_numpy())
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color="black" if light else "white", fontsize=13)
    ax.set_xticks(range(len(table.columns)), [f"{name}\nweights" for name in table.columns])
    ax.set_yticks(range(len(table.index)), [f"{name}\nsupernet" for name in table.index])
    ax.set(xlabel="found network begins with", ylabel="searched in")
    ax.set_title(f"{metric} on the test split")
    ax.grid(False)
    return ax


def plot_steps_to(losses: Mapping[str, Sequence[float]], ax: Axes | None = None, window: int = 15) -> Axes:
    """Training losses of several starts, and where each reaches the final loss of the slowest."""
    ax = ax or new_axes(7.0, 3.4)
    smooth = {name: smoothed(values, window) for name, values in losses.items()}
    level = max(values[-1] for values in smooth.values())
    for index, (name, values) in enumerate(smooth.items()):
        reached = int(np.argmax(values <= level)) if (values <= level).any() else len(values) - 1
        ax.plot(values, color=f"C{index}", label=f"{name}: step {reached + 1}")
        ax.plot(reached, values[reached], "o", color=f"C{index}")
    ax.axhline(level, color="0.5", linestyle=":", linewidth=1)
    ax.set(xlabel="step", ylabel=f"loss (mean of {window} steps)")
    ax.legend(title="reaches the dotted loss at", fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _layered(block: BlockSpec) -> bool:
    return block.kind in ("mbconv", "basic", "bottleneck")


def _kernel(block: BlockSpec) -> str:
    rates = {rate for _, rate, _ in block.dilations} - {1}
    return f"{block.kernel}:{max(rates)}" if rates else str(block.kernel)
