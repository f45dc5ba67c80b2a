"""What CR-NAS's winner is compared with, everybody trained alike: table 4 of the paper and what it leaves out."""

from collections.abc import Sequence

from workbench.methods.candidates import detection_task
from workbench.methods.compare import Contender, frozen_random_backbone
from workbench.methods.crnas_presets import CRNASPlan
from workbench.methods.phases import Study
from workbench.records.seeds import generator
from workbench.search.random import draw_new
from workbench.spaces.allocation import PREFIX, depths_of, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import RATES, dilation_space_name
from workbench.spaces.residual import LAYOUTS, residual_spec


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
