"""The four methods as pipelines with the numbers of a plan and, where a run has done phases already, their seconds."""

from collections.abc import Sequence
from math import log10

from workbench.insight.pipeline import Step, seconds_of
from workbench.methods.crnas import presets as crnas
from workbench.methods.crnas.presets import CRNASPlan
from workbench.methods.detnas import presets as detnas
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.fna.paper import plan_named
from workbench.methods.fna.presets import FNAPlan
from workbench.methods.nats import presets as nats
from workbench.methods.nats.presets import NATSPlan
from workbench.methods.plan import ClassifierPart, OneShotPart, Plan
from workbench.methods.reranking import reranking_phases
from workbench.records.ledger import Entry
from workbench.search.beam import BeamSearch
from workbench.spaces.allocation import PREFIX, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import logits, searched_layers
from workbench.spaces.dilation import dilation_space_name
from workbench.training.recipe import AlternatingRecipe


def four_methods(preset: str) -> dict[str, list[Step]]:
    """The pipelines of all four methods with the numbers of one preset (any of the paper's is its plain "paper")."""
    name = "paper" if preset.startswith("paper") else preset
    return {
        "DetNAS": detnas_steps(detnas.PRESETS[name]),
        "NATS": nats_steps(nats.PRESETS[name]),
        "FNA": fna_steps(plan_named(name, "detection")),
        "CR-NAS": crnas_steps(crnas.PRESETS[name]),
    }


def detnas_steps(plan: DetNASPlan, entries: Sequence[Entry] = ()) -> list[Step]:
    """DetNAS: one supernet, an evolution over its paths, and a training from the beginning."""
    part, size = plan.supernet, f"{many(space_named(plan.space).size)} networks"
    first = (size, f"{part.pretrain.steps:,} steps", *seconds_of(entries, "pretrain supernet"))
    second = (
        "one path a step" if plan.classifier else size,
        f"{part.finetune.steps:,} steps",
        *seconds_of(entries, "finetune supernet", "DetNAS supernet"),
    )
    scored = (
        f"{plan.evaluations:,} paths scored",
        f"{plan.macs_limit / 1e6:,.4g} MMACs at most",
        *_reranked(plan),
        *seconds_of(entries, "evolution", "DetNAS evolution", *reranking_phases(entries)),
    )
    pretrain = Step(name="Pre-train the supernet", role="trained", facts=first, hands_on="shared weights")
    name = "Fine-tune it as a detector" if plan.classifier else "Train the supernet"
    dropped = "the supernet, all its weights"
    return [
        *([pretrain] if plan.classifier else []),
        Step(name=name, role="trained", facts=second, hands_on="shared weights, fixed"),
        Step(name="Evolution", role="searched", facts=scored, hands_on="one network", dropped=dropped),
        *_trained(plan, entries, "from random weights", "detnas"),
    ]


def nats_steps(plan: NATSPlan, entries: Sequence[Entry] = (), seed_weights: str = "") -> list[Step]:
    """NATS: a mixture of dilations on pretrained kernels, which are then cut; `seed_weights` as in its notebook."""
    space = space_named(plan.space)
    alphas = f"{len(searched_layers(space))} layers, {logits(space):,} alphas"
    mixed = (alphas, *_alternating(plan.search), *_searched(entries, f"search {plan.groups}", "NATS search"))
    group, dropped = "a dilation for each group", "the mixture, all its weights"
    cut = ("same params and MACs", "nothing is trained")
    return [
        _seed(None if seed_weights else plan.classifier, entries, plan.backbone),
        Step(name="Train weights and alpha in turn", role="searched", facts=mixed, hands_on=group, dropped=dropped),
        Step(name="Cut the seed's kernels", role="given", facts=cut, hands_on="the found network"),
        *_trained(plan, entries, "from the cut kernels", "nats"),
    ]


def fna_steps(plan: FNAPlan, entries: Sequence[Entry] = ()) -> list[Step]:
    """FNA: a seed network remapped into a supernet, a gradient search with a price on MACs, the seed remapped again."""
    price, networks = f"MACs cost: λ = {plan.penalty.strength:g}", f"{many(space_named(plan.space).size)} networks"
    phases, dropped = ("search", f"search {plan.task}", "FNA search"), "the supernet, all its weights"
    adapted = (price, *_alternating(plan.search), *_searched(entries, *phases))
    first, again = (networks, "nothing is trained"), ("by depth, width and kernel", "nothing is trained")
    turns = "Train paths and alpha in turn"
    return [
        _seed(None, entries, plan.seed_network),
        Step(name="Remap it into a supernet", role="given", facts=first, hands_on="remapped weights"),
        Step(name=turns, role="searched", facts=adapted, hands_on="one network", dropped=dropped),
        Step(name="Remap the seed once more", role="given", facts=again, hands_on="the found network"),
        *_trained(plan, entries, "from the remapped weights", "fna", f"fna-{plan.task}"),
    ]


