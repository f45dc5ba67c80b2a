"""The experiments of the lesson on receptive fields, and the data that its figures draw."""

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.data.scenes import SceneConfig, Scenes
from workbench.insight import field_plots, plots
from workbench.insight.field_studies import (
    log_slope,
    object_sides,
    pictures,
    plain_chain,
    pyramid_fields,
    sigma_table,
    size_correlations,
    stack_field,
    structure_field,
)
from workbench.insight.receptive_field import chain_spread, predicted_sigma, raw_sigma
from workbench.lessons.receptive_fields import PRESETS
from workbench.spaces.costs import backbone_cost
from workbench.spaces.residual import residual_spec

TINY = residual_spec("resnet-tiny")
DILATED = residual_spec("resnet-tiny", (1, 3, 4), (1, 1, 2, 1, 2, 1, 3, 2))


@pytest.fixture(autouse=True)
def _close():
    yield
    plots.plt.close("all")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_size_of_a_plain_stack_grows_with_the_root_of_its_depth(rng):
    fields = {depth: stack_field(depth, "flat", patch=63, rng=rng) for depth in (3, 5, 7, 10, 15)}
    for size in ("side_05", "sigma_h", "fit_sigma"):
        sizes = {depth: getattr(field.sizes(), size) for depth, field in fields.items()}
        assert log_slope(sizes) == pytest.approx(0.5, abs=0.05), size
    sigma = chain_spread(plain_chain(15), 0).variance ** 0.5
    assert sigma == pytest.approx((15 * 2 / 3) ** 0.5)
    assert raw_sigma(fields[15].map)[0] == pytest.approx(sigma, rel=1e-3)


def test_dilation_in_place_of_strides_gives_the_same_field(rng):
    strided = stack_field(6, "flat", patch=97, rng=rng, strides={1: 2, 3: 2})
    dilated = stack_field(6, "flat", patch=97, rng=rng, dilations={2: 2, 3: 2, 4: 4, 5: 4})
    row, column = (int(place) for place in dilated.centre)
    assert (strided.centre, strided.stride, dilated.stride) == ((row, column), 4, 1)
    torch.testing.assert_close(strided.map, dilated.map, atol=1e-9, rtol=1e-4)


def test_random_kernels_are_wider_by_the_root_of_two(rng):
    flat = stack_field(20, "flat", patch=63, rng=rng).sizes().sigma_h
    random = stack_field(20, "random", patch=63, runs=8, rng=rng).sizes().sigma_h
    assert random / flat == pytest.approx(2**0.5, rel=0.08)


