"""What remapping keeps, what it changes and what it refuses; and what it is worth, in the supernet and in the network.

The experiments behind notebook 30: equality at step 0, the rules of section 4.4 and the grid of table 5 of FNA.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.evaluation.statistics import losses_at, share_of_steps
from workbench.insight.tables import paper_table
from workbench.methods import compare
from workbench.methods.compare import Network, Result
from workbench.methods.experiment import Experiment
from workbench.methods.fna import method as fna
from workbench.methods.fna.method import Init
from workbench.methods.gradient import GradientSearch, SeedNetwork
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.networks.remap_report import RemapReport, function_gap
from workbench.networks.supernet import Supernet, option_archs
from workbench.records.ledger import Entry
from workbench.spaces.arch import Arch
from workbench.spaces.branches import searched_width
from workbench.spaces.catalogue import space_named
from workbench.spaces.mbconv import efficientnet_lite0_spec, fna_spec
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.residual import residual_spec
from workbench.spaces.space import SKIP, SearchSpace

# FNA, section 4.4, and our switch: every tensor ranked by itself.
VARIANTS: dict[str, dict[str, Any]] = {
    "FNA": {},
    "Width-BN": {"width": "bn"},
    "Width-L1": {"width": "l1"},
    "Width-Std": {"width": "std"},
    "Kernel-Dilate": {"kernel": "dilate"},
    "Width-L1, independent": {"width": "l1", "independent": True},
}


def check_seed(seed: NetworkSpec) -> None:
    """ValueError for a seed that the lesson cannot take apart: it changes the expansion of inverted residuals."""
    if not any(block.kind == "mbconv" for block in seed.blocks):
        raise ValueError(
            f"This lesson takes inverted residuals apart, and {seed.name} has none; use efficientnet-lite0 or"
            " mobilenetv2 here. Remapping itself, and the lessons after it, serve ResNets too."
        )


def changed(seed: NetworkSpec, *, kernel: int = 0, expansion: float = 0.0, deeper: int = 0) -> NetworkSpec:
    """The seed with another kernel, expansion, or layers more (fewer, below 0) at the end of every searched stage."""
    blocks: list[BlockSpec] = []
    ends: dict[int, int] = {}
    for block, following in zip(seed.blocks, [*seed.blocks[1:], None], strict=True):
        free = block.kind == "mbconv" and block.expansion != 1
        changes: dict[str, Any] = {"kernel": kernel} if free and kernel else {}
        changes |= {"expansion": expansion} if free and expansion else {}
        blocks.append(_rewidened(replace(block, **changes)))
        if free and deeper and (following is None or following.stage != block.stage):
            last = _rewidened(replace(blocks[-1], in_channels=block.out_channels, stride=1))
            blocks = blocks[:deeper] if deeper < 0 else [*blocks, *[last] * deeper]
        ends[block.stage] = len(blocks) - 1
    taps = tuple(ends[seed.blocks[tap].stage] for tap in seed.taps)
    return replace(seed, name="changed", blocks=tuple(blocks), taps=taps)


def _rewidened(block: BlockSpec) -> BlockSpec:
    """The block with its one dilation, if any, over all channels that it has now."""
    return replace(block, dilations=tuple((searched_width(block), high, wide) for _, high, wide in block.dilations))


def kept_function(seed: Backbone, images: Tensor) -> pd.DataFrame:
    """How far each change moves the seed's function before any training, in eval mode on the task's images.

    `largest change` is that of any tapped map as a share of the seed's largest value; 0 up to rounding where only
    kernels grow.
    """
    changes: dict[str, NetworkSpec] = {
        "nothing": seed.spec,
        "all kernels 5x5": changed(seed.spec, kernel=5),
        "all kernels 7x7": changed(seed.spec, kernel=7),
        "expansion 8 instead of 6 (new channels repeat old ones)": changed(seed.spec, expansion=8.0),
        "one more layer in every stage (a clone)": changed(seed.spec, deeper=True),
        "expansion 3 (the first half of the channels)": changed(seed.spec, expansion=3.0),
        "all kernels 3x3 (the centre of larger ones)": changed(seed.spec, kernel=3),
    }
    rows = []
    for name, spec in changes.items():
        network, report = remap(seed, spec)
        rows.append({"change": name, "largest change": function_gap(seed, network, images), **report.totals()})
    spread, _ = remap(seed, changed(seed.spec, kernel=7), kernel="dilate")
    gap = function_gap(seed, spread, images)
    rows.append({"change": "all kernels 7x7, 3x3 ones spread (Kernel-Dilate)", "largest change": gap})
    return pd.DataFrame(rows)


def seed_arch(space: SearchSpace, seed: NetworkSpec) -> Arch:
    """The seed itself as an architecture of its space: its own layers first, skips behind them."""
    names: list[str] = []
    for _, decisions in groupby(space.decisions, key=lambda decision: decision.stage):
        layers = list(decisions)
        own = [f"k{b.kernel}e{b.expansion:.0f}" for b in seed.blocks if b.stage == layers[0].stage]
        names += [*own[: len(layers)], *[SKIP] * (len(layers) - len(own))]
    return space.arch([d.options.index(name) for d, name in zip(space.decisions, names, strict=True)])


def supernet_reports(space: SearchSpace, seed: Backbone) -> dict[str, RemapReport]:
    """What remapping does for each operation of the supernet; its batch norms then lose what they were given."""
    pairs = zip(space.decisions[0].options, option_archs(space), strict=True)
    return {f"supernet, {name}": remap(seed, space.spec(arch))[1] for name, arch in pairs}


def supernet_gaps(space: SearchSpace, seed: Backbone, images: Tensor) -> dict[str, float]:
    """Largest change of any tapped map when the supernet runs the seed's own layers, by kind of batch norm.

    With the seed's scale, shift and statistics nothing changes; the paper's supernets have none in searched layers.
    """
    arch = seed_arch(space, seed.spec)
    reference, _ = remap(seed, space.spec(arch))
    gaps = {}
    for name, affine in (("seed's batch norm kept", True), ("plain batch norm (paper)", False)):
        supernet = Supernet(space, pretrained=seed, affine=affine)
        supernet.activate(arch)
        gaps[name] = function_gap(reference, supernet, images)
    return gaps


def other_pairs() -> pd.DataFrame:
    """Remapping between other networks of the project, and what it refuses, with the reason."""
    shuffle, narrow = space_named("shuffle-tiny"), space_named("shuffle-20-narrow")
    pairs = {
        "CR-NAS: ResNet-50 into depths 1.3.5.7": (residual_spec("resnet50"), residual_spec("resnet50", (1, 3, 5, 7))),
        "DetNAS: 3x3 blocks into 7x7": (shuffle.spec(shuffle.uniform(0)), shuffle.spec(shuffle.uniform(2))),
        "3x3 blocks into Xception blocks": (shuffle.spec(shuffle.uniform(0)), shuffle.spec(shuffle.uniform(3))),
        "ShuffleNetV2 of another width": (shuffle.spec(shuffle.uniform(0)), narrow.spec(narrow.uniform(0))),
        "five stages into seven": (efficientnet_lite0_spec(5), fna_spec("MobileNetV2")),
        "basic blocks into bottlenecks": (residual_spec("resnet18"), residual_spec("resnet50")),
    }
    rows = []
    for name, (seed, spec) in pairs.items():
        with torch.device("meta"):
            try:
                outcome = "remapped: " + str(remap(Backbone(seed), spec)[1]).split(": ")[1]
            except ValueError as error:
                outcome = f"refused: {error}"
        rows.append({"pair": name, "what happens": outcome})
    return pd.DataFrame(rows)


def grid(experiment: Experiment, seed: SeedNetwork) -> tuple[dict[Init, GradientSearch], list[Result]]:
    """Table 5: the supernet begins with remapped or random weights, and so does the network found in it."""
    searches: dict[Init, GradientSearch] = {
        init: fna.search(experiment, seed, init=init, phase=f"search ({init})") for init in ("random", "remap")
    }
    compared: list[Network] = []
    for where, search in searches.items():
        arch = search.derived().arch
        for init in searches:
            name = f"{where} supernet, {init} target"
            compared.append(fna.network(experiment, seed, name, search.space.spec(arch), arch, init=init))
    return searches, compare.train_all(experiment, compared)


def as_fna(entries: Sequence[Entry]) -> list[Entry]:
    """The phases of the grid's cell that is FNA itself, remapped twice, under FNA's own names."""
    own = {"search (remap)": "search", "score search (remap)": "score search"}
    own["finetune remap-supernet,-remap-target"] = "finetune fna"
    return [replace(entry, phase=own[entry.phase]) for entry in entries if entry.phase in own]


def grid_table(experiment: Experiment, results: Sequence[Result]) -> pd.DataFrame:
    """One row for each cell of the grid: accuracy, MACs, and the training loss at the start and at the end.

    `share of steps` is how much of its training a network needs to reach the last loss of the *same* network when that
    began with random weights.
    """
    metric = experiment.task.metric
    rows: list[dict[str, Any]] = []
    by_name = {result.network.name: result.losses for result in results}
    for result in results:
        supernet, target = (part.split()[0] for part in result.network.name.split(", "))
        row = {"supernet": supernet, "target": target, metric: result.metrics[metric]}
        row |= {f"{metric} error": result.metrics[f"{metric}_error"], "MACs": result.macs, **losses_at(result.losses)}
        level = by_name[f"{supernet} supernet, random target"]
        rows.append(row | {"share of steps": share_of_steps(result.losses, level)})
    return pd.DataFrame(rows)


def crossed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The grid as a square: a row for each start of the supernet, a column for each start of the found network."""
    return frame.pivot(index="supernet", columns="target", values=metric)[["random", "remap"]]


