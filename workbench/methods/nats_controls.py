"""What NATS's network is compared with, everybody from the same pretrained weights (section 12 of the specification).

The paper has no control but its baseline and the path level; random channels, an equal split and dilation 2 by hand are
ours, and so is the other reading of how kernels are cut.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from workbench.insight.receptive_field import predicted_sigma
from workbench.methods import candidates
from workbench.methods.compare import Contender, Result
from workbench.methods.gradient_search import SeedNetwork
from workbench.methods.nats import space_of, start
from workbench.methods.nats_presets import NATSPlan
from workbench.methods.phases import Study, new_model
from workbench.methods.presets import input_sizes
from workbench.networks.backbone import Backbone
from workbench.networks.count import latencies_of
from workbench.records.seeds import generator
from workbench.search.relaxation import Derived
from workbench.spaces.arch import Arch
from workbench.spaces.branches import searched_width
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    Reading,
    channel_dilation_name,
    decoded,
    equal_split,
    same_everywhere,
    searched_layers,
)
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import dilatable_blocks
from workbench.spaces.space import SearchSpace

SWEEP = Path(__file__).resolve().parents[2] / "data" / "results" / "nats_sweep.csv"
# What a sweep varies, with the usual values: those of the tiny preset.
USUAL: dict[str, Any] = {
    "groups": "n16",
    "genotypes": "C",
    "kernels": "replicated",
    "reading": "contiguous",
    "warm epochs": "3 of 8",
    "max_steps": 0,
}
GROUPS = ("n1", "n2", "n4", "n8", "n16", "n32", "c1", "c2", "c4", "c8", "c16")


def contender(
    study: Study,
    pretrained: SeedNetwork,
    name: str,
    space: SearchSpace,
    arch: Arch,
    reading: Reading | None = None,
    group: str = "",
) -> Contender:
    """The network of `arch` with the seed's kernels, cut as the plan reads the paper or as told."""
    way: Reading = reading or study.plan.reading
    return Contender(
        name=name,
        spec=decoded(space, arch, way),
        arch=arch,
        group=group,
        start=start(pretrained, space, arch, way),
    )


def contenders(
    study: Study,
    pretrained: SeedNetwork,
    found: Arch,
    path_level: tuple[SearchSpace, Arch],
    *,
    everything: bool,
    best_random: Arch,
) -> list[Contender]:
    """The found network first, then path level, baseline, and the best-scored network of a random search.

    With `everything` also dilation 2 by hand, random channels, the equal split, and the other reading.
    """
    plan: NATSPlan = study.plan
    space = space_of(study)
    entrants = [
        contender(study, pretrained, "NATS", space, found),
        contender(study, pretrained, "path level", *path_level),
        contender(study, pretrained, "baseline", space, same_everywhere(space, (1, 1))),
        contender(study, pretrained, "best-scored random", space, best_random),
    ]
    if everything:
        rng = generator(study.seed, "random channels")
        entrants += [contender(study, pretrained, "dilated by hand", space, by_hand(space))]
        entrants += [
            contender(study, pretrained, f"random channels {number}", space, space.sample(rng), group="random channels")
            for number in range(1, plan.random_networks + 1)
        ]
        other: Reading = "index" if plan.reading == "contiguous" else "contiguous"
        entrants += [
            contender(study, pretrained, "equal split", space, equal_split(space)),
            contender(study, pretrained, f"NATS, {other} reading", space, found, other),
        ]
    return entrants


def by_hand(space: SearchSpace) -> Arch:
    """Dilation 2 everywhere, or the largest square one that all layers of a set without it have."""
    squares = set.intersection(*({p for p in layer.genotypes if p[0] == p[1]} for layer in searched_layers(space)))
    return same_everywhere(space, (2, 2) if (2, 2) in squares else max(squares))


def transfer(study: Study, entrants: Sequence[Contender]) -> list[Result]:
    """The same networks in another detector, without a new search (table 6)."""
    plan: NATSPlan = study.plan
    moved = replace(study, plan=replace(plan, detector=plan.transfer, finetune=plan.transfer_finetune))
    return candidates.train_all(moved, [replace(e, name=f"{e.name} in {plan.transfer.kind}") for e in entrants])


def network_table(results: Sequence[Result]) -> pd.DataFrame:
    """Dilations, predicted spread of the field (pixels, last map) and AP by size of every trained network."""
    rows = []
    for result in results:
        spec = result.contender.spec
        high, wide = predicted_sigma(spec)[-1]
        sizes = {name: result.metrics.get(name, float("nan")) for name in ("AP_rel_s", "AP_rel_m", "AP_rel_l")}
        rows.append(
            {
                "network": result.contender.name,
                "dilated share": dilated_share(spec),
                "convolutions": sum(max(1, len(spec.blocks[index].dilations)) for index in dilatable_blocks(spec)),
                "sigma": high,
                "sigma wide": wide,
                **sizes,
            }
        )
    return pd.DataFrame(rows)


