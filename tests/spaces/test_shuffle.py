"""Golden numbers of DetNAS, to the printed digits."""

import numpy as np
import pytest

from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost, block_cost, classifier_cost
from workbench.spaces.published import DETNAS
from workbench.spaces.shuffle import widened_spec

# MMACs of a stride-2 and a stride-1 block, ops 0 to 3: (space, stage, input side): two rows of four
BLOCKS = {
    ("shuffle-20", 1, 112): ((13.40, 15.81, 19.42, 13.15), (7.33, 8.93, 11.34, 12.34)),
    ("shuffle-20", 2, 56): ((26.30, 28.11, 30.82, 20.30), (10.60, 11.60, 13.11, 16.75)),
    ("shuffle-20", 3, 28): ((30.67, 31.67, 33.18, 21.20), (10.32, 10.82, 11.57, 15.90)),
    ("shuffle-20", 4, 14): ((30.39, 30.89, 31.64, 20.63), (10.18, 10.43, 10.80, 15.48)),
    ("shuffle-40", 1, 112): ((46.06, 50.88, 58.10, 34.32), (15.81, 18.21, 21.83, 25.74)),
    ("shuffle-40", 2, 56): ((58.42, 61.13, 65.20, 44.14), (23.43, 24.93, 27.19, 36.41)),
    ("shuffle-40", 3, 28): ((68.58, 70.09, 72.35, 46.85), (23.00, 23.76, 24.88, 35.14)),
    ("shuffle-40", 4, 14): ((68.16, 68.91, 70.04, 46.01), (22.79, 23.17, 23.73, 34.50)),
}

# backbone MMACs, backbone M params, full MMACs, full M params
UNIFORM = {
    ("shuffle-20", 0): (262.7, 1.473, 295.8, 3.157),
    ("shuffle-20", 1): (280.5, 1.531, 313.7, 3.214),
    ("shuffle-20", 2): (307.2, 1.616, 340.4, 3.300),
    ("shuffle-20", 3): (325.7, 2.189, 358.8, 3.873),
    ("shuffle-40", 0): (1036.7, 6.244, 1085.9, 8.256),
    ("shuffle-40", 1): (1087.8, 6.403, 1137.0, 8.414),
    ("shuffle-40", 2): (1164.4, 6.640, 1213.6, 8.651),
    ("shuffle-40", 3): (1391.2, 9.359, 1440.4, 11.370),
}
PUBLISHED = {
    "DetNASNet": (1269.2, 8.415, 1318.4, 10.426),
    "DetNASNet (3.8)": (3937.8, 26.724, 4025.6, 29.522),  # with the 1024-wide last convolution
    "COCO-FPN-300M": (288.1, 1.850, 321.2, 3.533),
    "COCO-RetinaNet-300M": (291.2, 2.042, 324.3, 3.725),
    "VOC-FPN-300M": (316.4, 1.968, 349.5, 3.651),
    "VOC-RetinaNet-300M": (327.5, 1.796, 360.6, 3.479),
}


def full_row(spec):
    backbone, head = backbone_cost(spec, 224), classifier_cost(spec, 224)
    return (
        backbone.macs / 1e6,
        backbone.params / 1e6,
        (backbone.macs + head.macs) / 1e6,
        (backbone.params + head.params) / 1e6,
    )


@pytest.mark.parametrize("case", BLOCKS)
def test_macs_of_every_block(case):
    name, stage, side = case
    space = space_named(name)
    first = next(index for index, decision in enumerate(space.decisions) if decision.stage == stage)
    for option in range(4):
        spec = space.spec(space.uniform(option))
        down, size = block_cost(spec.blocks[first + 1], (side, side))
        plain, _ = block_cost(spec.blocks[first + 2], size)
        assert round(down.macs / 1e6, 2) == BLOCKS[case][0][option]
        assert round(plain.macs / 1e6, 2) == BLOCKS[case][1][option]


@pytest.mark.parametrize("case", UNIFORM)
def test_uniform_networks(case):
    space = space_named(case[0])
    macs, params, full_macs, full_params = full_row(space.spec(space.uniform(case[1])))
    assert (round(macs, 1), round(params, 3), round(full_macs, 1), round(full_params, 3)) == UNIFORM[case]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name):
    net = next(net for net in DETNAS if net.name == name)
    macs, params, full_macs, full_params = full_row(space_named(net.arch.space).spec(net.arch))
    assert (round(macs, 1), round(params, 3), round(full_macs, 1), round(full_params, 3)) == PUBLISHED[name]


def test_wide_network_with_its_released_classifier():
    net = next(net for net in DETNAS if net.name == "DetNASNet (3.8)")
    spec = space_named(net.arch.space).spec(net.arch)
    backbone, head = backbone_cost(spec, 224), classifier_cost(spec, 224, hidden=1728)
    assert round((backbone.macs + head.macs) / 1e6, 1) == 4085.9
    assert round((backbone.params + head.params) / 1e6, 3) == 31.445


def test_stem_and_classifier():
    spec = space_named("shuffle-20").spec(space_named("shuffle-20").uniform(0))
    assert round(block_cost(spec.blocks[0], (224, 224))[0].macs / 1e6, 2) == 5.42
    assert classifier_cost(spec, 224).macs == 33_136_640  # the original table's value is right


def test_space_statistics():
    space = space_named("shuffle-20")
    rng = np.random.default_rng(0)
    macs = np.array([space.macs(space.sample(rng), 224) for _ in range(20_000)]) / 1e6
    assert macs.mean() == pytest.approx(294.0, abs=0.3) and macs.std() == pytest.approx(11.8, abs=0.2)
    assert (macs <= 300).mean() == pytest.approx(0.69, abs=0.01)


def test_tiny_space_keeps_its_last_stage_at_stride_16():
    space = space_named("shuffle-tiny")
    assert space.spec(space.uniform(0)).strides == (4, 8, 16)


def test_widening_meets_the_target():
    space = space_named("shuffle-20")
    spec = widened_spec("shuffle-20", space.uniform(0).choices, 300_000_000, 224)
    assert backbone_cost(spec, 224).macs == pytest.approx(300e6, rel=0.02)
    assert all(block.out_channels % 2 == 0 for block in spec.blocks)


def test_shallow_spaces_are_small_and_cost_what_they_should():
    """The 81 networks of the exhaustive table, and those that DetNAS searches where the answer is known."""
    space = space_named("shuffle-81")
    assert (space.size, len({arch.key for arch in space.all()})) == (81, 81)
    assert [round(space.macs(space.uniform(option), 128) / 1e6, 1) for option in range(3)] == [5.1, 6.1, 7.7]
    assert round(space.macs(space.arch((0, 0, 2, 2)), 128) / 1e6, 1) == 6.1
    assert space_named("shuffle-seven").size == 3**7
