from dataclasses import replace

import pytest
import torch
from torchvision.models.detection.retinanet import RetinaNetHead

from workbench.data.augmentation import augmentation
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.methods.detnas.presets import TINY, paper_plan
from workbench.networks.backbone import Backbone
from workbench.records.seeds import generator
from workbench.spaces.catalogue import space_named
from workbench.tasks.costs import model_costs
from workbench.tasks.detection import Detection, DetectorConfig, build_detector
from workbench.tasks.retina_head import BatchRetinaHead

SPACE = space_named("shuffle-tiny")
DATA = Scenes(SceneConfig(image_size=96, sizes=(12.0, 60.0)), 0, "train", 6)
CPU = torch.device("cpu")


def detector(config):
    torch.manual_seed(0)
    task = Detection(categories=DATA.categories, config=config)
    return task, task.build(Backbone(SPACE.spec(SPACE.uniform(0))))


FASTER = DetectorConfig(
    kind="faster_rcnn", pyramid_channels=16, pyramid_extra="pool", anchor_octaves=1, head_convs=1, candidates=50
)


@pytest.mark.parametrize(
    "config",
    [
        TINY.head,
        replace(TINY.head, box_loss="l1", head_norm=False, pyramid_extra="p6p7"),
        replace(TINY.head, box_loss="smooth_l1", anchor_ratios=(0.5, 1.0, 2.0), anchor_octaves=3),
        replace(TINY.head, image_size=(64, 100)),
        FASTER,
    ],
    ids=["tiny", "plain", "many-anchors", "resizing", "faster-rcnn"],
)
def test_follows_torchvisions_convention_on_any_backbone(config):
    task, model = detector(config)
    images, targets = task.batch(DATA, range(4), CPU)
    losses = model.train()(images, targets)
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None for p in model.backbone.body.blocks[1].parameters())
    metrics, found = task.measure(model, DATA, CPU, rng=generator(0, "b"), quick=True)
    assert [row["image_id"] for row in found] == list(DATA.ids)
    for row in found:
        assert row["boxes"].shape == (len(row["scores"]), 4) and len(row["scores"]) <= config.detections
        assert all(1 <= label <= len(DATA.categories) for label in row["labels"].tolist())
        assert not len(row["boxes"]) or (row["boxes"].min() >= 0 and row["boxes"].max() <= 96)
    assert 0 <= metrics["AP"] <= 1


def test_detections_go_down_to_the_score_threshold():
    assert DetectorConfig().score_threshold == 0.01


def test_batched_losses_equal_torchvisions_for_one_image():
    """For a single image the normalisation is the same, so the numbers must be."""
    torch.manual_seed(0)
    ours = BatchRetinaHead(16, 3, 5, convs=4, norm=False, box_loss="l1")
    theirs = RetinaNetHead(16, 3, 5)
    theirs.load_state_dict(ours.state_dict())
    config = replace(TINY.head, pyramid_channels=16, anchor_ratios=(0.5, 1.0, 2.0), head_norm=False, head_convs=4)
    model = build_detector(Backbone(SPACE.spec(SPACE.uniform(0))), 4, config)
    images, targets = Detection(categories=DATA.categories).batch(DATA, [1], CPU)
    targets = [{**target, "labels": target["labels"].clamp(max=4)} for target in targets]
    values = []
    for head, shift in ((ours, 0), (theirs, 1)):  # torchvision's head counts labels from 0
        model.head = head
        values.append(model.train()(images, [{**t, "labels": t["labels"] - shift} for t in targets]))
    for name in ("classification", "bbox_regression"):
        torch.testing.assert_close(values[0][name], values[1][name], rtol=1e-5, atol=1e-6)


def test_an_image_without_objects_trains():
    empty = Scenes(SceneConfig(image_size=96, sizes=(12.0, 60.0), objects=(0, 0)), 0, "train", 2)
    for config in (TINY.head, FASTER):
        task, model = detector(config)
        losses = model.train()(*task.batch(empty, [0, 1], CPU))
        assert all(torch.isfinite(value) for value in losses.values())


def test_crowds_are_not_trained_on():
    class Crowded:
        def __getitem__(self, index):
            image, target = DATA[index]
            return image, {**target, "iscrowd": torch.ones_like(target["iscrowd"])}

    _, targets = Detection(categories=DATA.categories).batch(Crowded(), [0], CPU)
    assert len(targets[0]["boxes"]) == 0


def test_asking_for_more_levels_than_the_backbone_has_is_refused():
    with pytest.raises(ValueError, match="4 maps but the backbone has 3"):
        detector(replace(TINY.head, pyramid_levels=4))


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_paper_detectors_build_on_meta(kind):
    plan = paper_plan(detector=kind)
    space = space_named(plan.space)
    with torch.device("meta"):
        model = build_detector(Backbone(space.spec(space.uniform(0))), 80, plan.head)
        costs = model_costs(model, (800, 1088))
    assert costs["backbone"].macs == space.macs(space.uniform(0), (800, 1088))
    assert sum(cost.params for cost in costs.values()) == sum(p.numel() for p in model.parameters())
    if kind == "retinanet":
        # FNA quotes 13.19M / 132.76 GMACs for RetinaNet with its ShuffleNetV2-20; head and shared parts dominate.
        assert 117e9 < costs["head"].macs < 118e9 and 6.4e6 < costs["head"].params < 6.5e6


def test_head_macs_of_paper_faster_rcnn_count_a_thousand_proposals():
    plan = paper_plan(space="shuffle-40")
    space = space_named(plan.space)
    with torch.device("meta"):
        model = build_detector(Backbone(space.spec(space.uniform(0))), 80, plan.head)
        costs = model_costs(model, (800, 1200))
    box_convs = 1000 * 4 * 256 * 256 * 9 * 49
    assert costs["head"].macs > box_convs


def test_an_image_is_augmented_alike_whoever_makes_its_batch():
    """By seed and index alone, so that processes and loader workers may share the work without changing a number."""
    data = Scenes(SceneConfig(image_size=64), 0, "train", 8)
    task = Detection(categories=data.categories)
    augment = augmentation("crop", 64)
    together, targets = task.batch(data, range(8), torch.device("cpu"), augment, seed=11)
    for indices in ([5, 2], [7]):
        images, own = task.batch(data, indices, torch.device("cpu"), augment, seed=11)
        for place, index in enumerate(indices):
            assert torch.equal(images[place], together[index])
            assert torch.equal(own[place]["boxes"], targets[index]["boxes"])
    other, _ = task.batch(data, range(8), torch.device("cpu"), augment, seed=12)
    assert not all(torch.equal(a, b) for a, b in zip(together, other, strict=True) if a.shape == b.shape)


def test_a_pointwise_detector_sees_no_further_than_its_backbone():
    """One position of the last map moves its own answers alone; with 3x3 convolutions also those next to it."""
    moved = []
    for pointwise in (True, False):
        config = replace(TINY.head, pointwise=pointwise, head_norm=False, pyramid_levels=1)
        torch.manual_seed(0)
        space = space_named("shuffle-tiny")
        detector = build_detector(Backbone(space.spec(space.uniform(0))), 2, config).eval()
        maps = [torch.zeros(1, detector.backbone.body.channels[-1], 5, 5) for _ in range(2)]
        maps[1][:, :, 2, 2] = 1.0
        first, second = (detector.head(list(detector.backbone.extend([each]).values())) for each in maps)
        changed = (first["bbox_regression"] != second["bbox_regression"]).any(dim=2)[0]
        moved.append(changed.nonzero().flatten().tolist())
    assert moved[0] == [12] and {11, 12, 13} < set(moved[1])
