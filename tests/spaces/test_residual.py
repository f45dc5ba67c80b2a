"""Residual networks as specifications: torchvision's sizes, block tables, narrow forms, JSON, errors."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spaces.branches import Conv, Pool, branches, spatial_dilation
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.residual import LAYOUTS, dilatable_blocks, layout_named, residual_spec

RESNETS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
# MobileNetV2's own table: output channels, blocks, stride of the first; expansion 6 in all but the first.
MOBILENET_V2 = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


@st.composite
def residual_specs(draw, deepest=5):
    """Any layout with any depths and dilations."""
    name = draw(st.sampled_from(sorted(LAYOUTS)))
    stages = len(layout_named(name).depths)
    depths = draw(st.lists(st.integers(1, deepest), min_size=stages, max_size=stages))
    count = len(dilatable_blocks(residual_spec(name, depths)))
    rates = draw(st.one_of(st.just([]), st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    return residual_spec(name, depths, rates)


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("resnet50", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("resnet101", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("resnext50", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("resnext101", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("mobilenetv2", (24, 32, 96, 1280), (4, 8, 16, 32)),
        ("resnet18-half", (32, 64, 128, 256), (4, 8, 16, 32)),
        ("resnet50-half", (128, 256, 512, 1024), (4, 8, 16, 32)),
        ("resnext101-half", (128, 256, 512, 1024), (4, 8, 16, 32)),
        ("resnet18-quarter", (16, 32, 64, 128), (4, 8, 16, 32)),
        ("resnet26-quarter", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("resnet20-cifar", (16, 32, 64), (1, 2, 4)),
        ("resnet-tiny", (16, 32, 64), (4, 8, 16)),
        ("resnet-bottleneck-tiny", (64, 128, 256), (4, 8, 16)),
        ("mobilenetv2-tiny", (16, 32, 64), (4, 8, 16)),
    ],
)
def test_tapped_maps(name, channels, strides):
    spec = residual_spec(name)
    assert (spec.channels, spec.strides) == (channels, strides)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101", "resnext50", "resnext101"])
def test_halving_the_planes_halves_every_width(name):
    """Appendix A.1: 32, 64, 128, 256 planes instead of 64, 128, 256, 512."""
    full, half = residual_spec(name), residual_spec(f"{name}-half")
    assert len(full.blocks) == len(half.blocks)
    for wide, narrow in zip(full.blocks, half.blocks, strict=True):
        assert wide.out_channels == 2 * narrow.out_channels and wide.groups == narrow.groups
        inner = [[c.out_channels for c in branches(b)["main"] if isinstance(c, Conv)] for b in (wide, narrow)]
        assert inner[0] == [2 * channels for channels in inner[1]]


@pytest.mark.parametrize(
    ("name", "params", "giga"),
    [  # what torchvision states for the whole network at 224 pixels
        ("resnet18", 11_689_512, 1.814),
        ("resnet50", 25_557_032, 4.089),
        ("resnet101", 44_549_160, 7.801),
        ("resnext50", 25_028_904, 4.230),
        ("mobilenetv2", 3_504_872, 0.301),
    ],
)
def test_costs_with_the_classifier_are_those_of_torchvision(name, params, giga):
    spec = residual_spec(name)
    cost, features = backbone_cost(spec, 224), spec.channels[-1]
    assert cost.params + 1000 * features + 1000 == params
    assert round((cost.macs + 1000 * features) / 1e9, 3) == giga


@pytest.mark.parametrize("name", RESNETS)
def test_blocks_of_resnet(name):
    spec = residual_spec(name)
    stem, pool, *blocks = spec.blocks
    assert (stem.kind, stem.kernel, stem.stride, stem.out_channels) == ("conv", 7, 2, 64)
    assert branches(pool) == {"main": (Pool(kernel=3, stride=2),)}
    kind = "basic" if name == "resnet18" else "bottleneck"
    assert {block.kind for block in blocks} == {kind}
    expected = [(s, 2 if s > 1 and i == 0 else 1) for s, d in enumerate(RESNETS[name], start=1) for i in range(d)]
    assert [(block.stage, block.stride) for block in blocks] == expected
    projected = [bool(branches(block)["shortcut"]) for block in blocks]
    # The first block of each stage projects, of basic blocks only where the resolution changes.
    firsts = [i == 0 for depth in RESNETS[name] for i in range(depth)]
    assert projected == ([False, *firsts[1:]] if kind == "basic" else firsts)


def test_blocks_of_resnext_have_32_groups_of_4():
    first = residual_spec("resnext50").blocks[2]
    middle = branches(first)["main"][1]
    assert (middle.groups, middle.in_channels, middle.out_channels, middle.kernel) == (32, 128, 128, 3)
    last = branches(residual_spec("resnext101").blocks[-1])["main"]
    assert [(c.in_channels, c.out_channels, c.groups) for c in last] == [
        (2048, 1024, 1),
        (1024, 1024, 32),
        (1024, 2048, 1),
    ]


def test_blocks_of_mobilenet():
    spec = residual_spec("mobilenetv2")
    stem, *blocks, last = spec.blocks
    assert (stem.kind, stem.kernel, stem.out_channels) == ("conv", 3, 32)
    assert (last.kind, last.kernel, last.out_channels, last.stage) == ("conv", 1, 1280, 8)
    rows = [(c, s if i == 0 else 1) for c, n, s in MOBILENET_V2 for i in range(n)]
    assert [(block.out_channels, block.stride) for block in blocks] == rows
    assert [block.expansion for block in blocks] == [1.0] + [6.0] * 16
    assert {block.activation for block in spec.blocks} == {"relu6"}
    assert len(branches(blocks[0])["main"]) == 2  # at expansion 1 nothing is expanded
    for block in blocks:
        *_, depthwise, project = branches(block)["main"]
        assert depthwise.groups == depthwise.out_channels == block.in_channels * block.expansion
        assert project.activation == "none"
        assert ("shortcut" in branches(block)) == (block.stride == 1 and block.in_channels == block.out_channels)


@pytest.mark.parametrize("name", ["resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2-tiny"])
def test_tiny_networks_keep_eight_pixels_at_128(name):
    """On a smaller last map a dilated kernel would read only padding."""
    layout, spec = layout_named(name), residual_spec(name)
    assert layout.image_size == 128 and 128 // spec.strides[-1] >= 8
    assert layout.depths == (3, 3, 2) and len(dilatable_blocks(spec)) == 8


@given(spec=residual_specs())
@settings(max_examples=60)
def test_specifications_survive_json(spec):
    again = NetworkSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and hash(again) == hash(spec)


@given(spec=residual_specs())
@settings(max_examples=60)
def test_channels_fit_and_stages_are_in_order(spec):
    for before, block in pairwise(spec.blocks):
        assert block.in_channels == before.out_channels and block.stage >= before.stage
    for block in spec.blocks:
        for chain in branches(block).values():
            convs = [layer for layer in chain if isinstance(layer, Conv)]
            assert all(b.in_channels == a.out_channels for a, b in pairwise(convs))
            assert all(c.in_channels % c.groups == 0 == c.out_channels % c.groups for c in convs)
            if convs:
                assert (convs[0].in_channels, convs[-1].out_channels) == (block.in_channels, block.out_channels)
    # Every tapped map is the last one of its stage.
    ends = {block.stage: index for index, block in enumerate(spec.blocks)}
    assert set(spec.taps) <= set(ends.values())


@pytest.mark.parametrize(
    ("name", "depths", "message"),
    [
        ("resnet50", (3, 4, 6), r"resnet50 has 4 searched stages.*got depths \[3, 4, 6\]"),
        ("resnet50", (3, 4, 6, 3, 1), r"got depths \[3, 4, 6, 3, 1\]"),
        ("resnet50", (3, 4, 0, 3), r"1 to 200 blocks.*got depths \[3, 4, 0, 3\]"),
        ("mobilenetv2", (1, 1, 2, 2, 3, 4, 4, 1, 1, 1), "mobilenetv2 has 5 searched stages"),
        ("resnet-tiny", (3, 4, 6, 3), "resnet-tiny has 3 searched stages"),
    ],
)
def test_depths_that_do_not_fit_are_refused(name, depths, message):
    with pytest.raises(ValueError, match=message):
        residual_spec(name, depths)


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet5", "resnet50"), ("resnet_tiny", "resnet-tiny"), ("mobilenet-v2", "mobilenetv2")]
)
def test_unknown_backbones_get_a_hint(name, hint):
    with pytest.raises(ValueError, match=rf"got '{name}'. Did you mean {hint}\?"):
        layout_named(name)


def test_a_name_like_no_other_gets_the_list_only():
    with pytest.raises(ValueError, match=r"is one of resnet18, .*; got 'zzz'\.$"):
        residual_spec("zzz")


def test_one_block_takes_one_dilation():
    mixed = BlockSpec(kind="basic", in_channels=8, out_channels=8, dilations=((4, 1, 1), (4, 2, 2)))
    with pytest.raises(ValueError, match="basic block takes one dilation for all its channels"):
        spatial_dilation(mixed)
    assert spatial_dilation(BlockSpec(kind="basic", in_channels=8, out_channels=8)) == (1, 1)
    assert spatial_dilation(BlockSpec(kind="mbconv", in_channels=8, out_channels=8, dilations=((8, 1, 3),))) == (1, 3)
