"""Weights and alpha in turn: frozen sides, the warm phase, bit-identical resume."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from workbench.methods.plan import shortened
from workbench.training.fit import AlphaSide, fit
from workbench.training.recipe import AlternatingRecipe, Recipe, learning_rate
from workbench.training.side import NonFiniteLoss

RECIPE = AlternatingRecipe(
    weights=Recipe(steps=12, batch_size=4, lr=0.05, weight_decay=0.1),
    alpha=Recipe(steps=1, batch_size=2, lr=0.1, optimizer="adam", weight_decay=0.1, schedule="constant", warmup=0.0),
    epochs=4,
    warm_epochs=2,
)


class Half:
    """The indices of one half of the data."""

    def __init__(self, name, ids):
        self.name, self.ids = name, tuple(ids)

    def __len__(self):
        return len(self.ids)


WEIGHTS, ALPHA = Half("all", range(8)), Half("all", range(8, 14))


class Mixed(nn.Module):
    """Two linear maps, mixed by a softmax over alpha, behind dropout."""

    def __init__(self):
        super().__init__()
        self.options = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
        self.dropout = nn.Dropout(0.2)
        self.alpha = nn.Parameter(torch.zeros(1, 2))
        self.seen = []

    def forward(self, images, targets):
        self.seen.append((self.alpha.requires_grad, [int(target["index"]) for target in targets]))
        inputs, wanted = torch.stack(images), torch.stack([target["y"] for target in targets])
        shares = self.alpha.softmax(dim=1)[0]
        mixed = sum(share * option(self.dropout(inputs)) for share, option in zip(shares, self.options, strict=True))
        return {"loss": ((mixed[:, 0] - wanted) ** 2).mean()}


class Task:
    def batch(self, data, indices, device, augment=None, seed=None):
        numbers = [data.ids[index] for index in indices]
        images = [torch.tensor([n / 14, 1 - n / 14]) for n in numbers]
        targets = [{"y": torch.tensor(math.sin(n)), "index": torch.tensor(n)} for n in numbers]
        return images, targets


def run(model, recipe=RECIPE, *, halves=(WEIGHTS, ALPHA), penalty=None, after_epoch=None, **options):
    side = AlphaSide(parameters=[model.alpha], data=halves[1], penalty=penalty, after_epoch=after_epoch)
    return fit(model, Task(), halves[0], recipe, seed=0, search=side, **options)


def new():
    torch.manual_seed(0)
    return Mixed()


def test_each_side_sees_its_own_half_and_only_the_learning_side_moves():
    """Bit for bit: no step, no momentum, no decay reaches a frozen side."""
    model = new()
    states = []
    original = model.forward

    def watched(images, targets):
        states.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return original(images, targets)

    model.forward = watched
    history = run(model)
    states.append({name: p.detach().clone() for name, p in model.named_parameters()})
    assert len(history.losses) == 12 and len(history.alpha_losses) == 6  # alpha stands still for half of the epochs
    for (alpha_learns, indices), before, after in zip(model.seen, states, states[1:], strict=False):
        assert set(indices) <= set(ALPHA.ids if alpha_learns else WEIGHTS.ids)
        for name in before:
            same = torch.equal(before[name], after[name])
            assert same == ((name == "alpha") != alpha_learns), name
    assert [alpha_learns for alpha_learns, _ in model.seen] == [False] * 6 + [False, True] * 6
    assert history.images == 12 * 4 + 6 * 2
    assert all(p.requires_grad for p in model.parameters())


def test_t5_alpha_is_untouched_in_the_warm_phase():
    epochs = []
    model = new()
    history = run(model, after_epoch=lambda epoch: epochs.append((epoch, model.alpha.detach().clone())))
    assert [epoch for epoch, _ in epochs] == [0, 1, 2, 3]
    assert all(torch.equal(alpha, torch.zeros(1, 2)) for epoch, alpha in epochs if epoch < 2)
    assert not torch.equal(epochs[2][1], torch.zeros(1, 2)) and not torch.equal(epochs[3][1], epochs[2][1])
    assert [torch.equal(a[0], b[1]) for a, b in zip(history.alphas, epochs, strict=True)] == [True] * 4


@pytest.mark.parametrize("killed_at", [2, 4, 7, 10])
def test_killed_and_resumed_search_ends_bit_identical(tmp_path, killed_at):
    whole = new()
    expected = run(whole)

    class Killed(RuntimeError):
        pass

    def kill(done, total, text):
        if done == killed_at:
            raise Killed

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        run(new(), checkpoint=path, progress=kill)
    resumed = new()
    with torch.no_grad():
        resumed.alpha.fill_(9.0)  # whatever it was, the checkpoint decides
    if killed_at < 3:
        assert not path.exists()  # killed in the first epoch: from the start again
        resumed = new()
    found = run(resumed, checkpoint=path)
    assert found.losses == expected.losses and found.alpha_losses == expected.alpha_losses
    assert all(torch.equal(a[0], b[0]) for a, b in zip(found.alphas, expected.alphas, strict=True))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_parameters_that_were_frozen_before_stay_frozen():
    model = new()
    model.options[0].weight.requires_grad = False
    before = model.options[0].weight.clone()
    run(model)
    assert torch.equal(before, model.options[0].weight) and not model.options[0].weight.requires_grad


def test_alpha_follows_its_own_optimiser():
    """Adam's first step moves every logit by the learning rate, in the direction against its gradient."""
    model = new()
    short = replace(RECIPE, weights=replace(RECIPE.weights, steps=1), epochs=1, warm_epochs=0)
    run(model, short)
    assert model.alpha.detach().abs().flatten().tolist() == pytest.approx([0.1, 0.1], rel=1e-4)


