"""The plans of notebook 41: shallow spaces in which the receptive field decides, and short trainings."""

from dataclasses import dataclass, replace
from typing import Any

from workbench.data.loader import DataPlan
from workbench.methods.crnas import presets as crnas_presets
from workbench.methods.crnas.presets import BeamPart, CRNASPlan
from workbench.methods.detnas import presets as detnas_presets
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.fna import presets as fna_presets
from workbench.methods.fna.presets import FNAPlan
from workbench.methods.nats import presets as nats_presets
from workbench.methods.nats.presets import ALPHA, NATSPlan
from workbench.methods.plan import CostPenalty, OneShotPart, ScoringPart
from workbench.methods.presets import LADDER, PROBE
from workbench.search.evolution import EvolutionConfig
from workbench.tasks.probe import ProbeConfig
from workbench.training.recipe import AlternatingRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class KnownAnswersPlan:
    """The plans of the four methods, and how the seed networks of NATS and FNA are trained: on the ladder itself."""

    data: DataPlan
    seed_recipe: Recipe
    detnas: DetNASPlan
    nats: NATSPlan
    fna: FNAPlan
    crnas: CRNASPlan


_DATA = DataPlan(image_side=128, crop_side=32, train_images=3200, search_images=300, test_images=400, scenes=LADDER)
_COMMON: dict[str, Any] = {
    "data": _DATA,
    "head": ProbeConfig(),
    "classifier": None,
    "scoring": ScoringPart(calibration_images=128, calibration_batch=32, batch=50),
    "finetune": PROBE,
}
_ALPHA = replace(ALPHA, batch_size=16)

TINY = KnownAnswersPlan(
    data=_DATA,
    seed_recipe=replace(PROBE, steps=200),
    detnas=replace(
        detnas_presets.TINY,
        **_COMMON,
        space="shuffle-seven",
        supernet=OneShotPart(pretrain=PROBE, finetune=replace(PROBE, steps=600), aligned_options=True),
        macs_limit=8_100_000,
        evolution=EvolutionConfig(population=10, parents=4, mutants=5, crossings=4, mutation_probability=0.2),
        # Good answers are a plateau: after 40 evaluations evolution is not told from random search, and after 100 it
        # leads by 0.005, which would take twenty seeds to show.
        evaluations=100,
    ),
    nats=replace(
        nats_presets.TINY,
        **(_COMMON | {"finetune": replace(PROBE, steps=150)}),
        backbone="resnet-bottleneck-shallow",
        groups="n8",
        search=AlternatingRecipe(weights=replace(PROBE, steps=200), alpha=_ALPHA, epochs=8, warm_epochs=2),
    ),
    fna=replace(
        fna_presets.TINY_DETECTION,
        **(_COMMON | {"finetune": replace(PROBE, steps=200)}),
        seed_network="mobilenetv2-shallow",
        depths=(2, 2, 2),
        search=AlternatingRecipe(
            weights=replace(PROBE, steps=200), alpha=replace(_ALPHA, batch_size=8), epochs=10, warm_epochs=5
        ),
        penalty=CostPenalty(strength=0.3),
    ),
    crnas=replace(
        crnas_presets.TINY,
        **_COMMON,
        backbone="resnet-bottleneck-shallow",
        supernet_backbone="resnet-bottleneck-shallow",
        budget=5,
        other_budgets=(),
        deeper=(1, 1, 3),
        stages=OneShotPart(pretrain=PROBE, finetune=PROBE, aligned_options=True),
        operations=OneShotPart(pretrain=PROBE, finetune=PROBE, aligned_options=True),
        kernels="shared",
        beam=BeamPart(width=3, completions=6),
    ),
)


def _smoke(plan: KnownAnswersPlan) -> KnownAnswersPlan:
    data = replace(_DATA, train_images=24, search_images=12, test_images=12)
    few = replace(PROBE, steps=3, batch_size=4)
    shared: dict[str, Any] = {
        "data": data,
        "scoring": ScoringPart(calibration_images=8, calibration_batch=4, batch=6),
        "finetune": few,
    }
    once = OneShotPart(pretrain=few, finetune=few, aligned_options=True)
    search = AlternatingRecipe(weights=few, alpha=replace(_ALPHA, batch_size=4), epochs=3, warm_epochs=1)
    config = EvolutionConfig(population=3, parents=2, mutants=1, crossings=1, mutation_probability=0.3)
    return KnownAnswersPlan(
        data=data,
        seed_recipe=few,
        detnas=replace(plan.detnas, **shared, supernet=once, evolution=config, evaluations=6),
        nats=replace(plan.nats, **shared, search=search),
        fna=replace(plan.fna, **shared, search=search),
        crnas=replace(plan.crnas, **shared, stages=once, operations=once, beam=BeamPart(width=2, completions=2)),
    )


PRESETS: dict[str, KnownAnswersPlan] = {"smoke": _smoke(TINY), "tiny": TINY}
