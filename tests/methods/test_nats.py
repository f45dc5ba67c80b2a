"""NATS at smoke size, from a seed network to the trained controls; what does not fit is refused before work starts."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.experiments import experiment_on_scenes
from workbench.data.loader import load_data
from workbench.insight.tables import stored_results
from workbench.lessons import nats as lesson
from workbench.methods import compare, gradient
from workbench.methods.nats import baselines, implementation
from workbench.methods.nats import method as nats
from workbench.methods.nats import presets as nats_presets
from workbench.methods.nats.presets import PRESETS, SMOKE, with_options
from workbench.networks.backbone import Backbone
from workbench.networks.count import count_backbone
from workbench.networks.dilation_mixture import IMPLEMENTATIONS, SIDES, usual_implementation
from workbench.networks.pretrained import torchvision_names
from workbench.networks.supernet import Supernet
from workbench.spaces.branches import dilation_parts
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import base_spec, logits, same_everywhere
from workbench.spaces.costs import backbone_cost
from workbench.spaces.residual import residual_spec
from workbench.tasks.detection import build_detector


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    experiment = experiment_on_scenes(tmp_path_factory.mktemp("runs"), SMOKE)
    seed = nats.seed_network(experiment)
    search = nats.search(experiment, seed)
    path = nats.search(experiment, seed, "n1")
    compared = baselines.found_and_baselines(
        experiment,
        seed,
        search.derived().arch,
        (path.space, path.derived().arch),
        everything=True,
        best_random=nats.space_of(experiment).uniform(1),
    )
    return experiment, seed, search, path, compared, compare.train_all(experiment, compared[:3])


def test_every_epoch_is_in_the_record_and_scored_once_alpha_moves(walked):
    experiment, _, search, _, *_ = walked
    rows = experiment.run.scores("search n4")
    assert [row.step for row in rows] == [0, 1]
    assert rows[0].metrics == pytest.approx(
        {"entropy": 1.0, "margin": 0.0, "ties": 20.0}
    )  # alpha stands still: all ties
    assert rows[0].arch.choices == (0,) * 20
    assert {"AP", "AP_error", "entropy", "margin", "ties"} <= set(rows[1].metrics)
    assert rows[1].arch == search.derived().arch and rows[1].metrics["entropy"] < 1
    table = gradient.trajectory(experiment, search)
    assert list(table["epoch"]) == [1, 2] and table["AP"].isna().tolist() == [True, False]
    assert [score.step for score in gradient.scored_epochs(experiment, search)] == [1]
    assert not torch.equal(search.trained.alphas[0][0], search.trained.alphas[1][0])


def test_the_ledger_counts_what_the_method_computes_whatever_the_implementation(walked):
    experiment, _, search, *_ = walked
    entry = next(entry for entry in experiment.run.ledger.entries if entry.phase == "search n4")
    plan = experiment.plan
    images = plan.search.weights.steps * 4 + 2 * 4  # two of four steps move alpha, too
    assert entry.images == images and entry.forward_macs % images == 0
    per_image = entry.forward_macs // images
    assert entry.backward_macs == per_image * (2 * 16 + 8)
    found = backbone_cost(base_spec(search.space), plan.data.image_side)
    assert per_image > found.macs * 1.5  # five branches in the searched layers


def test_a_finished_search_is_loaded_and_a_continued_run_repeats_nothing(walked, capsys):
    experiment, seed, search, *_ = walked
    known = len(experiment.run.scores())
    again = nats.search(experiment, seed)
    assert "steps of" not in capsys.readouterr().out and len(experiment.run.scores()) == known
    assert again.derived() == search.derived()
    for name, tensor in search.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    pairs = zip(search.trained.alphas, again.trained.alphas, strict=True)
    assert all(torch.equal(a, b) for first, second in pairs for a, b in zip(first, second, strict=True))


def test_a_killed_search_ends_as_if_it_had_not_been(walked, tmp_path, monkeypatch):
    """Killed after the first epoch; the record holds every epoch once, the numbers are those of the whole run."""
    experiment, seed, search, *_ = walked
    shutil.copytree(experiment.run.path, tmp_path / "runs" / "nats" / experiment.run.path.name)
    shutil.copytree(experiment.run.path.parent.parent / "cache", tmp_path / "runs" / "cache")
    copy = replace(experiment, run=type(experiment.run)(tmp_path / "runs" / "nats" / experiment.run.path.name))
    key = search.trained.key
    shutil.rmtree(copy.run.path / "phases" / key)
    lines = copy.run.path / "evaluations.jsonl"
    rows = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(row for row in rows if json.loads(row)["phase"] != "search n4"))

    original = gradient.derived_score

    def dies(experiment, judge, recipe, phase, epoch, priced):
        if epoch == 1:
            raise KeyboardInterrupt
        return original(experiment, judge, recipe, phase, epoch, priced)

    monkeypatch.setattr(gradient, "derived_score", dies)
    with pytest.raises(KeyboardInterrupt):
        nats.search(copy, seed)
    assert [row.step for row in copy.run.scores("search n4")] == [0]
    monkeypatch.setattr(gradient, "derived_score", original)
    resumed = nats.search(copy, seed)
    assert [row.step for row in copy.run.scores("search n4")] == [0, 1]
    whole = experiment.run.scores("search n4")
    assert [row.metrics for row in copy.run.scores("search n4")] == [row.metrics for row in whole]
    assert resumed.derived() == search.derived()
    for name, tensor in search.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_random_search_takes_as_many_evaluations_as_epochs_were_scored_and_leaves_the_mixture(walked):
    experiment, _, search, *_ = walked
    drawn = nats.random_search(experiment, search)
    assert len(drawn) == len(gradient.scored_epochs(experiment, search)) == 1
    assert all(layer.chosen is None for layer in search.supernet.mixtures())
    assert {row.phase for row in drawn} == {"random on search n4"}


def test_everybody_costs_the_same_and_starts_from_the_same_kernels(walked):
    experiment, seed, *_, compared, results = walked
    names = [network.name for network in compared]
    assert names[:4] == ["NATS", "path level", "baseline", "best-scored random"]
    assert names[4:] == ["dilated by hand", "random channels 1", "equal split", "NATS, index slicing"]
    plain = backbone_cost(residual_spec(experiment.plan.backbone), 128)
    state = seed.backbone.state_dict()
    for network in compared:
        assert backbone_cost(network.spec, 128) == plain
        assert count_backbone(lambda network=network: Backbone(network.spec), 128) == plain
        weights = network.start.weights.state_dict()
        assert {name: tensor.shape for name, tensor in weights.items()} == {n: t.shape for n, t in state.items()}
        if network.name != "NATS, index slicing":
            assert all(torch.equal(tensor, state[name]) for name, tensor in weights.items()), network.name
    table = compare.comparison_table(results)
    assert table["MACs"].nunique() == table["params"].nunique() == 1
    assert "top1" not in table  # nobody was pre-trained here
    for network, result in zip(compared, results, strict=False):
        body = result.model.get_submodule("backbone.body").state_dict()
        assert any(not torch.equal(body[name], tensor) for name, tensor in network.start.weights.state_dict().items())


def test_fine_tuned_networks_are_kept_for_other_runs_and_equal_ones_trained_once(walked, capsys):
    experiment, seed, *_, compared, _ = walked
    root, digest = experiment.run.path.parent.parent, experiment.data.digest
    other = replace(experiment, run=type(experiment.run).open(root, "nats", {"x": 1}, seed=0, data_digest=digest))
    capsys.readouterr()
    space = nats.space_of(experiment)
    renamed = nats.network(experiment, seed, "the same again", space, same_everywhere(space, (1, 1)))
    compare.train_all(other, [compared[2], renamed])
    assert "steps of" not in capsys.readouterr().out
    assert all(entry.cached for entry in other.run.ledger.entries if entry.phase.startswith("finetune"))


def test_the_lesson_gets_tables_that_say_what_was_found(walked):
    experiment, _, search, _, _, results = walked
    shares = lesson.assignment_table(search.space, search.derived().arch)
    assert np.allclose(shares[["1x1", "2x2", "3x3", "1x3", "3x1"]].sum(axis=1), 1) and len(shares) == 5
    networks = lesson.network_table(results).set_index("network")
    assert networks.loc["baseline", "dilated share"] == 0 and networks.loc["baseline", "convolutions"] == 8
    assert (
        0 < networks.loc["NATS", "dilated share"] < 1
        and networks.loc["NATS", "sigma"] > networks.loc["baseline", "sigma"]
    )
    rows = lesson.sweep_table(experiment, results, search.derived(), 0)
    assert rows["groups"].tolist() == ["n4", "n1"]  # the found network and the path level
    assert np.allclose(rows["gain"], rows["AP"] - rows["baseline AP"])
    quick = replace(experiment, plan=replace(experiment.plan, timings=1))
    latency = lesson.latency_table(quick, ("n1", "n4", "n3"))
    assert list(latency["groups"]) == ["baseline", "n1", "n4"]  # n3 does not fit and is left out
    assert latency["convolutions in a layer, at most"].tolist() == [1, 1, 4]
    assert latency["backbone ratio"].iloc[0] == 1


def test_rows_of_another_search_are_not_taken_for_this_one(walked):
    """The same folder with other seed weights: the record of the first search must not describe the second."""
    experiment, seed, *_ = walked
    other = replace(seed, origin={"weights": "of another file"})
    with pytest.raises(ValueError, match=r"holds scores of 'search n4' by other weights.*--fresh"):
        nats.search(experiment, other)


def test_scoring_epochs_has_its_own_place_in_the_ledger(walked):
    experiment, _, search, *_ = walked
    entries = {entry.phase: entry for entry in experiment.run.ledger.entries}
    assert entries["score search n4"].images == 8 + len(experiment.data.search)  # calibration and search images, once
    drawn = nats.random_search(experiment, search)
    assert len(drawn) == 1 and entries["score search n4"].seconds > 0
    # One network alone is scored, not the mixture.
    assert entries["score search n4"].forward_macs < entries["search n4"].forward_macs


def test_with_seed_weights_no_pretraining_data_is_asked_for():
    """Preset paper, COCO and a weights file are all there is."""
    with pytest.raises(ValueError, match="no number of scenes to draw"):
        load_data(PRESETS["paper"].data, "detection", "coco", "scenes", seed=0)
    with pytest.raises(ValueError, match="data folder 'coco' was not found"):
        load_data(PRESETS["paper"].data, "detection", "coco", "", seed=0)
    data = load_data(SMOKE.data, "detection", "scenes", "", seed=0)
    assert "pre-training" not in data.description and len(data.crops) == 1


def test_images_too_small_for_some_dilation_are_counted_and_the_usual_one_decides():
    data = load_data(SMOKE.data, "detection", "scenes", "scenes", seed=0)

    class Narrow:
        sizes = ((32, 96),)

    assert "reaches over" not in nats.check_plan(SMOKE, data)
    mixed = replace(data, search=Narrow())
    assert "in 1 of 25 images some dilation reaches over a whole map" in nats.check_plan(SMOKE, mixed)
    with pytest.raises(ValueError, match="sees only padding"):
        nats.check_plan(SMOKE, replace(data, search=Narrow(), train=Narrow()))


def test_the_found_network_moves_to_another_detector(walked):
    experiment, *_, compared, _ = walked
    (moved,) = baselines.transfer(experiment, compared[:1])
    assert type(moved.model).__name__ == "FasterRCNN"
    assert moved.network.name == "NATS in faster_rcnn" and moved.network.spec == compared[0].spec


def test_forced_implementations_compute_the_same_first_step(tmp_path):
    """Later steps of a small batch-normed network turn rounding into percents, by as much as the processor likes."""
    found = []
    for name in ("branches", "composite"):
        plan = replace(SMOKE, implementation=name, search=replace(SMOKE.search, warm_epochs=0))
        experiment = experiment_on_scenes(tmp_path / name, plan)
        search = nats.search(experiment, nats.seed_network(experiment))
        assert {way for layer in search.supernet.mixtures() for way in layer.implementation.values()} == {name}
        found.append(search.trained)
    assert found[0].losses[0] == pytest.approx(found[1].losses[0], rel=1e-4)
    assert found[0].alpha_losses[0] == pytest.approx(found[1].alpha_losses[0], rel=1e-3)  # one step of weights later


def test_no_stopwatch_decides_how_a_search_is_computed(walked, monkeypatch):
    experiment, _, search, *_ = walked
    monkeypatch.setattr(implementation, "measure_implementations", lambda *_: pytest.fail("measured"))
    expected = [usual_implementation(layer) for layer in search.supernet.mixtures()]
    assert implementation.implementations(experiment, search.supernet, "another search") == expected
    table = lesson.chosen_implementations(experiment, search.supernet, search.phase)
    assert list(table["chosen"]) == [way for row in expected for way in row.values()]


def test_measuring_leaves_the_supernet_as_it_was_and_covers_every_layer():
    supernet = Supernet(space_named("channel-dilation-resnet-bottleneck-tiny-n4-C")).train()
    supernet.mix()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    times = implementation.measure_implementations(supernet, torch.zeros(2, 3, 64, 64))
    assert len(times) == len(supernet.mixtures())
    assert all(row[side][name] > 0 for row in times for side in SIDES for name in IMPLEMENTATIONS)
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())
    assert all(module.training for module in supernet.modules())
    assert all(parameter.requires_grad for parameter in supernet.parameters())
    assert all(set(layer.implementation.values()) == {"branches"} for layer in supernet.mixtures())


def test_seed_weights_are_read_under_torchvisions_names(tmp_path):
    spec = residual_spec(SMOKE.backbone)
    source = Backbone(spec)
    names = torchvision_names(source)
    torch.save({names[name]: tensor for name, tensor in source.state_dict().items()}, tmp_path / "seed.pth")
    experiment = experiment_on_scenes(tmp_path, SMOKE)
    seed = nats.seed_network(experiment, str(tmp_path / "seed.pth"))
    assert all(torch.equal(t, source.state_dict()[name]) for name, t in seed.backbone.state_dict().items())
    assert seed.top1 is None and set(seed.origin) == {"weights"} and not experiment.run.ledger.entries


@pytest.mark.parametrize(
    ("changes", "seed_weights", "message"),
    [
        ({"groups": "n3"}, "", "cannot be cut into 3 groups"),
        ({"backbone": "resnext50", "groups": "c4"}, "", "would cut them"),
        ({"backbone": "resnet50", "groups": "n1"}, "", r"map of \d pixels .* dilated by 3 sees only padding"),
        ({"backbone": "resnet56"}, "", r"Did you mean resnet50\?"),
        ({}, "nowhere.pth", "Expected a weights file at nowhere.pth"),
        ({}, "wrong.pth", r"do not fit resnet-bottleneck-tiny.*missing"),
    ],
)
def test_what_does_not_fit_is_refused_before_work_starts(changes, seed_weights, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(3)}, "wrong.pth")
    plan = replace(SMOKE, **changes)
    data = load_data(plan.data, "detection", "scenes", "scenes", seed=0)
    with pytest.raises(ValueError, match=message):
        nats.check_plan(plan, data, seed_weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong.pth"]


def test_notebook_parameters_change_the_plan_or_are_refused():
    none = {"backbone": "", "space": "", "kernels": "", "slicing": "", "warm_epochs": -1}
    assert with_options(SMOKE, **none) == SMOKE
    plan = with_options(SMOKE, **{**none, "space": "c8-B", "kernels": "shared", "slicing": "index", "warm_epochs": 0})
    assert (plan.groups, plan.dilations, plan.kernels, plan.slicing) == ("c8", "B", "shared", "index")
    assert plan.search.warm_epochs == 0 and plan.space == "channel-dilation-resnet-bottleneck-tiny-c8-B"
    for name, value in (("space", "n16"), ("space", "16-C"), ("space", "n16-D"), ("kernels", "one"), ("slicing", "R1")):
        with pytest.raises(ValueError, match=f"parameter {name} is"):
            with_options(SMOKE, **{**none, name: value})
    with pytest.raises(ValueError, match="warm_epochs is -1"):
        with_options(SMOKE, **{**none, "warm_epochs": -7})


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("paper")])
def test_the_published_plan_builds_on_the_meta_device(name):
    plan = PRESETS[name]
    space = space_named(plan.space)
    expected = {"paper": 1232, "paper-resnet101": None, "paper-resnext101": None}[name]
    assert expected in (None, logits(space))
    assert plan.search.epochs == 25 and plan.search.warm_epochs == 10 and plan.finetune.steps == 13 * 117_266 // 16
    assert plan.search.weights.lr == pytest.approx(0.01) and plan.search.alpha.lr == 0.01
    assert plan.search.weights.steps == 25 * 82_783 // 8  # section 4.1: train2014
    spec = space.spec(space.sample(np.random.default_rng(0)))
    with torch.device("meta"):
        detector = build_detector(Backbone(spec), 80, plan.head)
        moved = build_detector(Backbone(spec), 80, plan.transfer)
    assert type(detector).__name__ == "FasterRCNN" and type(moved).__name__ == "LabelledRetinaNet"
    assert any(len(dilation_parts(block)) > 1 for block in spec.blocks)


def test_the_hand_made_control_is_dilation_two_or_the_largest_square():
    by_hand = [baselines.by_hand(space_named(f"channel-dilation-resnet50-n1-{name}")) for name in "AC"]
    specs = [
        space_named(f"channel-dilation-resnet50-n1-{name}").spec(arch) for name, arch in zip("AC", by_hand, strict=True)
    ]
    assert [{part[1:] for block in spec.blocks for part in dilation_parts(block)} for spec in specs] == [
        {(3, 3)},
        {(2, 2)},
    ]


def test_stored_sweeps_are_read_by_what_varies():
    frame, source = stored_results("nats_sweep", list(lesson.USUAL))
    assert {*lesson.USUAL, "gain", "seed"} <= set(frame) and "runs" in source
    for column in ("groups", "dilations", "kernels", "slicing"):
        part = lesson.varied(frame, column)
        assert len(part) and all(part[name].nunique() == 1 for name in lesson.USUAL if name != column)
        assert not part.duplicated([column, "seed"]).any()  # a seed counts once
    assert nats_presets.TINY.groups == lesson.USUAL["groups"]


def test_random_channels_are_new_networks(walked):
    """None repeats another, nor what is compared already: here the best-scored one would be drawn first."""
    experiment, seed, search, path, *_ = walked
    many = replace(experiment, plan=replace(experiment.plan, random_networks=2))
    first, arch, both = nats.space_of(experiment).uniform(1), search.derived().arch, (path.space, path.derived().arch)
    for _ in range(2):
        compared = baselines.found_and_baselines(many, seed, arch, both, everything=True, best_random=first)
        drawn = [network.arch for network in compared if network.group == "random channels"]
        assert len({*drawn, arch, first}) == len(drawn) + 2
        first = drawn[0]
