"""Spaces of layers around a seed: sizes, costs of the paper, skipped layers, forms, refusals."""

import numpy as np
import pytest

from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost, block_cost
from workbench.spaces.layers import layer_space_name, searched_stages, seed_spec, with_output_stride
from workbench.spaces.mbconv import FNA_LAYERS, fna_spec, layers_of
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SKIP

DETECTION = "layers-mobilenetv2-4.4.4.4.4.1"
SEGMENTATION = "layers-mobilenetv2-4.4.6.6.4.1-os16"
NAMES = (
    DETECTION,
    SEGMENTATION,
    "layers-mobilenetv2-4.4.4.4.4.1-ssd",
    "layers-efficientnet-lite0-front-3.3.4.4",
    "layers-resnet50-4.5.7.4",
    "layers-resnet18-3.3.3.3-os8",
    "layers-resnet20-cifar-4.4.4",
)


def test_sizes_are_those_of_the_specification():
    assert len(space_named(DETECTION).decisions) == 21
    assert f"{space_named(DETECTION).size:.1e}" == "2.2e+17"
    assert len(space_named(SEGMENTATION).decisions) == 25
    assert f"{space_named(SEGMENTATION).size:.1e}" == "5.3e+20"


def test_operation_costs_are_those_of_the_specification():
    """Section 2.4, millions at 800 x 1088: first and further layers of each stage."""
    first = {2: (253, 507, 295, 590, 358, 716), 3: (134, 268, 150, 300, 173, 347), 4: (66, 131, 71, 142, 79, 157),
             5: (110, 221, 121, 242, 136, 273), 6: (135, 271, 139, 279, 145, 290),
             7: (200, 399, 206, 412, 216, 432)}  # fmt: skip
    further = {2: (223, 447, 286, 572, 380, 760), 3: (95, 191, 116, 232, 148, 295), 4: (89, 179, 100, 200, 116, 231),
               5: (197, 394, 212, 425, 236, 472), 6: (134, 269, 141, 282, 151, 301)}  # fmt: skip
    space = space_named(DETECTION)
    for decision, costs in zip(space.decisions, space.option_macs((800, 1088)), strict=True):
        wanted = further[decision.stage] if SKIP in decision.options else first[decision.stage]
        assert np.abs(np.array(costs[:6]) / 1e6 - wanted).max() <= 1  # printed without decimals, some cut, some rounded
        assert costs[6:] == ((0,) if SKIP in decision.options else ())


@pytest.mark.parametrize("name", NAMES)
def test_costs_come_from_the_table_and_equal_those_of_the_specification(name):
    space, rng = space_named(name), np.random.default_rng(0)
    for _ in range(12):
        arch = space.sample(rng)
        spec = space.spec(arch)
        whole = backbone_cost(spec, 224)
        assert (space.macs(arch, 224), space.params(arch)) == (whole.macs, backbone_cost(spec, space.image_size).params)
        chosen = sum(row[choice] for row, choice in zip(space.option_macs(224), arch.choices, strict=True))
        fixed, size = 0, (224, 224)
        for segment in space.segments(arch):
            for block in segment.blocks:
                cost, size = block_cost(block, size)
                fixed += cost.macs if not segment.decisions else 0
        assert chosen + fixed == whole.macs


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("layers-resnet20-cifar-4.4.4", 32),
        ("layers-resnet18-quarter-2.2.2.2", 256),
        ("layers-resnet-tiny-2.2.2", 128),
        ("layers-efficientnet-lite0-front-3.3.4.4", 128),
        (DETECTION, 224),
    ],
)
def test_costs_are_stated_at_the_side_that_the_seed_is_made_for(name, side):
    assert space_named(name).image_size == side


def test_skipped_layers_drop_out_and_the_rest_keeps_its_order():
    """What follows a skip moves forward, so it will read an earlier layer of the seed."""
    space = space_named(DETECTION)
    options = [list(decision.options) for decision in space.decisions]
    choices = [row.index("k3e6") for row in options]
    choices[1], choices[2] = options[1].index(SKIP), options[2].index("k7e3")
    spec = space.spec(space.arch(choices))
    stage = [(block.kernel, block.expansion) for block in spec.blocks if block.stage == 2]
    assert stage == [(3, 6.0), (7, 3.0), (3, 6.0)]
    moved = [*choices]
    moved[1], moved[2], moved[3] = options[1].index("k7e3"), options[2].index("k3e6"), options[3].index(SKIP)
    assert space.spec(space.arch(moved)).blocks == spec.blocks  # other choices for the same network
    assert spec.taps == tuple(max(i for i, b in enumerate(spec.blocks) if b.stage == s) for s in (2, 3, 5, 7))


