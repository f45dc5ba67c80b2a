"""Mask R-CNN, cascades, NAS-FPN and Detectron's proposals: torchvision's numbers where they should be, else by hand."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.methods.detnas.presets import paper_plan
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.networks.count import count
from workbench.records.seeds import generator
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import residual_spec
from workbench.tasks.detection import Detection, DetectorConfig, build_detector
from workbench.tasks.mask_metrics import encoded, evaluate_masks
from workbench.tasks.necks import NasFpn
from workbench.training.fit import fit
from workbench.training.recipe import Recipe

SPACE = space_named("shuffle-tiny")
DATA = Scenes(
    SceneConfig(image_size=96, species=("fish", "ray"), sizes=(24.0, 60.0), objects=(1, 3), extras=("masks",)),
    0,
    "train",
    4,
)
CPU = torch.device("cpu")
FASTER = replace(TINY_DETECTOR, kind="faster_rcnn", pyramid_extra="pool", head_regions=64)
DETECTORS: dict[str, DetectorConfig] = {
    "mask": replace(FASTER, masks=True),
    "cascade": replace(FASTER, box_iou=(0.5, 0.6, 0.7)),
    "cascade-mask": replace(FASTER, box_iou=(0.5, 0.6, 0.7), masks=True),
    "nas-fpn": replace(FASTER, pyramid_cells=2, pyramid_channels=48),
}


def detector(config):
    torch.manual_seed(0)
    task = Detection(categories=DATA.categories, config=config)
    return task, task.build(Backbone(SPACE.spec(SPACE.uniform(0))))


@pytest.mark.parametrize("name", DETECTORS)
def test_two_steps_of_training_change_every_part(name):
    task, model = detector(DETECTORS[name])
    before = {key: value.clone() for key, value in model.named_parameters()}
    recipe = Recipe(steps=2, batch_size=4, lr=0.02, augment="flip", warmup=0.0, schedule="constant")
    losses = fit(model, task, DATA, recipe, seed=0).losses
    still = {key for key, value in model.named_parameters() if torch.equal(value, before[key])}
    # Deep inside the backbone two steps may be too small for single precision.
    assert {key for key in still if not key.startswith("backbone.body")} == set()
    assert "backbone.body.blocks.0.0.weight" not in still and all(torch.isfinite(torch.tensor(losses)))
    metrics, found = task.measure(model, DATA, CPU, rng=generator(0, "b"), quick=True)
    assert ("mask AP" in metrics) == task.config.masks and 0 <= metrics["AP"] <= 1
    for row in found:
        assert len(row["boxes"]) == len(row["scores"]) <= task.config.detections
        assert not task.config.masks or len(row["masks"]) == len(row["boxes"])


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_four_images_are_learned_by_heart(name):
    task, model = detector(DETECTORS[name])
    recipe = Recipe(steps=300, batch_size=4, lr=3e-3, optimizer="adamw", weight_decay=0.0, clip_norm=10.0)
    fit(model, task, DATA, recipe, seed=0)
    metrics, _ = task.measure(model, DATA, CPU, rng=generator(0, "b"), quick=True)
    assert metrics["AP50"] > 0.9, metrics
    if task.config.masks:
        assert metrics["mask AP50"] > 0.9, metrics


def test_one_box_head_and_masks_are_torchvisions_own():
    """The same weights in torchvision's Mask R-CNN: losses and detections must be equal."""
    task, model = detector(replace(FASTER, masks=True, score_threshold=0.05))
    heads = model.roi_heads
    theirs = MaskRCNN(
        model.backbone,
        rpn_anchor_generator=model.rpn.anchor_generator,
        box_roi_pool=heads.box_roi_pool,
        box_head=heads.box_head,
        box_predictor=heads.box_predictor,
        mask_roi_pool=heads.mask_roi_pool,
        mask_head=heads.mask_head,
        mask_predictor=heads.mask_predictor,
        box_detections_per_img=task.config.detections,
        box_batch_size_per_image=64,
    )
    theirs.rpn, theirs.transform = model.rpn, model.transform
    images, targets = task.batch(DATA, range(4), CPU)
    losses = []
    for network in (model, theirs):
        torch.manual_seed(1)
        losses.append(network.train()(images, targets))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    with torch.inference_mode():
        rows = zip(model.eval()(images), theirs.eval()(images), strict=True)
    for mine, other in rows:
        assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def test_box_losses_by_hand():
    """DetNAS's box head: smooth L1 that turns straight at 1, over all regions; cross-entropy with background 0."""
    _, model = detector(replace(FASTER, box_beta=1.0))
    classes = len(DATA.categories) + 1
    logits, deltas = torch.zeros(4, classes), torch.zeros(4, 4 * classes)
    labels, wanted = torch.tensor([0, 1, 2, 0]), torch.tensor([[9.0] * 4, [0.5, 2.0, 0, 0], [0, 0, 0, 3.0], [9.0] * 4])
    losses = model.roi_heads.box_losses(logits, deltas, labels, wanted)
    assert losses["loss_box_reg"].item() == pytest.approx((0.5**2 / 2 + 1.5 + 2.5) / 4)
    assert losses["loss_classifier"].item() == pytest.approx(torch.tensor(float(classes)).log().item())


