"""Golden numbers of CR-NAS: candidates, equal MACs, growing params, tables."""

import time
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from workbench.insight.tables import paper_table
from workbench.spaces.allocation import allocation, allocation_space, centre_of_mass, depths_of, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost
from workbench.spaces.published import CRNAS, OPERATION_CODES
from workbench.spaces.residual import LAYOUTS, layout_named, residual_spec

IMAGE = (800, 1088)  # height and width at which the paper states its FLOPs
EQUAL = [name for name in LAYOUTS if not name.startswith("mobilenetv2")]  # where MACs are equal by construction

# Of the backbone without classifier: G MACs at 800x1088 as published and as found, M params as published and as found.
COSTS = {
    "CR-R18": (31.46, 31.46, 11.18, 20.25),
    "CR-R50": (70.90, 70.90, 23.51, 39.82),
    "CR-R101": (135.29, 135.29, 42.50, 71.15),
    "SCR-X50-32x4d": (73.35, 73.35, 22.98, 35.84),
    "SCR-X101-32x4d": (138.22, 138.22, 42.13, 69.10),
    "CR-MobileNetV2": (5.20, 5.49, 2.22, 2.59),
}


def compositions(blocks, stages=4):
    """All ways to spread `blocks` over stages of 1 to 200 blocks, by where the bars stand between them."""
    for bars in combinations(range(1, blocks), stages - 1):
        yield tuple(np.diff((0, *bars, blocks)).tolist())


@pytest.mark.parametrize(
    ("backbone", "blocks", "on_grid", "everywhere"),
    [
        ("resnet18", 8, 9, 35),
        ("resnet50", 16, 153, 455),
        ("resnext50", 16, 153, 455),
        ("resnet101", 33, 374, 4960),
        ("resnext101", 33, 374, 4960),
    ],
)
def test_candidates_are_the_compositions_on_the_grid(backbone, blocks, on_grid, everywhere):
    for name in (backbone, f"{backbone}-half"):
        space = allocation_space(name)
        found = [depths_of(space, arch) for arch in eligible(space)]
        grid = [set(map(int, decision.options)) for decision in space.decisions]
        every = list(compositions(blocks))
        assert len(every) == everywhere == comb(blocks - 1, 3) and len(found) == on_grid
        assert found == [d for d in every if all(depth in options for depth, options in zip(d, grid, strict=True))]


def test_one_grid_serves_several_budgets():
    """Only the sum that is asked for changes."""
    space = allocation_space("resnet50")
    assert [len(eligible(space, blocks)) for blocks in (8, 16, 33)] == [9, 153, 374]
    assert all(sum(depths_of(space, arch)) == 6 for arch in eligible(space, 6))  # the smallest: 1 + 1 + 2 + 2
    assert sum(len(decision.options) for decision in space.decisions) == 40
    assert sum(int(option) for decision in space.decisions for option in decision.options) == 307


def test_candidates_of_mobilenet_keep_its_weighted_cost():
    space, layout = allocation_space("mobilenetv2"), layout_named("mobilenetv2")
    found = [depths_of(space, arch) for arch in eligible(space)]
    assert space.size == 3125 and len(found) == 43 and sum(sum(depths) == 15 for depths in found) == 23
    weights = (1.5, 1.0, 1.0, 0.75, 1.25)
    assert {np.dot(weights, depths) for depths in found} == {16.0}
    assert {layout.depths, (2, 2, 3, 4, 4)} <= set(found)
    assert layout.budget((2, 2, 3, 4, 4)) == layout.budget(layout.depths) == 16.0


@pytest.mark.parametrize("backbone", EQUAL)
def test_all_candidates_cost_the_same_macs(backbone):
    space = allocation_space(backbone)
    layout = layout_named(backbone)
    size = IMAGE if layout.image_size == 224 else layout.image_size
    assert {space.macs(arch, size) for arch in eligible(space)} == {backbone_cost(residual_spec(backbone), size).macs}


@given(data=st.data())
@settings(max_examples=60)
def test_a_block_moved_to_the_next_stage_costs_the_same_macs_and_four_times_the_weights(data):
    """Also off the grid and at every size that the coarsest stride divides."""
    backbone = data.draw(st.sampled_from(EQUAL))
    stages = len(layout_named(backbone).depths)
    depths = data.draw(st.lists(st.integers(1, 12), min_size=stages, max_size=stages))
    stage = data.draw(st.integers(0, stages - 2))
    size = tuple(32 * data.draw(st.integers(1, 40)) for _ in range(2))
    one, next_one = ([d + (place == index) for index, d in enumerate(depths)] for place in (stage, stage + 1))
    base, early, late = (backbone_cost(residual_spec(backbone, d), size) for d in (depths, one, next_one))
    assert early.macs == late.macs > base.macs
    # Batch norm doubles only, so that very narrow blocks stay a little below four.
    assert 3.8 < (late.params - base.params) / (early.params - base.params) < 4