def printed_grid(metric: str) -> pd.DataFrame:
    """Table 5 of the review version, on Cityscapes, in the form of `grid_table`; mIoU in 0-1 stands as `metric`."""
    frame = paper_table("fna_remap_places").set_axis(["supernet", "target", metric, "source"], axis=1)
    return frame.assign(**{metric: frame[metric].astype(float) / 100})


def worth_sentence(frame: pd.DataFrame, metric: str) -> str:
    """What remapped weights are worth on either side, the mean over the other one: in `grid_table` and in the paper."""
    worth = []
    for grid in (crossed(frame, metric), crossed(printed_grid(metric), metric)):
        worth += [(grid.loc["remap"] - grid.loc["random"]).mean(), (grid["remap"] - grid["random"]).mean()]
    return (
        f"Found networks are {worth[0]:+.3f} {metric} better where the supernet was remapped (and differ in cost);"
        f" for one and the same network remapped weights are worth {worth[1]:+.3f}. In the paper (Cityscapes)"
        f" {worth[2]:+.3f} and {worth[3]:+.3f}."
    )


def variant_spec(space: SearchSpace) -> NetworkSpec:
    """A network in which every rule shows: half the expansion and 5x5 kernels in every layer.

    Kernel-Dilate differs where the seed's kernel is 3x3; a 5x5 kernel stays as it is.
    """
    return space.spec(space.arch([decision.options.index("k5e3") for decision in space.decisions]))