def dilated_share(spec: NetworkSpec) -> float:
    """Share of the channels of all 3x3 convolutions that could be dilated that are."""
    blocks = [spec.blocks[index] for index in dilatable_blocks(spec)]
    dilated = sum(channels for block in blocks for channels, *rates in block.dilations if rates != [1, 1])
    return dilated / sum(searched_width(block) for block in blocks)


def latency_table(study: Study, groups: Sequence[str], repeats: int = 9) -> pd.DataFrame:
    """Milliseconds of one picture through backbones with an equal split of every genotype, and through detectors.

    With contiguous parts N allows no more and no thinner convolutions. Ratios are to the baseline, measured in turn.
    """
    plan: NATSPlan = study.plan
    task = candidates.detection_task(study)
    height, width = input_sizes(plan, study.data)[0]
    picture = torch.rand(1, 3, height, width, device=study.device).contiguous(memory_format=torch.channels_last)
    base = space_of(study)
    specs = {"baseline": base.spec(same_everywhere(base, (1, 1)))}
    for name in groups:
        try:
            space = space_named(channel_dilation_name(plan.backbone, name, plan.genotypes))
        except ValueError:
            continue  # this number of groups does not fit the channels
        specs[name] = space.spec(equal_split(space))
    models = []
    for spec in specs.values():
        model = new_model(lambda spec=spec: task.build(Backbone(spec)), 0, "latency")  # type: ignore[misc]
        models.append(model.to(study.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    bodies = latencies_of([(model.get_submodule("backbone.body"), picture) for model in models], repeats=repeats)
    whole = latencies_of([(model, [picture[0]]) for model in models], repeats=repeats)
    parts = [max(1, *(len(block.dilations) for block in spec.blocks)) for spec in specs.values()]
    columns = {"groups": list(specs), "convolutions in a layer, at most": parts}
    frame = pd.DataFrame({**columns, "backbone ms": bodies, "detector ms": whole})
    for part in ("backbone", "detector"):
        frame[f"{part} ratio"] = frame[f"{part} ms"] / frame[f"{part} ms"].iloc[0]
    return frame


def sweep_table(study: Study, results: Sequence[Result], found: Derived, max_steps: int) -> pd.DataFrame:
    """What a sweep is about, a row for each setting that this run trained: AP, and that of the run's own baseline.

    The run's own setting always; path level (n1) and the other reading where they are among the results.
    """
    plan: NATSPlan = study.plan
    by_name = {result.contender.name: result for result in results}
    other: Reading = "index" if plan.reading == "contiguous" else "contiguous"
    settings: dict[str, dict[str, str]] = {
        "NATS": {},
        "path level": {"groups": "n1"},
        f"NATS, {other} reading": {"reading": other},
    }
    rows = []
    for name, changed in settings.items():
        if name not in by_name or (name == "path level" and plan.groups == "n1"):
            continue
        ap, baseline = (by_name[each].metrics["AP"] for each in (name, "baseline"))
        usual = {"groups": plan.groups, "genotypes": plan.genotypes, "kernels": plan.kernels, "reading": plan.reading}
        rows.append(
            {
                **usual,
                **changed,
                "backbone": plan.backbone,
                "warm epochs": f"{plan.search.warm_epochs} of {plan.search.epochs}",
                "max_steps": max_steps,
                "AP": ap,
                "baseline AP": baseline,
                "gain": ap - baseline,
                "entropy": None if name == "path level" else found.entropy,
                "dilated share": dilated_share(by_name[name].contender.spec),
            }
        )
    return pd.DataFrame(rows)


def stored_sweep() -> tuple[pd.DataFrame, str]:
    """The stored study of sweeps (`report RUNS --csv sweep FILE`), and in words where it comes from.

    A seed counts once for each setting: path level is a row of every run that trained it.
    """
    frame = pd.read_csv(SWEEP).drop_duplicates([*USUAL, "preset", "data", "seed"])
    first = frame.iloc[0]
    counts = frame.groupby(list(USUAL))["seed"].nunique()
    source = (
        f"{frame['run'].nunique()} runs, n = {counts.min()} to {counts.max()} seeds for a setting, preset"
        f" {first['preset']} on {first['data']}, {first['date']}"
    )
    return frame, source


def varied(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of a sweep over `column`: those with the usual values of everything else, of one preset and data set."""
    first = frame.iloc[0]
    usual = USUAL | {name: first[name] for name in ("preset", "data")}
    others = {name: value for name, value in usual.items() if name != column}
    return frame[(frame[list(others)] == pd.Series(others)).all(axis=1)]
