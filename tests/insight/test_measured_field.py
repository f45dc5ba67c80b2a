"""Measured fields against arithmetic, against autograd's own Jacobian, and against a patch that is too small."""

import time

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from workbench.insight.measured_field import (
    Linearised,
    constant_copy,
    map_at,
    measure_field,
    structure_field,
)
from workbench.insight.receptive_field import moment_sigma, narrowed, patch_side, predicted_sigma, theoretical_field
from workbench.lessons.receptive_fields import mean_field, plain_chain
from workbench.networks.backbone import Backbone
from workbench.networks.blocks import build_chain
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import residual_spec
from workbench.tasks.necks import PyramidBackbone

TINY = residual_spec("resnet-tiny")
DILATED = residual_spec("resnet-tiny", (1, 3, 4), (1, 1, 2, 1, 2, 1, 3, 2))
MIXED = [
    space.spec(space.sample(np.random.default_rng(3)))
    for space in (
        space_named("channel-dilation-resnet-bottleneck-tiny-n16-C"),
        space_named("channel-dilation-resnet-tiny-n8-C"),
        space_named("channel-dilation-mobilenetv2-tiny-n4-C"),
        space_named("channel-dilation-resnet50-n4-C"),
    )
]
CR_R50 = next(net.spec for net in CRNAS if net.name == "CR-R50")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def small() -> Backbone:
    torch.manual_seed(0)
    return Backbone(narrowed(TINY))


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize(
    "spec",
    [
        TINY,
        DILATED,
        residual_spec("resnet-bottleneck-tiny"),
        residual_spec("mobilenetv2-tiny"),
        residual_spec("resnet50"),
    ],
    ids=lambda spec: f"{spec.name} {max(d[1] for b in spec.blocks for d in b.dilations or ((0, 1, 1),))}",
)
def test_constant_kernels_spread_as_predicted(spec, share):
    for level, (sigma, _) in enumerate(predicted_sigma(spec, share)):
        measured = moment_sigma(structure_field(spec, level, share=share, sigmas=10).map, border=True)
        assert measured == pytest.approx((sigma, sigma), rel=2e-3)


@pytest.mark.parametrize("spec", MIXED, ids=lambda spec: spec.name)
def test_channels_of_several_dilations_spread_as_predicted(spec):
    """d^2 is the mean over the channels, along height and width apart (section 2); the narrow form keeps the shares."""
    assert max(block.out_channels for block in narrowed(spec).blocks) < max(b.out_channels for b in spec.blocks)
    np.testing.assert_allclose(predicted_sigma(narrowed(spec)), predicted_sigma(spec))
    assert theoretical_field(narrowed(spec)) == theoretical_field(spec)
    level = len(spec.taps) - 1
    high, wide = predicted_sigma(spec)[level]
    assert high != wide  # some dilations are not square
    measured = moment_sigma(structure_field(spec, level, sigmas=10).map, border=True)
    assert measured == pytest.approx((high, wide), rel=3e-3)


def test_prediction_holds_at_full_width_too():
    field = measure_field(Backbone(DILATED), level=1, patch=patch_side(DILATED, 1, sigmas=10), mode="structure")
    assert moment_sigma(field.map, border=True)[0] == pytest.approx(predicted_sigma(DILATED)[1][0], rel=2e-3)


def test_field_ends_where_the_theoretical_one_does(small, rng):
    field = measure_field(small, level=1, patch=176, mode="linearised", rng=rng)
    rows, columns = np.nonzero(field.map.numpy())
    (height, width), (row, column) = theoretical_field(TINY)[1], field.centre
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (height, width)
    assert ((rows.max() + rows.min()) / 2, (columns.max() + columns.min()) / 2) == (row, column)


def test_probes_estimate_the_root_of_summed_squares(rng):
    torch.manual_seed(1)
    network = build_chain(plain_chain(3, channels=4, activation="relu"), bn_eps=0.0)
    images = torch.randn(2, 3, 15, 15)
    squares = torch.zeros(15, 15, dtype=torch.float64)
    for image in images:
        jacobian = torch.autograd.functional.jacobian(lambda x: network(x)[0, :, 7, 7], image[None])
        squares += jacobian.double().square().sum(dim=(0, 1, 2))
    field = measure_field(network, patch=15, images=images, probes=3000, rng=rng)
    exact = (squares / 2).sqrt()
    assert float((field.map - exact).abs().max() / exact.max()) < 0.05


