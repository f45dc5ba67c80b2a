"""One supernet for every space: paths and mixtures, shared and separate weights, extraction, frozen options."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from workbench.networks.aligned_options import align_options
from workbench.networks.backbone import Backbone
from workbench.networks.choices import NestedDepths, SeparateOptions, blocks_of
from workbench.networks.count import count, count_backbone
from workbench.networks.dilation_mixture import DilationMixture
from workbench.networks.supernet import Supernet
from workbench.spaces.allocation import allocation, eligible
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named, space_names
from workbench.spaces.published import DETNAS
from workbench.tasks.classification import Classification
from workbench.training.fit import fit
from workbench.training.recipe import Recipe

SHUFFLE = space_named("shuffle-tiny")
STAGES = space_named("allocation-resnet-tiny")
DILATIONS = space_named("dilation-resnet-bottleneck-tiny-1.2.1")
CASES = {
    "shuffle": (SHUFFLE, "separate"),
    "stages": (STAGES, "separate"),
    "nested stages": (STAGES, "shared"),
    "mobile stages": (space_named("allocation-mobilenetv2-tiny"), "separate"),
    "dilations": (DILATIONS, "separate"),
    "one kernel for all dilations": (DILATIONS, "shared"),
    "channels": (space_named("channel-dilation-resnet-bottleneck-tiny-n4-C"), "separate"),
    "channels of basic blocks": (space_named("channel-dilation-resnet-tiny-n4-C"), "separate"),
    "channels, one kernel": (space_named("channel-dilation-mobilenetv2-tiny-n4-B"), "shared"),
    "layers": (space_named("layers-efficientnet-lite0-front-2.2.2.2"), "separate"),
    "layers read inside": (space_named("layers-mobilenetv2-1.1.1.1.2.1-ssd"), "separate"),
    "ResNet layers": (space_named("layers-resnet-tiny-2.2.2"), "separate"),
}
every_kind = pytest.mark.parametrize(("space", "weights"), CASES.values(), ids=CASES)


def randomised(space, weights, affine=True):
    """A supernet whose options, copies of kernels and batch statistics all differ."""
    torch.manual_seed(0)
    supernet = Supernet(space, weights, affine=affine)
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
        elif isinstance(layer, DilationMixture):
            layer.weight.data += 0.1 * torch.randn_like(layer.weight)
    return supernet


@every_kind
def test_a_path_is_the_extracted_network_and_every_decision_changes_it(space, weights):
    supernet = randomised(space, weights).eval()
    images, rng = torch.randn(2, 3, 64, 48), np.random.default_rng(0)
    with torch.no_grad():
        for _ in range(3):
            arch = space.sample(rng)
            supernet.activate(arch)
            alone = supernet.extract(arch)
            assert isinstance(alone, Backbone) and alone.spec == space.exact_spec(arch)
            maps = supernet(images)
            for ours, theirs in zip(maps, alone(images), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        for place, decision in enumerate(space.decisions):
            other = (arch.choices[place] + 1) % len(decision.options)
            supernet.activate(space.arch([*arch.choices[:place], other, *arch.choices[place + 1 :]]))
            assert any(not torch.equal(a, b) for a, b in zip(maps, supernet(images), strict=True)), decision.name


@every_kind
def test_all_options_get_gradients_in_the_mixture_and_one_hot_shares_are_a_path(space, weights):
    supernet = randomised(space, weights).eval()
    images = torch.randn(2, 3, 64, 48)
    supernet.mix()
    sum(features.square().mean() for features in supernet(images)).backward()
    assert all(bool((alpha.grad.abs() > 0).all()) for alpha in supernet.alphas())
    used = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    assert used == {name for name, _ in supernet.named_parameters()}
    arch = space.sample(np.random.default_rng(1))
    with torch.no_grad():
        supernet.activate(arch)
        path = supernet(images)
        for choice in supernet.choices():
            choice.alpha.copy_(200 * torch.eye(choice.alpha.shape[1])[list(choice.chosen)])
        supernet.mix()
        for ours, theirs in zip(path, supernet(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert supernet.sample(np.random.default_rng(0)) == arch


@every_kind
def test_a_step_leaves_what_it_did_not_run_untouched(space, weights):
    """Also where momentum and weight decay would move it: zeroed instead of absent gradients let them."""
    supernet = randomised(space, weights).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for arch in (space.uniform(1), space.uniform(0)):  # the second option has momentum when the first runs
        supernet.activate(arch)
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        optimizer.zero_grad()
        sum(features.square().mean() for features in supernet(torch.randn(2, 3, 64, 48))).backward()
        optimizer.step()
    running = {
        parameter
        for block, decisions in zip(supernet.blocks, supernet.decisions, strict=True)
        for source in blocks_of(block, [0] * len(decisions))
        for parameter in source.parameters()
    } - set(supernet.alphas())
    alphas, after = set(supernet.alphas()), supernet.state_dict()
    mixtures = any(isinstance(choice, DilationMixture) for choice in supernet.choices())
    idle = [name for name, parameter in supernet.named_parameters() if parameter not in running]
    assert {name for name, parameter in supernet.named_parameters() if parameter in alphas} <= set(idle)
    # A mixture holds its kernels in one tensor, which every path uses: only its alpha can stand still.
    assert mixtures or len(idle) > len(alphas)
    assert all(torch.equal(before[name], after[name]) for name in idle)


def test_every_group_of_channels_is_a_decision_of_its_own():
    """Several decisions govern one block; once the last of them won, and the others did nothing."""
    space = CASES["channels"][0]
    segments = [segment for segment in space.segments(space.uniform(0)) if segment.decisions]
    assert [len(segment.decisions) for segment in segments] == [4] * 5
    assert [index for segment in segments for index in segment.decisions] == list(range(20))


def test_one_group_of_all_channels_is_mixed_in_the_convolution_and_not_in_whole_blocks():
    """Path level, as NATS calls it: batch norm and the other convolutions stand once."""
    space = space_named("channel-dilation-resnet-bottleneck-tiny-n1-C")
    assert all(isinstance(choice, DilationMixture) for choice in Supernet(space).choices())


def test_plain_norms_extract_as_plain_norms():
    space = CASES["layers"][0]
    supernet = randomised(space, "separate", affine=False).train()
    arch = space.sample(np.random.default_rng(0))
    supernet.activate(arch)
    images = torch.randn(4, 3, 64, 64)
    for ours, theirs in zip(supernet(images), supernet.extract(arch)(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_options_without_common_weights_are_refused():
    with pytest.raises(ValueError, match=r"stage 1 block 1 in shuffle-tiny differ in more than depth or dilation"):
        Supernet(SHUFFLE, "shared")


def test_the_mixture_is_the_weighted_sum_of_its_options():
    torch.manual_seed(1)
    features = torch.randn(2, 3, 8, 8)
    layer = SeparateOptions([[nn.Conv2d(3, 3, 1)], [nn.Conv2d(3, 3, 3, padding=1)], []])
    layer.temperature = 0.9
    nn.init.normal_(layer.alpha)
    shares = (layer.alpha[0] / 0.9).softmax(0)
    layer.chosen = None
    by_hand = sum(share * option(features) for share, option in zip(shares, layer.options, strict=True))
    torch.testing.assert_close(layer(features), by_hand)
    layer.chosen = (1,)
    torch.testing.assert_close(layer(features), layer.options[1](features))


def test_nested_stages_hold_one_chain_and_shared_dilations_one_kernel():
    separate, nested = Supernet(STAGES), Supernet(STAGES, "shared")
    assert sum(len(option) for choice in separate.choices() for option in choice.options) == 3 * sum(range(1, 7))
    assert all(isinstance(choice, NestedDepths) for choice in nested.choices())
    assert blocks_of(nested.blocks[1], [1]) == list(nested.blocks[1].blocks)[:2]
    shared = Supernet(DILATIONS, "shared")
    assert all(isinstance(choice, DilationMixture) for choice in shared.choices())
    alphas = sum(alpha.numel() for alpha in shared.alphas())
    assert sum(p.numel() for p in shared.parameters()) - alphas == DILATIONS.params(DILATIONS.uniform(0))


def test_one_supernet_serves_every_budget():
    supernet = Supernet(STAGES).eval()
    images = torch.randn(1, 3, 32, 32)
    for budget in (3, 8, 18):
        supernet.activate(eligible(STAGES, budget)[0])
        with torch.no_grad():
            assert [tuple(maps.shape[1:]) for maps in supernet(images)] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]
    assert allocation(STAGES, (2, 3, 3)) in eligible(STAGES, 8)


def test_a_dilated_path_sees_farther_with_the_same_shared_kernel():
    """The field of the shared block really moves: a distant pixel matters only when the block is dilated."""
    torch.manual_seed(0)
    supernet = Supernet(DILATIONS, "shared").double().eval()
    images = torch.randn(1, 3, 128, 128, dtype=torch.double)
    reach = {}
    for option in (0, 2):
        supernet.activate(DILATIONS.uniform(option))
        moved = images.clone().requires_grad_()
        supernet(moved)[-1][0, :, 4, 4].sum().backward()
        rows = moved.grad.abs().sum((0, 1, 3)).nonzero()
        reach[option] = int(rows.max() - rows.min()) + 1
    assert reach[2] > 1.5 * reach[0]


def test_branches_are_drawn_uniformly():
    """CR-NAS, section 3.3.1: chi-squared of 6,000 draws of each stage's six depths is below its 99.9 % quantile."""
    rng = np.random.default_rng(0)
    draws = np.array([STAGES.sample(rng).choices for _ in range(6000)])
    for stage in range(3):
        counts = np.bincount(draws[:, stage], minlength=6)
        assert ((counts - 1000) ** 2 / 1000).sum() < 20.5
    independent = np.histogram2d(draws[:, 0], draws[:, 1], bins=6)[0]
    assert ((independent - 6000 / 36) ** 2 / (6000 / 36)).sum() < 66.6  # 35 degrees of freedom


