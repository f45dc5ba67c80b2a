"""All four methods on the ladder, where it is known what must be found: a larger field, and in which blocks.

An animal's class is the colour of a dot up to 58 pixels away, so accuracy grows with the field. Each method starts from
a network whose field is too small, in a shallow space of its own, and is read by the linear probe at object centres.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from workbench.evaluation.scoring import Scorer
from workbench.lessons.known_answers_plan import KnownAnswersPlan
from workbench.methods import candidates, compare, one_shot
from workbench.methods.candidates import best
from workbench.methods.compare import Network, Result
from workbench.methods.crnas import baselines as crnas_baselines
from workbench.methods.crnas import method as crnas
from workbench.methods.detnas import method as detnas
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.fna import method as fna
from workbench.methods.gradient import GradientSearch, SeedNetwork, scored_epochs
from workbench.methods.nats import method as nats
from workbench.methods.phases import train_phase
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import base_spec, same_everywhere
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace

METRIC = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one method found and what it has to beat: scores by the supernet of its search, and networks to be trained.

    `networks` are the found one, the baseline, and the best-scored of a random search with as many evaluations;
    `scores` are theirs, in that order, except for CR-NAS: there the score of the baseline is that of the found
    allocation without dilations, because one supernet holds one allocation.
    """

    experiment: Experiment
    scorer: Scorer
    scores: tuple[Score, Score, Score]
    networks: tuple[Network, ...]
    trajectories: dict[str, list[Score]]
    phases: tuple[tuple[str, ...], tuple[str, ...]]  # in the ledger: those of the search, those of the random control

    @property
    def method(self) -> str:
        return self.networks[0].name

    @property
    def space(self) -> SearchSpace:
        return self.scorer.supernet.space


def detnas_case(experiment: Experiment) -> Case:
    """DetNAS: kernels of seven shuffle blocks under a limit on MACs, against 3x3 everywhere."""
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
    return Case(
        experiment=here,
        scorer=scorer,
        scores=rows,
        networks=tuple(networks),
        trajectories={"evolution": evolution, "random": control},
        phases=(("DetNAS supernet", "DetNAS evolution"), ("DetNAS supernet", "DetNAS random")),
    )


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
    shared = ("CR-NAS stage supernet", "CR-NAS ranking", "CR-NAS operation supernet")
    return Case(
        experiment=here,
        scorer=scorer,
        scores=rows,
        networks=tuple(networks),
        trajectories={"beam": beam, "random": control, "ranking of allocations": ranking},
        phases=((*shared, "CR-NAS beam"), (*shared, "CR-NAS random")),
    )


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
    shared = (name.replace("search", "seed"), name)
    return Case(
        experiment=experiment,
        scorer=scorer,
        scores=(found, plain, best(control, METRIC)),
        networks=(),
        trajectories={"gradient": scored_epochs(experiment, search), "random": list(control)},
        phases=((*shared, f"score {name}"), (*shared, f"random on {name}")),
    )
