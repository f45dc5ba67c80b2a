import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training import checkpoints
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneCrops
from workbench.methods.presets import LADDER_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection
from workbench.training import checkpoint
from workbench.training.checkpoint import CheckpointTimer, load_checkpoint
from workbench.training.fit import fit
from workbench.training.recipe import Recipe, learning_rate, make_optimizer
from workbench.training.side import NonFiniteLoss, Side

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(steps=10, batch_size=4, lr=0.1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("step", 1.0)],
)
def test_schedules_half_way(schedule, expected):
    recipe = Recipe(steps=100, batch_size=1, lr=1.0, schedule=schedule)
    assert learning_rate(recipe, 50) == pytest.approx(expected)


def test_warmup_and_steps_are_detectrons():
    recipe = Recipe(
        steps=90_000, batch_size=16, lr=0.02, schedule="step", milestones=(60 / 90, 80 / 90), warmup=500 / 90_000
    )
    assert learning_rate(recipe, 0) == pytest.approx(0.02 / 3)
    assert learning_rate(recipe, 250) == pytest.approx(0.02 * 2 / 3)
    assert [round(learning_rate(recipe, step), 6) for step in (500, 59_999, 60_000, 80_000)] == [
        0.02,
        0.02,
        0.002,
        0.0002,
    ]


def test_weight_decay_and_bias_rate_follow_the_recipe():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    recipe = Recipe(steps=1, batch_size=1, lr=1.0, weight_decay=0.5, decay_norm=True, bias_lr_factor=2.0)
    groups = make_optimizer(model.named_parameters(), recipe).param_groups
    assert [(len(g["params"]), g["weight_decay"], g["lr_factor"]) for g in groups] == [
        (1, 0.5, 1.0),
        (1, 0.5, 1.0),
        (2, 0.0, 2.0),
    ]
    every = make_optimizer(model.named_parameters(), replace(recipe, decay_bias=True)).param_groups
    assert [g["weight_decay"] for g in every] == [0.5, 0.5, 0.5]


def test_a_body_below_a_pyramid_learns_at_its_own_rate():
    spec = space_named("shuffle-five").spec(space_named("shuffle-five").uniform(0))
    model = Detection(categories=("fish",), config=LADDER_DETECTOR).build(Backbone(spec))
    body = {name for name, _ in model.named_parameters() if name.startswith("backbone.body.")}
    slower = replace(RECIPE, optimizer="adamw", body_lr_factor=0.1, bias_lr_factor=2.0)
    rates = {
        name: group["lr_factor"]
        for group in make_optimizer(model.named_parameters(), slower).param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is one for one in group["params"])
    }
    assert rates == {
        name: (0.1 if name in body else 1.0) * (2.0 if name.endswith("bias") else 1.0)
        for name, _ in model.named_parameters()
    }
    assert 0 < len(body) < len(rates)


def test_frozen_parameters_stay_frozen():
    model = _Regressor()
    model.layer.weight.requires_grad = False
    before = model.layer.weight.clone()
    bias = model.layer.bias.clone()
    fit(model, _Task(), range(8), RECIPE, seed=0)
    assert torch.equal(before, model.layer.weight) and not torch.equal(bias, model.layer.bias)


def test_same_seed_repeats_and_another_seed_does_not():
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        runs.append(fit(_Regressor(), _Task(), range(8), RECIPE, seed=seed).losses)
    assert runs[0] == runs[1] != runs[2]


