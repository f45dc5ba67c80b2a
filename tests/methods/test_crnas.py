"""CR-NAS end to end at smoke size: rankings, beams, killed searches, controls, bad input and the published plans."""

from dataclasses import replace

import pytest
import torch

from tests.experiments import experiment_on_scenes
from workbench.data.loader import load_data
from workbench.insight.tables import ranking_table
from workbench.lessons import crnas as lesson
from workbench.methods import candidates, compare
from workbench.methods.crnas import baselines
from workbench.methods.crnas import method as crnas
from workbench.methods.crnas.presets import PRESETS, SMOKE, SPECIES, paper_plan, with_budget
from workbench.networks.supernet import Supernet
from workbench.search.beam import BeamSearch
from workbench.spaces.allocation import allocation, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import LAYOUTS, residual_spec
from workbench.tasks.detection import build_detector


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """One smoke run: experiment, both supernets, the ranking, the beam and its random control."""
    experiment = experiment_on_scenes(tmp_path_factory.mktemp("runs"), SMOKE)
    assert "In pre-training only" in crnas.check_plan(experiment.plan, experiment.data)  # crops of 32 pixels
    _, stages = crnas.train_stage_supernet(experiment)
    ranked = crnas.rank_allocations(
        experiment, candidates.scorer(experiment, stages, experiment.task), experiment.plan.budget, "stages"
    )
    depths = crnas.depths_of_score(candidates.best(ranked, experiment.plan.fitness))
    operations = crnas.train_operation_supernet(experiment, depths, "operation supernet")
    beam = crnas.beam(experiment, candidates.scorer(experiment, operations, experiment.task), phase="beam")
    return experiment, stages, operations, ranked, beam


def test_every_eligible_allocation_is_ranked_at_equal_macs(walked):
    experiment, _, _, ranked, _ = walked
    space = crnas.stage_space(experiment)
    assert [score.arch for score in ranked] == eligible(space, experiment.plan.budget)
    assert len({score.macs for score in ranked}) == 1 and len({score.params for score in ranked}) > 1
    table = ranking_table(ranked, "AP")
    assert list(table["AP"]) == sorted(table["AP"], reverse=True)
    assert all(sum(depths) == experiment.plan.budget for depths in table["depths"])


def test_classification_ranks_the_same_allocations_by_accuracy_on_unseen_crops(walked):
    experiment = walked[0]
    pretrained, _ = crnas.train_stage_supernet(experiment)
    scorer = candidates.scorer(experiment, pretrained, experiment.classification)
    scores = crnas.rank_allocations(experiment, scorer, experiment.plan.budget, "stages by accuracy")
    assert {score.arch for score in scores} == set(eligible(crnas.stage_space(experiment), experiment.plan.budget))
    assert all(0 <= score.metrics["top1"] <= 1 and "AP" not in score.metrics for score in scores)
    assert scorer.scored.data is experiment.data.crops_search and scorer.calibration.data is experiment.data.crops
    table = ranking_table(scores, "top1")
    assert table["depths"][0] == crnas.depths_of_score(candidates.best(scores, "top1"))


def test_one_stage_supernet_ranks_another_budget_without_training(walked):
    experiment, stages, *_ = walked
    known = len(experiment.run.ledger.entries)
    scores = crnas.rank_allocations(
        experiment, candidates.scorer(experiment, stages, experiment.task), 4, "other budget"
    )
    assert len(scores) == 3 and all(sum(crnas.depths_of_score(score)) == 4 for score in scores)
    assert [entry.phase for entry in experiment.run.ledger.entries[known:]] == ["other budget"]


def test_the_beam_scores_prefixes_and_ends_with_whole_networks(walked):
    _, _, operations, _, beam = walked
    blocks = len(operations.supernet.space.decisions)
    assert len(beam) == 3 + 6 * (blocks - 1)  # the smoke beam keeps two
    assert [len(score.arch.choices) for score in beam] == [1] * 3 + [
        step for step in range(2, blocks + 1) for _ in range(6)
    ]
    winner = crnas.beam_winner(beam, "AP")
    assert len(winner.arch.choices) == blocks and len(crnas.dilations_of_score(winner)) == blocks
    assert len({(score.macs, score.params) for score in beam}) == 1
    assert all(score.error is None and {"AP", "AP_error"} <= score.metrics.keys() for score in beam)


