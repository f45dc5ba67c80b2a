"""All four methods on the ladder, where it is known what must be found: a larger field, and in which blocks.

An animal's class is the colour of a dot up to 58 pixels away, so accuracy grows with the field. Each method starts from
a network whose field is too small, in a shallow space of its own, and is read by the linear probe at object centres.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from workbench.evaluation.scoring import Scorer
from workbench.insight.pipeline import Step, seconds_of
from workbench.lessons.pipelines import crnas_steps, detnas_steps, fna_steps, nats_steps
from workbench.methods import candidates, compare, one_shot
from workbench.methods.candidates import best
from workbench.methods.compare import Network, Result
from workbench.methods.crnas import baselines as crnas_baselines
from workbench.methods.crnas import method as crnas
from workbench.methods.crnas.presets import CRNASPlan
from workbench.methods.detnas import method as detnas
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.fna import method as fna
from workbench.methods.gradient import GradientSearch, SeedNetwork, scored_epochs
from workbench.methods.nats import method as nats
from workbench.methods.phases import train_phase
from workbench.methods.plan import OneShotPart
from workbench.networks.backbone import Backbone
from workbench.networks.choices import Sharing
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.channel_dilation import base_spec, same_everywhere
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP, SearchSpace
from workbench.tasks.probe import ProbeConfig
from workbench.training.recipe import Recipe

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
    (baseline,) = candidates.score_all(here, [space.uniform(0)], scorer, "DetNAS baseline")
    rows = (best(evolution, METRIC), baseline, best(control, METRIC))
    names = names_of("DetNAS", "all 3x3")
    return Case(
        experiment=here,
        scorer=scorer,
        scores=rows,
        networks=tuple(Network(name=n, spec=space.spec(r.arch), arch=r.arch) for n, r in zip(names, rows, strict=True)),
        trajectories={"evolution": evolution, "random": control},
        phases=(("DetNAS supernet", "DetNAS evolution"), ("DetNAS supernet", "DetNAS random")),
    )


def nats_case(experiment: Experiment) -> Case:
    """NATS: a dilation for each group of channels of a pretrained network, against that network; equal MACs."""
    here = replace(experiment, plan=experiment.plan.nats)
    space = nats.space_of(here)
    seed = seed_network(here, "NATS seed", base_spec(space), experiment.plan.seed_recipe)
    search = nats.search(here, seed, phase="NATS search")
    control = nats.random_search(here, search)

    def network(name: str, arch: Arch) -> Network:
        return nats.network(here, seed, name, space, arch)

    baseline, names = same_everywhere(space, (1, 1)), names_of("NATS", "undilated")
    return _gradient_case(here, search, control, baseline, names, network)


def fna_case(experiment: Experiment) -> Case:
    """FNA: kernel, width and depth around a seed of one layer in each stage, against that seed."""
    here = replace(experiment, plan=experiment.plan.fna)
    spec = fna.seed_form(here)
    seed = seed_network(here, "FNA seed", spec, experiment.plan.seed_recipe)
    search = fna.search(here, seed, phase="FNA search")
    control = fna.random_search(here, search, search.derived().arch)

    def network(name: str, arch: Arch) -> Network:
        return fna.network(here, seed, name, search.space.spec(arch), arch)

    baseline, names = arch_like(search.space, spec), names_of("FNA", "seed network")
    return _gradient_case(here, search, control, baseline, names, network)


def _gradient_case(
    experiment: Experiment,
    search: GradientSearch,
    control: Sequence[Score],
    baseline: Arch,
    names: Sequence[str],
    network: Callable[[str, Arch], Network],
) -> Case:
    scorer, name = candidates.scorer(experiment, search, experiment.task), search.phase
    compared = [search.derived().arch, baseline]
    found, plain = candidates.score_all(experiment, compared, scorer, f"{name}: found and baseline")
    rows = (found, plain, best(control, METRIC))
    shared = (name.replace("search", "seed"), name)
    return Case(
        experiment=experiment,
        scorer=scorer,
        scores=rows,
        networks=tuple(network(each, row.arch) for each, row in zip(names, rows, strict=True)),
        trajectories={"gradient": scored_epochs(experiment, search), "random": list(control)},
        phases=((*shared, f"score {name}"), (*shared, f"random on {name}")),
    )


def crnas_case(experiment: Experiment) -> Case:
    """CR-NAS: where five blocks stand, then the dilation of each, against the seed layout undilated; equal MACs.

    On the search score it is the undilated network of the found allocation that the dilations have to beat.
    """
    here = replace(experiment, plan=experiment.plan.crnas)
    plan: CRNASPlan = here.plan

    def supernet(space: SearchSpace, part: OneShotPart, sharing: Sharing, name: str, kind: str) -> Scorer:
        trained = one_shot.finetune_supernet(
            here, lambda: Supernet(space, sharing), part, None, name, origin={kind: sharing}
        )
        return candidates.scorer(here, trained, here.task)

    judge = supernet(crnas.stage_space(here), plan.stages, plan.branches, "CR-NAS stage supernet", "branches")
    ranking = crnas.rank_allocations(here, judge, plan.budget, "CR-NAS ranking")
    depths = crnas.depths_of_score(best(ranking, METRIC))
    space = crnas.operation_space(here, depths)
    scorer = supernet(space, plan.operations, plan.kernels, "CR-NAS operation supernet", "kernels")
    beam = crnas.beam(here, scorer, phase="CR-NAS beam")
    control = crnas.control_search(here, scorer, phase="CR-NAS random", kind="random")
    (undilated,) = candidates.score_all(here, [space.uniform(0)], scorer, "CR-NAS undilated")
    rows = (crnas.beam_winner(beam, METRIC), undilated, best(control, METRIC))
    names = names_of("CR-NAS", "seed layout")
    shared = ("CR-NAS stage supernet", "CR-NAS ranking", "CR-NAS operation supernet")
    return Case(
        experiment=here,
        scorer=scorer,
        scores=rows,
        networks=(
            crnas_baselines.network(here, names[0], depths, crnas.dilations_of_score(rows[0])),
            crnas_baselines.network(here, names[1], crnas_baselines.published_depths(here)),
            crnas_baselines.network(here, names[2], depths, crnas.dilations_of_score(rows[2])),
        ),
        trajectories={"beam": beam, "random": control, "ranking of allocations": ranking},
        phases=((*shared, "CR-NAS beam"), (*shared, "CR-NAS random")),
    )


def pipelines(experiment: Experiment, methods: Sequence[str]) -> dict[str, list[Step]]:
    """The methods as they are called here: on the task itself, without pre-training and without re-ranking."""
    plan, entries = experiment.plan, experiment.run.ledger.entries
    found = {
        "DetNAS": detnas_steps(replace(plan.detnas, rerank=None), entries),
        "NATS": nats_steps(plan.nats, entries),
        "FNA": fna_steps(plan.fna, entries),
        "CR-NAS": crnas_steps(replace(plan.crnas, rerank=None), entries),
    }
    for name in ("NATS", "FNA"):
        facts = (f"{plan.seed_recipe.steps:,} steps", *seconds_of(entries, f"{name} seed"))
        found[name][0] = Step(name="Train a small seed network", role="trained", facts=facts, hands_on="its weights")
    return {name: found[name] for name in methods}


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


def seed_network(experiment: Experiment, name: str, spec: NetworkSpec, recipe: Recipe) -> SeedNetwork:
    """A network trained on the ladder: what NATS and FNA take their weights from."""
    task, data = experiment.task, experiment.data.train
    model = new_model(lambda: task.build(Backbone(spec)), experiment.seed, "seed network")
    trained = train_phase(experiment, name, model, task, data, recipe, origin={"spec": compare.spec_identity(spec)})
    body: Backbone = body_of(model)
    return SeedNetwork(backbone=body.cpu(), origin={"pretrained": trained.key})


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


def both_questions(case: Case) -> list[Result]:
    """The matched control: the found network and its baseline, trained from random weights on two questions at once.

    The species of an animal is told by its own shape, where it lies, so that a larger field is no help; its accuracy is
    the metric `species accuracy`. Weights that know the dots already were seen to learn it late, so none are given.
    """
    kinds = case.experiment.data.train.config.kinds
    plan = replace(case.experiment.plan, head=ProbeConfig(questions=(("species", len(kinds)),)))
    networks = [replace(each, name=f"{each.name} on both questions", start=None) for each in case.networks[:2]]
    return compare.train_all(replace(case.experiment, plan=plan), networks)
