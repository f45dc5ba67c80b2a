"""DeepLabv3 and its metric: golden costs, mIoU by hand, void pixels, padding."""

import numpy as np
import pytest
import torch

from workbench.data.masks import VOID
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneMasks
from workbench.networks.backbone import Backbone
from workbench.records.seeds import generator
from workbench.spaces.layers import seed_spec, with_output_stride
from workbench.spaces.mbconv import fna_spec
from workbench.tasks.costs import model_costs
from workbench.tasks.segmentation import (
    DeepLabV3,
    Segmentation,
    SegmenterConfig,
    class_iou,
    confusion,
    enlarge,
    mean_iou,
)

CONFIG = SegmenterConfig(channels=16, rates=(1, 2), dropout=0.0)


@pytest.fixture(scope="module")
def scenes():
    config = SceneConfig(species=("fish", "ray"), sizes="large", extras=("semantic",))
    return SceneMasks(config, 0, "train", 6)


@pytest.fixture(scope="module")
def model(scenes):
    torch.manual_seed(0)
    return Segmentation(categories=scenes.categories, config=CONFIG).build(Backbone(seed_spec("resnet20-cifar")))


@pytest.mark.parametrize(("name", "macs", "params"), [("MobileNetV2", 24.52, 2.57), ("FNA DeepLabv3", 24.17, 2.47)])
def test_golden_costs_of_deeplab(name, macs, params):
    """Test (f): 1024 x 2048 pixels, output stride 16, 19 classes, biases counted."""
    with torch.device("meta"):
        model = DeepLabV3(Backbone(with_output_stride(fna_spec(name), 16)), 19, SegmenterConfig())
        parts = model_costs(model, (1024, 2048), bias=True)
    assert (round(parts["head"].macs / 1e9, 3), round(parts["head"].params / 1e6, 3)) == (5.480, 0.756)
    assert round(sum(part.macs for part in parts.values()) / 1e9, 2) == macs
    assert round(sum(part.params for part in parts.values()) / 1e6, 2) == params


def test_rates_follow_the_output_stride():
    for stride, rates in ((16, [6, 12, 18]), (8, [12, 24, 36])):
        with torch.device("meta"):
            model = DeepLabV3(Backbone(with_output_stride(fna_spec("MobileNetV2"), stride)), 3, SegmenterConfig())
        assert [branch[0][0].dilation[0] for branch in model.pyramid.separable] == rates


def test_mean_iou_by_hand():
    truth = np.array([[0, 0, 1], [1, VOID, 2]])
    found = np.array([[0, 1, 1], [1, 2, 0]])
    counts = confusion(truth, found, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert class_iou(counts)[:3].tolist() == [1 / 3, 2 / 3, 0] and np.isnan(class_iou(counts)[3])
    assert mean_iou(counts) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)  # the class that is nowhere counts nowhere
    assert np.isnan(mean_iou(np.zeros((3, 3), dtype=np.int64)))
    unwanted = confusion(np.array([0, 0]), np.array([0, 1]), 2)  # found, but not in the truth: costs its place only
    assert mean_iou(unwanted) == 0.5


@pytest.mark.parametrize("side", [33, 48, 40])
def test_scores_stand_on_the_pixels_that_their_kernels_are_centred_on(side):
    units = -(-side // 16)
    ramp = torch.arange(units, dtype=torch.float32).mul(16).expand(1, 1, units, units)  # every unit holds its pixel
    full = enlarge(ramp, 16, (side, side))
    assert full.shape == (1, 1, side, side)
    last = (units - 1) * 16
    wanted = torch.arange(side, dtype=torch.float32).clamp(max=last).expand(side, side)
    torch.testing.assert_close(full[0, 0], wanted)


def test_void_pixels_are_not_learned_from(model):
    torch.manual_seed(0)
    images = [torch.rand(3, 32, 32)] * 2
    void = torch.full((32, 32), VOID)
    lone = void.clone()
    lone[0, 0] = 1
    model.train()
    assert model(images, [{"semantic": void}] * 2)["segmentation"].item() == 0
    one = model(images, [{"semantic": lone}] * 2)["segmentation"]
    both = model(images, [{"semantic": lone}, {"semantic": void}])["segmentation"]
    torch.testing.assert_close(one, both)  # the mean over labelled pixels


def test_answers_have_the_size_of_their_image_and_padding_is_void(model):
    model.eval()
    with torch.inference_mode():
        rows = model([torch.rand(3, 40, 25), torch.rand(3, 17, 33)])
    assert [tuple(row["semantic"].shape) for row in rows] == [(40, 25), (17, 33)]
    assert rows[0]["semantic"].dtype == torch.uint8
    model.train()
    semantic = [torch.zeros(40, 25, dtype=torch.int64), torch.zeros(17, 33, dtype=torch.int64)]
    images = [torch.rand(3, 40, 25), torch.rand(3, 17, 33)]
    assert model(images, [{"semantic": s} for s in semantic])["segmentation"] > 0
    void = [{"semantic": torch.full_like(s, VOID)} for s in semantic]
    assert model(images, void)["segmentation"] == 0  # so what pads the batch is no class either


def test_a_perfect_answer_measures_one_and_resampling_is_seeded(scenes, model):
    task = Segmentation(categories=scenes.categories, config=CONFIG)
    metrics, found = task.measure(model, scenes, torch.device("cpu"), rng=generator(0, "b"), quick=True)
    again, _ = task.measure(model, scenes, torch.device("cpu"), rng=generator(0, "b"), quick=True)
    assert metrics == again and len(found) == len(scenes)
    assert 0 <= metrics["mIoU"] <= 1 and metrics["mIoU_error"] > 0
    total = sum(confusion(scenes[i][1]["semantic"].numpy(), found[i].numpy(), 4) for i in range(6))
    assert metrics["mIoU"] == mean_iou(total)
    perfect = sum(confusion(scenes[i][1]["semantic"].numpy(), scenes[i][1]["semantic"].numpy(), 4) for i in range(6))
    assert mean_iou(perfect) == 1


def test_resamples_of_void_images_alone_are_left_out():
    task = Segmentation(categories=("a", "b"), config=CONFIG)
    targets = [{"semantic": torch.full((2, 2), VOID)}, *[{"semantic": torch.tensor([[0, 1], [1, 1]])}] * 2]
    wrong = [{"semantic": torch.full((2, 2), number, dtype=torch.uint8)} for number in (0, 0, 1)]
    outputs = list(zip(range(3), targets, wrong, strict=True))
    metrics, _ = task.summarise(targets, outputs, generator(0, "b"), quick=False)  # of 100 resamples some hold no pixel
    assert 0 < metrics["mIoU_error"] < 1
    with pytest.raises(ValueError, match="held anything to measure"):
        task.summarise(targets[:1], outputs[:1], generator(0, "b"), quick=True)


def test_scenes_serve_their_semantic_map(scenes):
    assert scenes.categories == ("water", "sand", "fish", "ray")
    image, target = scenes[0]
    assert image.dtype == torch.uint8 and target["semantic"].shape == image.shape[1:]
    assert scenes.take([3, 1]).ids == (scenes.ids[3], scenes.ids[1])


def test_it_trains_without_targets_only_in_eval_mode(model):
    with pytest.raises(ValueError, match="needs targets"):
        model.train()([torch.rand(3, 32, 32)] * 2)
