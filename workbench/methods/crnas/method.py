"""CR-NAS (Liang et al., ICLR 2020): computation reallocation, blocks across stages and dilation across blocks.

The two levels are searched one after the other, never together (section 3.3):

1. `train_stage_supernet`: every depth of every stage in one supernet, one random path per step (section 3.3.1)
2. `rank_allocations`: all allocations of one budget by the weights they inherit (equation 1); by accuracy, before
   fine-tuning, they say what classification prefers, which is the baseline
3. `train_operation_supernet`: on the winner, a choice of dilation in every block (section 3.3.2)
4. `beam`: dilations block by block from input to output (section 3.3.2, algorithm 1)
5. `compare.train_all`: the winner and its baselines are trained like any network and tested (section 4.2)
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pandas as pd

from workbench.data.loader import Data
from workbench.evaluation.prefix_reuse import PrefixReuse, beam_macs, prefix_bytes
from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, one_shot, reranking
from workbench.methods.candidates import best
from workbench.methods.crnas.presets import CRNASPlan
from workbench.methods.experiment import Experiment
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.plan import input_sizes
from workbench.networks.supernet import Supernet
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.beam import BeamSearch
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.search.query import Searcher
from workbench.search.random import RandomSearch
from workbench.spaces.allocation import PREFIX, allocation, depths_of, eligible
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import RATES, dilation_space_name
from workbench.spaces.residual import LAYOUTS, check_dilations, dilatable_blocks, dilated, layout_named, residual_spec
from workbench.spaces.space import SearchSpace


def stage_space(experiment: Experiment) -> SearchSpace:
    """The depth of every stage (section 3.2.1); a budget is a limit on the search, not part of the space."""
    return space_named(PREFIX + experiment.plan.supernet_backbone)


def operation_space(experiment: Experiment, depths: Sequence[int]) -> SearchSpace:
    """The dilation of every block of one allocation (section 3.2.2)."""
    return space_named(dilation_space_name(experiment.plan.supernet_backbone, depths))


def check_plan(plan: CRNASPlan, data: Data) -> str:
    """ValueError before work starts: budgets that nothing meets, a layout off budget, dilations larger than a map.

    Returns a warning in words when only the smaller images of pre-training give maps that a dilation reaches over.
    """
    space = space_named(PREFIX + plan.supernet_backbone)
    for budget in (plan.budget, *plan.other_budgets):
        eligible(space, budget)
    layout = layout_named(plan.backbone)
    allocation(space, plan.deeper)
    if layout.budget(plan.deeper) != plan.budget:
        raise ValueError(
            f"The hand-made layout {list(plan.deeper)} costs {layout.budget(plan.deeper):g} blocks,"
            f" the budget is {plan.budget:g}; they must be equal."
        )
    smallest = min(input_sizes(plan, data), key=min)
    deepest = residual_spec(plan.backbone, plan.deeper)
    widest = dilated(deepest, [max(RATES)] * len(dilatable_blocks(deepest)))
    check_dilations(widest, smallest)
    try:
        check_dilations(widest, (plan.data.crop_side,) * 2)
    except ValueError as error:
        return f"In pre-training only: {error}"
    return ""


def train_stage_supernet(experiment: Experiment) -> tuple[TrainedSupernet, TrainedSupernet]:
    """Step 1: as a classifier, then in the detector. The budget plays no part: one supernet ranks several."""
    plan: CRNASPlan = experiment.plan
    origin = {"branches": plan.branches}

    def build() -> Supernet:
        return Supernet(stage_space(experiment), plan.branches)

    pretrained = one_shot.pretrain_supernet(experiment, build, plan.stages, "pretrain stage supernet", origin=origin)
    return pretrained, one_shot.finetune_supernet(
        experiment, build, plan.stages, pretrained, "finetune stage supernet", origin=origin
    )


def rank_allocations(experiment: Experiment, scorer: Scorer, budget: float, phase: str) -> list[Score]:
    """Step 2: scores of every allocation of `budget`, in counting order, by AP or by the accuracy of a classifier."""
    plan, space = experiment.plan, scorer.supernet.space
    archs = eligible(space, budget)
    if plan.allocations:  # as a rehearsal does
        published = LAYOUTS[plan.backbone].depths

        def moved(arch: Arch) -> int:
            return sum(abs(a - b) for a, b in zip(depths_of(space, arch), published, strict=True))

        archs = sorted(archs, key=moved)[: plan.allocations]
    return candidates.score_all(experiment, archs, scorer, phase)


def draw_allocations(experiment: Experiment, count: int, taken: Collection[Arch], stream: str) -> list[Arch]:
    """Random allocations of the budget, none of `taken`; fewer where not so many are left. `stream` names the draw."""
    left = [arch for arch in eligible(stage_space(experiment), experiment.plan.budget) if arch not in taken]
    return [left[pick] for pick in generator(experiment.seed, stream).permutation(len(left))[:count]]


def rerank(experiment: Experiment, scores: Sequence[Score]) -> pd.DataFrame:
    """After step 2, ours: the best few allocations trained on their own for a short while, see `reranking`."""
    space, backbone = stage_space(experiment), experiment.plan.backbone
    return reranking.rerank(
        experiment,
        scores,
        lambda count, taken: draw_allocations(experiment, count, taken, "re-ranked allocations"),
        lambda arch: residual_spec(backbone, depths_of(space, arch)),  # as wide as what is compared in the end
    )


def train_operation_supernet(experiment: Experiment, depths: Sequence[int], name: str) -> TrainedSupernet:
    """Step 3: pre-trained and fine-tuned like the first; `name` tells the supernets of two allocations apart."""
    plan: CRNASPlan = experiment.plan
    origin = {"kernels": plan.kernels}

    def build() -> Supernet:
        return Supernet(operation_space(experiment, depths), plan.kernels)

    pretrained = one_shot.pretrain_supernet(experiment, build, plan.operations, f"pretrain {name}", origin=origin)
    return one_shot.finetune_supernet(experiment, build, plan.operations, pretrained, f"finetune {name}", origin=origin)


def beam(experiment: Experiment, scorer: Scorer, *, phase: str, reuse: bool = True) -> list[Score]:
    """Step 4: scores of all candidates of all steps; a candidate is a prefix of dilations, the last ones are whole.

    With `reuse` the blocks that candidates share are computed once, as far as memory allows.
    """
    searcher = beam_search(experiment, scorer)
    scorer = reusing(experiment, scorer) if reuse and scorer.reuse is None else scorer
    saved = 0
    if scorer.reuse is not None:
        size = input_sizes(experiment.plan, experiment.data)[0]
        recomputed, reused = beam_macs(scorer.supernet.space, experiment.plan.beam.width, size, searcher.first)
        saved = round((recomputed - reused) / searcher.evaluations)
    return candidates.search(
        experiment,
        searcher,
        scorer,
        phase=phase,
        evaluations=searcher.evaluations,
        generation=searcher.evaluations,
        saved_macs=saved,
    )


def beam_search(experiment: Experiment, scorer: Scorer) -> BeamSearch:
    """The beam over the dilations of the scorer's supernet, with at most one completion for each scored batch.

    Calibration has fewer batches: it averages the statistics of as many of the completions.
    """
    part = experiment.plan.beam
    return BeamSearch(
        scorer.supernet.space,
        width=part.width,
        completions=min(part.completions, len(scorer.scored)),
        seed=experiment.seed,
        metric=scorer.task.metric,
        first=len(scorer.supernet.space.decisions) - part.searched_blocks if part.searched_blocks else 0,
    )


def reusing(experiment: Experiment, scorer: Scorer) -> Scorer:
    """The scorer, keeping features of fixed prefixes when they fit into `prefix_memory`; else as it is."""
    if prefix_memory(experiment, scorer) > experiment.plan.beam.prefix_memory:
        return scorer
    return replace(scorer, reuse=PrefixReuse(scorer.model, scorer.supernet, scorer.calibration, scorer.scored))


def prefix_memory(experiment: Experiment, scorer: Scorer) -> int:
    """Bytes that the features of the kept prefixes of two steps take at most."""
    largest = max(input_sizes(experiment.plan, experiment.data), key=lambda size: size[0] * size[1])
    images = len(scorer.scored.indices) + len(scorer.calibration.indices)
    return prefix_bytes(scorer.supernet.space, largest, images, 2 * experiment.plan.beam.width)


def beam_winner(scores: Sequence[Score], metric: str) -> Score:
    """The best whole architecture of a beam: its last step."""
    last = max(score.step for score in scores)
    return best([score for score in scores if score.step == last], metric)


def control_search(experiment: Experiment, scorer: Scorer, *, phase: str, kind: str) -> list[Score]:
    """`random` search or `evolution` over the same dilations, with as many evaluations as the beam."""
    space, seed = scorer.supernet.space, experiment.seed
    evaluations = min(beam_search(experiment, scorer).evaluations, space.size)
    generation = max(3, evaluations // 6)
    if kind == "random":
        searcher: Searcher = RandomSearch(space, seed=seed)
    else:
        part = generation // 3
        config = EvolutionConfig(population=generation, parents=max(1, part), mutants=part, crossings=part)
        searcher = Evolution(space, config, seed=seed, metric=scorer.task.metric)
    return candidates.search(experiment, searcher, scorer, phase=phase, evaluations=evaluations, generation=generation)


def depths_of_score(score: Score) -> tuple[int, ...]:
    return depths_of(space_named(score.arch.space), score.arch)


def dilations_of_score(score: Score) -> tuple[int, ...]:
    return tuple(RATES[choice] for choice in score.arch.choices)
