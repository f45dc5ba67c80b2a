"""Tables of the lesson on CR-NAS: what reusing prefixes saves, the networks, supernet against training alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.evaluation.prefix_reuse import beam_macs, clocked
from workbench.insight.architecture_plots import DILATION_COLOURS, Cell, plot_strips
from workbench.insight.plots import SIZES
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.style import PURPLE, SERIES, new_axes
from workbench.insight.tables import stored_results
from workbench.insight.widgets.allocation_desk import scores_in_words
from workbench.methods.candidates import scorer
from workbench.methods.compare import Result
from workbench.methods.crnas.method import beam, prefix_memory, reusing
from workbench.methods.crnas.presets import PRESETS
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.plan import input_sizes
from workbench.records.score import Score
from workbench.spaces.allocation import PREFIX, centre_of_mass, depths_of
from workbench.spaces.branches import spatial_dilation
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import LAYOUTS, dilatable_blocks


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


def architecture_of(result: Result) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks in each searched stage, and one dilation for each residual block."""
    spec = result.network.spec
    rates = tuple(spatial_dilation(spec.blocks[index])[0] for index in dilatable_blocks(spec))
    searched = LAYOUTS[spec.name.split()[0]].searched
    return tuple(sum(block.stage == stage for block in spec.blocks) for stage in searched), rates


def architecture_table(results: Sequence[Result]) -> pd.DataFrame:
    """Blocks, dilations, predicted spread of the field (pixels, last map) and AP by size of every trained network."""
    rows = []
    for result in results:
        depths, rates = architecture_of(result)
        row: dict[str, Any] = {"network": result.network.name, "blocks": ".".join(map(str, depths))}
        row |= {"dilations": "".join(map(str, rates)), "centre of mass": centre_of_mass(depths)}
        row["sigma"] = predicted_sigma(result.network.spec)[-1][0]
        rows.append(row | {size: result.metrics.get(size, float("nan")) for size in SIZES})
    return pd.DataFrame(rows)


def alone_against_supernet(results: Sequence[Result], scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """Undilated networks that were also ranked: columns `network`, `depths`, and the metric as `supernet`, `alone`."""
    ranked = {depths_of(space_named(s.arch.space), s.arch): s for s in scores if not s.error}
    rows: list[dict[str, Any]] = []
    for result in results:
        depths, rates = architecture_of(result)
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
    same = stored["preset"].map(lambda preset: PRESETS[preset].backbone == backbone)
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
