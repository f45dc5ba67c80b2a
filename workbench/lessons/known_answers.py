"""All four methods on the ladder, where it is known what must be found: a larger field, and in which blocks.

An animal's class is the colour of a dot up to 58 pixels away, so accuracy grows with the field. Each method starts from
a network whose field is too small, in a shallow space of its own, and is read by the linear probe at object centres.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.data.loader import DataPlan
from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, compare, one_shot
from workbench.methods.candidates import best
from workbench.methods.compare import Network, Result
from workbench.methods.crnas import baselines as crnas_baselines
from workbench.methods.crnas import method as crnas
from workbench.methods.crnas import presets as crnas_presets
from workbench.methods.crnas.presets import BeamPart, CRNASPlan
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas import presets as detnas_presets
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.fna import method as fna
from workbench.methods.fna import presets as fna_presets
from workbench.methods.fna.presets import FNAPlan
from workbench.methods.gradient import GradientSearch, SeedNetwork, scored_epochs
from workbench.methods.nats import method as nats
from workbench.methods.nats import presets as nats_presets
from workbench.methods.nats.presets import ALPHA, NATSPlan
from workbench.methods.phases import train_phase
from workbench.methods.plan import CostPenalty, OneShotPart, ScoringPart
from workbench.methods.presets import LADDER
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.search.evolution import EvolutionConfig
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import base_spec, same_everywhere
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace
from workbench.tasks.probe import ProbeConfig
from workbench.training.recipe import AlternatingRecipe, Recipe

METRIC = "accuracy"


@dataclass(frozen=True, kw_only=True)
class KnownAnswersPlan:
    """The plans of the four methods, and how the seed networks of NATS and FNA are trained: on the ladder itself."""

    data: DataPlan
    seed_recipe: Recipe
    detnas: DetNASPlan
    nats: NATSPlan
    fna: FNAPlan
    crnas: CRNASPlan


_STEPS = Recipe(steps=300, batch_size=16, lr=3e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05)
_DATA = DataPlan(image_side=128, crop_side=32, train_images=3200, search_images=300, test_images=400, scenes=LADDER)
_COMMON: dict[str, Any] = {
    "data": _DATA,
    "head": ProbeConfig(),
    "classifier": None,
    "scoring": ScoringPart(calibration_images=128, calibration_batch=32, batch=50),
    "finetune": _STEPS,
}
_ALPHA = replace(ALPHA, batch_size=16)

TINY = KnownAnswersPlan(
    data=_DATA,
    seed_recipe=replace(_STEPS, steps=200),
    detnas=replace(
        detnas_presets.TINY,
        **_COMMON,
        space="shuffle-five",
        supernet=OneShotPart(pretrain=_STEPS, finetune=replace(_STEPS, steps=600), aligned_options=True),
        macs_limit=6_600_000,
        evolution=EvolutionConfig(population=10, parents=5, mutants=4, crossings=4, mutation_probability=0.2),
    ),
    nats=replace(
        nats_presets.TINY,
        **(_COMMON | {"finetune": replace(_STEPS, steps=150)}),
        backbone="resnet-bottleneck-shallow",
        groups="n8",
        search=AlternatingRecipe(weights=replace(_STEPS, steps=200), alpha=_ALPHA, epochs=8, warm_epochs=2),
    ),
    fna=replace(
        fna_presets.TINY_DETECTION,
        **(_COMMON | {"finetune": replace(_STEPS, steps=200)}),
        seed_network="mobilenetv2-shallow",
        depths=(2, 2, 2),
        search=AlternatingRecipe(
            weights=replace(_STEPS, steps=200), alpha=replace(_ALPHA, batch_size=8), epochs=10, warm_epochs=5
        ),
        penalty=CostPenalty(strength=0.05),
    ),
    crnas=replace(
        crnas_presets.TINY,
        **_COMMON,
        backbone="resnet-bottleneck-shallow",
        supernet_backbone="resnet-bottleneck-shallow",
        budget=5,
        other_budgets=(),
        deeper=(1, 1, 3),
        stages=OneShotPart(pretrain=_STEPS, finetune=_STEPS, aligned_options=True),
        operations=OneShotPart(pretrain=_STEPS, finetune=_STEPS, aligned_options=True),
        kernels="shared",
        beam=BeamPart(width=3, completions=6),
    ),
)


def _smoke(plan: KnownAnswersPlan) -> KnownAnswersPlan:
    data = replace(_DATA, train_images=24, search_images=12, test_images=12)
    few = replace(_STEPS, steps=3, batch_size=4)
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


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one method found and what it has to beat: scores by the supernet of its search, and networks to be trained.

    `networks` are the found one, the baseline, and the best-scored of a random search with as many evaluations;
    `scores` are theirs, in that order; `archs` the same as architectures of the searched space.
    """

    experiment: Experiment
    scorer: Scorer
    scores: tuple[Score, Score, Score]
    networks: tuple[Network, ...]
    trajectories: dict[str, list[Score]]

    @property
    def method(self) -> str:
        return self.networks[0].name

    @property
    def space(self) -> SearchSpace:
        return self.scorer.supernet.space