def test_later_heads_see_refined_boxes_at_a_higher_overlap():
    _, model = detector(DETECTORS["cascade"])
    heads = model.roi_heads
    stages = [heads, *heads.later]
    assert [stage.proposal_matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert [stage.box_coder.weights for stage in stages] == [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    seen = []
    pool = heads.box_roi_pool.forward
    heads.box_roi_pool.forward = lambda features, boxes, shapes: (seen.append(boxes), pool(features, boxes, shapes))[1]
    for stage in stages:  # every head moves every box by a tenth of its width
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        stage.box_predictor.bbox_pred.bias.data = torch.tensor([0.1 * stage.box_coder.weights[0], 0, 0, 0])
    with torch.inference_mode():
        model.eval()([torch.rand(3, 96, 96)])
    (first,), (second,), (third,) = seen
    for before, after in ((first, second), (second, third)):
        width = before[:, 2] - before[:, 0]
        inside = (before[:, 2] + 0.1 * width < 96) & (width > 0)
        torch.testing.assert_close(after[inside][:, 0], (before[:, 0] + 0.1 * width)[inside], rtol=1e-4, atol=1e-3)


def test_class_probabilities_of_all_heads_are_averaged():
    _, model = detector(replace(DETECTORS["cascade"], score_threshold=0.0, nms_threshold=1.0, detections=1000))
    heads = model.roi_heads
    logits = [torch.randn(3, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    for stage, row in zip([heads, *heads.later], logits, strict=True):
        torch.nn.init.zeros_(stage.box_predictor.cls_score.weight)
        stage.box_predictor.cls_score.bias.data = row
    with torch.inference_mode():
        found = model.eval()([torch.rand(3, 96, 96)])[0]
    mean = torch.stack([F.softmax(row, 0) for row in logits]).mean(0)
    for label in (1, 2):
        torch.testing.assert_close(found["scores"][found["labels"] == label].unique()[:1], mean[label : label + 1])


def test_detectrons_proposals_skip_the_border_and_count_over_the_batch():
    _, model = detector(replace(FASTER, detectron_proposals=True, anchor_scale=8.0))
    rpn = model.rpn.train()
    images = ImageList(torch.zeros(2, 3, 96, 96), [(96, 96), (60, 80)])
    anchors = torch.tensor([[0.0, 0, 60, 60], [-1, 0, 50, 50], [30, 30, 70, 58], [30, 30, 70, 62], [0, 0, 80, 60]])
    targets = [{"boxes": torch.tensor([[0.0, 0, 60, 60]])}, {"boxes": torch.tensor([[0.0, 0, 80, 60]])}]
    rpn.image_sizes = images.image_sizes
    labels, _ = rpn.assign_targets_to_anchors([anchors, anchors], targets)
    assert labels[0].tolist() == [1, -1, 0, 0, 1]
    assert labels[1].tolist() == [1, -1, 0, -1, 1]
    features = model.backbone(torch.rand(2, 3, 96, 96))
    rpn._post_nms_top_n["training"] = 20
    boxes, losses = rpn(images, features, targets)
    assert sum(map(len, boxes)) == 20 and all(torch.isfinite(loss) for loss in losses.values())
    assert all(len(row) > 20 for row in rpn.eval()(images, features)[0])  # in evaluation of each image


def test_detnas_divides_its_box_loss_by_four_on_scaled_targets():
    """The code's own formula: sum of smooth L1 (beta 0.11) on targets times (10, 10, 5, 5), / (4 x foreground)."""
    published = paper_plan(detector="retinanet").head
    names = ("box_loss", "box_loss_weight", "box_scale", "box_beta")
    config = replace(TINY_DETECTOR, **{name: getattr(published, name) for name in names})
    task, model = detector(config)
    images, targets = task.batch(DATA, range(2), CPU)
    caught = {}
    head, compute = model.head, model.head.compute_loss
    model.head.compute_loss = lambda *parts: caught.update(parts=parts) or compute(*parts)
    loss = model.train()(images, targets)["bbox_regression"]
    boxes, outputs, anchors, matched = caught["parts"]
    coder, total, count_ = BoxCoder((1.0, 1.0, 1.0, 1.0)), 0.0, 0
    for image, match in enumerate(matched):
        found = torch.where(match >= 0)[0]
        wanted = coder.encode_single(boxes[image]["boxes"][match[found]], anchors[image][found])
        wanted = wanted * torch.tensor([10.0, 10.0, 5.0, 5.0])
        error = (outputs["bbox_regression"][image][found] - wanted).abs()
        total += torch.where(error < 0.11, error**2 / 0.22, error - 0.055).sum()
        count_ += len(found)
    torch.testing.assert_close(loss, total / (4 * count_))
    decoded = model.box_coder.decode_single(torch.tensor([[10.0, 0, 0, 0]]), torch.tensor([[0.0, 0, 20, 20]]))
    assert head.regression_head.box_coder is model.box_coder and decoded.tolist() == [[20, 0, 40, 20]]


def test_nas_fpn_merges_as_its_figure_says():
    """One block whose convolutions are the identity, by hand; and its seven blocks at 384 channels, counted."""
    fpn = NasFpn([4, 4, 4], 4, 1).eval()
    for conv in [layer for layer in fpn.modules() if isinstance(layer, torch.nn.Conv2d)]:
        torch.nn.init.dirac_(conv.weight)
    maps = [torch.rand(1, 4, side, side) for side in (32, 16, 8)]
    with torch.no_grad():
        found = list(fpn({str(n): features for n, features in enumerate(maps)}).values())

    def resized(x, side):
        return F.adaptive_max_pool2d(x, side) if x.shape[-1] > side else F.interpolate(x, size=(side, side))

    def attended(gated, gate, side):
        gate = resized(gate, side)
        return gate + torch.sigmoid(gate.mean((2, 3), keepdim=True)) * resized(gated, side)

    scale = 1 / (1 + 1e-5) ** 0.5  # of batch norm that has seen nothing
    p3, p4, p5 = (scale * features for features in maps)
    p6 = F.max_pool2d(scale * p5, 2)
    p7 = F.max_pool2d(scale * p6, 2)
    middle = scale * attended(p6, p4, 16)
    middle = scale * (middle + p4)
    p3 = scale * (resized(middle, 32) + p3)
    p4 = scale * (resized(p3, 16) + middle)
    p5 = scale * (p5 + attended(p4, p3, 8))
    p7 = scale * (p7 + attended(p5, middle, 2))
    p6 = scale * attended(p7, p5, 4)
    for mine, expected in zip(found, (p3, p4, p5, p6, p7), strict=True):
        torch.testing.assert_close(mine, expected)
    with torch.device("meta"):
        whole = NasFpn([512, 1024, 2048], 384, 7)
        sides = [torch.empty(1, 512 * 2**n, 64 // 2**n, 64 // 2**n) for n in range(3)]
        cost = count(whole, {str(n): features for n, features in enumerate(sides)})
    merged = 7 * 384 * 384 * 9 * (3 * 16**2 * 4 + 64**2 + 16**2 + 4**2 + 8**2)  # three into P4, and P3, P5, P7, P6
    lateral = 384 * (512 * 64**2 + 1024 * 32**2 + 2048 * 16**2) + 384 * 384 * (16**2 + 8**2)
    assert cost.macs == merged + lateral


@pytest.mark.parametrize("name", DETECTORS)
def test_they_build_on_the_papers_backbones(name):
    config = replace(DETECTORS[name], pyramid_levels=3)
    with torch.device("meta"):
        model = build_detector(Backbone(residual_spec("resnet50")), 80, config)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_masks_and_cascades_are_refused_where_there_are_no_regions():
    with pytest.raises(ValueError, match="stand on faster_rcnn; got the detector retinanet"):
        detector(replace(TINY_DETECTOR, masks=True))
    plain = Scenes(SceneConfig(image_size=96), 0, "train", 1)
    with pytest.raises(ValueError, match="learns from masks, but these data have none; load them with masks=True"):
        detector(DETECTORS["mask"])[0].batch(plain, [0], CPU)
    with pytest.raises(ValueError, match="reads the last 3 maps"):
        detector(replace(FASTER, pyramid_cells=1, pyramid_levels=2))


def test_mask_metrics_by_hand():
    """The truth found exactly is right at every overlap; a mask of half of it is at 0.5 only."""
    whole, half = torch.zeros(1, 40, 40), torch.zeros(1, 40, 40)
    whole[:, 5:35, 5:35], half[:, 5:35, 5:20] = 1, 1
    truth = {
        "images": [{"id": 1, "width": 40, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "square"}],
    }
    row = {"image_id": 1, "boxes": torch.tensor([[5.0, 5, 35, 35]]), "scores": torch.ones(1), "labels": torch.ones(1)}
    exact = evaluate_masks(truth, encoded(whole), [{**row, "masks": encoded(whole)}])
    assert exact["mask AP"] == exact["mask AP50"] == exact["mask APs"] == pytest.approx(1.0)
    partly = evaluate_masks(truth, encoded(whole), [{**row, "masks": encoded(half)}])
    assert partly["mask AP50"] == pytest.approx(1.0) and partly["mask AP"] == pytest.approx(0.1)