def test_channel_rules_are_what_they_are_called(rng):
    torch.manual_seed(2)
    network = build_chain(plain_chain(2, channels=3, activation="relu"), bn_eps=0.0)
    image = torch.randn(1, 3, 9, 9)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x)[0, :, 4, 4], image)[:, 0].double()
    summed = jacobian.sum(dim=0)
    rules = {"sum_abs": summed.abs().sum(dim=0), "relu": summed.clamp(min=0).sum(dim=0)}
    for rule, expected in rules.items():
        field = measure_field(network, patch=9, images=image, channel_rule=rule)
        assert (field.channel_rule, field.probes) == (rule, 1)
        torch.testing.assert_close(field.map, expected, atol=1e-7, rtol=1e-5)


def test_cancelling_channels_hide_a_field_from_the_sum_but_not_from_probes(rng):
    network = nn.Conv2d(3, 2, 3, padding=1, bias=False)
    with torch.no_grad():
        network.weight[1] = -network.weight[0]
    assert float(measure_field(network, patch=7, mode="linearised", rng=rng).map.max()) > 0
    with pytest.raises(ValueError, match="no gradient at all"):
        measure_field(network, patch=7, mode="linearised", channel_rule="sum_abs")


@pytest.mark.parametrize("name", ["backbone", "mobilenet", "pyramid that calls F.relu", "torchvision's ResNet"])
def test_a_linearised_network_is_affine(name):
    torch.manual_seed(3)
    module = {
        "backbone": lambda: Backbone(narrowed(residual_spec("resnet18"))),  # max pooling
        "mobilenet": lambda: Backbone(narrowed(residual_spec("mobilenetv2-tiny"))),  # ReLU6
        "pyramid that calls F.relu": lambda: PyramidBackbone(
            Backbone(narrowed(TINY)), channels=4, levels=2, extra="p6p7", norm=False
        ),
        "torchvision's ResNet": lambda: nn.Sequential(*list(resnet18(weights=None).children())[:-2]),
    }[name]()
    module = module.double().eval()
    x, y = torch.randn(2, 1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad(), Linearised():
        one, other, both, none = (map_at(module(image), -1) for image in (x, y, x + y, torch.zeros_like(x)))
    torch.testing.assert_close(both + none, one + other)
    with torch.no_grad():
        plain = map_at(module(x + y), -1) + map_at(module(torch.zeros_like(x)), -1)
        assert not torch.allclose(plain, map_at(module(x), -1) + map_at(module(y), -1))


def test_the_field_of_a_linearised_network_needs_no_images(small):
    ours = measure_field(small, level=1, patch=176, mode="linearised", channel_rule="sum_abs")
    with Linearised():
        image = torch.randn(1, 3, 176, 176, requires_grad=True)
        row, column = ours.unit
        small.eval()(image)[1][0, :, row, column].sum().backward()
    assert ours.images == 0 and image.grad is not None
    torch.testing.assert_close(ours.map, image.grad[0].double().abs().sum(dim=0))


def test_the_module_stays_as_it_was(small, rng):
    small.train()
    small.blocks[1].eval()
    next(small.parameters()).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    flags = [parameter.requires_grad for parameter in small.parameters()]
    modes = [layer.training for layer in small.modules()]
    for mode in ("trained", "linearised", "structure"):
        measure_field(small, patch=272, mode=mode, rng=rng, probes=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())
    assert [parameter.requires_grad for parameter in small.parameters()] == flags
    assert [layer.training for layer in small.modules()] == modes
    assert all(parameter.grad is None for parameter in small.parameters())


def test_batch_norm_in_training_mode_does_not_make_the_field_global(small, rng):
    small.train()
    field = measure_field(small, level=0, patch=112, rng=rng, probes=2)
    with torch.no_grad():  # what a caller may be in
        assert torch.equal(
            measure_field(small, level=0, patch=112, rng=np.random.default_rng(0), probes=2).map, field.map
        )
    assert float(field.map[0].max()) == 0  # 47 pixels of theoretical field in the middle of 112


@pytest.mark.parametrize("level", [0, 1, 2])
def test_supernets_and_pyramids_are_measured_alike(level, rng):
    space = space_named("shuffle-tiny")
    supernet = Supernet(space)
    arch = space.arch((0, 1, 2, 3, 0, 1, 2, 3))
    supernet.activate(arch)
    ours = measure_field(supernet, level=level, patch=208, mode="structure")
    alone = measure_field(supernet.extract(arch), level=level, patch=208, mode="structure")
    assert torch.equal(ours.map, alone.map)
    assert ours.stride == space.spec(arch).strides[level]


def test_a_small_patch_is_reported():
    network = Backbone(narrowed(CR_R50))
    with pytest.warns(UserWarning, match="patch is smaller than the field"):
        cut = measure_field(network, patch=400, mode="structure")
    assert cut.truncated and "truncated" in cut.caption
    assert moment_sigma(cut.map, border=True)[0] == pytest.approx(88, abs=1)  # of 110
    whole = measure_field(network, patch=patch_side(CR_R50), mode="structure")
    assert not whole.truncated


def test_a_unit_at_the_border_is_reported_and_placed(small):
    with pytest.warns(UserWarning, match="around the unit it has 1 px"):
        field = measure_field(small, patch=144, mode="structure", unit=(0, 2))
    assert (field.unit, field.centre, field.stride) == ((0, 2), (0.0, 32.0), 16)


def test_choices_are_recorded(small, rng):
    field = measure_field(small, level=0, patch=80, images=torch.randn(3, 3, 80, 80), probes=2, rng=rng)
    choices = {
        "centre": (36.0, 36.0),
        "unit": (9, 9),
        "level": 0,
        "stride": 4,
        "patch": (80, 80),
        "mode": "trained",
        "channel_rule": "probes",
        "probes": 2,
        "images": 3,
        "share": None,
        "truncated": False,
    }
    assert {name: getattr(field, name) for name in choices} == choices
    assert "3 images" in field.caption and "2 probes" in field.caption


def test_several_batches_give_what_one_gives(small):
    images = torch.randn(10, 3, 80, 80)
    whole, *halves = (
        measure_field(small, level=0, patch=80, images=some, channel_rule="sum_abs").map
        for some in (images, images[:5], images[5:])
    )
    torch.testing.assert_close(whole, (halves[0] + halves[1]) / 2, atol=0, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "flat"}, "mode is one of trained, linearised, structure"),
        ({"channel_rule": "max"}, "channel_rule is one of probes, sum_abs, relu"),
        ({"level": 3}, "returns 3 maps; level 3"),
        ({"unit": (9, 0)}, "5 x 5 units"),
        ({"probes": 0}, "At least one probe"),
        ({"rng": None}, "needs inputs"),
        ({"rng": None, "mode": "linearised"}, "Probes are random"),
        ({"images": torch.zeros(1, 3, 64, 64)}, "to fill the input patch"),
        ({"mode": "structure", "share": 2.0}, "0-1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(small, rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_field(small, **{"patch": 80, "rng": rng, **arguments})


def test_a_network_without_maps_is_refused(rng):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(ValueError, match="feature maps"):
        measure_field(network, patch=8, mode="linearised", rng=rng)


def test_fields_are_averaged_at_equal_weight(small, rng):
    first = measure_field(small, level=0, patch=80, mode="structure")
    twice = mean_field([first, first])
    torch.testing.assert_close(twice.map, first.map / first.map.sum())
    other = measure_field(small, level=0, patch=112, mode="structure")
    for mixed in ([first, other], []):
        with pytest.raises(ValueError, match="patch, unit and level agree"):
            mean_field(mixed)


def test_constant_copies_keep_the_size_of_the_signal():
    network = constant_copy(Backbone(narrowed(DILATED)), 0.4).eval()
    image = torch.ones(1, 3, 400, 400)
    with torch.no_grad():
        middle = network(image)[0][0, :, 50, 50]
    torch.testing.assert_close(middle, torch.ones_like(middle))  # gain 1 through kernels, norms and sums


def test_one_backbone_is_measured_in_seconds(rng):
    network = Backbone(TINY)
    start = time.process_time()
    measure_field(network, patch=240, images=torch.randn(16, 3, 240, 240), probes=8, rng=rng)
    assert time.process_time() - start < 15  # about 0.6 s measured; the bound for a lesson is 5 s


@pytest.mark.parametrize("patch", [0, -3, 8])
def test_a_patch_smaller_than_a_stride_is_refused(patch, rng):
    with pytest.raises(ValueError, match=r"at least one stride of the coarsest map wide \(16 pixels\)"):
        measure_field(Backbone(residual_spec("resnet-tiny")), patch=patch, rng=rng)
