"""Dilations cost nothing (CR-NAS, section 4); published codes, names both ways, maps that are too small."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spaces.arch import Arch
from workbench.spaces.branches import Conv, branches, spatial_dilation
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost
from workbench.spaces.dilation import RATES, dilation_space, dilation_space_name
from workbench.spaces.published import CRNAS, OPERATION_CODES
from workbench.spaces.residual import (
    LAYOUTS,
    check_dilations,
    dilatable_blocks,
    dilated,
    layout_named,
    residual_spec,
)

# Dilations by stage, from the codes of tables 5 and 6; of MobileNetV2 by its ten slots.
PUBLISHED = {
    "CR-R18": ((1,), (1,), (2, 1), (2, 1, 3, 2)),
    "CR-R50": ((1,), (1, 2, 1), (1, 1, 2, 3, 1), (1, 2, 1, 3, 2, 2, 3)),
    "CR-R101": (
        (1, 1),
        (1, 1, 1),
        (1, 2, 1, 2, 1, 1, 1, 3, 1, 1, 1, 2, 1, 2, 1, 2, 1),
        (2, 2, 1, 1, 2, 1, 2, 3, 1, 2, 2),
    ),
    "CR-MobileNetV2": ((1,), (2,), (1, 2), (1, 3), (1, 2, 2), (1, 1, 2, 2), (1, 2, 2, 1), (3,), (1,), (1,)),
}
HISTOGRAMS = {"CR-R18": (4, 3, 1), "CR-R50": (8, 5, 3), "CR-R101": (20, 11, 2), "CR-MobileNetV2": (10, 8, 2)}
LENGTHS = {"CR-R18": 8, "CR-R50": 16, "CR-R101": 33, "CR-MobileNetV2": 20}


def rates_by_stage(spec):
    stages = {}
    for index in dilatable_blocks(spec):
        height, width = spatial_dilation(spec.blocks[index])
        assert height == width
        stages.setdefault(spec.blocks[index].stage, []).append(height)
    return tuple(map(tuple, stages.values()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_codes_decode_to_the_printed_dilations(name):
    net = next(net for net in CRNAS if net.name == name)
    code = [int(digit) for digit in OPERATION_CODES[name] if digit.isdigit()]
    assert len(code) == LENGTHS[name]
    assert [RATES[entry] for entry in code] == list(chain(*PUBLISHED[name]))
    assert tuple(Counter(RATES[entry] for entry in code)[rate] for rate in RATES) == HISTOGRAMS[name]
    # MobileNetV2's first and last two slots hold no bottleneck, so its network has 17 dilations.
    slots = PUBLISHED[name][1:-2] if name == "CR-MobileNetV2" else PUBLISHED[name]
    assert rates_by_stage(net.spec) == slots
    assert tuple(map(len, slots)) == ((1, *net.depths, 1) if name == "CR-MobileNetV2" else net.depths)


def test_published_codes_are_architectures_of_a_dilation_space():
    for net in CRNAS:
        if not net.dilations:
            assert net.name.startswith("SCR-") and net.spec == residual_spec(net.backbone, net.depths)
            continue
        space = space_named(dilation_space_name(net.backbone, net.depths))
        assert space.spec(space.arch([rate - 1 for rate in net.dilations])) == net.spec
        assert space.size == 3 ** len(net.dilations)


def test_where_the_published_dilations_meet_a_stride():
    """CR-R101 dilates the strided 3x3 that opens stage 4; CR-R18 only convolutions behind a stride (section 7)."""
    specs = {net.name: net.spec for net in CRNAS}
    strided = {
        name: [
            (block.stage, layer.stride, layer.largest_dilation[0])
            for block in spec.blocks
            if block.stride == 2 and block.kind in ("basic", "bottleneck")
            for layer in branches(block)["main"]
            if isinstance(layer, Conv) and layer.largest_dilation != (1, 1)
        ]
        for name, spec in specs.items()
    }
    assert strided["CR-R101"] == [(4, 2, 2)]
    assert strided["CR-R18"] == [(3, 1, 2), (4, 1, 2)]
    assert strided["CR-R50"] == []


@pytest.mark.parametrize("backbone", LAYOUTS)
def test_the_all_zero_code_is_the_undilated_network(backbone):
    space = space_named(f"dilation-{backbone}")
    assert space.spec(space.uniform(0)) == residual_spec(backbone)
    blocks = sum(layout_named(backbone).depths) + 2 * (backbone == "mobilenetv2")
    assert len(space.decisions) == blocks and space.size == 3**blocks


@given(data=st.data())
@settings(max_examples=60)
def test_no_dilation_changes_a_parameter_a_mac_or_a_shape(data):
    backbone = data.draw(st.sampled_from(sorted(LAYOUTS)))
    stages = len(layout_named(backbone).depths)
    depths = data.draw(st.lists(st.integers(1, 6), min_size=stages, max_size=stages))
    plain = residual_spec(backbone, depths)
    count = len(dilatable_blocks(plain))
    rates = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    size = data.draw(st.tuples(st.integers(32, 1200), st.integers(32, 1200)))
    spec = residual_spec(backbone, depths, rates)
    assert backbone_cost(spec, size) == backbone_cost(plain, size)
    assert (spec.channels, spec.strides, spec.taps) == (plain.channels, plain.strides, plain.taps)
    assert list(chain(*rates_by_stage(spec))) == rates
    # Dilating again replaces the rates, so the way back is open too.
    assert dilated(spec, [1] * count) == plain
    space = space_named(dilation_space_name(backbone, depths))
    arch = space.arch([rate - 1 for rate in rates])
    assert space.spec(arch) == spec and (space.macs(arch, size), space.params(arch)) == backbone_cost(plain, size)


@pytest.mark.parametrize(
    ("backbone", "depths", "name"),
    [
        ("resnet50", (), "dilation-resnet50"),
        ("resnet50", (3, 4, 6, 3), "dilation-resnet50"),
        ("resnet50", (1, 3, 5, 7), "dilation-resnet50-1.3.5.7"),
        ("resnet101", [2, 3, 17, 11], "dilation-resnet101-2.3.17.11"),
        ("resnet-tiny", (2, 3, 3), "dilation-resnet-tiny-2.3.3"),
        ("resnet-bottleneck-tiny", (1, 1, 6), "dilation-resnet-bottleneck-tiny-1.1.6"),
        ("resnet18-half", (1, 1, 2, 4), "dilation-resnet18-half-1.1.2.4"),
        ("mobilenetv2", (2, 2, 3, 4, 4), "dilation-mobilenetv2-2.2.3.4.4"),
    ],
)
def test_names_parse_both_ways(backbone, depths, name):
    assert dilation_space_name(backbone, depths) == name
    space = space_named(name)
    assert space.name == name and space is space_named(name)
    assert space.spec(space.uniform(0)) == residual_spec(backbone, depths)
    assert space.image_size == layout_named(backbone).image_size
    arch = space.sample(np.random.default_rng(0))
    found = Arch.from_json(json.loads(json.dumps(arch.to_json())))
    assert space_named(found.space).spec(found) == space.spec(arch)


def test_decisions_are_the_blocks_from_input_to_output():
    space = space_named("dilation-resnet-tiny-2.3.3")
    names = [decision.name for decision in space.decisions]
    assert names == [f"stage {s} block {b}" for s, depth in enumerate((2, 3, 3), start=1) for b in range(1, depth + 1)]
    assert [decision.block for decision in space.decisions] == list(range(1, 9))  # 0 is the stem
    assert {decision.options for decision in space.decisions} == {("dilation 1", "dilation 2", "dilation 3")}
    fifty = space_named("dilation-resnet50")
    assert fifty.size == 3**16 and fifty.decisions[0].block == 2  # behind stem and pooling
    mobile = space_named("dilation-mobilenetv2")
    assert [decision.block for decision in mobile.decisions] == list(range(1, 18))  # the last is a 1x1 convolution


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dilation-resnet5", r"Did you mean resnet50\?"),
        ("dilation-resnettiny-2.3.3", r"got 'resnettiny'. Did you mean resnet-tiny\?"),
        ("dilatoin-resnet50", r"Did you mean dilation-resnet50\?"),
        ("dilation-resnet50-1.3.5", r"4 searched stages.*got depths \[1, 3, 5\]"),
        ("dilation-resnet50-1.3.5.7.1", r"4 searched stages.*got depths \[1, 3, 5, 7, 1\]"),
        ("dilation-resnet50-0.4.6.3", r"1 to 200 blocks.*got depths \[0, 4, 6, 3\]"),
        ("dilation-", r"is named dilation-<backbone> or dilation-<backbone>-1.3.5.7; got 'dilation-'"),
    ],
)
def test_names_that_do_not_fit_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        space_named(name)
    if name.startswith("dilation-"):
        with pytest.raises(ValueError, match=message):
            dilation_space(name)


@pytest.mark.parametrize("rates", [(1,) * 15, (1,) * 17, (0,) + (1,) * 15, (-1,) * 16])
def test_dilations_that_do_not_fit_are_refused(rates):
    message = rf"resnet50 3.4.6.3 has 16 blocks that can be dilated, by at least 1; got {len(rates)} dilations"
    with pytest.raises(ValueError, match=message):
        residual_spec("resnet50", (), rates)
    with pytest.raises(ValueError, match=message):
        dilated(residual_spec("resnet50"), rates)


def smallest_dilated_map(spec, size):
    """Pixels on the short side of the smallest map that a dilatable convolution reads, layer by layer."""
    probe = dilated(spec, [2] * len(dilatable_blocks(spec)))
    side, smallest = min(size), min(size)
    for block in probe.blocks:
        inner = side
        for layer in branches(block)["main"]:
            if isinstance(layer, Conv) and layer.largest_dilation != (1, 1):
                smallest = min(smallest, inner)
            inner = -(-inner // layer.stride)
        side = inner
    return smallest


def refuses(spec, largest, size):
    try:
        check_dilations(dilated(spec, [largest] * len(dilatable_blocks(spec))), size)
    except ValueError:
        return True
    return False


@given(data=st.data())
@settings(max_examples=100)
def test_dilations_that_would_read_only_padding_are_refused(data):
    """Refused exactly when the largest dilation reaches over the whole of some map."""
    backbone = data.draw(st.sampled_from(sorted(LAYOUTS)))
    stages = len(layout_named(backbone).depths)
    depths = data.draw(st.lists(st.integers(1, 4), min_size=stages, max_size=stages))
    size = data.draw(st.tuples(st.integers(16, 300), st.integers(16, 300)))
    largest = data.draw(st.integers(1, 12))
    spec = residual_spec(backbone, depths)
    assert refuses(spec, largest, size) == (1 < largest >= smallest_dilated_map(spec, size))


def test_the_map_that_is_too_small_is_named():
    spec = residual_spec("resnet50")
    widest = dilated(spec, [3] * len(dilatable_blocks(spec)))
    check_dilations(widest, (128, 160))  # stride 32: 4x5 pixels
    message = (
        r"Block 16 of resnet50 3.4.6.3 reads a map of 3 pixels height .*\(96, 160\).*dilated by 3 .*up to 2 or larger"
    )
    with pytest.raises(ValueError, match=message):
        check_dilations(widest, (96, 160))
    for name in ("resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2-tiny"):
        assert not refuses(residual_spec(name), 7, (128, 128))
        assert refuses(residual_spec(name), 8, (128, 128))


def test_a_single_basic_block_is_judged_by_the_map_behind_its_stride():
    spec = residual_spec("resnet18", (2, 2, 2, 1))
    assert smallest_dilated_map(spec, (64, 64)) == 2
    assert refuses(spec, 3, (64, 64))