def test_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = _Regressor()
    torch.manual_seed(5)
    fit(model, _Task(), range(8), RECIPE, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_every_image_is_seen_once_per_pass():
    seen = []
    task = _Task()
    original = task.batch
    task.batch = lambda data, indices, *rest: (seen.extend(indices), original(data, indices, *rest))[1]
    fit(_Regressor(), task, range(8), replace(RECIPE, steps=6), seed=0)
    assert [sorted(seen[start : start + 8]) for start in (0, 8, 16)] == [list(range(8))] * 3


def test_gradient_clipping_bounds_the_step():
    model = _Regressor()
    before = [p.detach().clone() for p in model.parameters()]
    fit(
        model,
        _Task(scale=1e4),
        range(8),
        Recipe(steps=1, batch_size=4, lr=1.0, clip_norm=1e-3, warmup=0.0, weight_decay=0.0),
        seed=0,
    )
    moved = sum(float((p.detach() - b).pow(2).sum()) for p, b in zip(model.parameters(), before, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_non_finite_loss_names_step_and_checkpoint(tmp_path, monkeypatch):
    checkpoints.every(5, monkeypatch)
    model, path = _Regressor(), tmp_path / "checkpoint.pt"
    with pytest.raises(NonFiniteLoss, match=r"step 7 \(loss nan\).*last good checkpoint is .*checkpoint.pt"):
        fit(model, _Task(broken_at=7), range(8), RECIPE, seed=0, checkpoint=path)
    assert len(load_checkpoint(path)["sides"]["weights"]["losses"]) == 5
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_empty_data_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        fit(_Regressor(), _Task(), [], RECIPE, seed=0)


def test_checkpoints_are_due_soon_and_then_every_few_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint, "monotonic", lambda: now[0])

    def due(*times):
        timer = CheckpointTimer()
        found = []
        for now[0] in times:
            found += [now[0]] if timer.due() else []
        now[0] = 0.0
        return found

    assert due(1, 19, 21, 30, 190, 202, 203, 400) == [21, 202, 400]
    monkeypatch.setenv("WORKBENCH_CHECKPOINT_SECONDS", "0")
    assert due(1, 2, 2) == [1, 2, 2]
    monkeypatch.setenv("WORKBENCH_CHECKPOINT_SECONDS", "-1")
    with pytest.raises(ValueError, match="SECONDS is a number from 0 on, 180 by default; got '-1'"):
        CheckpointTimer()


def test_pickled_checkpoints_are_not_executed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": _Regressor()}, path)
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        load_checkpoint(path)


def supernet_training(path, sleep_at):
    """A single-path supernet with dropout, augmentation and momentum; sleeps at a step, to be killed there."""
    torch.manual_seed(0)
    data = SceneCrops(SceneConfig(), 0, "train", 32, side=32)
    task = Classification(categories=data.categories, hidden=16, dropout=0.3)
    model = task.build(Supernet(space_named("shuffle-tiny")))
    space = model.backbone.space

    def progress(done, total, text):
        print(done, flush=True)
        if done == sleep_at:
            time.sleep(600)

    with pytest.MonkeyPatch.context() as patch:
        checkpoints.every(3, patch)
        history = fit(
            model,
            task,
            data,
            Recipe(steps=12, batch_size=8, lr=0.05, augment="classify"),
            seed=3,
            image_side=32,
            progress=progress,
            before_step=lambda model, turn, rng: model.backbone.activate(space.sample(rng)),
            checkpoint=path,
        )
    return history.losses, model.state_dict()


def test_killed_and_resumed_training_ends_bit_identical(tmp_path, capsys):
    """SIGKILL after the eighth step; another process, this one, goes on from the sixth."""
    path, threads = tmp_path / "killed", torch.get_num_threads()
    script = f"""if True:
        import sys, torch
        from pathlib import Path
        from tests.training.test_fit import supernet_training
        torch.set_num_threads({threads})
        supernet_training(Path(sys.argv[1]), 8)
    """
    command = [sys.executable, "-c", script, str(path)]
    victim = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in victim.stdout:
        if line.strip() == "8":
            os.kill(victim.pid, signal.SIGKILL)
            break
    victim.wait()
    victim.stdout.close()
    assert victim.returncode == -signal.SIGKILL
    losses, weights = supernet_training(path, -1)
    assert capsys.readouterr().out.split()[0] == "7"
    whole_losses, whole = supernet_training(tmp_path / "whole", -1)
    assert losses == whole_losses
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


class _Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, images, targets):
        inputs, wanted = torch.stack(images), torch.stack([target["y"] for target in targets])
        return {"loss": ((self.layer(inputs)[:, 0] - wanted) ** 2).mean()}


class _Task:
    """Learn y = scale x (x0 + x1) of the index; `broken_at` yields a NaN target at that step."""

    def __init__(self, scale=1.0, broken_at=-1):
        self.scale, self.broken_at, self.calls = scale, broken_at, 0

    def batch(self, data, indices, device, augment=None, seed=None):
        values = [torch.tensor([index / 8, 1 - index / 8]) for index in indices]
        broken = math.nan if self.calls == self.broken_at else 0.0
        self.calls += 1
        return values, [{"y": self.scale * value.sum() + broken} for value in values]


def test_a_non_finite_gradient_never_reaches_the_weights():
    model = _Regressor()
    model.layer.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLoss, match="gradient is not finite at step 0"):
        fit(model, _Task(), range(8), RECIPE, seed=0)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_mixed_precision_that_only_skips_steps_is_an_error_and_not_an_untrained_network():
    model = _Regressor()
    named = list(model.named_parameters())
    side = Side("weights", named, _Task(), range(8), replace(RECIPE, amp_dtype="float16"), 0, torch.device("cpu"))
    assert side.scaler.get_scale() == 2.0**16
    before = model.layer.weight.clone()
    model.layer.weight.register_hook(lambda gradient: gradient * float("nan"))
    skipped = 0
    with pytest.raises(NonFiniteLoss, match="gradient is not finite at step 30"):
        for skipped in range(100):
            side.step(model, skipped)
    assert skipped == 30 and torch.equal(model.layer.weight, before)