@pytest.mark.parametrize("name", COSTS)
def test_macs_and_params_of_the_published_networks(name):
    net = next(net for net in CRNAS if net.name == name)
    base, found = backbone_cost(residual_spec(net.backbone), IMAGE), backbone_cost(net.spec, IMAGE)
    row = [round(cost.macs / 1e9, 2) for cost in (base, found)] + [
        round(cost.params / 1e6, 2) for cost in (base, found)
    ]
    assert tuple(row) == COSTS[name]
    assert (base.macs == found.macs) == (net.backbone != "mobilenetv2")


def test_real_macs_of_mobilenet_are_not_its_nominal_cost():
    def cost(depths=()):
        return backbone_cost(residual_spec("mobilenetv2", depths), IMAGE).macs

    plain = layout_named("mobilenetv2").depths
    extra = [cost([d + (i == index) for i, d in enumerate(plain)]) - cost() for index in range(5)]
    assert [block / extra[2] for block in extra] == pytest.approx([2.5, 1.07, 1, 2.2, 1.5], rel=0.005)
    assert cost((2, 2, 3, 4, 4)) - cost() == pytest.approx(0.293e9, abs=0.5e6)
    space = allocation_space("mobilenetv2")
    assert len({space.macs(arch, IMAGE) for arch in eligible(space)}) == 43  # no two alike


def test_published_networks_lie_on_the_grid_but_for_one():
    for net in CRNAS:
        space = space_named(f"allocation-{net.backbone}")
        assert allocation(space, layout_named(net.backbone).depths) in eligible(space)
        if net.name != "SCR-X101-32x4d":
            assert allocation(space, net.depths) in eligible(space) and net.off_grid == ""
    (off_grid,) = (net for net in CRNAS if net.off_grid)
    assert off_grid.depths == (3, 4, 15, 11) and "15 blocks in stage 3" in off_grid.off_grid
    assert "nearest is 14" in off_grid.off_grid
    per_stage = [sum(block.stage == stage for block in off_grid.spec.blocks) for stage in (1, 2, 3, 4)]
    assert per_stage == [3, 4, 15, 11]
    assert (3, 4, 17, 9) in [depths_of(space, arch) for arch in eligible(space_named("allocation-resnext101"))]


@pytest.mark.parametrize("backbone", ["resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2-tiny", "resnet18-quarter"])
def test_narrow_spaces_hold_every_composition(backbone):
    space, layout = allocation_space(backbone), layout_named(backbone)
    found = [depths_of(space, arch) for arch in eligible(space)]
    assert found == list(compositions(8, len(layout.depths))) and len(found) == comb(7, len(layout.depths) - 1)


@pytest.mark.parametrize("backbone", LAYOUTS)
def test_depths_and_architectures_convert_both_ways(backbone):
    space = space_named(f"allocation-{backbone}")
    rng = np.random.default_rng(0)
    for arch in (space.uniform(0), *(space.sample(rng) for _ in range(5))):
        depths = depths_of(space, arch)
        assert allocation(space, depths) == arch and space.spec(arch) == residual_spec(backbone, depths)
    assert space.spec(allocation(space, layout_named(backbone).depths)) == residual_spec(backbone)


def test_centre_of_mass_moves_to_the_deep_stages():
    assert centre_of_mass((3, 4, 6, 3)) == 2.5625 and centre_of_mass((1, 3, 5, 7)) == 3.125
    assert centre_of_mass((5, 5, 5)) == 2.0


def test_enumerating_and_costing_the_largest_space_is_fast():
    """At most a second for the 374 allocations of ResNet-101, with a fresh cost table (0.02 s measured)."""
    start = time.process_time()
    space = allocation_space("resnet101")
    costs = [(space.macs(arch, IMAGE), space.params(arch)) for arch in eligible(space)]
    assert len(costs) == 374 and time.process_time() - start <= 1.0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (61, "No allocation of allocation-resnet50 costs 61 blocks; its budgets run from 6 to 60, the nearest is 60"),
        (5, "from 6 to 60, the nearest is 6"),
        (16.5, "costs 16.5 blocks.*the nearest is 1[67]"),
    ],
)
def test_a_budget_that_nobody_meets_is_refused(budget, message):
    with pytest.raises(ValueError, match=message):
        eligible(allocation_space("resnet50"), budget)