@pytest.mark.parametrize("name", space_names())
def test_space_costs_equal_the_built_network(name):
    """The specification's arithmetic and the flop counter know nothing of each other."""
    space = space_named(name)
    arch = space.sample(np.random.default_rng(0))
    counted = count_backbone(lambda: Backbone(space.spec(arch)), (96, 128))
    assert counted == (space.macs(arch, (96, 128)), space.params(arch))


def test_counting_with_bias_adds_the_outputs_of_biased_layers():
    spec = SHUFFLE.spec(SHUFFLE.uniform(0))  # only the stem has a bias
    plain = count_backbone(lambda: Backbone(spec), 64)
    biased = count(Backbone(spec), torch.zeros(1, 3, 64, 64), bias=True)
    assert biased.macs - plain.macs == 16 * 32 * 32 and biased.params == plain.params


def test_every_option_fits_and_maps_have_the_promised_shape():
    for option in range(4):
        backbone = Backbone(SHUFFLE.spec(SHUFFLE.uniform(option)))
        maps = backbone(torch.rand(2, 3, 64, 96))
        assert [tuple(m.shape) for m in maps] == [
            (2, channels, 64 // stride, 96 // stride)
            for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
        ]
    assert len(maps) == 3


def test_published_op_list_builds_on_meta():
    with torch.device("meta"):
        backbone = Backbone(space_named("shuffle-40").spec(DETNAS[0].arch))
        assert backbone(torch.empty(1, 3, 224, 224))[-1].shape == (1, 960, 7, 7)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_unsampled_options_are_bit_identical_after_steps_with_momentum_and_decay(optimizer):
    """Zeroed instead of absent gradients would let momentum and weight decay move every option."""
    torch.manual_seed(0)
    task = Classification(categories=("a", "b"), hidden=16, dropout=0.0)
    model = task.build(Supernet(SHUFFLE))
    supernet = model.backbone
    data = _Noise(8)
    recipe = Recipe(steps=2, batch_size=4, lr=0.1, optimizer=optimizer, weight_decay=0.1, warmup=0.0)
    first, second = SHUFFLE.uniform(0), SHUFFLE.uniform(2)
    supernet.activate(first)
    fit(model, task, data, recipe, seed=0)  # gives option 0 momentum
    before = copy.deepcopy(supernet.state_dict())
    supernet.activate(second)
    fit(model, task, data, replace(recipe, decay_norm=True), seed=1)
    after = supernet.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".options.2." in name for name in moved)
    assert not {name for name in moved if ".options." in name and ".options.2." not in name}


