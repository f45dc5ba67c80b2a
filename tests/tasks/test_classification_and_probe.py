"""Classification, and the probe task with the project's positive control: the receptive field decides."""

import pytest
import torch

from workbench.data.augmentation import augmentation
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneCrops, Scenes
from workbench.insight.measured_field import constant_copy
from workbench.networks.backbone import Backbone
from workbench.records.seeds import generator
from workbench.spaces.residual import residual_spec
from workbench.spaces.shuffle import Layout, shuffle_spec
from workbench.tasks.classification import Classification
from workbench.tasks.probe import Probe, ProbeConfig
from workbench.training.fit import fit
from workbench.training.recipe import Recipe

CPU = torch.device("cpu")
LAYOUT = Layout(16, (32, 64, 96), (1, 1, 2))


def backbone(operation, seed=0):
    torch.manual_seed(seed)
    return Backbone(shuffle_spec("probe", LAYOUT, (operation,) * sum(LAYOUT.depths)))


def test_classifier_learns_crops_better_than_chance():
    data = SceneCrops(SceneConfig(), 0, "train", 256, side=32)
    task = Classification(categories=data.categories, hidden=64, dropout=0.0)
    model = task.build(backbone(0))
    recipe = Recipe(steps=60, batch_size=32, lr=0.01, optimizer="adamw", augment="flip")
    fit(model, task, data, recipe, seed=0, image_side=32)
    test = SceneCrops(SceneConfig(), 0, "test", 140, side=32)
    metrics, scores = task.measure(model, test, CPU, rng=generator(0, "b"))
    assert len(scores) == 140 and scores[0].sum() == pytest.approx(1)
    assert metrics["top1"] > 2 / len(data.categories)
    assert metrics["top1_error"] == pytest.approx((metrics["top1"] * (1 - metrics["top1"]) / 140) ** 0.5)


def test_training_without_labels_is_refused():
    data = SceneCrops(SceneConfig(), 0, "train", 8, side=32)
    task = Classification(categories=data.categories)
    images, _ = task.batch(data, [0, 1], CPU)
    with pytest.raises(ValueError, match="needs targets"):
        task.build(backbone(0)).train()(images)


def test_probe_reads_the_map_at_the_given_pixels():
    """Unit i of a stride-16 map is centred on pixel 16 i: the probe there reads that map's own vector."""
    data = Scenes(SceneConfig(), 0, "train", 1)
    task = Probe(categories=data.categories)
    model = task.build(backbone(0)).eval()
    images, _ = task.batch(data, [0], CPU)
    with torch.no_grad():
        features = model.backbone(model.normalise(torch.stack(images)))[-1][0]
        logits = model.logits(images, [torch.tensor([[16 * 2 + 0.5, 16 * 5 + 0.5]])])["labels"]
        torch.testing.assert_close(logits[0], model.linear(features[:, 5, 2]), rtol=1e-4, atol=1e-5)


def test_the_probe_looks_equally_far_to_all_sides():
    """With constant kernels the gradient of the logits is centred on the object, wherever it lies."""
    data = Scenes(SceneConfig(), 0, "train", 1)
    model = Probe(categories=data.categories).build(constant_copy(Backbone(residual_spec("resnet-bottleneck-tiny"))))
    model.eval().linear.weight.data.fill_(1.0)
    for place in ([72.0, 56.0], [65.5, 71.25]):
        image = torch.rand(3, 128, 128, requires_grad=True)
        model.logits([image], [torch.tensor([place])])["labels"].sum().backward()
        weight = image.grad.double().abs().sum(0)
        rows, columns = (weight.sum(axis) / weight.sum() for axis in (1, 0))
        pixels = torch.arange(128, dtype=torch.double) + 0.5
        centre = [float((pixels * columns).sum()), float((pixels * rows).sum())]
        assert centre == pytest.approx(place, abs=1.0)


def test_probe_takes_no_augmentation():
    data = Scenes(SceneConfig(), 0, "train", 1)
    with pytest.raises(ValueError, match="no augmentation"):
        Probe(categories=data.categories).batch(data, [0], CPU, augmentation("flip", 0))


def test_augmentations_keep_boxes_on_their_objects():
    """The flipped image of a flipped image is the image, boxes included."""
    from workbench.data.augmentation import augment_detection

    image, target = Scenes(SceneConfig(), 0, "train", 1)[0]
    flip = augmentation("flip", 0)
    for _ in range(20):
        flipped, changed = augment_detection(image, target, flip)
        if not torch.equal(flipped, image):
            break
    assert torch.equal(flipped.flip(-1), image)
    torch.testing.assert_close(changed["boxes"][:, 0], 128 - target["boxes"][:, 2])
    cropped, kept = augment_detection(image, target, augmentation("crop", 128))
    height, width = cropped.shape[-2:]
    assert len(kept["boxes"]) == len(kept["labels"])
    assert not len(kept["boxes"]) or (kept["boxes"][:, 2].max() <= width and kept["boxes"][:, 3].max() <= height)


def test_further_questions_are_learned_by_heads_of_their_own_and_accuracy_is_told_by_distance():
    config = SceneConfig(classes="ladder", species=("shark", "jellyfish"), objects=(2, 3), texture=True, clutter=0)
    data = Scenes(config, 0, "train", 40)
    asked = ProbeConfig(questions=(("species", 2), ("texture", 2)))
    task = Probe(categories=data.categories, config=asked)
    model = task.build(backbone(0))
    images, targets = task.batch(data, range(8), CPU)
    losses = model.train()(images, targets)
    assert set(losses) == {"labels", "species", "texture"}
    losses["texture"].backward()
    assert model.linear.weight.grad is None and model.further["texture"].weight.grad is not None
    with torch.no_grad():  # a head that always says jellyfish
        model.further["species"].weight.zero_()
        model.further["species"].bias.copy_(torch.tensor([0.0, 1.0]))
    metrics, scores = task.measure(model, data, CPU, rng=generator(0, "b"))
    found = [data.target(index) for index in range(40)]
    species = torch.cat([target["species"] for target in found])
    assert metrics["species accuracy"] == pytest.approx((species == 2).double().mean().item())
    away, labels = (torch.cat([target[name] for target in found]) for name in ("distance", "labels"))
    hits = torch.cat(scores).argmax(dim=1) + 1 == labels
    for distance in config.distances:
        assert metrics[f"accuracy at {distance} px"] == pytest.approx(hits[away == distance].double().mean().item())
    assert metrics["accuracy"] == pytest.approx(hits.double().mean().item())


def test_a_cue_inside_the_field_is_learned():
    """Four 3x3 blocks see 31 pixels far. `tests/lessons/test_known_answers.py`: beyond, there is only chance."""
    config = SceneConfig(classes="dot", context_distance=16, objects=(1, 1), clutter=0, sizes=(8.0, 16.0))
    data, test = Scenes(config, 0, "train", 640), Scenes(config, 0, "test", 200)
    task = Probe(categories=data.categories)
    model = task.build(backbone(0))
    recipe = Recipe(steps=100, batch_size=32, lr=0.01, optimizer="adamw", weight_decay=0.01)
    fit(model, task, data, recipe, seed=0)
    assert task.measure(model, test, CPU, rng=generator(0, "b"))[0]["accuracy"] > 0.8