def test_a_killed_beam_goes_on_with_the_same_candidates(walked, monkeypatch):
    """Half of the rows are in the record; the rest must come out as in the uninterrupted search."""
    experiment, _, operations, _, beam = walked
    lines = experiment.run.path / "evaluations.jsonl"
    whole = lines.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [line for line in whole if '"phase": "beam"' in line or '"phase":"beam"' in line]
    assert len(rows) == len(beam)
    kept = [line for line in whole if line not in rows] + rows[: len(rows) // 2]
    lines.write_text("".join(kept), encoding="utf-8")
    again = crnas.beam(experiment, candidates.scorer(experiment, operations, experiment.task), phase="beam")
    assert [(s.arch, s.metrics, s.step) for s in again] == [(s.arch, s.metrics, s.step) for s in beam]


@pytest.fixture(scope="module")
def without_memory(walked):
    """The same beam search where the prefixes do not fit into memory."""
    experiment, _, operations, *_ = walked
    tight = replace(experiment, plan=replace(experiment.plan, beam=replace(SMOKE.beam, prefix_memory=1000)))
    scorer = candidates.scorer(experiment, operations, experiment.task)
    return tight, crnas.beam(tight, scorer, phase="beam without memory")


def test_prefixes_that_do_not_fit_into_memory_are_computed_again(walked, without_memory):
    experiment, _, operations, _, beam = walked
    tight, scores = without_memory
    scorer = candidates.scorer(experiment, operations, experiment.task)
    assert crnas.reusing(experiment, scorer).reuse is not None
    assert crnas.reusing(tight, scorer).reuse is None
    assert [s.arch for s in scores] == [s.arch for s in beam]
    for mine, reused in zip(scores, beam, strict=True):
        assert mine.metrics["AP"] == pytest.approx(reused.metrics["AP"], abs=1e-5)


def test_reuse_is_in_the_ledger_and_in_its_table(walked, without_memory):
    experiment, _, operations, *_ = walked
    tight, _ = without_memory
    entries = {entry.phase: entry for entry in experiment.run.ledger.entries}
    assert entries["beam"].forward_macs < entries["beam without memory"].forward_macs
    assert entries["beam"].images == entries["beam without memory"].images
    first = lesson.reuse_table(experiment, operations, measured=True)
    assert lesson.reuse_table(experiment, operations, measured=True).equals(
        first
    )  # also when it is replayed from the record
    (row,) = lesson.reuse_table(tight, operations, measured=True)["prefixes"]
    assert row.startswith("recomputed (") and "GiB would be needed" in row
    table = first.set_index("prefixes")
    assert table.loc["reused", "backbone seconds"] > 0 and table.loc["recomputed", "backbone seconds"] > 0
    assert table.loc["reused", "backbone MACs per image"] < table.loc["recomputed", "backbone MACs per image"]
    assert table["largest difference"].max() < 1e-5


def test_control_searches_take_as_many_evaluations_as_the_beam(walked):
    experiment, _, operations, _, beam = walked
    scorer = candidates.scorer(experiment, operations, experiment.task)
    for kind in ("random", "evolution"):
        scores = crnas.control_search(experiment, scorer, phase=kind, kind=kind)
        assert len(scores) == len(beam) == len({score.arch for score in scores})


def test_networks_have_equal_macs_and_the_table_has_params(walked):
    experiment, _, _, ranked, beam = walked
    depths = crnas.depths_of_score(candidates.best(ranked, experiment.plan.fitness))
    rates = crnas.dilations_of_score(crnas.beam_winner(beam, "AP"))
    baseline, published = (3, 1, 1), baselines.published_depths(experiment)
    compared = baselines.found_and_baselines(experiment, depths, rates, baseline, (2,) * 5, (3,) * 5)
    named = {network.name: network for network in compared if not network.group}
    assert list(named) == ["CR-NAS", "baseline", "published layout", "stage only", "dilation only", "deeper by hand",
                           "best-scored random dilations"]  # fmt: skip
    of = {name: depths_of_spec(network.spec) for name, network in named.items()}
    assert of["baseline"] == of["dilation only"] == baseline and of["published layout"] == published != baseline
    drawn = [depths_of_spec(network.spec) for network in compared[len(named) :]]
    assert len(drawn) == experiment.plan.random_networks and not set(of.values()) & set(drawn)
    assert all(network.spec == baselines.network(experiment, "x", depths_of_spec(network.spec)).spec
               for network in compared[len(named) :])  # fmt: skip
    again = baselines.found_and_baselines(experiment, depths, rates, published, (2,) * 5, (3,) * 5)
    assert "published layout" not in [network.name for network in again] and len({n.name for n in again}) == len(again)
    results = compare.train_all(experiment, [named[name] for name in ("CR-NAS", "stage only", "deeper by hand")])
    table = compare.comparison_table(results)
    assert table["MACs"].nunique() == 1 and {"params", "AP_rel_s", "AP_rel_l"} <= set(table)
    assert lesson.architecture_of(results[0].network.spec) == (depths, rates)
    networks = lesson.architecture_table(results)
    assert networks["blocks"].iloc[0] == ".".join(map(str, depths))
    check = lesson.alone_against_supernet(results, ranked, "AP")
    assert set(check["depths"]) <= {depths, experiment.plan.deeper}


def depths_of_spec(spec):
    return tuple(sum(block.stage == stage for block in spec.blocks) for stage in (1, 2, 3))


def test_random_dilations_of_the_published_layout(walked):
    """Its space has a name of its own, without depths."""
    experiment = walked[0]
    published = LAYOUTS[experiment.plan.backbone].depths
    taken = [(1,) * 8, (2,) * 8]
    drawn = baselines.random_dilations(experiment, published, taken)
    codes = [[block.dilations for block in network.spec.blocks] for network in drawn]
    assert len(drawn) == experiment.plan.random_networks and codes[0] != codes[1]
    assert not any(
        network.spec == residual_spec(experiment.plan.backbone, published, rates)
        for network in drawn
        for rates in taken
    )


def test_random_networks_depend_on_the_seed_only(walked):
    experiment = walked[0]
    first, again = (baselines.random_allocations(experiment, [(1, 1, 3)]) for _ in range(2))
    assert [network.spec for network in first] == [network.spec for network in again]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 40.0}, r"No allocation .* costs 40 blocks; its budgets run from 3 to 18, the nearest is 18"),
        ({"deeper": (1, 1, 9)}, r"9 blocks in stage 3 are not on the grid .* the nearest is 6"),
        ({"deeper": (1, 1, 1)}, r"hand-made layout \[1, 1, 1\] costs 3 blocks, the budget is 5"),
    ],
)
def test_plans_that_cannot_work_are_refused_before_training(walked, change, message):
    experiment = walked[0]
    with pytest.raises(ValueError, match=message):
        crnas.check_plan(replace(experiment.plan, **change), experiment.data)


