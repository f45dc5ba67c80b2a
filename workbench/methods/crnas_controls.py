"""What CR-NAS's winner is compared with, everybody trained alike: table 4 of the paper and what it leaves out."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from workbench.insight.receptive_field import predicted_sigma
from workbench.methods.candidates import detection_task
from workbench.methods.compare import Contender, Result, frozen_random_backbone
from workbench.methods.crnas_presets import CRNASPlan
from workbench.methods.phases import Study
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.random import draw_new
from workbench.spaces.allocation import PREFIX, centre_of_mass, depths_of, eligible
from workbench.spaces.branches import spatial_dilation
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import RATES, dilation_space_name
from workbench.spaces.residual import LAYOUTS, dilatable_blocks, residual_spec


def baseline_depths(study: Study) -> tuple[int, ...]:
    """The published layout, where it has the plan's budget; else the eligible one nearest to it."""
    plan: CRNASPlan = study.plan
    published = LAYOUTS[plan.backbone].depths
    space = space_named(PREFIX + plan.backbone)
    legal = [depths_of(space, arch) for arch in eligible(space, plan.budget)]
    return min(legal, key=lambda depths: sum(abs(a - b) for a, b in zip(depths, published, strict=True)))


def contender(
    study: Study, name: str, depths: Sequence[int], dilations: Sequence[int] = (), group: str = ""
) -> Contender:
    """A network of the plan's backbone at full width."""
    return Contender(name=name, spec=residual_spec(study.plan.backbone, depths, dilations), group=group)


def contenders(
    study: Study,
    depths: Sequence[int],
    dilations: Sequence[int],
    dilations_of_baseline: Sequence[int],
    best_random: Sequence[int],
) -> list[Contender]:
    """The comparison at one nominal cost: the found network first, then the parts of its gain and what chance gives.

    `best_random` are the best-scored dilations of a random search with as many evaluations as the beam.
    """
    baseline, deeper = baseline_depths(study), study.plan.deeper
    named = [
        contender(study, "CR-NAS", depths, dilations),
        contender(study, "baseline", baseline),
        contender(study, "stage only", depths),
        contender(study, "dilation only", baseline, dilations_of_baseline),
        contender(study, "deeper by hand", deeper),
        contender(study, "best-scored random dilations", depths, best_random),
    ]
    return [*named, *random_contenders(study, [depths, baseline, deeper])]


def random_contenders(study: Study, taken: Sequence[Sequence[int]]) -> list[Contender]:
    """Allocations of the same budget other than those in `taken`, undilated: what chance gives without a search."""
    plan: CRNASPlan = study.plan
    space = space_named(PREFIX + plan.backbone)
    left = [depths_of(space, arch) for arch in eligible(space, plan.budget)]
    left = [depths for depths in left if depths not in {tuple(known) for known in taken}]
    rng = generator(study.seed, "random allocations")
    picks = rng.permutation(len(left))[: plan.random_networks]
    return [
        contender(study, f"random allocation {number + 1}", left[pick], group="random allocation")
        for number, pick in enumerate(picks)
    ]


def random_dilations(study: Study, depths: Sequence[int], taken: Sequence[Sequence[int]]) -> list[Contender]:
    """Random dilations of the found allocation, other than those in `taken`."""
    space = space_named(dilation_space_name(study.plan.backbone, depths))
    rng = generator(study.seed, "random dilations")
    known = {space.arch([RATES.index(rate) for rate in rates]) for rates in taken}
    drawn: list[Contender] = []
    while len(drawn) < min(study.plan.random_networks, space.size - len(known)):
        arch = draw_new(space, rng, (), known)
        known.add(arch)
        rates = [RATES[choice] for choice in arch.choices]
        drawn.append(contender(study, f"random dilations {len(drawn) + 1}", depths, rates, "random dilations"))
    return drawn


def frozen_control(study: Study, entrant: Contender) -> float:
    """Test AP50 when the found network keeps random weights and only the detector on top learns."""
    return frozen_random_backbone(study, entrant.spec, detection=detection_task(study), finetune=study.plan.finetune)


def architecture_of(result: Result) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks in each searched stage, and one dilation for each residual block."""
    spec = result.contender.spec
    rates = tuple(spatial_dilation(spec.blocks[index])[0] for index in dilatable_blocks(spec))
    searched = LAYOUTS[spec.name.split()[0]].searched
    return tuple(sum(block.stage == stage for block in spec.blocks) for stage in searched), rates


def architecture_table(results: Sequence[Result]) -> pd.DataFrame:
    """Blocks, dilations, predicted spread of the field (pixels, last map) and AP by size of every trained network."""
    rows = []
    for result in results:
        depths, rates = architecture_of(result)
        sizes = {name: result.metrics.get(name, float("nan")) for name in ("AP_rel_s", "AP_rel_m", "AP_rel_l")}
        codes = {"blocks": ".".join(map(str, depths)), "dilations": "".join(map(str, rates))}
        sigma = predicted_sigma(result.contender.spec)[-1][0]
        rows.append(
            {
                "network": result.contender.name,
                **codes,
                "centre of mass": centre_of_mass(depths),
                "sigma": sigma,
                **sizes,
            }
        )
    return pd.DataFrame(rows)


def alone_against_supernet(results: Sequence[Result], scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """Undilated networks that were also ranked: columns `network`, `depths`, and the metric as `supernet`, `alone`."""
    ranked = {depths_of(space_named(s.arch.space), s.arch): s for s in scores if not s.error}
    rows: list[dict[str, Any]] = []
    for result in results:
        depths, rates = architecture_of(result)
        if max(rates) == 1 and depths in ranked and depths not in {row["depths"] for row in rows}:
            row = {"network": result.contender.name, "depths": depths, "supernet": ranked[depths].metrics[metric]}
            rows.append({**row, "alone": result.metrics[metric]})
    return pd.DataFrame(rows)
