"""Golden numbers of published networks, and sizes of maps whose answer is known in closed form."""

from dataclasses import replace
from math import erf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.insight.receptive_field import (
    LUO,
    area_ratio,
    area_side,
    box_share,
    chain_spread,
    field_sizes,
    gaussian_fit,
    moment_sigma,
    narrowed,
    patch_side,
    predicted_sigma,
    smoothed,
    theoretical_field,
)
from workbench.spaces.branches import Conv, Pool
from workbench.spaces.catalogue import space_named
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import LAYOUTS, residual_spec

SEARCHED = {net.name: net.spec for net in CRNAS}

# Theoretical side, and sigma at share 0.5, of C2 to C5.
GOLDEN = [
    ("R50", residual_spec("resnet50"), (35, 91, 267, 427), "4.8/9.6/23.2/36.2"),
    ("SCR-R50", residual_spec("resnet50", (1, 3, 5, 7)), (19, 59, 203, 619), "3.5/7.7/20.6/50.6"),
    ("CR-R50", SEARCHED["CR-R50"], (19, 75, 315, 1179), "3.5/11.1/37.8/110.0"),
    ("R101", residual_spec("resnet101"), (35, 91, 811, 971), "4.8/9.6/44.6/52.5"),
    ("SCR-R101", residual_spec("resnet101", (2, 3, 17, 11)), (27, 67, 595, 1267), "4.2/8.1/38.1/70.4"),
    ("CR-R101", SEARCHED["CR-R101"], (27, 67, 819, 1971), "4.2/8.1/58.4/122.6"),
]