def detnas_case(experiment: Experiment) -> Case:
    """DetNAS: kernels of five shuffle blocks under a limit on MACs, against 3x3 everywhere."""
    here = replace(experiment, plan=experiment.plan.detnas)
    supernet = detnas.finetune_supernet(here, None, "DetNAS supernet")
    scorer = candidates.scorer(here, supernet, here.task)
    space = scorer.supernet.space
    evolution = detnas.search(here, scorer, phase="DetNAS evolution")
    control = detnas.search(here, scorer, phase="DetNAS random", kind="random")
    (baseline,) = scored(here, scorer, [space.uniform(0)], "DetNAS baseline")
    rows = (best(evolution, METRIC), baseline, best(control, METRIC))
    networks = [
        Network(name=name, spec=space.spec(row.arch), arch=row.arch)
        for name, row in zip(names_of("DetNAS", "all 3x3"), rows, strict=True)
    ]
    trajectories = {"evolution": evolution, "random": control}
    return Case(experiment=here, scorer=scorer, scores=rows, networks=tuple(networks), trajectories=trajectories)


def nats_case(experiment: Experiment) -> Case:
    """NATS: a dilation for each group of channels of a pretrained network, against that network; equal MACs."""
    here = replace(experiment, plan=experiment.plan.nats)
    space = nats.space_of(here)
    seed = seed_network(experiment, "NATS seed", base_spec(space))
    search = nats.search(here, seed, phase="NATS search")
    control = nats.random_search(here, search)
    case = _gradient_case(here, search, control, same_everywhere(space, (1, 1)))
    networks = [
        nats.network(here, seed, name, space, row.arch)
        for name, row in zip(names_of("NATS", "undilated"), case.scores, strict=True)
    ]
    return replace(case, networks=tuple(networks))


def fna_case(experiment: Experiment) -> Case:
    """FNA: kernel, width and depth around a seed of one layer in each stage, against that seed."""
    here = replace(experiment, plan=experiment.plan.fna)
    spec = fna.seed_form(here)
    seed = seed_network(experiment, "FNA seed", spec)
    search = fna.search(here, seed, phase="FNA search")
    found = search.derived().arch
    control = fna.random_search(here, search, found)
    case = _gradient_case(here, search, control, arch_like(search.space, spec))
    networks = [
        fna.network(here, seed, name, search.space.spec(row.arch), row.arch)
        for name, row in zip(names_of("FNA", "seed network"), case.scores, strict=True)
    ]
    return replace(case, networks=tuple(networks))


def crnas_case(experiment: Experiment) -> Case:
    """CR-NAS: where five blocks stand, then the dilation of each, against the seed layout undilated; equal MACs.

    On the search score it is the undilated network of the found allocation that the dilations have to beat.
    """
    here = replace(experiment, plan=experiment.plan.crnas)
    stages = one_shot.train_supernet(
        here,
        "CR-NAS stage supernet",
        lambda: Supernet(crnas.stage_space(here), here.plan.branches),
        here.task,
        here.data.train,
        here.plan.stages.finetune,
        stream="supernet detector",
        origin={"branches": here.plan.branches},
        aligned=here.plan.stages.aligned_options,
    )
    judge = candidates.scorer(here, stages, here.task)
    ranking = crnas.rank_allocations(here, judge, here.plan.budget, "CR-NAS ranking")
    depths = crnas.depths_of_score(best(ranking, METRIC))
    operations = one_shot.train_supernet(
        here,
        "CR-NAS operation supernet",
        lambda: Supernet(crnas.operation_space(here, depths), here.plan.kernels),
        here.task,
        here.data.train,
        here.plan.operations.finetune,
        stream="supernet detector",
        origin={"kernels": here.plan.kernels},
        aligned=here.plan.operations.aligned_options,
    )
    scorer = candidates.scorer(here, operations, here.task)
    beam = crnas.beam(here, scorer, phase="CR-NAS beam")
    control = crnas.control_search(here, scorer, phase="CR-NAS random", kind="random")
    (undilated,) = scored(here, scorer, [scorer.supernet.space.uniform(0)], "CR-NAS undilated")
    rows = (crnas.beam_winner(beam, METRIC), undilated, best(control, METRIC))
    names = names_of("CR-NAS", "seed layout")
    networks = [
        crnas_baselines.network(here, names[0], depths, crnas.dilations_of_score(rows[0])),
        crnas_baselines.network(here, names[1], crnas_baselines.published_depths(here)),
        crnas_baselines.network(here, names[2], depths, crnas.dilations_of_score(rows[2])),
    ]
    trajectories = {"beam": beam, "random": control, "ranking of allocations": ranking}
    return Case(experiment=here, scorer=scorer, scores=rows, networks=tuple(networks), trajectories=trajectories)


