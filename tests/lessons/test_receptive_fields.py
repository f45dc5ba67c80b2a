"""The experiments of the lesson on receptive fields, and the data that its figures draw."""

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.insight.measured_field import structure_field
from workbench.insight.receptive_field import chain_spread, moment_sigma, predicted_sigma
from workbench.lessons import receptive_field_plots as figures
from workbench.lessons.receptive_fields import (
    PRESETS,
    centre_crops,
    found_network,
    log_slope,
    object_sides,
    plain_chain,
    printed_area_sides,
    pyramid_fields,
    searched_networks,
    sigma_table,
    size_correlations,
    stack_field,
)
from workbench.spaces.costs import backbone_cost
from workbench.spaces.published import IC_CONV_SHARES, channel_dilation_stand_in
from workbench.spaces.residual import dilatable_blocks, residual_spec

TINY = residual_spec("resnet-tiny")
DILATED = residual_spec("resnet-tiny", (1, 3, 4), (1, 1, 2, 1, 2, 1, 3, 2))


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
    assert moment_sigma(fields[15].map, border=True)[0] == pytest.approx(sigma, rel=1e-3)


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
    assert moment_sigma(coarse.map, border=True)[0] == pytest.approx(
        (c5 + 2 / 3 * 32**2) ** 0.5, rel=0.01
    )  # the 3x3 behind the sum
    means = [sigma**2 for sigma, _ in predicted_sigma(residual_spec("resnet50"))[1:]]
    # Coarse units sit at pixel 240 and 224 where the fine one sits at 248: the variance of a mixture has both parts.
    expected = np.mean(means) + 2 / 3 * 8**2 + np.var([248, 240, 224])
    assert moment_sigma(fine.map, border=True)[0] == pytest.approx(expected**0.5, rel=0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_plans_compare_networks_of_equal_cost_on_patches_with_a_central_unit(name):
    plan = PRESETS[name]
    family = [residual_spec(plan.backbone), residual_spec(plan.backbone, plan.reallocated, plan.dilations)]
    assert len({backbone_cost(spec, plan.data.image_side).macs for spec in family}) == 1
    stride = family[0].strides[-1]
    assert plan.patch % stride == 0 and plan.patch // stride % 2 == 1
    assert set(plan.shown_depths) <= set(plan.depths)


def test_images_keep_their_scale_and_fill_the_patch():
    data = Scenes(SceneConfig(image_size=64), 0, "test", 3)
    batch = centre_crops(data, 5, 100, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert batch.shape == (3, 3, 100, 100)
    inner = torch.stack([data[index][0] for index in range(3)]).float() / 255
    assert torch.equal(batch[:, :, 18:82, 18:82], inner)
    assert torch.equal(batch[:, :, 17], batch[:, :, 19])  # mirrored at the edge
    assert torch.equal(centre_crops(data, 3, 32, (0.0,) * 3, (1.0,) * 3), inner[:, :, 16:48, 16:48])
    sides = object_sides(data)
    assert sides.min() > 0 and sides.max() < 64


def test_table_of_predictions():
    table = sigma_table({"tiny": TINY, "dilated": DILATED})
    assert table["network"].to_list() == ["tiny"] * 3 + ["dilated"] * 3
    assert table["stride"].to_list() == [4, 8, 16] * 2
    assert (table["measured sigma"] / table["predicted sigma"] - 1).abs().max() < 0.01
    ax = figures.plot_sigma_agreement(table)
    assert len(ax.collections) == 2


def test_correlations(rng):
    frame = pd.DataFrame({"sigma": [10.0, 20, 30, 40, 50], "AP_rel_s": [5, 4, 3, 2, 1], "AP_rel_l": [1, 2, 3, 4, 5]})
    taus = size_correlations(frame, "sigma", ("AP_rel_s", "AP_rel_l"), rng)
    assert (taus["AP_rel_s"].value, taus["AP_rel_l"].value) == pytest.approx((-1, 1))


def test_rows_slopes_and_sections_are_drawn():
    ax = figures.plot_fields_and_objects([5.0, 10.0, 40.0], {"net": [8.0, 60.0]})
    assert [text.get_text() for text in ax.texts] == ["C2", "C3"]
    assert ax.lines[0].get_xdata().tolist() == [8.0, 60.0] and sum(bar.get_height() for bar in ax.patches) == 3
    ax = figures.plot_depth_law({"root": {5: 5**0.5, 10: 10**0.5, 20: 20**0.5}}, theoretical={5: 11.0, 20: 41.0})
    assert ax.get_legend().get_texts()[1].get_text() == "root: slope +0.50"
    field = structure_field(TINY, 1)
    section = figures.plot_cross_sections({"tiny": field}, smooth=5)
    assert f"{field.sizes(smooth=5).fit_sigma:.1f} px" in section.get_legend().get_texts()[0].get_text()
    with pytest.raises(ValueError, match="two depths"):
        log_slope({2: 1.0, 10: 2.0})


def test_shares_inside_anchors_stand_with_the_papers():
    shares = pd.DataFrame({"ResNet-50": [0.6, 0.8, 0.9], "SCR": [0.5, 0.7, 0.8]}, index=["P3", "P4", "P5"])
    ax = figures.plot_box_shares(shares)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.154, 0.489, 0.836], [0.091, 0.289, 0.735]]
    middles = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in ax.containers]
    assert [line.get_xdata().tolist() for line in ax.lines] == middles


def test_correlations_of_several_runs_are_within_runs(rng):
    """Between two seeds AP rises with sigma, within each it falls: only the second counts (Simpson)."""
    frame = pd.DataFrame({"run": list("aaaabbbb"), "sigma": [1.0, 2, 3, 4, 11, 12, 13, 14]})
    frame["AP_rel_l"] = [0.14, 0.13, 0.12, 0.11, 0.24, 0.23, 0.22, 0.21]
    tau = size_correlations(frame, "sigma", ("AP_rel_l",), rng)["AP_rel_l"]
    assert (tau.value, tau.n) == (-1.0, 2)
    pooled = size_correlations(frame.drop(columns="run"), "sigma", ("AP_rel_l",), rng)["AP_rel_l"]
    assert pooled.value > 0 and pooled.n == 8


def test_the_stand_in_keeps_the_published_shares_and_the_papers_panels_are_read():
    spec = channel_dilation_stand_in("resnet50")
    for index in dilatable_blocks(spec):
        block = spec.blocks[index]
        if block.stage > 1:
            plain = sum(channels for channels, *rates in block.dilations if rates == [1, 1])
            share = plain / sum(channels for channels, *_ in block.dilations)
            assert share == pytest.approx(IC_CONV_SHARES[block.stage][0], abs=1 / 32)
    assert printed_area_sides()["NATS-R101"] == {0.0455: 314, 0.1: 198, 0.25: 98, 0.5: 20}


def test_a_run_without_a_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no arch.json; name the folder of a finished run"):
        found_network(str(tmp_path))
    (tmp_path / "arch.json").write_text("[]")
    with pytest.raises(ValueError, match=r"arch\.json does not fit: detector must be object; delete it"):
        found_network(str(tmp_path))


def test_searched_networks_come_from_a_run_or_from_the_stored_table(tmp_path):
    frame, source = searched_networks("")
    assert {"network", "sigma", "AP_rel_s", "AP_rel_m", "AP_rel_l", "run"} <= set(
        frame
    ) and "stored experiment" in source
    assert frame["run"].nunique() >= 3 and len(frame) >= 20
    with pytest.raises(ValueError, match="crnas_run names the folder of a finished 40_crnas run"):
        searched_networks(str(tmp_path))