def test_pyramid_levels_mix_the_maps_below_them():
    fine, middle, coarse = pyramid_fields(residual_spec("resnet50"), patch=512)
    assert [field.stride for field in (fine, middle, coarse)] == [8, 16, 32]
    c5 = predicted_sigma(residual_spec("resnet50"))[-1][0] ** 2
    assert raw_sigma(coarse.map)[0] == pytest.approx((c5 + 2 / 3 * 32**2) ** 0.5, rel=0.01)  # the 3x3 behind the sum
    means = [sigma**2 for sigma, _ in predicted_sigma(residual_spec("resnet50"))[1:]]
    # Coarse units sit at pixel 240 and 224 where the fine one sits at 248: the variance of a mixture has both parts.
    expected = np.mean(means) + 2 / 3 * 8**2 + np.var([248, 240, 224])
    assert raw_sigma(fine.map)[0] == pytest.approx(expected**0.5, rel=0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_plans_compare_networks_of_equal_cost_on_patches_with_a_central_unit(name):
    plan = PRESETS[name]
    family = [residual_spec(plan.backbone), residual_spec(plan.backbone, plan.reallocated, plan.dilations)]
    assert len({backbone_cost(spec, plan.data.image_side).macs for spec in family}) == 1
    stride = family[0].strides[-1]
    assert plan.patch % stride == 0 and plan.patch // stride % 2 == 1
    assert set(plan.shown_depths) <= set(plan.depths)


def test_pictures_keep_their_scale_and_fill_the_patch():
    data = Scenes(SceneConfig(image_size=64), 0, "test", 3)
    batch = pictures(data, 5, 100, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert batch.shape == (3, 3, 100, 100)
    inner = torch.stack([data[index][0] for index in range(3)]).float() / 255
    assert torch.equal(batch[:, :, 18:82, 18:82], inner)
    assert torch.equal(batch[:, :, 17], batch[:, :, 19])  # mirrored at the edge
    assert torch.equal(pictures(data, 3, 32, (0.0,) * 3, (1.0,) * 3), inner[:, :, 16:48, 16:48])
    sides = object_sides(data)
    assert sides.min() > 0 and sides.max() < 64


def test_table_of_predictions():
    table = sigma_table({"tiny": TINY, "dilated": DILATED})
    assert table["network"].to_list() == ["tiny"] * 3 + ["dilated"] * 3
    assert table["stride"].to_list() == [4, 8, 16] * 2
    assert (table["measured sigma"] / table["predicted sigma"] - 1).abs().max() < 0.01
    ax = field_plots.plot_sigma_agreement(table)
    assert len(ax.collections) == 2


def test_correlations_and_their_figure(rng):
    frame = pd.DataFrame({"sigma": [10.0, 20, 30, 40, 50], "AP_rel_s": [5, 4, 3, 2, 1], "AP_rel_l": [1, 2, 3, 4, 5]})
    taus = size_correlations(frame, "sigma", ("AP_rel_s", "AP_rel_l"), rng)
    assert (taus["AP_rel_s"].value, taus["AP_rel_l"].value) == pytest.approx((-1, 1))
    ax = field_plots.plot_size_against_ap(frame, "sigma", taus)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[0].startswith("AP_rel_s: tau -1.00") and len(ax.collections) == 2


def test_field_figures_show_what_they_are_given():
    field = structure_field(TINY, 1)
    ax = field_plots.plot_field(field, boxes=[10, 20], smooth=3, reach=30)
    assert [patch.get_width() for patch in ax.patches] == [10, 20] and ax.get_xlim() == (-30, 30)
    shown = np.asarray(ax.images[0].get_array())
    assert shown.sum() == pytest.approx(1) and ax.images[0].get_clim()[1] == pytest.approx(shown.max())
    assert field_plots.plot_field(field, brightest=0.5).images[0].get_clim() == (0, 0.5)
    row, column = (int(place) for place in field.centre)
    assert (ax.images[0].get_extent()[0], ax.images[0].get_extent()[3]) == (-column - 0.5, -row - 0.5)
    curves = field_plots.plot_area_sides({"tiny": field}, smooth=5).lines[0].get_ydata()
    assert np.all(np.diff(curves) <= 0)
    section = field_plots.plot_cross_sections({"tiny": field}, smooth=5)
    assert f"{field.sizes(smooth=5).fit_sigma:.1f} px" in section.get_legend().get_texts()[0].get_text()


def test_bars_rows_and_slopes_are_drawn():
    shares = pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4]}, index=["P3", "P4"])
    assert [bar.get_height() for bar in field_plots.plot_box_shares(shares).patches] == [0.1, 0.2, 0.3, 0.4]
    ax = field_plots.plot_fields_and_objects([5.0, 10.0, 40.0], {"net": [8.0, 60.0]})
    assert [text.get_text() for text in ax.texts] == ["C2", "C3"]
    assert ax.lines[0].get_xdata().tolist() == [8.0, 60.0] and sum(bar.get_height() for bar in ax.patches) == 3
    ax = field_plots.plot_depth_law({"root": {5: 5**0.5, 10: 10**0.5, 20: 20**0.5}}, theoretical={5: 11.0, 20: 41.0})
    assert ax.get_legend().get_texts()[1].get_text() == "root: slope +0.50"
    with pytest.raises(ValueError, match="two depths"):
        log_slope({2: 1.0, 10: 2.0})


def test_correlations_of_several_runs_are_within_runs(rng):
    """Between two seeds AP rises with sigma, within each it falls: only the second counts (Simpson)."""
    frame = pd.DataFrame({"run": list("aaaabbbb"), "sigma": [1.0, 2, 3, 4, 11, 12, 13, 14]})
    frame["AP_rel_l"] = [0.14, 0.13, 0.12, 0.11, 0.24, 0.23, 0.22, 0.21]
    tau = size_correlations(frame, "sigma", ("AP_rel_l",), rng)["AP_rel_l"]
    assert (tau.value, tau.n) == (-1.0, 2)
    pooled = size_correlations(frame.drop(columns="run"), "sigma", ("AP_rel_l",), rng)["AP_rel_l"]
    assert pooled.value > 0 and pooled.n == 8