def test_depths_off_the_grid_are_refused():
    space = allocation_space("resnet50")
    with pytest.raises(ValueError, match=r"4 blocks in stage 3 are not on the grid.*nearest is 3.*residual_spec"):
        allocation(space, (3, 4, 4, 3))
    with pytest.raises(ValueError, match=r"0 blocks in stage 1 .*nearest is 1"):
        allocation(space, (0, 4, 6, 3))
    with pytest.raises(ValueError, match=r"has 4 stages; got depths \[3, 4, 6\]"):
        allocation(space, (3, 4, 6))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("allocation-resnet5", "allocation-resnet50"), ("alocation-resnet-tiny", "allocation-resnet-tiny")],
)
def test_unknown_names_get_a_hint(name, hint):
    with pytest.raises(ValueError, match=rf"Did you mean {hint}\?"):
        space_named(name)


# Tables of the paper (data/papers): what one says must agree with what the others and the code say.


def test_tables_and_code_name_the_same_architectures():
    table = paper_table("crnas_architectures").set_index("network")
    assert list(table.index) == ["CR-MobileNetV2", "CR-R18", "CR-R50", "CR-R101", "SCR-X50-32x4d", "SCR-X101-32x4d"]
    for net in CRNAS:
        row = table.loc[net.name]
        before, after, code = (
            [int(entry) for entry in row[column].strip("[]").split(",") if entry]
            for column in ("stages as published", "stages found", "operation code")
        )
        searched = slice(2, 7) if net.backbone == "mobilenetv2" else slice(None)
        assert tuple(after[searched]) == net.depths
        assert tuple(before[searched]) == layout_named(net.backbone).depths
        assert code == [int(digit) for digit in OPERATION_CODES.get(net.name, "") if digit.isdigit()]
        assert len(code) in (0, sum(after))


def test_main_table_prints_the_costs_kept_with_the_networks():
    flops = paper_table("crnas_main").set_index("backbone")["FLOPs"]
    printed = {net.name: (net.printed_macs, net.baseline_macs) for net in CRNAS if net.dilations}
    assert {f"{new}G" for new, _ in printed.values()} | {f"{old}G" for _, old in printed.values()} == set(flops)
    for name, (new, old) in printed.items():
        assert (flops[name], flops[name.removeprefix("CR-")]) == (f"{new}G", f"{old}G")


def test_ablation_repeats_the_main_table_and_gives_the_printed_gains():
    table, main = paper_table("crnas_ablation").set_index("backbone"), paper_table("crnas_main").set_index("backbone")
    gains = {"MobileNetV2": (1.3, 0.4), "R18": (1.3, 0.4), "R50": (1.0, 0.9), "R101": (0.9, 0.7)}
    for name, (stage, dilation) in gains.items():
        plain, stages, both = table.loc[name][["as published AP", "stages AP", "stages and dilations AP"]]
        assert plain == main["AP"][name] and both == main["AP"][f"CR-{name}"]
        assert 100 * (float(stages) - float(plain)) == pytest.approx(stage, abs=0.01)
        assert 100 * (float(both) - float(stages)) == pytest.approx(dilation, abs=0.01)
    assert list(table["stages and dilations AP"])[4:] == ["", ""]  # ResNeXt has no dilations in the paper


@pytest.mark.parametrize(
    ("budget", "points", "pearson", "spearman"),
    [("R50", 10, 0.26, 0.16), ("R101", 8, -0.16, 0.01), ("R", 18, 0.82, 0.77)],
)
def test_correlation_of_accuracy_and_ap_within_and_across_budgets(budget, points, pearson, spearman):
    """Figure 6 of CR-NAS: between the budgets, not within them."""
    table = paper_table("crnas_correlation")
    rows = table[table["budget"].isin([budget] if budget != "R" else ["R50", "R101"])]
    top1, ap = rows["top-1"].astype(float), rows["AP"].astype(float)
    assert len(rows) == points
    assert round(pearsonr(top1, ap)[0], 2) == pearson and round(spearmanr(top1, ap)[0], 2) == spearman


@pytest.mark.parametrize("name", ["crnas_main", "crnas_ablation", "crnas_transfer", "crnas_correlation"])
def test_tables_hold_numbers_in_the_units_of_the_project(name):
    """AP and all shares in 0-1, FLOPs in G; an empty cell is one the paper does not print."""
    table = paper_table(name)
    assert not table.duplicated().any() and (table["source"] != "").all()
    for column in table.columns:
        cells = [cell for cell in table[column] if cell]
        if column.endswith(("AP", "AP50", "AP75", "APs", "APm", "APl", "top-1")):
            assert cells and all(0.1 < float(cell) < 0.9 for cell in cells), column
        if column == "FLOPs":
            assert cells and all(cell.endswith("G") and 100 < float(cell[:-1]) < 400 for cell in cells)
