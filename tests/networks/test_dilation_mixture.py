"""The mixture of dilations and the networks cut from it: the named tests T1 to T7 ."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.lessons.nats_mixture import decode, equalities, one_convolution
from workbench.networks.backbone import Backbone
from workbench.networks.blocks import SplitConv2d, build_block
from workbench.networks.count import count, count_backbone, saved_bytes
from workbench.networks.dilation_mixture import (
    IMPLEMENTATIONS,
    SIDES,
    tap_positions,
    use,
    usual_implementation,
)
from workbench.networks.supernet import Supernet
from workbench.networks.weight_slicing import reuse_weights
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import DILATION_SETS, base_spec, decoded, same_everywhere
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import BlockSpec

SETS = [pair for name in "ABC" for pair in DILATION_SETS[name]]


def pretrained(space, dtype=torch.float64):
    """A backbone with random weights, scales and batch statistics, in eval mode."""
    torch.manual_seed(1)
    backbone = Backbone(base_spec(space))
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    return backbone.to(dtype).eval()


def small_space(backbone, groups="n4", dilations="C"):
    return space_named(f"channel-dilation-{backbone}-{groups}-{dilations}")


def mixture_of(space, network, weights="separate"):
    supernet = Supernet(space, weights, pretrained=network)
    supernet.mix()
    return supernet


def largest_gap(first, second):
    return max(float((a - b).detach().abs().max()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dilations", SETS, ids=lambda dilations: f"{len(dilations)} up to {dilations[-1]}")
@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_both_implementations_give_equal_outputs_and_gradients(dilations, groups, stride):
    _, mixture = one_convolution(16, groups, dilations, np.random.default_rng(0), learned=0.5)
    mixture.stride = (stride, stride)
    features = torch.randn(2, 16, 13, 15, dtype=torch.float64)
    results = []
    for name in IMPLEMENTATIONS:
        mixture.implementation = dict.fromkeys(SIDES, name)
        inputs = features.clone().requires_grad_()
        output = mixture(inputs)
        cost = (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum()
        results.append([output, *torch.autograd.grad(cost, [inputs, mixture.weight, mixture.alpha])])
    assert largest_gap(*results) < 1e-10
    assert all(float(tensor.detach().abs().max()) > 1e-3 for tensor in results[0])


def test_single_precision_agrees_to_four_digits():
    _, mixture = one_convolution(32, 16, DILATION_SETS["C"][0], np.random.default_rng(0), learned=0.5)
    mixture, features = mixture.float(), torch.randn(4, 32, 16, 16, requires_grad=True)
    outputs = []
    for name in IMPLEMENTATIONS:
        mixture.implementation = dict.fromkeys(SIDES, name)
        output = mixture(features)
        outputs.append([output, *torch.autograd.grad(output.mean(), [features, mixture.weight, mixture.alpha])])
    assert largest_gap(*outputs) < 1e-4


def test_a_chosen_network_costs_what_it_is_and_ignores_what_it_did_not_choose():
    space = small_space("resnet-bottleneck-tiny")
    supernet = mixture_of(space, pretrained(space, torch.float32)).eval()
    arch = space.sample(np.random.default_rng(1))
    supernet.activate(arch)
    images = torch.zeros(1, 3, 64, 64)
    assert count(supernet, images).macs == space.macs(arch, 64)
    with torch.no_grad():
        before = supernet(images)
        for layer in supernet.mixtures():
            unused = set(range(layer.copies)) - set(layer.chosen)
            for dilation in unused:
                layer.kernel_of(dilation).fill_(float("nan"))
        assert all(torch.equal(a, b) for a, b in zip(before, supernet(images), strict=True))


@pytest.mark.parametrize("backbone", ["resnext50", "mobilenetv2-tiny"])
def test_grouped_and_depthwise_convolutions_mix_alike_in_both_ways(backbone):
    space = small_space(backbone, "n2")
    supernet = mixture_of(space, pretrained(space)).double().eval()
    images = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        maps = []
        for name in IMPLEMENTATIONS:
            use(supernet, name)
            maps.append(supernet(images))
    assert largest_gap(*maps) < 1e-9


def test_every_equality_that_the_lesson_shows_holds():
    """T1, T2, T4 and T7 on one convolution, both implementations, gradients too."""
    assert equalities(np.random.default_rng(3))["largest difference"].max() < 1e-10


@pytest.mark.parametrize("backbone", ["resnet-bottleneck-tiny", "resnet-tiny"])
def test_t1_the_set_of_the_undilated_option_is_the_network_itself(backbone):
    """Bit for bit, in both implementations."""
    space = small_space(backbone, dilations="plain")
    network = pretrained(space, torch.float32)
    supernet = mixture_of(space, network).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for name in IMPLEMENTATIONS:
            use(supernet, name)
            assert all(torch.equal(a, b) for a, b in zip(supernet(images), network(images), strict=True))


@given(
    backbone=st.sampled_from(["resnet-bottleneck-tiny", "resnet-tiny", "mobilenetv2-tiny", "resnext50"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=12)
def test_t2_one_dilation_per_group_with_equal_copies_is_the_index_preserving_network(backbone, seed):
    space = small_space(backbone)
    network = pretrained(space)
    arch = space.sample(np.random.default_rng(seed))
    supernet = mixture_of(space, network).double().eval()
    supernet.activate(arch)
    cut = reuse_weights(space, arch, network, "index").double()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        scale = max(float(features.abs().max()) for features in network(images))
        assert largest_gap(supernet(images), cut(images)) < 1e-5 * scale
        # A saturated softmax is the same as a chosen option.
        for layer in supernet.mixtures():
            layer.alpha.copy_(60 * torch.eye(layer.alpha.shape[1])[list(layer.chosen)])
        supernet.mix()
        assert largest_gap(supernet(images), cut(images)) < 1e-5 * scale


def test_contiguous_and_index_slicings_differ_and_both_keep_the_undilated_network():
    space = small_space("resnet-bottleneck-tiny")
    network, images = pretrained(space), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    arch = space.sample(np.random.default_rng(0))
    with torch.no_grad():
        cut = [reuse_weights(space, arch, network, slicing).double()(images) for slicing in ("contiguous", "index")]
        assert largest_gap(*cut) > 1e-3
        for slicing in ("contiguous", "index"):
            plain = reuse_weights(space, same_everywhere(space, (1, 1)), network, slicing).double()
            assert largest_gap(plain(images), network(images)) < 1e-6


def test_extracting_from_the_supernet_takes_the_kernels_it_has_learned():
    space = small_space("resnet-bottleneck-tiny")
    supernet = mixture_of(space, pretrained(space)).double().eval()
    arch, images = space.sample(np.random.default_rng(5)), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for layer in supernet.mixtures():
            layer.weight.add_(0.05 * torch.randn_like(layer.weight))
        supernet.activate(arch)
        assert largest_gap(supernet(images), supernet.extract(arch).double()(images)) < 1e-4
    shared = mixture_of(space, pretrained(space), "shared").double().eval()
    shared.activate(arch)
    with torch.no_grad():
        assert largest_gap(shared(images), shared.extract(arch).double()(images)) < 1e-4
    own = sum(p.numel() for p in shared.parameters()) - sum(a.numel() for a in shared.alphas())
    assert own == space.params(arch)  # one kernel for all dilations


@pytest.mark.parametrize("backbone", ["resnet50", "resnext101"])
def test_t3_the_cut_network_costs_what_the_pretrained_one_costs(backbone):
    space = space_named(f"channel-dilation-{backbone}-c32-C")
    plain = backbone_cost(base_spec(space), (800, 1088))
    rng = np.random.default_rng(0)
    for _ in range(3):
        spec = decoded(space, space.sample(rng))
        assert count_backbone(lambda spec=spec: Backbone(spec), (800, 1088)) == plain
    with torch.device("meta"):
        keys = [{name: t.shape for name, t in Backbone(s).state_dict().items()} for s in (spec, base_spec(space))]
    assert keys[0] == keys[1]  # so pretrained weights load as they are


def test_t6_strided_blocks_keep_their_shapes_for_every_pair():
    for early, late in DILATION_SETS.values():
        for pair in {*early, *late}:
            block = BlockSpec(
                kind="bottleneck", in_channels=8, out_channels=16, stride=2, expansion=0.5, dilations=((8, *pair),)
            )
            assert build_block(block)(torch.randn(1, 8, 23, 30)).shape == (1, 16, 12, 15)
    _, mixture = one_convolution(8, 4, DILATION_SETS["C"][1], np.random.default_rng(0))
    mixture.stride = (2, 2)
    for name in IMPLEMENTATIONS:
        mixture.implementation = dict.fromkeys(SIDES, name)
        assert mixture(torch.randn(1, 8, 23, 30, dtype=torch.float64)).shape == (1, 8, 12, 15)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_split_convolution_is_its_parts_side_by_side(groups):
    torch.manual_seed(0)
    parts = ((8, 1, 1), (8, 2, 3)) if groups == 2 else ((4, 1, 1), (8, 2, 3), (4, 3, 1))
    split = SplitConv2d(8, 16, 3, stride=2, padding=1, groups=groups, bias=True)
    split.parts = parts
    features = torch.randn(2, 8, 17, 19)
    expected, start = [], 0
    for channels, height, width in parts:
        whole = nn.Conv2d(8, 16, 3, 2, (height, width), (height, width), groups)
        whole.load_state_dict(split.state_dict())
        expected.append(whole(features)[:, start : start + channels])
        start += channels
    torch.testing.assert_close(split(features), torch.cat(expected, dim=1))


def test_taps_lie_where_the_dilated_kernels_read():
    taps, grid = tap_positions(((1, 1), (2, 3)), 3)
    assert grid == (5, 7)
    rows = [(tap // 7 - 2, tap % 7 - 3) for tap in taps]
    assert rows[:9] == [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert rows[9:] == [(y, x) for y in (-2, 0, 2) for x in (-3, 0, 3)]


def test_the_composite_keeps_a_third_of_the_activations_at_five_dilations():
    _, mixture = one_convolution(64, 16, DILATION_SETS["C"][0], np.random.default_rng(0))
    mixture, features = mixture.float(), torch.randn(8, 64, 32, 32)
    kept = {}
    for name in IMPLEMENTATIONS:
        mixture.implementation = dict.fromkeys(SIDES, name)
        kept[name] = saved_bytes(mixture, partial(mixture, features))
    maps = features.numel() * 4
    assert kept["branches"] >= 6 * maps  # the input and five outputs
    assert maps <= kept["composite"] <= kept["branches"] / 3


@pytest.mark.parametrize(
    ("dilations", "weights"),
    [(DILATION_SETS["C"][0], "composite"), (DILATION_SETS["C"][1], "branches"), (DILATION_SETS["A"][1], "branches")],
)
def test_the_size_of_a_layer_says_how_it_is_computed(dilations, weights):
    """49 taps against 45 in the composite's favour, 121 against 81 and against 27 not."""
    _, mixture = one_convolution(8, 4, dilations, np.random.default_rng(0))
    assert usual_implementation(mixture) == {"weights": weights, "alpha": "branches"}


def test_weights_of_another_network_are_refused():
    space = small_space("resnet-bottleneck-tiny")
    other = Backbone(base_spec(small_space("resnet-tiny")))
    with pytest.raises(ValueError, match=r"is of kind bottleneck; its counterpart in resnet-tiny .* of kind basic"):
        mixture_of(space, other)


def test_decoding_one_convolution_sorts_its_rows():
    conv, mixture = one_convolution(8, 4, ((1, 1), (2, 2)), np.random.default_rng(0))
    split, order = decode(conv, mixture, (1, 0, 1, 0))
    assert order == [2, 3, 6, 7, 0, 1, 4, 5] and split.parts == ((4, 1, 1), (4, 2, 2))
    assert torch.equal(split.weight, conv.weight[order])