CASES: dict[str, Callable[[Experiment], Case]] = {
    "DetNAS": detnas_case,
    "NATS": nats_case,
    "FNA": fna_case,
    "CR-NAS": crnas_case,
}


def cases_named(methods: Sequence[str]) -> list[Callable[[Experiment], Case]]:
    """The cases of these methods in the order asked for; ValueError for anything else than some of the four."""
    if not methods or set(methods) - set(CASES) or len(set(methods)) < len(methods):
        raise ValueError(f"methods are some of {', '.join(CASES)}, each once; got {list(methods)}.")
    return [CASES[method] for method in methods]


def seed_network(experiment: Experiment, name: str, spec: NetworkSpec) -> SeedNetwork:
    """A network trained on the ladder: what NATS and FNA take their weights from."""
    plan: KnownAnswersPlan = experiment.plan
    here = replace(experiment, plan=plan.nats)
    model = new_model(lambda: here.task.build(Backbone(spec)), experiment.seed, "seed network")
    origin = {"spec": compare.spec_identity(spec)}
    trained = train_phase(here, name, model, here.task, here.data.train, plan.seed_recipe, origin=origin)
    body: Backbone = body_of(model)
    return SeedNetwork(backbone=body.cpu(), origin={"pretrained": trained.key})


def scored(experiment: Experiment, scorer: Scorer, archs: Sequence[Arch], phase: str) -> list[Score]:
    """The scores of these architectures by the supernet of a search, in order; equal ones are scored once."""
    distinct = list(dict.fromkeys(archs))
    rows = candidates.search(
        experiment, ExhaustiveSearch(distinct), scorer, phase=phase, evaluations=len(distinct), generation=len(distinct)
    )
    by_arch = dict(zip(distinct, rows, strict=True))
    return [by_arch[arch] for arch in archs]


def arch_like(space: SearchSpace, spec: NetworkSpec) -> Arch:
    """The architecture of a space of layers that is the seed itself: its own kernel and width, nothing added."""
    options = [decision.options for decision in space.decisions]
    arch = space.arch([names.index(SKIP) if SKIP in names else 0 for names in options])
    if compare.spec_identity(space.spec(arch)) != compare.spec_identity(spec):
        raise ValueError(f"{spec.name} is not in {space.name}; take a seed whose layers are all {options[0][0]}.")
    return arch


def names_of(method: str, baseline: str) -> tuple[str, str, str]:
    """Names of the found network, of its baseline, and of the random control."""
    return method, f"{method}: {baseline}", f"{method}: best-scored random"


def train_cases(cases: Sequence[Case]) -> list[Result]:
    """Every network of every case by its own method's recipe, each tested once."""
    return [result for case in cases for result in compare.train_all(case.experiment, case.networks)]


def _gradient_case(experiment: Experiment, search: GradientSearch, control: Sequence[Score], baseline: Arch) -> Case:
    scorer = candidates.scorer(experiment, search, experiment.task)
    name = search.phase
    found, plain = scored(experiment, scorer, [search.derived().arch, baseline], f"{name}: found and baseline")
    trajectories = {"gradient": scored_epochs(experiment, search), "random": list(control)}
    rows = (found, plain, best(control, METRIC))
    return Case(experiment=experiment, scorer=scorer, scores=rows, networks=(), trajectories=trajectories)