def crnas_steps(plan: CRNASPlan, entries: Sequence[Entry] = ()) -> list[Step]:
    """CR-NAS: blocks move between stages on one supernet, dilations are chosen on another; then a training anew."""
    stages = space_named(PREFIX + plan.supernet_backbone)
    dilations = space_named(dilation_space_name(plan.supernet_backbone, plan.deeper))  # of any allocation of the budget
    beam = BeamSearch(dilations, width=plan.beam.width, completions=1, seed=0, metric="")
    ranked = (
        f"{len(eligible(stages, plan.budget))} allocations of {plan.budget:g} blocks",
        *_reranked(plan),
        *seconds_of(entries, "stages", "CR-NAS ranking", *reranking_phases(entries)),
    )
    spent = seconds_of(entries, "beam", "CR-NAS beam")
    scored = (f"{beam.evaluations} prefixes scored", f"best {plan.beam.width} kept a step", *spent)
    places, rates = "blocks of each stage", "dilation of each block"
    dropped = [f"the {name} supernet" for name in ("stage", "operation")]
    return [
        _supernet(plan, plan.stages, entries, "stage", stages.size),
        Step(name="Rank all allocations", role="searched", facts=ranked, hands_on=places, dropped=dropped[0]),
        _supernet(plan, plan.operations, entries, "operation", dilations.size),
        Step(name="Beam over dilations", role="searched", facts=scored, hands_on=rates, dropped=dropped[1]),
        *_trained(plan, entries, "from random weights", "cr-nas"),
    ]


def many(count: int) -> str:
    """A count in words: 6,561, or 10¹² where only its magnitude can be imagined."""
    power = str(round(log10(count)))
    return f"{count:,}" if count < 10**6 else "10" + power.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _seed(classifier: ClassifierPart | None, entries: Sequence[Entry], name: str) -> Step:
    """Where pretrained weights come from: trained here as a classifier, or given."""
    facts = (f"{classifier.recipe.steps:,} steps", *seconds_of(entries, "pretrain seed network")) if classifier else ()
    verb = "Pre-train the seed network" if classifier else "Pretrained seed network"
    return Step(name=verb, role="trained" if classifier else "given", facts=(name, *facts), hands_on="its weights")


def _supernet(plan: CRNASPlan, part: OneShotPart, entries: Sequence[Entry], name: str, size: int) -> Step:
    steps = part.finetune.steps + (part.pretrain.steps if plan.classifier else 0)
    phases = (f"pretrain {name} supernet", f"finetune {name} supernet", f"CR-NAS {name} supernet")
    facts = (f"{many(size)} networks", f"{steps:,} steps", *seconds_of(entries, *phases))
    return Step(name=f"{name.capitalize()} supernet", role="trained", facts=facts, hands_on="shared weights")


def _alternating(recipe: AlternatingRecipe) -> tuple[str, ...]:
    return f"{recipe.weights.steps:,} steps", f"alpha from epoch {recipe.warm_epochs + 1}"


def _searched(entries: Sequence[Entry], *phases: str) -> tuple[str, ...]:
    """The seconds of a gradient search and of scoring its epochs."""
    return seconds_of(entries, *phases, *(f"score {phase}" for phase in phases))


def _reranked(plan: Plan) -> tuple[str, ...]:
    return (f"best {plan.rerank.networks} trained alone",) if plan.rerank else ()


def _trained(plan: Plan, entries: Sequence[Entry], begins: str, *names: str) -> list[Step]:
    """The last two steps: the found network trained as its baselines are, and tested."""
    anew = plan.classifier if begins == "from random weights" else None
    steps = (f"{anew.recipe.steps:,} + " if anew else "") + f"{plan.finetune.steps:,} steps"
    facts = (begins, steps, *seconds_of(entries, *(f"{v} {name}" for v in ("pretrain", "finetune") for name in names)))
    return [
        Step(name="Train the winner", role="trained", facts=facts, hands_on="a trained network"),
        Step(name="Test", role="measured", facts=("unseen images, once", "with its baselines")),
    ]