@pytest.mark.parametrize("name", [DETECTION, "layers-efficientnet-lite0-front-3.3.4.4", "layers-resnet20-cifar-4.4.4"])
def test_the_one_shot_supernet_serves_skips_too(name):
    """Another method on the same space, without new code: a path equals the network that it stands for."""
    torch = pytest.importorskip("torch")
    space = space_named(name)
    supernet = Supernet(space).eval()
    images = torch.rand(1, 3, 32, 32)
    rng = np.random.default_rng(1)
    for _ in range(3):
        arch = space.sample(rng)
        assert len(space.segments(arch)) == len(space.segments(space.uniform(0)))
        supernet.activate(arch)
        with torch.inference_mode():
            for ours, theirs in zip(supernet(images), supernet.extract(arch).eval()(images), strict=True):
                torch.testing.assert_close(ours, theirs)


def test_published_networks_are_in_their_spaces():
    spaces = {"FNA RetinaNet": DETECTION, "FNA DeepLabv3": SEGMENTATION.removesuffix("-os16")}
    spaces["FNA SSDLite"] = f"{DETECTION}-ssd"
    for name, where in spaces.items():
        space = space_named(where)
        choices = []
        for stage, text in enumerate(FNA_LAYERS[name], start=2):
            rows = [list(decision.options) for decision in space.decisions if decision.stage == stage]
            named = [f"k{kernel}e{expansion}" for kernel, expansion in layers_of(text)]
            named += [SKIP] * (len(rows) - len(named))
            choices += [row.index(option) for row, option in zip(rows, named, strict=True)]
        last = 1280 if where.endswith("ssd") else 0
        assert space.spec(space.arch(choices)).blocks == fna_spec(name, last=last).blocks


def test_ssdlite_reads_the_expansion_of_a_layer_whose_width_is_not_searched():
    space = space_named("layers-mobilenetv2-4.4.4.4.4.1-ssd")
    sixth = next(decision for decision in space.decisions if decision.stage == 6)
    assert sixth.options == ("k3e6", "k5e6", "k7e6")
    spec = space.spec(space.sample(np.random.default_rng(0)))
    assert (spec.channels, spec.strides) == ((576, 1280), (16, 32))
    assert NetworkSpec.from_json(spec.to_json()) == spec


def test_output_stride_16_dilates_blocks_6_and_7_and_changes_no_weight():
    plain, dense = fna_spec("MobileNetV2"), with_output_stride(fna_spec("MobileNetV2"), 16)
    assert dense.strides == (4, 8, 16, 16)
    rates = {block.stage: {rate for _, rate, _ in block.dilations} for block in dense.blocks}
    assert [stage for stage, found in rates.items() if found] == [6, 7] and rates[6] == rates[7] == {2}
    assert backbone_cost(dense, 224).params == backbone_cost(plain, 224).params
    eight = with_output_stride(fna_spec("MobileNetV2"), 8)
    assert eight.strides == (4, 8, 8, 8)
    assert [max((rate for _, rate, _ in b.dilations), default=1) for b in eight.blocks[-4:]] == [4, 4, 4, 4]


def test_output_stride_refuses_channels_that_differ():
    space = space_named("channel-dilation-resnet18-n2-C")
    mixed = space.spec(space.arch([0, 1] * (len(space.decisions) // 2)))
    with pytest.raises(ValueError, match="takes one dilation for all its channels"):
        with_output_stride(mixed, 16)


def test_resnets_choose_kernel_dilation_width_and_depth():
    space = space_named("layers-resnet50-4.5.7.4")
    spec = space.spec(space.arch([decision.options.index("k3d2h") for decision in space.decisions]))
    block = spec.blocks[-1]
    assert (block.expansion, block.dilations) == (0.125, ((256, 2, 2),))
    five = space.spec(space.arch([decision.options.index("k5") for decision in space.decisions]))
    assert five.blocks[-1].kernel == 5 and searched_stages(five) == (1, 2, 3, 4)
    grouped = space_named("layers-resnext50-3.4.6.3")
    assert not any(option.endswith("h") for decision in grouped.decisions for option in decision.options)
    assert seed_spec("resnet50").channels == spec.channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layers-mobilenetv2", "is named layers-<seed>-<layers"),
        ("layers-mobilenetv2-4.4.4", "6 searched stages"),
        ("layers-mobilenetv2-4.4.4.4.4.0", "1 to 60 layers"),
        ("layers-mobilenetv3-4.4.4.4.4.1", "A seed network is one of mobilenetv2"),
        ("layers-resnet50-3.4.6.3-ssd", "SSDLite reads stages that resnet50 3.4.6.3 does not have"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        space_named(name)


def test_spaces_whose_costs_are_equal_have_no_costs_of_options():
    with pytest.raises(ValueError, match="its options have none of their own"):
        space_named("dilation-resnet50").option_macs(224)
    assert layer_space_name("resnet18", (2, 2), "os8") == "layers-resnet18-2.2-os8"