def test_a_cosine_may_end_above_zero():
    recipe = Recipe(steps=100, batch_size=8, lr=0.01, schedule="cosine", cosine_floor=0.04, warmup=0.0)
    assert learning_rate(recipe, 0) == pytest.approx(0.01)
    assert learning_rate(recipe, 50) == pytest.approx(0.01 * 0.52)
    assert learning_rate(recipe, 100) == pytest.approx(0.0004)  # NATS, section 5


class Switched(Mixed):
    """The same, but a step of the weights runs one map only."""

    chosen = None

    def forward(self, images, targets):
        if self.chosen is None:
            return super().forward(images, targets)
        inputs, wanted = torch.stack(images), torch.stack([target["y"] for target in targets])
        self.seen.append((self.alpha.requires_grad, self.chosen))
        return {"loss": ((self.options[self.chosen](self.dropout(inputs))[:, 0] - wanted) ** 2).mean()}


def switched(**options):
    """A trained model with random paths in the steps of its weights, its turns, and its history."""
    torch.manual_seed(0)
    model, turns = Switched(), []

    def before_step(trained, turn, rng):
        turns.append(turn)
        trained.chosen = None if turn == "alpha" else int(rng.integers(2))

    return model, turns, run(model, before_step=before_step, **options)


def test_a_path_can_be_chosen_before_every_step():
    model, turns, _ = switched()
    assert turns == ["warm"] * 6 + ["weights", "alpha"] * 6
    assert {chosen for learns, chosen in model.seen if not learns and chosen is not None} == {0, 1}


def test_several_weight_steps_may_go_to_each_of_alpha():
    _, turns, history = switched(recipe=replace(RECIPE, weight_steps=3))
    assert turns == ["warm"] * 6 + ["weights"] * 3 + ["alpha"] + ["weights"] * 3 + ["alpha"]
    assert (len(history.losses), len(history.alpha_losses)) == (12, 2)
    with pytest.raises(ValueError, match="at least one step of the weights"):
        replace(RECIPE, weight_steps=0)


def test_paths_are_the_same_after_a_kill(tmp_path):
    expected = switched()
    path = tmp_path / "checkpoint.pt"

    class Killed(RuntimeError):
        pass

    def kill(done, total, text):
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        switched(checkpoint=path, progress=kill)
    resumed = switched(checkpoint=path)
    assert resumed[2].losses == expected[2].losses
    for name, tensor in expected[0].state_dict().items():
        assert torch.equal(tensor, resumed[0].state_dict()[name])


def test_a_penalty_moves_alpha_and_never_the_weights():
    plain, priced = new(), new()
    short = replace(RECIPE, weights=replace(RECIPE.weights, steps=1), epochs=1, warm_epochs=0)
    run(plain, short)
    history = run(priced, short, penalty=lambda trained: -100 * trained.alpha[0, 0])
    assert history.alpha_losses[0] == pytest.approx(run(new(), short).alpha_losses[0])  # alpha was zero
    assert plain.alpha[0, 0] < 0 < priced.alpha[0, 0]
    assert all(torch.equal(a, b) for a, b in zip(plain.options.parameters(), priced.options.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_epochs": 4}, "fewer epochs than there are; got 4 of 4"),
        ({"epochs": 20}, "20 epochs needs at least as many steps; got 12"),
    ],
)
def test_plans_that_make_no_sense_cannot_be_made(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **changes)


@pytest.mark.parametrize(
    ("halves", "message"),
    [
        ((WEIGHTS, WEIGHTS), "different images"),
        ((WEIGHTS, Half("all", (7, 8))), "different images, but 1 are in both halves"),
        ((WEIGHTS, Half("all", ())), "at least one image"),
    ],
)
def test_halves_that_make_no_sense_are_refused_before_the_first_step(halves, message):
    model = new()
    with pytest.raises(ValueError, match=message):
        run(model, halves=halves)
    assert model.seen == []


def test_a_side_of_alpha_and_an_alternating_recipe_need_each_other():
    model = new()
    side = AlphaSide(parameters=[model.alpha], data=ALPHA)
    for recipe, search in ((RECIPE.weights, side), (RECIPE, None)):
        with pytest.raises(ValueError, match="A gradient search has both"):
            fit(model, Task(), WEIGHTS, recipe, seed=0, search=search)


def test_a_copy_is_searched_like_the_original():
    """What estimates a phase's time trains a deep copy: alphas copied along are parameters of the copy."""
    model = new()
    twin, own = copy.deepcopy((model, [model.alpha]))
    assert own[0] is twin.alpha
    side = AlphaSide(parameters=own, data=ALPHA, penalty=lambda trained: -100 * trained.alpha[0, 0])
    fit(twin, Task(), WEIGHTS, RECIPE, seed=0, search=side)
    assert torch.equal(model.alpha, torch.zeros(1, 2)) and model.alpha.grad is None and twin.alpha[0, 0] > 0


def test_a_loss_that_is_not_finite_stops_the_search_and_unfreezes_both_sides():
    model = new()
    with torch.no_grad():
        model.alpha.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="loss is not finite at step 0"):
        run(model)
    assert all(p.requires_grad for p in model.parameters())


def test_a_shortened_search_keeps_epochs_and_their_warm_share():
    assert shortened(RECIPE, 0) is RECIPE
    short = shortened(RECIPE, 2)
    assert (short.weights.steps, short.epochs, short.warm_epochs) == (2, 2, 1)
