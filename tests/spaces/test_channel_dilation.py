"""Dilations by channel: logit counts of the paper, assignments and decoding, both slicings, groups that do not fit."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spaces.arch import Arch
from workbench.spaces.branches import Conv, branches, dilation_parts, searched_place, searched_width
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    DILATION_SETS,
    base_spec,
    channel_dilation_name,
    channel_order,
    decoded,
    equal_split,
    foldable,
    layer_choices,
    logits,
    same_everywhere,
    searched_layers,
)
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.residual import residual_spec

# Groups in stages 3, 4, 5 of ResNet-50, and logits.
PAPER = {
    "n1": ((1, 1, 1), 77),
    "n2": ((2, 2, 2), 154),
    "n4": ((4, 4, 4), 308),
    "n8": ((8, 8, 8), 616),
    "n16": ((16, 16, 16), 1232),
    "n32": ((32, 32, 32), 2464),
    "c1": ((128, 256, 512), 24064),
    "c8": ((16, 32, 64), 3008),
    "c16": ((8, 16, 32), 1504),
    "c32": ((4, 8, 16), 752),
    "c64": ((2, 4, 8), 376),
}
BACKBONES = ("resnet18", "resnet50", "resnext50", "resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2-tiny")


def test_decisions_name_the_block_within_its_stage():
    names = [decision.name for decision in space_named("channel-dilation-resnet18-n2-C").decisions]
    places = [f"stage {stage} block {block}" for stage in (2, 3, 4) for block in (1, 2)]
    assert names == [f"{place} group {group}" for place in places for group in (1, 2)]


@st.composite
def spaces(draw):
    """Any backbone with any number of groups that fits it."""
    backbone = draw(st.sampled_from(BACKBONES))
    groups = draw(st.sampled_from(["n1", "n2", "n4", "n8", "n16", "c16", "c32"]))
    try:
        return space_named(f"channel-dilation-{backbone}-{groups}-{draw(st.sampled_from('ABC'))}")
    except ValueError:
        return space_named(f"channel-dilation-{backbone}-n1-C")


@pytest.mark.parametrize("setting", PAPER)
def test_groups_and_logits_are_those_of_the_paper(setting):
    space = space_named(f"channel-dilation-resnet50-{setting}-C")
    groups, count = PAPER[setting]
    assert logits(space) == count
    by_stage = {layer.stage: layer.groups for layer in searched_layers(space)}
    assert tuple(by_stage[stage] for stage in (2, 3, 4)) == groups  # our stages 2 to 4 are the paper's 3 to 5


@pytest.mark.parametrize(
    ("backbone", "layers", "widths"),
    [
        ("resnet18", 6, {128, 256, 512}),
        ("resnet50", 13, {128, 256, 512}),
        ("resnet101", 30, {128, 256, 512}),
        ("resnext101", 30, {256, 512, 1024}),
        ("resnet-bottleneck-tiny", 5, {32, 64}),
    ],
)
def test_all_stages_but_the_first_are_searched(backbone, layers, widths):
    space = space_named(f"channel-dilation-{backbone}-n1-C")
    assert len(searched_layers(space)) == layers == len(space.decisions)
    assert {layer.channels for layer in searched_layers(space)} == widths
    for layer in searched_layers(space):
        block = base_spec(space).blocks[layer.block]
        searched = [conv for conv in branches(block)["main"] if isinstance(conv, Conv)][searched_place(block)]
        assert searched.kernel == 3 and searched.out_channels == layer.channels
        if block.kind == "basic":
            assert searched.stride == 1  # the second 3x3


def test_dilation_sets_are_those_of_the_ablation():
    assert [[len(part) for part in DILATION_SETS[name]] for name in "ABC"] == [[2, 3], [3, 5], [5, 9]]
    fifty = searched_layers(space_named("channel-dilation-resnet50-n1-C"))
    assert {layer.stage: len(layer.dilations) for layer in fifty} == {2: 5, 3: 5, 4: 9}
    tiny = searched_layers(space_named("channel-dilation-resnet-bottleneck-tiny-n1-C"))
    assert {max(max(pair) for pair in layer.dilations) for layer in tiny} == {3}  # its last map has 8x8 pixels
    for early, late in DILATION_SETS.values():
        assert early[0] == late[0] == (1, 1) and set(early) <= set(late)


def test_path_level_is_one_decision_for_each_layer():
    space = space_named("channel-dilation-resnet50-n1-C")
    assert np.log10(float(space.size)) == pytest.approx(9.9, abs=0.1)  # section 3
    spec = space.spec(space.uniform(1))
    parts = [dilation_parts(block) for block in spec.blocks if block.stage > 1]
    assert all(len(part) == 1 and part[0][1:] == (2, 2) for part in parts)


@given(space=spaces(), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_decoding_keeps_every_channel_param_and_mac(space, seed):
    arch = space.sample(np.random.default_rng(seed))
    plain = base_spec(space)
    for slicing in ("contiguous", "index"):
        spec = decoded(space, arch, slicing)
        assert backbone_cost(spec, (97, 130)) == backbone_cost(plain, (97, 130))
        assert (space.macs(arch, 128), space.params(arch)) == backbone_cost(plain, 128)
        for layer, chosen in zip(searched_layers(space), layer_choices(space, arch), strict=True):
            block = spec.blocks[layer.block]
            parts = dilation_parts(block) or ((layer.channels, 1, 1),)
            assert sum(channels for channels, *_ in parts) == layer.channels == searched_width(block)
            # Equation 5: the channels of a dilation are those assigned to it.
            counted = Counter()
            for channels, *dilation in parts:
                counted[tuple(dilation)] += channels
            groups = Counter(layer.dilations[index] for index in chosen)
            assert counted == {pair: n * layer.group_channels for pair, n in groups.items()}
            if slicing == "contiguous" or foldable(block):
                assert len(parts) == len(counted)
            else:  # in their places: neighbours of one dilation together
                runs = 1 + sum(a != b for a, b in pairwise(chosen))
                assert len(parts) == runs
    assert space.spec(arch) == decoded(space, arch)
    again = NetworkSpec.from_json(json.loads(json.dumps(space.spec(arch).to_json())))
    assert again == space.spec(arch)
    assert space_named(arch.space).spec(Arch.from_json(json.loads(json.dumps(arch.to_json())))) == space.spec(arch)


@given(space=spaces(), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_channel_order_is_a_permutation_that_sorts_groups_by_dilation(space, seed):
    arch = space.sample(np.random.default_rng(seed))
    for layer, chosen in zip(searched_layers(space), layer_choices(space, arch), strict=True):
        order = channel_order(chosen, layer.group_channels)
        assert sorted(order) == list(range(layer.channels))
        dilations = [chosen[channel // layer.group_channels] for channel in order]
        assert dilations == sorted(dilations)
        # Whole groups move, their channels in the old order.
        width = layer.group_channels
        for start in range(0, layer.channels, width):
            assert order[start : start + width] == list(range(order[start], order[start] + width))


def test_undilated_is_the_network_itself_and_equal_choices_are_equal_layers():
    space = space_named("channel-dilation-resnet-bottleneck-tiny-n4-C")
    assert space.spec(same_everywhere(space, (1, 1))) == residual_spec("resnet-bottleneck-tiny") == base_spec(space)
    by_hand = space.spec(same_everywhere(space, (2, 2)))
    assert all(dilation_parts(block) == ((searched_width(block), 2, 2),) for block in by_hand.blocks if block.stage > 1)
    split = space_named("channel-dilation-resnet-bottleneck-tiny-n16-C")
    for layer, chosen in zip(searched_layers(split), layer_choices(split, equal_split(split)), strict=True):
        assert [chosen.count(index) for index in range(len(layer.dilations))] == [4, 3, 3, 3, 3]
    with pytest.raises(ValueError, match=r"\(5, 5\) is not among .* of stage 2"):
        same_everywhere(space, (5, 5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "channel-dilation-resnet50-n3-C",
            r"128 channels of block 5 \(stage 2\) cannot be cut into 3 gr.*1, 2, 4, 8",
        ),
        ("channel-dilation-resnet50-c3-C", r"cannot be cut into groups of 3 channels"),
        ("channel-dilation-resnet50-n0-C", r"is named channel-dilation"),
        ("channel-dilation-resnext101-c4-C", r"32 groups of 8 channels.*would cut them.*multiple of 8, at most n32"),
        ("channel-dilation-resnext101-n64-C", r"would cut them: it asks for 4 channels together"),
        ("channel-dilation-resnet50-n16-D", r"dilation set is one of A, B, C.*'D'"),
        ("channel-dilation-resnet5-n16-C", r"Did you mean resnet50\?"),
        ("channel-dilation-resnet50", r"is named channel-dilation-<backbone>-n16-C .* got 'channel-dilation-resnet50'"),
        (
            "channel-dilation-resnet50-3.4.6.3-n16-C",
            r"as published; the space is named channel-dilation-resnet50-n16",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(name, message):
    with pytest.raises(ValueError, match=message):
        space_named(name)


def test_groups_of_32_channels_keep_the_groups_of_resnext_whole():
    """Section 7: conv-groups of 8, 16, 32 channels; a group of the search holds 4, 2, 1 of them."""
    space = space_named("channel-dilation-resnext101-c32-C")
    held = {layer.stage: layer.group_channels // (layer.channels // 32) for layer in searched_layers(space)}
    assert held == {2: 4, 3: 2, 4: 1}


def test_other_allocations_of_blocks_can_be_searched_too():
    """CR-NAS's network as the start of NATS: no code for the pair."""
    name = channel_dilation_name("resnet50", "n16", "C", (1, 3, 5, 7))
    space = space_named(name)
    assert name == "channel-dilation-resnet50-1.3.5.7-n16-C" and base_spec(space) == residual_spec(
        "resnet50", (1, 3, 5, 7)
    )
    assert len(searched_layers(space)) == 15


@pytest.mark.parametrize(
    ("dilations", "message"),
    [
        (((4, 1, 1), (2, 2, 2)), r"8 output channels"),
        (((4, 1, 1), (4, 0, 2)), r"dilations of at least 1"),
        (((4, 1, 1), (-4, 1, 1), (8, 2, 2)), r"8 output channels"),
    ],
)
def test_parts_must_be_all_channels(dilations, message):
    block = BlockSpec(kind="bottleneck", in_channels=32, out_channels=32, expansion=0.25, dilations=dilations)
    with pytest.raises(ValueError, match=message):
        dilation_parts(block)


def test_parts_must_hold_whole_groups():
    block = BlockSpec(
        kind="bottleneck", in_channels=32, out_channels=32, expansion=0.5, groups=4, dilations=((6, 1, 1), (10, 2, 2))
    )
    with pytest.raises(ValueError, match=r"4 groups of 4 channels.*multiple of 4"):
        dilation_parts(block)
