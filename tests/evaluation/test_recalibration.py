from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from workbench.evaluation.recalibration import averaging, batch_norms, keeping_statistics, recalibrate
from workbench.methods.presets import TINY_DETECTOR
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection

SPACE = space_named("shuffle-tiny")
TASK = Classification(categories=("a", "b"), hidden=16, dropout=0.0)


class _Layers:
    def run_layers(self, model, images):
        model(torch.stack(images))


def test_statistics_are_the_exact_average_over_all_batches():
    model = nn.Sequential(nn.BatchNorm2d(3))
    batches = [list(torch.rand(4, 3, 8, 8) * (index + 1)) for index in range(30)]
    recalibrate(model, _Layers(), batches)
    stacked = [torch.stack(batch) for batch in batches]
    mean = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in stacked]).mean(dim=0)
    variance = torch.stack([batch.var(dim=(0, 2, 3)) for batch in stacked]).mean(dim=0)
    torch.testing.assert_close(model[0].running_mean, mean)
    torch.testing.assert_close(model[0].running_var, variance)
    assert model[0].momentum == 0.1


def test_only_the_active_path_is_touched_and_everything_is_restored():
    model = TASK.build(Supernet(SPACE)).train()
    images = list(torch.rand(4, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arch = SPACE.sample(np.random.default_rng(0))
    model.backbone.activate(arch)
    with keeping_statistics(model):
        recalibrate(model, TASK, [images, images])
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        for index, choice in enumerate(arch.choices):
            own = f"backbone.blocks.{index + 1}.options.{choice}."
            siblings = f"backbone.blocks.{index + 1}.options."
            assert any(name.startswith(own) for name in changed)
            assert not any(name.startswith(siblings) and not name.startswith(own) for name in changed)
        assert all("running_" in name or "num_batches" in name for name in changed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training and all(layer.training for layer in model.modules())


def test_recalibration_repairs_stale_statistics():
    """With statistics of another distribution eval mode disagrees with batch mode; recalibrated it agrees."""
    torch.manual_seed(0)
    model = TASK.build(Supernet(SPACE))
    images = list(torch.rand(16, 3, 32, 32))
    for norm in batch_norms(model):
        norm.running_mean.fill_(3.0)
    model.train()
    with torch.no_grad(), keeping_statistics(model):
        wanted = model.logits(images)
    model.eval()
    with torch.no_grad():
        stale = (model.logits(images) - wanted).abs().max()
        recalibrate(model, TASK, [images])
        repaired = (model.logits(images) - wanted).abs().max()
    assert repaired < 0.2 * stale


def test_a_network_with_nan_weights_is_an_error_not_a_zero():
    model = TASK.build(Supernet(SPACE))
    with torch.no_grad():
        model.backbone.blocks[2].options[0][0].main[0].weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        recalibrate(model, TASK, [list(torch.rand(4, 3, 32, 32))])


@pytest.mark.parametrize("pyramid_norm", [False, True])
def test_nothing_behind_the_last_norm_runs_twice_and_statistics_are_the_same_to_the_bit(pyramid_norm):
    """The last layer with batch statistics is one of the supernet, or of the pyramid; each batch has another path."""
    config = replace(TINY_DETECTOR, pyramid_norm=pyramid_norm)
    task = Detection(categories=("fish",), config=config)
    torch.manual_seed(0)
    model = task.build(Supernet(SPACE)).eval()
    batches = [list(torch.rand(2, 3, 64, 64)) for _ in range(3)]
    paths = [SPACE.uniform(option) for option in (0, 1, 3)]  # as completions of a beam have
    supernet = model.get_submodule("backbone.body")

    def switch(index):
        supernet.activate(paths[index])

    runs = []
    model.head.register_forward_hook(lambda *_: runs.append(1))
    with keeping_statistics(model):
        recalibrate(model, task, batches, switch)
        found = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(runs) == pyramid_norm and not model.training  # only the first pass tells which norm is the last
    norms = batch_norms(model)
    before = {norm: [buffer.clone() for buffer in norm.buffers()] for norm in norms}
    ran = set()
    for norm in norms:
        norm.register_forward_pre_hook(lambda layer, _: ran.add(layer))
    with torch.no_grad(), averaging(norms):
        for index, images in enumerate(batches):
            switch(index)
            task.run_layers(model, images)
    for norm in norms:
        if norm not in ran:
            for buffer, value in zip(norm.buffers(), before[norm], strict=True):
                buffer.copy_(value)
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


def test_a_norm_layer_that_runs_once_for_each_map_sees_all_of_them():
    norm, tail = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
    model, runs = nn.Sequential(norm, nn.ReLU(), norm, tail), []
    tail.register_forward_hook(lambda *_: runs.append(1))
    recalibrate(model, _Layers(), [list(torch.rand(4, 3, 8, 8)) for _ in range(5)])
    assert norm.num_batches_tracked == 10 and len(runs) == 1