def test_only_sampled_options_move_when_the_path_changes_at_every_step():
    torch.manual_seed(0)
    task = Classification(categories=("a", "b"), hidden=16, dropout=0.0)
    model = task.build(Supernet(SHUFFLE))
    paths = iter([Arch("shuffle-tiny", (0, 1) * 4), Arch("shuffle-tiny", (1, 0) * 4), Arch("shuffle-tiny", (0, 1) * 4)])
    snapshots = []

    def activate(_model, _turn, _rng):
        snapshots.append(copy.deepcopy(model.backbone.state_dict()))
        model.backbone.activate(next(paths))

    fit(model, task, _Noise(8), Recipe(steps=3, batch_size=4, lr=0.1), seed=0, before_step=activate)
    between, last = snapshots[1:3]
    # In step 2 options 1, 0, 1, 0 ... ran: options 0, 1, 0, 1 ... have momentum from step 1 and must not move.
    for index in range(8):
        idle = f"blocks.{index + 1}.options.{index % 2}."
        assert all(torch.equal(between[name], last[name]) for name in between if name.startswith(idle))


def test_aligned_options_compute_one_function_until_they_are_trained():
    torch.manual_seed(0)
    supernet = Supernet(SHUFFLE)
    align_options(supernet)
    for position in (1, 2):  # a stride-2 and a stride-1 block
        options = [blocks_of(supernet.blocks[position], [option])[0] for option in range(4)]
        features = torch.randn(8, SHUFFLE.spec(SHUFFLE.uniform(0)).blocks[position].in_channels, 16, 16)
        plain, five, seven, xception = (option(features) for option in options)
        torch.testing.assert_close(plain, five, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plain, seven, rtol=1e-4, atol=1e-4)
    changed = plain.shape[1] // 2  # the half that goes through the block
    pair = torch.stack([plain[:, changed:].flatten(), xception[:, changed:].flatten()])
    assert 0.7 < torch.corrcoef(pair)[0, 1] < 0.95  # Xception has one more ReLU


def test_aligned_branches_start_as_prefixes_of_the_deepest():
    torch.manual_seed(0)
    supernet = Supernet(STAGES)
    align_options(supernet)
    stage = supernet.blocks[2]
    for option in range(5):
        for block, deepest in zip(blocks_of(stage, [option]), blocks_of(stage, [5]), strict=False):
            for ours, theirs in zip(block.parameters(), deepest.parameters(), strict=True):
                assert torch.equal(ours, theirs) and ours is not theirs


def test_a_shuffle_block_passes_the_even_channels_and_transforms_the_odd_ones():
    channels = torch.arange(8.0).view(1, 8, 1, 1)
    block = Backbone(SHUFFLE.spec(SHUFFLE.uniform(0))).blocks[2]
    block.main = torch.nn.Identity()
    assert block(channels).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


class _Noise:
    """Random images with two classes."""

    def __init__(self, size):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % 2
