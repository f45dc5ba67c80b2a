"""DetNAS end to end at smoke size, its splits, its published plan, and phases that are computed once."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.experiments import experiment_on_scenes
from workbench.data.loader import load_data
from workbench.lessons.detnas import recalibration_check
from workbench.methods import candidates, compare
from workbench.methods.detector_file import load_detector, predict_images, save_detector
from workbench.methods.detnas import baselines
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas.presets import PRESETS, SMOKE, paper_plan
from workbench.methods.experiment import new_model, pick_device, start_experiment
from workbench.methods.phases import load_weights
from workbench.methods.plan import one_of, preset_named, shortened
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.ledger import peak_memory
from workbench.records.seeds import generator
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification
from workbench.tasks.detection import build_detector


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """One smoke run of all four steps; returns the experiment, the searches and the results."""
    root = tmp_path_factory.mktemp("runs")
    experiment = experiment_on_scenes(root, SMOKE)
    pretrained = detnas.pretrain_supernet(experiment)
    supernet = detnas.finetune_supernet(experiment, pretrained)
    scorer = candidates.scorer(experiment, supernet, experiment.task)
    evolved = detnas.search(experiment, scorer, phase="evolution")
    drawn = detnas.search(experiment, scorer, phase="random", kind="random")
    winners = (candidates.best(scores, experiment.plan.fitness).arch for scores in (evolved, drawn))
    compared = baselines.found_and_baselines(experiment, *winners)
    return experiment, supernet, evolved, drawn, detnas.train_all(experiment, compared[:2])


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget a peak")
def test_the_peak_memory_of_a_phase_is_its_own(walked):
    experiment, supernet, *_ = walked
    large = np.ones(60_000_000)  # 480 MB, more than a smoke search takes
    del large
    earlier = peak_memory(experiment.device)
    detnas.search(
        experiment, candidates.scorer(experiment, supernet, experiment.task), phase="after a peak", kind="random"
    )
    (entry,) = (entry for entry in experiment.run.ledger.entries if entry.phase == "after a peak")
    assert 0 < entry.peak_memory < earlier - 200e6


def test_both_searches_have_equal_budgets_and_keep_the_limit(walked):
    experiment, _, evolved, drawn, _ = walked
    assert len(evolved) == len(drawn) == experiment.plan.evaluations
    assert all(score.macs <= experiment.plan.macs_limit for score in (*evolved, *drawn))
    assert [score.arch for score in experiment.run.scores("evolution")] == [score.arch for score in evolved]
    assert all({"AP", "AP50", "AP_error"} <= score.metrics.keys() for score in evolved)


def test_scores_without_recalibration_cost_no_calibration_images_and_are_recorded_once(walked):
    experiment, supernet, _, drawn, _ = walked
    count = min(len(drawn), experiment.plan.recalibration_check)
    check = recalibration_check(experiment, supernet, drawn)
    assert check["with"].tolist() == [score.metrics["AP"] for score in drawn[:count]]
    assert list(check.index) == [score.arch.key for score in drawn[:count]] and check["without"].between(0, 1).all()
    (entry,) = (entry for entry in experiment.run.ledger.entries if entry.phase == "without recalibration")
    assert entry.images == count * len(experiment.data.search)
    assert recalibration_check(experiment, supernet, drawn).equals(check)
    assert len(experiment.run.scores("without recalibration")) == count


def test_finetuning_starts_from_the_pretrained_supernet(walked):
    experiment = walked[0]
    plan = replace(experiment.plan, supernet=replace(SMOKE.supernet, finetune=replace(SMOKE.supernet.finetune, lr=0.0)))
    still = replace(experiment, plan=plan)
    pretrained = detnas.pretrain_supernet(still)
    tuned = detnas.finetune_supernet(still, pretrained, "finetune supernet at a rate of 0")
    weights = pretrained.supernet.state_dict()
    moved = [name for name, value in tuned.supernet.state_dict().items() if not torch.equal(value, weights[name])]
    assert moved and all("running_" in name or "num_batches" in name for name in moved)


def test_a_finished_phase_is_loaded_not_trained_again(walked, capsys):
    """Loaded or trained, the next computation must give the same bits."""
    experiment, supernet, *_ = walked
    again = detnas.finetune_supernet(experiment, detnas.pretrain_supernet(experiment))
    assert again.trained.key == supernet.trained.key and again.trained.losses == supernet.trained.losses
    for name, tensor in supernet.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert "steps of" not in capsys.readouterr().out
    images, _ = experiment.task.batch(experiment.data.train, [0, 1], torch.device("cpu"))
    arch = space_named(SMOKE.space).uniform(1)
    maps = []
    for trained in (supernet, again):
        trained.supernet.activate(arch)
        trained.model.eval()
        with torch.no_grad():
            maps.append(trained.supernet(torch.stack(images))[-1])
    assert torch.equal(*maps)


def test_a_shared_phase_is_cached_for_other_runs_and_own_for_its_own(walked):
    experiment = walked[0]
    detnas.pretrain_supernet(experiment)
    assert not next(e for e in experiment.run.ledger.entries if e.phase == "pretrain supernet").cached
    root = experiment.run.path.parent.parent
    other = start_experiment(
        "u", {}, plan=SMOKE, data=experiment.data, seed=0, device="cpu", runs=str(root), fresh=False
    )
    detnas.pretrain_supernet(other)
    entry = other.run.ledger.entries[0]
    own = next(e for e in experiment.run.ledger.entries if e.phase == "pretrain supernet")
    assert entry.cached and entry.seconds == own.seconds


def test_another_seed_recipe_or_origin_is_another_phase(walked):
    experiment = walked[0]
    key = detnas.pretrain_supernet(experiment).trained.key
    other = replace(
        experiment,
        plan=replace(SMOKE, supernet=replace(SMOKE.supernet, pretrain=replace(SMOKE.supernet.pretrain, lr=1e-4))),
    )
    assert detnas.pretrain_supernet(other).trained.key != key


def test_every_network_is_trained_alike(walked):
    results = walked[4]
    assert len({len(result.losses) for result in results}) == 1
    table = compare.comparison_table(results)
    assert list(table["network"]) == ["DetNAS", "all 3x3"]
    assert (table[["MACs", "params", "detector params"]] > 0).all().all()


def test_the_ledger_counts_the_images_that_batch_norm_really_saw(walked):
    """Of 7 calibration images in batches of 4 the last 3 are left out, so that all batches weigh alike."""
    experiment, supernet, *_ = walked
    few = replace(experiment, plan=replace(SMOKE, scoring=replace(SMOKE.scoring, calibration_images=7)))
    scores = detnas.search(few, candidates.scorer(few, supernet, few.task), phase="few images", kind="random")
    (entry,) = (entry for entry in few.run.ledger.entries if entry.phase == "few images")
    assert entry.images == len(scores) * (4 + len(experiment.data.search))


def test_groups_become_one_row_of_means(walked):
    results = walked[4]
    grouped = [replace(r, network=replace(r.network, group="random")) for r in results]
    table = compare.comparison_table(grouped)
    assert list(table["network"]) == ["random (mean of 2)"]
    assert table["MACs"][0] == pytest.approx(np.mean([r.macs for r in results]))
    for value, result in zip((0.2, 0.6), grouped, strict=True):
        result.metrics["AP at 20 px"] = value
    assert compare.comparison_table(grouped)["AP at 20 px"][0] == pytest.approx(0.4)


def test_ledger_knows_every_phase(walked):
    experiment = walked[0]
    phases_seen = {entry.phase for entry in experiment.run.ledger.entries}
    assert {
        "pretrain supernet",
        "finetune supernet",
        "evolution",
        "random",
        "finetune detnas",
        "measure detnas",
    } <= phases_seen
    trained = next(entry for entry in experiment.run.ledger.entries if entry.phase == "finetune detnas")
    assert trained.images == SMOKE.finetune.steps * SMOKE.finetune.batch_size
    assert trained.backward_macs == 2 * trained.forward_macs > 0


def test_splits_never_share_an_image(walked):
    data = walked[0].data
    parts = [set(part.ids) for part in (data.full_train, data.search, data.test)]
    assert all(not a & b for i, a in enumerate(parts) for b in parts[i + 1 :])
    crops = [set(part.ids) for part in (data.crops, data.crops_search, data.crops_test)]
    assert all(not a & b for i, a in enumerate(crops) for b in crops[i + 1 :])


def test_search_and_recalibration_never_read_the_test_split(walked, monkeypatch):
    experiment, supernet, *_ = walked

    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError(f"the test split was touched: {name}")

        def __len__(self):
            raise AssertionError("the test split was touched")

    closed = replace(experiment, data=replace(experiment.data, test=Forbidden(), crops_test=Forbidden()))
    scorer = candidates.scorer(closed, supernet, closed.task)
    assert scorer(space_named(SMOKE.space).uniform(1), phase="x", step=0).error is None
    candidates.scorer(closed, detnas.pretrain_supernet(closed), closed.classification)


def test_saved_detector_predicts_the_same(walked, tmp_path):
    experiment, *_, results = walked
    result = results[0]
    task = experiment.task
    save_detector(tmp_path, result.model, task, result.network.spec, image_side=96, arch=result.network.arch)
    model, loaded_task, side = load_detector(tmp_path)
    assert loaded_task == task and side == 96
    _, found = loaded_task.measure(model, experiment.data.test, torch.device("cpu"), rng=generator(0, "b"), quick=True)
    for ours, theirs in zip(result.detections, found, strict=True):
        torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match=r"arch\.json cannot be decoded"):
        predict_images(tmp_path, [tmp_path / "arch.json"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"nowhere\.png cannot be decoded"):
        predict_images(tmp_path, [tmp_path / "nowhere.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_are_refused_whole(walked, tmp_path):
    experiment, *_, results = walked
    task = experiment.task
    spec = results[0].network.spec
    save_detector(tmp_path, results[0].model, task, spec, image_side=96, arch=None)
    space = space_named(SMOKE.space)
    other = task.build(Backbone(space.spec(space.uniform(3))))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit this network"):
        load_weights(other, tmp_path / "weights.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_paper_plan_holds_the_published_numbers():
    plan = paper_plan()
    assert (plan.supernet.pretrain.steps, plan.supernet.pretrain.batch_size, plan.supernet.pretrain.lr) == (
        300_000,
        1024,
        0.5,
    )
    assert (plan.supernet.finetune.steps, plan.supernet.finetune.batch_size) == (90_000, 16)
    assert (plan.evaluations, plan.evolution.population, plan.evolution.parents) == (1000, 50, 10)
    assert (plan.evolution.mutants, plan.evolution.crossings, plan.evolution.mutation_probability) == (20, 20, 0.1)
    assert plan.macs_limit == 300_000_000 and plan.scoring.calibration_images == 4000
    assert paper_plan(detector="retinanet").finetune.lr == 0.01 and plan.finetune.lr == 0.02
    assert paper_plan(data="voc").finetune.steps == 22_500


@pytest.mark.parametrize("space", ["shuffle-20", "shuffle-40"])
@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_paper_supernets_build_on_meta(space, detector):
    plan = paper_plan(space=space, detector=detector)
    with torch.device("meta"):
        supernet = Supernet(space_named(plan.space))
        millions = sum(parameter.numel() for parameter in supernet.parameters()) / 1e6
        assert round(millions, 2) == {"shuffle-20": 6.81, "shuffle-40": 28.64}[space]
        model = build_detector(supernet, 80, plan.head)
        maps = model.backbone(torch.empty(1, 3, 64, 64))
        assert {m.shape[1] for m in maps.values()} == {256}
        classifier = Classification(categories=("x",) * 1000, hidden=plan.classifier.hidden).build(
            Supernet(supernet.space)
        )
        millions = sum(parameter.numel() for parameter in classifier.parameters()) / 1e6
        assert round(millions, 2) == {"shuffle-20": 8.49, "shuffle-40": 30.65}[space]


def test_binned_sampling_flattens_the_costs():
    space = space_named("shuffle-20")
    sample = detnas.binned_sampler(space)
    rng = np.random.default_rng(0)
    full = np.array([space.macs(sample(rng), 224) + 33_136_640 for _ in range(700)]) / 1e6
    assert (full >= 290).mean() > 0.98 and (full < 360).mean() > 0.98
    counts, _ = np.histogram(full, bins=range(290, 370, 10))
    assert counts.min() > 60  # uniform paths would leave the outer bins nearly empty


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name):
    plan = PRESETS[name]
    space = space_named(plan.space)
    assert plan.classifier.recipe.batch_size and plan.finetune.steps > 0
    costs = [space.macs(space.sample(np.random.default_rng(seed)), plan.macs_at) for seed in range(200)]
    share = np.mean(np.array(costs) <= plan.macs_limit)
    if plan.space == "shuffle-40":
        assert share > 0.95  # at 1.3G the paper's limit is practically never binding
    else:
        assert 0.15 < share < 0.95, "the limit must bind, and leave room"


def test_bad_parameters_are_named():
    with pytest.raises(ValueError, match="Did you mean small"):
        preset_named(PRESETS, "smal")
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="was not found"):
        load_data(SMOKE.data, "detection", "no/such/folder", "scenes", seed=0)
    with pytest.raises(ValueError, match="controls is one of basic, all"):
        one_of("controls", "some", ("basic", "all"))


def test_max_steps_shortens_every_recipe():
    plan = shortened(PRESETS["tiny"], 5)
    assert {
        plan.supernet.pretrain.steps,
        plan.supernet.finetune.steps,
        plan.classifier.recipe.steps,
        plan.finetune.steps,
    } == {5}
    assert shortened(PRESETS["tiny"], 0) == PRESETS["tiny"]


def test_ablations_search_by_accuracy_and_from_scratch(walked):
    experiment = walked[0]
    pretrained = detnas.pretrain_supernet(experiment)
    found = [baselines.by_classification(experiment, pretrained), baselines.from_scratch(experiment)]
    assert [network.name for network in found] == ["ClsNAS", "DetNAS-scratch"]
    for phase, metric in (("ClsNAS", "top1"), ("DetNAS-scratch", "AP")):
        scores = experiment.run.scores(phase)
        assert len(scores) == SMOKE.evaluations and all(metric in score.metrics for score in scores)
    others = baselines.random_networks(experiment, found)
    archs = [network.arch for network in (*found, *others)]
    assert len(others) == SMOKE.random_networks and len(set(archs[2:])) == len(archs[2:])
    assert all(space_named(SMOKE.space).macs(arch, SMOKE.macs_at) <= SMOKE.macs_limit for arch in archs)


def test_a_frozen_random_backbone_keeps_its_weights(walked):
    experiment = walked[0]
    spec = space_named(SMOKE.space).spec(space_named(SMOKE.space).uniform(0))
    task = experiment.task
    untouched = new_model(lambda: task.build(Backbone(spec)), experiment.seed, "detector head")
    assert 0 <= compare.frozen_random_backbone(experiment, spec) <= 1
    kept = next(
        path for path in (experiment.run.path / "phases").glob("*/phase.json") if '"frozen": true' in path.read_text()
    )
    model = task.build(Backbone(spec))
    load_weights(model, kept.parent / "weights.safetensors")
    before, after = untouched.state_dict(), model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    body = {name for name in moved if name.startswith("backbone.body.")}
    assert moved - body and all("running_" in name or "num_batches" in name for name in body)


def test_a_finished_run_scores_by_the_supernet_that_it_kept(walked):
    experiment, _, _, drawn, _ = walked
    space, recorded = detnas.space_of(experiment), len(experiment.run.scores())
    score = candidates.kept_score(experiment, lambda: Supernet(space), "finetune supernet")
    asked = score(drawn[0].arch)
    assert asked.error is None and asked.metrics == pytest.approx(drawn[0].metrics)
    assert len(experiment.run.scores()) == recorded  # no part of the record
    with pytest.raises(ValueError, match="keeps no 'finetune supernet' of the space shuffle-81"):
        candidates.kept_score(experiment, lambda: Supernet(space_named("shuffle-81")), "finetune supernet")(
            drawn[0].arch
        )
    with pytest.raises(ValueError, match="run the cells that train the supernet first"):
        candidates.kept_score(experiment, lambda: Supernet(space), "not yet trained")(drawn[0].arch)
