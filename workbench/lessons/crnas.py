"""Tables of the lesson on CR-NAS: what reusing prefixes saves, the networks, supernet against training alone."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from workbench.evaluation.prefix_reuse import beam_macs, clocked
from workbench.insight.receptive_field import predicted_sigma
from workbench.methods.candidates import detection_scorer
from workbench.methods.compare import Result
from workbench.methods.crnas import beam, prefix_memory, reusing
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.phases import Study
from workbench.methods.presets import input_sizes
from workbench.records.score import Score
from workbench.spaces.allocation import centre_of_mass, depths_of
from workbench.spaces.branches import spatial_dilation
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import LAYOUTS, dilatable_blocks


def reuse_table(study: Study, supernet: TrainedSupernet, *, measured: bool) -> pd.DataFrame:
    """What reusing prefixes saves: backbone MACs per image of a whole beam; with `measured` also seconds, by two beams.

    The two beams must agree in every score, which the column `largest difference` shows. Seconds are empty when a
    search was interrupted; one row alone says that prefixes do not fit into memory and were computed again.
    """
    plain = detection_scorer(study, supernet)
    macs = beam_macs(
        supernet.supernet.space, study.plan.beam_width, input_sizes(study.plan, study.data)[0]
    )  # recomputed, reused
    ways = {"recomputed": plain, "reused": reusing(study, plain)}
    if ways["reused"].reuse is None:
        gib = prefix_memory(study, plain) / 2**30
        return pd.DataFrame(
            [{"prefixes": f"recomputed ({gib:.1f} GiB would be needed)", "backbone MACs per image": macs[0]}]
        )
    rows = [
        dict(zip(("prefixes", "backbone MACs per image"), row, strict=True)) for row in zip(ways, macs, strict=True)
    ]
    if measured:
        scores: dict[str, list[Score]] = {}
        for row, (way, scorer) in zip(rows, ways.items(), strict=True):
            phase = f"beam, {way}"
            known = study.run.load(f"clock {phase}", scorer.origin)
            whole = not study.run.scores(phase)
            with clocked(supernet.supernet) as clock:
                scores[way] = beam(study, scorer, phase=phase, reuse=False)
            built = scorer.reuse.seconds if scorer.reuse else 0.0
            if known is None:
                known = {"seconds": clock.seconds + built if whole else float("nan")}
                study.run.store(f"clock {phase}", scorer.origin, {"seconds": known["seconds"]} if whole else {})
            row["backbone seconds"] = known.get("seconds", float("nan"))
            row["seconds"] = sum(score.seconds for score in scores[way])
        pairs = zip(scores["recomputed"], scores["reused"], strict=True)
        metric = study.plan.fitness
        gap = max(abs(a.metrics[metric] - b.metrics[metric]) for a, b in pairs)
        rows = [{**row, "largest difference": gap} for row in rows]
    return pd.DataFrame(rows)


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
