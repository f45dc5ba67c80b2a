"""FNA from the seed to the table, in smoke: searches, their record and resume, controls, plans, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from tests.data.test_coco import SAMPLES
from tests.experiments import fna_experiment
from workbench.data.loader import load_data
from workbench.insight.tables import paper_table
from workbench.methods import candidates, compare, gradient
from workbench.methods.experiment import Experiment
from workbench.methods.fna import baselines
from workbench.methods.fna import method as fna
from workbench.methods.fna.paper import PRESETS, paper_plan, plan_named
from workbench.methods.fna.presets import two_tasks, with_options
from workbench.methods.plan import CostPenalty, shortened
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import load_torchvision, read_state
from workbench.networks.remap import remap
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.spaces.mbconv import FNA_LAYERS, fna_spec

TASKS = ("detection", "segmentation", "pose")


def shallow_experiment(path):
    return fna_experiment(path, "segmentation", depths=(1, 1, 1, 2))


@pytest.fixture(scope="module", params=TASKS)
def walked(request, tmp_path_factory):
    """A task searched, with its random control, found network and seed trained."""
    experiment = fna_experiment(tmp_path_factory.mktemp("fna"), request.param)
    seed = fna.seed_network(experiment.plan)
    search = fna.search(experiment, seed)
    found = search.derived().arch
    drawn = fna.random_search(experiment, search, found)
    winner = candidates.best(drawn, experiment.task.metric).arch
    compared = baselines.found_and_baselines(experiment, seed, search.space, found, winner, "all")
    return experiment, seed, search, drawn, compared, compare.train_all(experiment, compared)


def test_the_record_has_every_epoch_and_the_ledger_every_phase(walked):
    experiment, _, search, drawn, compared, results = walked
    metric = experiment.task.metric
    rows = experiment.run.scores("search")
    assert [row.step for row in rows] == [0, 1]
    assert metric not in rows[0].metrics and {metric, "entropy", "expected MACs", "skipped"} <= set(rows[1].metrics)
    assert len(drawn) == 1 == len(gradient.scored_epochs(experiment, search))
    found = search.derived().arch
    assert rows[-1].arch == found
    assert abs(drawn[0].macs - rows[-1].macs) <= 0.1 * rows[-1].macs
    phases_known = {entry.phase for entry in experiment.run.ledger.entries}
    assert {"search", "score search", "random on search", "finetune fna", "finetune seed-network"} <= phases_known
    names = [network.name for network in compared]
    assert names == ["FNA", "seed network", "best-scored random", "FNA, random weights", "random network 1"]
    table = compare.comparison_table(results)
    assert table["network"].tolist() == [*names[:-1], "random network"] and table[metric].between(0, 1).all()
    assert f"{metric} error" in table and "top1" not in table
    starts = baselines.start_table(results)
    assert starts["network"].tolist() == ["FNA", "FNA, random weights"]
    assert 0 < starts["share of steps"].iloc[1] <= 1
    assert baselines.start_table(results[:3]).empty


def test_a_step_of_alpha_costs_the_whole_mixture(walked):
    experiment, _, search, *_ = walked
    plan = experiment.plan
    (entry,) = (entry for entry in experiment.run.ledger.entries if entry.phase == "search")
    on_alpha = 2 * plan.search.alpha.batch_size
    # Forward is paths + mixture, backward twice the paths + mixture: what forward has more than half of that is half
    # the mixture.
    path = (entry.forward_macs - entry.backward_macs / 2) * 2 / on_alpha
    per_path = (entry.forward_macs - path * on_alpha) / (4 * plan.search.weights.batch_size)
    assert path > 3 * per_path  # six or seven operations, and the rest of the model once
    assert search.trained is not None and len(search.trained.alpha_losses) == 2


def test_everybody_begins_with_the_seeds_weights(walked):
    experiment, seed, search, _, compared, _ = walked
    by_name = {network.name: network for network in compared}
    found = by_name["FNA"]
    own = remap(seed.backbone, found.spec)[0].state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in found.start.weights.state_dict().items())
    plain = by_name["FNA, random weights"].start.weights
    names = [name for name, tensor in plain.state_dict().items() if tensor.ndim > 1]
    assert plain.spec == found.spec
    assert not any(torch.equal(plain.state_dict()[n], found.start.weights.state_dict()[n]) for n in names)
    assert by_name["seed network"].spec.blocks == fna.seed_form(experiment).blocks
    assert search.space.spec(by_name["FNA"].arch) == found.spec


def test_a_killed_search_ends_bit_identical(tmp_path, monkeypatch):
    whole = shallow_experiment(tmp_path / "whole")
    seed = fna.seed_network(whole.plan)
    expected = fna.search(whole, seed)

    class Killed(RuntimeError):
        pass

    score = gradient.derived_score

    def kill(experiment, judge, recipe, phase, epoch, priced):
        if epoch == 1:
            raise Killed
        return score(experiment, judge, recipe, phase, epoch, priced)

    cut = shallow_experiment(tmp_path / "cut")
    monkeypatch.setattr(gradient, "derived_score", kill)
    with pytest.raises(Killed):
        fna.search(cut, seed)
    monkeypatch.undo()
    resumed = fna.search(shallow_experiment(tmp_path / "cut"), seed)
    assert resumed.trained.losses == expected.trained.losses
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    again = fna.search(shallow_experiment(tmp_path / "cut"), seed)  # finished: read, not computed
    assert again.trained.losses == expected.trained.losses
    assert again.derived() == expected.derived()


def test_random_supernets_and_plain_norms_are_other_searches(tmp_path):
    experiment = shallow_experiment(tmp_path)
    seed = fna.seed_network(experiment.plan)
    random = fna.search(experiment, seed, init="random", phase="search (random)")
    plain = fna.search(replace(experiment, plan=replace(experiment.plan, affine=False)), seed, phase="search (plain)")
    assert random.key != plain.key
    assert all(norm.weight is None for layer in plain.supernet.choices() for norm in layer.modules()
               if isinstance(norm, torch.nn.BatchNorm2d))  # fmt: skip
    space = fna.space_of(experiment)
    ours, theirs = Supernet(space), Supernet(space, pretrained=seed.backbone)
    for number in (0, 1):  # stem and first stage, before any training
        own, remapped = (net.blocks[number].state_dict() for net in (ours, theirs))
        given = seed.backbone.blocks[number].state_dict()
        assert all(torch.equal(tensor, given[name]) for name, tensor in remapped.items())
        assert not all(torch.equal(tensor, given[name]) for name, tensor in own.items())


def test_weights_and_alpha_learn_from_their_own_images(tmp_path, monkeypatch):
    experiment = shallow_experiment(tmp_path)
    seen = {"weights": set(), "alpha": set()}
    phase = gradient.train_phase

    def spy(experiment, name, model, task, data, recipe, *, search, **options):
        seen["weights"] |= set(data.ids)
        seen["alpha"] |= set(search(model).data.ids)
        return phase(experiment, name, model, task, data, recipe, search=search, **options)

    monkeypatch.setattr(gradient, "train_phase", spy)
    fna.search(experiment, fna.seed_network(experiment.plan))
    assert seen == {"weights": set(experiment.data.train.ids), "alpha": set(experiment.data.search.ids)}
    assert not seen["alpha"] & (seen["weights"] | set(experiment.data.test.ids))


def test_refreshed_statistics_are_those_of_the_task(tmp_path, monkeypatch):
    experiment = fna_experiment(tmp_path, "segmentation", refresh_images=8)
    seed = fna.seed_network(experiment.plan)
    spec = fna.seed_form(experiment)
    fresh = fna.start(experiment, seed, spec)
    plain = fna.start(replace(experiment, plan=replace(experiment.plan, refresh_images=0)), seed, spec)
    changed = {n for n, t in fresh.weights.state_dict().items() if not torch.equal(t, plain.weights.state_dict()[n])}
    assert changed and all("running" in name or "num_batches" in name for name in changed)
    assert fresh.origin["refreshed"] == 8 and "refreshed" not in plain.origin
    (spent,) = experiment.run.ledger.entries
    assert spent.phase == "refresh network" and spent.images == 8 and spent.forward_macs > 0
    monkeypatch.setattr(fna, "recalibrate", None)  # what was computed once is not computed again
    again = fna.start(experiment, seed, spec)
    assert all(torch.equal(t, again.weights.state_dict()[n]) for n, t in fresh.weights.state_dict().items())


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_plan_builds_on_the_meta_device(preset):
    for task, plan in PRESETS[preset].items():
        space = space_named(plan.space)
        experiment = Experiment(run=None, plan=plan, data=Named(), seed=0, device=torch.device("cpu"))
        with torch.device("meta"):
            model = experiment.task.build(Supernet(space, affine=plan.affine))
        assert isinstance(compare.body_of(model), Supernet)
        assert plan.task == task
        rng = np.random.default_rng(0)
        compare.body_of(model).activate(space.sample(rng))


class Named:
    """Data of which only the classes matter."""

    categories = tuple(f"class {number}" for number in range(17))
    train = property(lambda self: self)


def test_paper_plans_have_the_papers_numbers():
    detection, ssdlite = PRESETS["paper"]["detection"], PRESETS["paper-ssdlite"]["detection"]
    segmentation = PRESETS["paper"]["segmentation"]
    assert (detection.penalty, ssdlite.penalty.strength) == (CostPenalty(strength=0.02), 0.15)
    assert segmentation.penalty == CostPenalty(strength=9e-3, scale=10.0, base=45.0)
    assert (detection.search.epochs, detection.search.warm_epochs, detection.search.weight_steps) == (14, 8, 1)
    assert (ssdlite.search.epochs, ssdlite.search.warm_epochs, ssdlite.search.weight_steps) == (30, 15, 5)
    assert detection.search.weights.steps // 14 in range(7_320, 7_340)  # about 7.3k per epoch
    assert ssdlite.search.weights.steps // 30 in range(2_280, 2_300)
    assert (segmentation.search.epochs, segmentation.search.warm_epochs) == (80, 30)
    assert [plan.space for plan in (detection, ssdlite, segmentation)] == [
        "layers-mobilenetv2-4.4.4.4.4.1",
        "layers-mobilenetv2-4.4.4.4.4.1-ssd",
        "layers-mobilenetv2-4.4.6.6.4.1-os16",
    ]
    assert ssdlite.temperature == 0.9 and not any(plan.affine for plan in PRESETS["paper"].values())
    alpha = detection.search.alpha
    assert (alpha.lr, alpha.betas, alpha.weight_decay, alpha.clip_norm) == (3e-4, (0.5, 0.999), 1e-3, 35.0)
    tuned = [plan.finetune for plan in (detection, ssdlite, segmentation)]
    assert [(r.batch_size, r.lr, r.optimizer) for r in tuned] == [
        (32, 0.05, "sgd"), (512, 0.2, "rmsprop"), (16, 0.01, "sgd")
    ]  # fmt: skip
    assert (tuned[2].schedule, tuned[2].steps, tuned[2].crop_side) == ("poly", 100_000, 769)


def test_options_change_the_plan_and_nonsense_is_refused():
    plan = plan_named("tiny", "detection")
    other = {"seed_network": "efficientnet-lite0", "depths": "3.3.4.4.5.1"}
    changed = with_options(plan, **other, strength=0.0, plain_norm="plain")
    assert changed.head.image_mean == (0.5,) * 3
    assert with_options(plan, seed_network="resnet18").head.image_mean == (0.485, 0.456, 0.406)
    assert (changed.seed_network, changed.penalty.strength, changed.affine) == ("efficientnet-lite0", 0.0, False)
    assert changed.space == "layers-efficientnet-lite0-3.3.4.4.5.1"
    assert with_options(plan) == plan and shortened(plan, 5).search.epochs == 5
    for options, message in (
        ({"depths": "3,3"}, "such as 3.3.4.4"),
        ({"strength": -2.0}, "from 0 on"),
        ({"plain_norm": "none"}, "one of affine, plain"),
    ):
        with pytest.raises(ValueError, match=message):
            with_options(plan, **options)
    assert with_options(plan, seed_network="efficientnet-lite0").depths == (3, 3, 4, 4, 5, 1)
    with pytest.raises(ValueError, match="6 searched stages"):
        fna.check_plan(with_options(plan, seed_network="efficientnet-lite0", depths="3.3.4.4"))
    with pytest.raises(ValueError, match="needs pretrained weights under"):
        fna.check_plan(with_options(plan, seed_network="mobilenetv2", depths="3.3.4.4.4.1"))
    with pytest.raises(ValueError, match="is for detection, not for pose"):
        plan_named("paper-ssdlite", "pose")
    with pytest.raises(ValueError, match="SSDLite is a detector"):
        paper_plan("pose", ssdlite=True)
    assert two_tasks(["pose", "segmentation"]) == ["segmentation", "pose"]
    for names in ([], ["detection"], ["pose", "pose"]):
        with pytest.raises(ValueError, match="one or both of segmentation, pose"):
            two_tasks(names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, "do not fit MobileNetV2: missing"),
        ("code", "would execute code when loaded, which is refused"),
    ],
)
def test_seed_weights_that_do_not_fit_are_refused(tmp_path, content, message):
    path = tmp_path / "seed.pth"
    torch.save(content if isinstance(content, dict) else Named(), path)
    plan = with_options(plan_named("tiny", "detection"), seed_network="mobilenetv2", depths="3.3.4.4.4.1")
    with pytest.raises(ValueError, match=message):
        fna.check_plan(plan, str(path))


def test_real_mobilenet_weights_start_a_search(tmp_path):
    path = SAMPLES / "weights" / "mobilenet_v2_imagenet_dogs.pth"
    if not path.is_file():
        pytest.skip(f"no sample weights at {path}")
    plan = with_options(plan_named("smoke", "detection"), seed_network="mobilenetv2-tf", depths="2.3.4.3.3.1")
    seed = fna.seed_network(plan, str(path))
    reference = Backbone(fna_spec("MobileNetV2", last=1280, padding="same", bn_eps=1e-3))
    load_torchvision(reference, read_state(path))
    assert all(torch.equal(t, seed.backbone.state_dict()[n]) for n, t in reference.state_dict().items())
    experiment = replace(fna_experiment(tmp_path, "detection"), plan=plan)
    search = fna.search(experiment, seed)
    assert search.derived().arch.space == "layers-mobilenetv2-tf-2.3.4.3.3.1"


def test_presets_name_every_task():
    assert all(set(PRESETS[name]) == set(TASKS) for name in ("smoke", "tiny", "small", "paper"))
    assert PRESETS["tiny"]["detection"].data.test_images == 400


def test_the_papers_networks_are_written_down_once():
    table = paper_table("fna_architectures").set_index("network")
    assert {name: tuple(row) for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)} == FNA_LAYERS


def test_a_pose_search_runs_on_a_keypoint_folder_and_refuses_leaks(tmp_path):
    folder = tmp_path / "people"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        images, annotations = [], []
        for number in numbers:
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
            row = {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 900.0}
            annotations.append({**row, "iscrowd": 0, "keypoints": [20, 20, 2, 40, 40, 2]})
        categories = [{"id": 1, "name": "body", "keypoints": ["head", "tail"]}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    plan = plan_named("smoke", "pose")
    data = load_data(plan.data, "pose", str(folder), seed=0)
    assert not set(data.train.ids) & set(data.search.ids) and len(data.train) + len(data.search) == 8
    experiment = replace(fna_experiment(tmp_path, "pose"), data=data)
    assert fna.search(experiment, fna.seed_network(plan)).trained is not None
    (folder / "images" / "8.png").write_bytes((folder / "images" / "0.png").read_bytes())
    with pytest.raises(ValueError, match="must be unseen in training"):
        load_data(plan.data, "pose", str(folder), seed=0)
    broken = json.loads((folder / "annotations" / "person_keypoints_train.json").read_text())
    broken["annotations"][0]["bbox"] = [10, 10, 40, 0]
    (folder / "annotations" / "person_keypoints_train.json").write_text(json.dumps(broken))
    (folder / "images" / "8.png").write_bytes((folder / "images" / "9.png").read_bytes())
    with pytest.raises(ValueError, match="has no area"):
        load_data(plan.data, "pose", str(folder), seed=0, bad_boxes="error")
    data = load_data(plan.data, "pose", str(folder), seed=0)
    assert "1 bad boxes dropped" in data.description
    assert len(data.train) + len(data.search) == 7


def test_a_resnet_seed_is_searched_and_remapped(tmp_path):
    """FNA++: depth, kernel and dilation of a ResNet, from weights under torchvision's names."""
    path = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), path)
    plan = with_options(plan_named("smoke", "pose"), seed_network="resnet18")
    assert plan.depths == (3, 3, 3, 3) and "3.3.3.3" in fna.check_plan(plan, str(path))
    plan = with_options(plan, depths="2.1.1.1")
    experiment = replace(fna_experiment(tmp_path, "pose"), plan=plan)
    seed = fna.seed_network(plan, str(path))
    search = fna.search(experiment, seed)
    found = search.space.spec(search.derived().arch)
    start = fna.start(experiment, seed, found).weights
    own = seed.backbone.blocks[2].main[0].weight  # a basic block's first kernel is not searched
    assert torch.equal(start.blocks[2].main[0].weight, own)
    assert search.trained is not None and np.isfinite(search.trained.losses).all()


def test_random_networks_are_one_row_and_none_is_the_found_or_the_best_scored_one(walked, monkeypatch):
    experiment, seed, search, *_ = walked
    found, space = search.derived().arch, search.space
    free = replace(experiment, plan=replace(experiment.plan, random_networks=3, refresh_images=0))
    monkeypatch.setattr("workbench.methods.fna.baselines.network", lambda *given, **how: given)
    basic = [given[2] for given in baselines.found_and_baselines(free, seed, space, found, found, "basic")]
    assert basic == ["FNA", "seed network", "best-scored random", "FNA, random weights"]
    drawn = [given[4] for given in baselines.found_and_baselines(free, seed, space, found, found, "all")[-3:]]
    first, second = drawn[:2]
    again = [given[4:] for given in baselines.found_and_baselines(free, seed, space, found, first, "all")[-3:]]
    assert second in {arch for arch, _ in again} and not {found, first} & {arch for arch, _ in again}
    assert {group for _, group in again} == {"random network"}
