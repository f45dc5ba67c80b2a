import numpy as np
import pytest
import torch
from torch import nn

from workbench.evaluation.recalibration import batch_norms, keeping_statistics, recalibrate
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification

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
