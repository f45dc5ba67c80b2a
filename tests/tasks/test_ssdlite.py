"""SSDLite: golden costs, anchors by hand, training and detections."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from workbench.networks.backbone import Backbone
from workbench.spaces.layers import seed_spec
from workbench.spaces.mbconv import fna_spec
from workbench.tasks.costs import model_costs
from workbench.tasks.detection import Detection, DetectorConfig, build_detector
from workbench.tasks.ssdlite import SSDLiteBackbone, default_boxes

CONFIG = DetectorConfig(kind="ssdlite", image_size=(320, 320), match_iou=(0.5, 0.5))


def ssd_form(name):
    spec = fna_spec(name, last=1280)
    start = next(index for index, block in enumerate(spec.blocks) if block.stage == 6)
    return replace(spec, taps=(start, len(spec.blocks) - 1), expanded=(start,))


def millions(cost):
    return round(cost.params / 1e6, 3)


def billions(cost):
    return round(cost.macs / 1e9, 3)


@pytest.mark.parametrize(
    ("name", "backbone", "whole"),
    [("MobileNetV2", (0.650, 2.881), (0.808, 4.32)), ("FNA SSDLite", (0.722, 3.188), (0.880, 4.63))],
)
def test_golden_costs_of_ssdlite(name, backbone, whole):
    """Test (f), section 2.4: backbone with the extra blocks, head, whole; biases counted as that paper does."""
    with torch.device("meta"):
        parts = model_costs(build_detector(Backbone(ssd_form(name)), 80, CONFIG), 320, bias=True)
    assert (billions(parts["head"]), millions(parts["head"])) == (0.158, 1.442)
    body = parts["backbone"]._replace(
        macs=parts["backbone"].macs + parts["neck"].macs, params=parts["backbone"].params + parts["neck"].params
    )
    assert (billions(body), millions(body)) == backbone
    macs, params = (sum(getattr(part, what) for part in parts.values()) for what in ("macs", "params"))
    assert (round(macs / 1e9, 3), round(params / 1e6, 2)) == whole


@pytest.mark.parametrize(("name", "macs", "params"), [("MobileNetV2", 133.05, 11.49), ("FNA RetinaNet", 133.03, 11.73)])
def test_golden_costs_of_retinanet(name, macs, params):
    """Test (f): P6 from the backbone's last map, which is what makes 11.49 of 11.34 million."""
    config = DetectorConfig(image_size=(800, 1333), pyramid_extra="c5p6p7")
    with torch.device("meta"):
        parts = model_costs(build_detector(Backbone(fna_spec(name)), 80, config), (800, 1088), bias=True)
    assert (billions(parts["neck"]), millions(parts["neck"])) == (11.002, 3.213)
    assert (billions(parts["head"]), millions(parts["head"])) == (117.204, 6.463)
    assert round(sum(part.macs for part in parts.values()) / 1e9, 2) == macs
    assert round(sum(part.params for part in parts.values()) / 1e6, 2) == params


def test_anchors_are_those_of_300_pixels_in_an_image_of_320():
    maps = [torch.zeros(1, 1, side, side) for side in (20, 10, 5, 3, 2, 1)]
    boxes = default_boxes(320)(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)[0]
    assert len(boxes) == 4 * 400 + 6 * (100 + 25 + 9) + 4 * (4 + 1)
    sides = (boxes[:, 2:] - boxes[:, :2]).round().int().tolist()
    assert sides[:4] == [[30, 30], [42, 42], [42, 21], [21, 42]]  # 30, sqrt(30 * 60), 30 at ratios 2 and 1/2
    assert ((boxes[0, :2] + boxes[0, 2:]) / 2).tolist() == [8, 8]
    third = boxes[4 * 400 + 6 * 100 + 6 * 25]  # 3 x 3 map: strides of 107 pixels
    assert ((third[:2] + third[2:]) / 2).tolist() == pytest.approx([53.5, 53.5])
    assert sides[-4][0] == 276


def test_it_learns_and_detects_in_pixels_of_the_image():
    torch.manual_seed(0)
    model = build_detector(Backbone(ssd_form("MobileNetV2")), 2, CONFIG)
    image = torch.rand(3, 160, 240)
    targets = [{"boxes": torch.tensor([[20.0, 30, 120, 110]]), "labels": torch.tensor([2])}] * 2
    losses = model([image, image], targets)
    assert set(losses) == {"bbox_regression", "classification"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    found = model.eval()([image])[0]
    assert found["boxes"][:, [0, 2]].max() <= 240 and found["boxes"][:, [1, 3]].max() <= 160
    assert set(found["labels"].tolist()) <= {1, 2}
    task = Detection(categories=("a", "b"), config=CONFIG)
    task.run_layers(model, [image, image])


OBLONG = replace(CONFIG, image_size=(320, 400))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_detector(Backbone(fna_spec("MobileNetV2")), 2, CONFIG), "reads two maps"),
        (
            lambda: build_detector(Backbone(ssd_form("MobileNetV2")), 2, OBLONG),
            "square",
        ),
        (lambda: build_detector(Backbone(ssd_form("MobileNetV2")), 2, replace(CONFIG, image_size=None)), "square"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_its_extra_blocks_halve_the_map_each():
    body = SSDLiteBackbone(Backbone(seed_spec("efficientnet-lite0", "ssd"))).eval()
    maps = body(torch.rand(1, 3, 320, 320))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (672, 20, 20), (1280, 10, 10), (512, 5, 5), (256, 3, 3), (256, 2, 2), (128, 1, 1)
    ]  # fmt: skip