def variants(experiment: Experiment, seed: SeedNetwork, spec: NetworkSpec) -> list[Result]:
    """`spec` from the seed's weights by every rule of section 4.4, and from random weights, trained alike.

    Half the plan's steps: rules differ early, if anywhere.
    """
    compared = [fna.network(experiment, seed, name, spec, **how) for name, how in VARIANTS.items()]
    compared.append(fna.network(experiment, seed, "random weights", spec, init="random"))
    return compare.train_all(experiment, compared, steps=max(1, experiment.plan.finetune.steps // 2))


def variant_table(experiment: Experiment, seed: SeedNetwork, results: Sequence[Result], images: Tensor) -> pd.DataFrame:
    """For each rule: how far the features are from the seed's before training, losses from step 0 on, accuracy.

    `share of steps` is what the last loss of random weights takes.
    """
    metric = experiment.task.metric
    spec = results[0].network.spec
    level = next(result.losses for result in results if result.network.name == "random weights")
    rows: list[dict[str, Any]] = []
    for result in results:
        name = result.network.name
        gap = feature_gap(seed.backbone, spec, images, **VARIANTS[name]) if name in VARIANTS else float("nan")
        row = {"rule": name, "change of the features": gap, **losses_at(result.losses)}
        row |= {"share of steps": share_of_steps(result.losses, level), metric: result.metrics[metric]}
        rows.append(row | {f"{metric} error": result.metrics[f"{metric}_error"]})
    return pd.DataFrame(rows)


def feature_gap(seed: Backbone, spec: NetworkSpec, images: Tensor, **how: Any) -> float:
    """Root mean square change of the last map by remapping as `how` says, relative to that of the seed's last map."""
    ends = {block.stage: index for index, block in enumerate(seed.spec.blocks)}
    taps = tuple(ends[spec.blocks[tap].stage] for tap in spec.taps)
    own = NetworkSpec(name="seed", blocks=seed.spec.blocks[: max(taps) + 1], taps=taps)
    with torch.inference_mode():
        after, before = (net.eval()(images)[-1] for net in (remap(seed, spec, **how)[0], remap(seed, own)[0]))
    return float((after - before).norm() / before.norm())


def training_images(experiment: Experiment, count: int = 8) -> Tensor:
    """(count, 3, H, W) training images as the backbone gets them: normalised, and cut to one size."""
    head = experiment.plan.head
    images = [experiment.data.train[index][0].float() / 255 for index in range(min(count, len(experiment.data.train)))]
    height, width = (min(image.shape[axis] for image in images) // 16 * 16 for axis in (1, 2))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (head.image_mean, head.image_std))
    return torch.stack([(image[:, :height, :width] - mean) / std for image in images])