def gaussian(sigma: float, side: int = 201, centre: tuple[float, float] | None = None) -> np.ndarray:
    row, column = centre or (side // 2, side // 2)
    down, across = np.arange(side) - row, np.arange(side) - column
    return np.exp(-0.5 * (down[:, None] ** 2 + across**2) / sigma**2)


@pytest.mark.parametrize(("name", "spec", "sides", "sigmas"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_published_networks(name: str, spec: NetworkSpec, sides: tuple[int, ...], sigmas: str) -> None:
    assert theoretical_field(spec) == tuple((side, side) for side in sides)
    assert "/".join(f"{height:.1f}" for height, _ in predicted_sigma(spec)) == sigmas


def test_stem_and_pool_add_their_kernels() -> None:
    stem = (Conv(in_channels=3, out_channels=64, kernel=7, stride=2), Pool(kernel=3, stride=2))
    assert chain_spread(stem, 0).extent == 10
    assert chain_spread(stem, 0).variance == pytest.approx(4.0 + 8 / 3)


def test_dilation_acts_along_its_own_axis() -> None:
    plain = residual_spec("resnet-tiny")
    blocks = tuple(
        replace(block, dilations=((block.out_channels, 1, 3),)) if block.kind == "basic" else block
        for block in plain.blocks
    )
    wide = replace(plain, blocks=blocks)
    for (height, width), (before, _), (tall, broad) in zip(
        predicted_sigma(wide), predicted_sigma(plain), theoretical_field(wide), strict=True
    ):
        assert height == before < width
        assert tall < broad


def test_share_zero_leaves_what_has_no_shortcut() -> None:
    assert [sigma for sigma, _ in predicted_sigma(residual_spec("resnet50"), 0.0)] == pytest.approx([sqrt(20 / 3)] * 4)
    with pytest.raises(ValueError, match="0-1"):
        predicted_sigma(residual_spec("resnet50"), 1.5)


@settings(max_examples=30)
@given(share=st.floats(0.0, 1.0), backbone=st.sampled_from(sorted(LAYOUTS)))
def test_variance_is_linear_in_the_share_and_within_the_theoretical_field(share: float, backbone: str) -> None:
    spec = residual_spec(backbone)
    none, some, full = (predicted_sigma(spec, value) for value in (0.0, share, 1.0))
    for low, middle, high, whole in zip(none, some, full, theoretical_field(spec), strict=True):
        assert middle[0] ** 2 == pytest.approx((1 - share) * low[0] ** 2 + share * high[0] ** 2)
        # No distribution within a field of that side spreads further than one that sits on both ends.
        assert high[0] <= (whole[0] - 1) / 2 + 1e-9


@pytest.mark.parametrize("backbone", sorted(name for name in LAYOUTS if "cifar" not in name))
def test_narrowing_keeps_the_field(backbone: str) -> None:
    spec = residual_spec(backbone)
    thin = narrowed(spec)
    assert max(block.out_channels for block in thin.blocks) <= 8
    assert theoretical_field(thin) == theoretical_field(spec)
    assert predicted_sigma(thin, 0.3) == predicted_sigma(spec, 0.3)


def test_shuffle_networks_have_fields_but_no_narrow_form() -> None:
    space = space_named("shuffle-tiny")
    fields = [theoretical_field(space.spec(space.uniform(option)))[-1][0] for option in range(4)]
    assert fields == sorted(fields) and len(set(fields)) == 4  # 3x3 < 5x5 < 7x7 < three 3x3 behind the stride
    with pytest.raises(ValueError, match="full width"):
        narrowed(space.spec(space.uniform(0)))
    with pytest.raises(ValueError, match="full width"):  # its shortcuts fill half of their channels with zeros
        narrowed(residual_spec("resnet20-cifar"))


@pytest.mark.parametrize("level", range(4))
def test_a_patch_holds_the_field_and_has_a_central_unit(level: int) -> None:
    for spec in (residual_spec("resnet50"), SEARCHED["CR-R50"]):
        side = patch_side(spec, level)
        assert side % 32 == 0 and side // 32 % 2 == 1
        assert side >= min(6 * predicted_sigma(spec)[level][0], theoretical_field(spec)[level][0])
    assert patch_side(residual_spec("resnet50"), 0, sigmas=100) == 96  # 35 px is all there is


@pytest.mark.parametrize("sigma", [5.0, 12.5, 20.0])
def test_sizes_of_a_gaussian(sigma: float) -> None:
    field = gaussian(sigma, side=281)
    sizes = field_sizes(field, theoretical=(100, 100))
    for threshold, side in {LUO: sizes.side_05, 0.1: sizes.side_10, 0.25: sizes.side_25, 0.5: sizes.side_50}.items():
        assert side == pytest.approx(sigma * sqrt(2 * pi * log(1 / threshold)), rel=0.02)
    assert sizes.side_05 / sigma == pytest.approx(4.41, rel=0.01)
    assert sizes.shape_index == pytest.approx(2.11, rel=0.01)
    assert (sizes.sigma_h, sizes.sigma_w) == pytest.approx((sigma, sigma), rel=1e-3)
    assert (sizes.fit_sigma, sizes.fit_r2) == pytest.approx((sigma, 1.0), rel=1e-4)
    assert sizes.trf_ratio == pytest.approx(sizes.side_05 / 100)
    for side in (sigma, 3 * sigma):
        assert box_share(field, side) == pytest.approx(erf(side / (2 * sqrt(2) * sigma)) ** 2, abs=2e-3)
    half = 2 * sqrt(2) * sigma * 0.7437  # erf(0.7437)^2 = 0.5
    assert sqrt(sizes.ratio_50) * 281 == pytest.approx(half, rel=0.01)


def test_fit_separates_background_and_height() -> None:
    field = 3 * gaussian(8.0, side=121) + 0.6
    fit = gaussian_fit(field)
    assert fit.sigma == pytest.approx(8.0, rel=1e-4)
    assert (fit.a, fit.b, fit.r2) == pytest.approx((3 / 3.6, 0.6 / 3.6, 1.0), rel=1e-4)
    assert moment_sigma(field) == pytest.approx((8.0, 8.0), rel=1e-3)
    assert moment_sigma(field, border=True)[0] > 3 * 8.0  # the background left in


def test_moments_tell_height_from_width_and_do_not_ask_for_the_centre() -> None:
    down, across = np.arange(161) - 70, np.arange(161) - 90
    field = np.exp(-0.5 * ((down[:, None] / 5) ** 2 + (across / 11) ** 2))
    assert moment_sigma(field) == pytest.approx((5, 11), rel=1e-3)


@settings(max_examples=25)
@given(first=st.floats(0.05, 0.9), second=st.floats(0.05, 0.9), scale=st.floats(1e-6, 1e6))
def test_sizes_fall_with_the_threshold_and_ignore_the_scale(first: float, second: float, scale: float) -> None:
    field = gaussian(6.0, side=61)
    low, high = sorted((first, second))
    assert area_side(field, low) >= area_side(field, high)
    assert area_ratio(field, low) <= area_ratio(field, high)
    assert area_side(scale * field, low) == pytest.approx(area_side(field, low), rel=0.05)


def test_smoothing_closes_a_lattice_and_keeps_the_mass() -> None:
    whole = gaussian(12.0, side=121)
    lattice = whole.copy()
    lattice[np.arange(121) % 5 != 0] = 0
    lattice[:, np.arange(121) % 5 != 0] = 0
    assert area_side(lattice, 0.1) < 0.25 * area_side(whole, 0.1)  # counts dots
    closed = smoothed(lattice, 5)
    assert area_side(closed, 0.1) == pytest.approx(area_side(whole, 0.1), rel=0.05)
    assert closed.sum() == pytest.approx(lattice.sum(), rel=1e-4)
    with pytest.raises(ValueError, match="odd side"):
        smoothed(lattice, 4)


@pytest.mark.parametrize("broken", [np.zeros((5, 5)), -np.ones((5, 5)), np.full((5, 5), np.nan), np.ones(5)])
def test_what_is_no_field_is_refused(broken: np.ndarray) -> None:
    with pytest.raises(ValueError, match="A field is a map"):
        field_sizes(broken)