def test_dilations_larger_than_the_map_are_refused_before_training():
    small = replace(SMOKE, data=replace(SMOKE.data, image_side=48))
    with pytest.raises(ValueError, match=r"map of 3 pixels .* dilated by 3 sees only padding .* up to 2 or larger"):
        crnas.check_plan(small, load_data(small.data, "detection", "scenes", "scenes", seed=0))


def test_another_budget_takes_the_deepest_layout_as_hand_made():
    plan = with_budget(SPECIES, 6.0)
    assert (plan.budget, plan.deeper, plan.other_budgets) == (6.0, (1, 1, 4), (8, 10))
    assert with_budget(plan, 0.0) is plan
    with pytest.raises(ValueError, match="budgets run from 3 to 18"):
        with_budget(plan, 2.0)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("paper")])
def test_published_plans_are_consistent_and_build(name):
    """The plans at the paper's size; both supernets, half as wide, in Faster R-CNN on the meta device."""
    plan = PRESETS[name]
    layout = LAYOUTS[plan.backbone]
    stages = space_named(f"allocation-{plan.supernet_backbone}")
    assert layout.budget(layout.depths) == plan.budget == layout.budget(plan.deeper)
    assert allocation(stages, plan.deeper) in eligible(stages, plan.budget)
    operations = space_named(f"dilation-{plan.supernet_backbone}")
    assert BeamSearch(operations, width=plan.beam.width, completions=1, seed=0, metric="AP").evaluations > 60
    with torch.device("meta"):
        for space in (stages, operations):
            detector = build_detector(Supernet(space), 80, plan.head)
            body = detector.get_submodule("backbone.body")
            assert len(body.strides) == 4 and body.strides == (4, 8, 16, 32)


def test_published_recipes():
    plan = paper_plan("resnet50")
    assert (plan.stages.pretrain.batch_size, plan.stages.pretrain.lr) == (1024, 0.4)
    assert plan.stages.pretrain.steps == 150 * 1281167 // 1024 and plan.stages.pretrain.schedule == "cosine"
    assert plan.finetune.lr == pytest.approx(0.02) and plan.finetune.steps == 13 * 117_266 // 16
    assert plan.finetune.milestones == (8 / 13, 11 / 13)
    assert plan.stages.finetune.milestones == (16 / 25, 22 / 25)
    assert plan.stages.finetune.steps == 25 * 112_309 // 16  # 117,266 of 118,287 have objects
    assert plan.classifier.hidden == 0 and (plan.head.head_convs, plan.head.head_linears) == (0, 2)
    assert plan.budget == 16 and plan.other_budgets == (8.0, 33.0)  # one supernet serves several depths
    assert plan.head.input_size(480, 640) == (800, 1088)
    half = space_named("allocation-resnet50-half")
    assert half.spec(half.uniform(0)).channels == (128, 256, 512, 1024) and len(eligible(half)) == 153
