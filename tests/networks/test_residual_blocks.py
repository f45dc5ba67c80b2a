"""Built residual networks: the promised shapes, the counted costs, dilation in the one convolution it belongs to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.networks.backbone import Backbone
from workbench.networks.blocks import ResidualUnit, build_block
from workbench.networks.count import count_backbone
from workbench.spaces.allocation import allocation_space, eligible
from workbench.spaces.branches import searched_width
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import BlockSpec
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import LAYOUTS, dilatable_blocks, dilated, layout_named, residual_spec

IMAGE = (800, 1088)


def convolutions(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def drawn_spec(name, seed):
    """Random depths of 1 to 4 and random dilations, the strided blocks included."""
    rng = np.random.default_rng(seed)
    plain = residual_spec(name, rng.integers(1, 5, len(layout_named(name).depths)).tolist())
    return dilated(plain, rng.integers(1, 4, len(dilatable_blocks(plain))).tolist())


@pytest.mark.parametrize("name", LAYOUTS)
def test_counted_costs_and_shapes_are_those_of_the_specification(name):
    """Odd sizes and dilated strided blocks; the arithmetic and the flop counter know nothing of each other.

    Undilated networks of whole sizes are counted with the spaces (`test_supernet`).
    """
    spec, size = drawn_spec(name, 1), (97, 131)
    with torch.device("meta"):
        backbone = Backbone(spec)
        maps = backbone(torch.empty(2, 3, *size))
    assert count_backbone(lambda: backbone, size) == backbone_cost(spec, size)
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(spec.channels, spec.strides, strict=True)
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50"])
def test_candidates_count_the_same_macs_when_built(name):
    space = allocation_space(name)
    found = eligible(space)
    chosen = [found[0], found[len(found) // 2], found[-1]]
    counted = [count_backbone(lambda arch=arch: Backbone(space.spec(arch)), IMAGE) for arch in chosen]
    assert len({cost.macs for cost in counted}) == 1 and len({cost.params for cost in counted}) == 3
    assert counted == [(space.macs(arch, IMAGE), space.params(arch)) for arch in chosen]


@pytest.mark.parametrize("net", CRNAS, ids=lambda net: net.name)
def test_published_networks_build_and_cost_what_their_specification_says(net):
    assert count_backbone(lambda: Backbone(net.spec), IMAGE) == backbone_cost(net.spec, IMAGE)


@given(
    name=st.sampled_from(["resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2-tiny"]),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(17, 80), st.integers(17, 80)),
)
@settings(max_examples=15)
def test_real_maps_have_the_promised_shapes(name, seed, size):
    spec = drawn_spec(name, seed)
    maps = Backbone(spec).eval()(torch.rand(1, 3, *size))
    for features, channels, stride in zip(maps, spec.channels, spec.strides, strict=True):
        assert features.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert torch.isfinite(features).all()


def block_of(kind, stride=1, dilation=(1, 1), channels=(8, 8)):
    entering, leaving = channels
    plain = BlockSpec(
        kind=kind,
        in_channels=entering,
        out_channels=leaving,
        stride=stride,
        expansion={"basic": 1.0, "bottleneck": 0.25, "mbconv": 4.0}[kind],
        activation="relu6" if kind == "mbconv" else "relu",
    )
    return replace(plain, dilations=((searched_width(plain), *dilation),))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kind", "kernels", "place", "strided"),
    [("basic", [3, 3], 1, 0), ("bottleneck", [1, 3, 1], 1, 1), ("mbconv", [1, 3, 1], 1, 1)],
)
def test_one_convolution_is_dilated_and_one_carries_the_stride(kind, kernels, place, strided, stride):
    """Basic: the second 3x3, which stands behind the stride; bottleneck: the 3x3; mbconv: the depthwise (section 4)."""
    block = build_block(block_of(kind, stride, (2, 3)))
    main = convolutions(block.main if isinstance(block, ResidualUnit) else block)
    assert [layer.kernel_size for layer in main] == [(kernel, kernel) for kernel in kernels]
    assert [layer.dilation for layer in main] == [(2, 3) if i == place else (1, 1) for i in range(len(main))]
    assert [layer.stride for layer in main] == [(stride, stride) if i == strided else (1, 1) for i in range(len(main))]
    for layer, kernel in zip(main, kernels, strict=True):
        reach = kernel // 2
        assert layer.padding == (reach * layer.dilation[0], reach * layer.dilation[1])
    if kind == "mbconv":
        assert main[place].groups == main[place].out_channels == 32
    if isinstance(block, ResidualUnit):
        assert all(layer.dilation == (1, 1) and layer.kernel_size == (1, 1) for layer in convolutions(block.shortcut))


def seen_rows_and_columns(block, stride=1, side=49):
    """Offsets, from the input pixel under it, of the rows and columns that reach the centre unit of the output."""
    for layer in convolutions(block):
        nn.init.constant_(layer.weight, 1e-3)  # small and positive: no activation cuts a path off
    images = torch.ones(1, 8, side, side, requires_grad=True)
    output = block.eval()(images)
    centre = output.shape[-1] // 2
    output[0, :, centre, centre].sum().backward()
    offsets = images.grad[0].sum(0).nonzero() - centre * stride
    return [sorted(set(offsets[:, axis].tolist())) for axis in (0, 1)]


def steps(first, second, stride=1):
    """Offsets reached by a 3x3 of dilation `first` and stride `stride`, then one of dilation `second` on its output."""
    return sorted({first * a + stride * second * b for a in (-1, 0, 1) for b in (-1, 0, 1)})


@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (3, 3), (2, 3)])
def test_a_dilated_block_reads_the_pixels_it_should(dilation):
    basic = [steps(1, rate) for rate in dilation]
    single = [[-rate, 0, rate] for rate in dilation]
    for kind, wanted in (("basic", basic), ("bottleneck", single), ("mbconv", single)):
        assert seen_rows_and_columns(build_block(block_of(kind, dilation=dilation))) == wanted, kind


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_a_dilated_strided_block_stays_centred(rate):
    """Padding equals the dilation, so that output pixel i still looks at input pixel 2 i."""
    for kind in ("basic", "bottleneck", "mbconv"):
        block = build_block(block_of(kind, 2, (rate, rate), channels=(8, 16)))
        wanted = steps(1, rate, 2) if kind == "basic" else steps(rate, 0)
        assert seen_rows_and_columns(block, 2)[0] == wanted, kind


def test_the_sum_goes_through_a_relu_except_in_mbconv():
    torch.manual_seed(0)
    images = torch.randn(2, 8, 9, 9)
    for kind in ("basic", "bottleneck", "mbconv"):
        block = build_block(block_of(kind)).eval()
        assert isinstance(block, ResidualUnit) and len(block.shortcut) == 0
        linear = block.main(images) + images
        torch.testing.assert_close(block(images), linear if kind == "mbconv" else linear.relu(), rtol=0, atol=0)
        assert (block(images) < 0).any() == (kind == "mbconv")


@pytest.mark.parametrize(("stride", "channels"), [(2, (8, 8)), (1, (8, 16)), (2, (8, 16))])
def test_blocks_that_change_the_map_project_or_have_no_shortcut(stride, channels):
    for kind in ("basic", "bottleneck"):
        (projection,) = convolutions(build_block(block_of(kind, stride, channels=channels)).shortcut)
        assert (projection.kernel_size, projection.stride) == ((1, 1), (stride, stride))
    assert isinstance(build_block(block_of("mbconv", stride, channels=channels)), nn.Sequential)
