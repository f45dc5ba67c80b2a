"""The ES modules compute what Python computes: they live without a kernel."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.widgets import allocation_desk, composite_kernel, field_probe
from workbench.networks.dilation_mixture import tap_positions
from workbench.spaces.allocation import depths_of, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import DILATION_SETS
from workbench.spaces.layers import seed_spec
from workbench.spaces.published import CRNAS, channel_dilation_stand_in


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("late", [0, 1])
def test_composite_kernel(call: Any, decoded: bool, late: int) -> None:
    rng = np.random.default_rng(late)
    dilations, kernel = DILATION_SETS["C"][late], rng.normal(size=(3, 3))
    alpha, layers = rng.normal(size=len(dilations)).tolist(), 3
    taps, grid = tap_positions(dilations, 3)
    data = {"taps": taps, "grid": grid, "kernel": kernel.ravel().tolist()}
    data["thresholds"] = composite_kernel.THRESHOLDS.tolist()
    there = call("composite_kernel", "compute", data, {"alpha": alpha, "layers": layers, "decoded": decoded})
    here = composite_kernel.composite(dilations, kernel, alpha, layers, decoded=decoded)
    assert there["shares"] == pytest.approx(here.shares)
    for name in ("kernel", "field"):
        assert there[name]["values"] == pytest.approx(getattr(here, name).ravel(), abs=1e-12)
        assert (there[name]["rows"], there[name]["columns"]) == getattr(here, name).shape
    assert there["sides"] == pytest.approx(here.sides)
    assert there["sigma"] == pytest.approx(here.sigma)


@pytest.mark.parametrize("backbone", ["resnet-tiny", "resnet-bottleneck-tiny", "mobilenetv2"])
def test_allocation_desk(call: Any, backbone: str) -> None:
    space = space_named(f"allocation-{backbone}")
    start = allocation_desk.layout_named(backbone).depths
    data = allocation_desk.desk_data(backbone, start, 128)
    for arch in eligible(space)[::3]:
        depths = list(depths_of(space, arch))
        there, here = (
            call("allocation_desk", "compute", data, depths),
            allocation_desk.desk_numbers(backbone, depths, 128),
        )
        assert there["sigma"] == pytest.approx(here["sigma"])
        assert {name: there[name] for name in ("params", "macs")} == {name: here[name] for name in ("params", "macs")}
        assert call("allocation_desk", "remarks", data, depths, there["cost"]) == []


def test_moves_of_the_desk_keep_the_number_of_blocks(call: Any) -> None:
    assert call("allocation_desk", "moved", [3, 3, 2], 0, 2) == [2, 3, 3]
    assert call("allocation_desk", "moved", [1, 3, 2], 0, 2) == [1, 3, 2]  # the last block of a stage stays
    assert call("allocation_desk", "moved", [3, 3, 2], 2, 3) == [3, 3, 2]  # there is no such stage
    data = allocation_desk.desk_data("resnet101", (3, 4, 23, 3), 224)
    assert "stage 3 is off the grid" in call("allocation_desk", "remarks", data, [3, 4, 22, 4], 33)[0]
    assert call("allocation_desk", "remarks", data, [3, 4, 23, 4], 34) == ["nominal cost 34, the budget is 33"]


NETWORKS = {
    "resnet50": seed_spec("resnet50"),
    "CR-R18": CRNAS[0].spec,
    "mixed dilations": channel_dilation_stand_in("resnet50"),
    "mobilenetv2": seed_spec("mobilenetv2"),
    "shuffle": space_named("shuffle-tiny").spec(space_named("shuffle-tiny").arch((0, 1, 2, 3, 0, 1, 2, 3))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_sigma(call: Any, name: str) -> None:
    spec = NETWORKS[name]
    data = field_probe.network_data(spec, 4.0)
    for level, changes in enumerate(product((0, 7), (0, 3), (0, 1))):
        level %= len(spec.taps)
        change = dict(zip(field_probe.CHOICES, changes, strict=True))
        here = predicted_sigma(field_probe.changed(spec, level, **change), 0.7)[level]
        there = call("field_probe", "predict", data, level, {**change, "shortcut": 0.3})
        assert there == pytest.approx(here), (level, change)


def test_units_and_stored_fields(call: Any) -> None:
    for place in ((0, 0), (7.9, 8.1), (95, 63), (95.4, 40)):
        unit = field_probe.nearest_unit(place, 16, (96, 64))
        assert call("field_probe", "nearest", list(place), 16, [96, 64]) == [16 * index for index in unit]
    shares = np.linspace(0, 1, 12)
    text = field_probe.quantised(shares)
    raw = call("field_probe", "decoded", text)
    assert np.square(np.array(raw) / 255) == pytest.approx(field_probe.unquantised(text))
    stored = [{"unit": [0, 0]}, {"unit": [64, 0]}, {"unit": [64, 64]}]
    data = {"fields": {"one|0": stored}, "networks": {"two": {"levels": [{"stride": 16}]}}, "size": [96, 96]}
    state = {"unit": [40, 10], "panes": [{"network": "one", "level": 0}, {"network": "two", "level": 0}]}
    assert call("field_probe", "lookup", data, {}, state, 0) == stored[1]
    answer = {"fields": [{}, {"of": "two|0", "unit": [48, 16]}]}
    assert call("field_probe", "lookup", data, answer, state, 1) == answer["fields"][1]
    empty = {**data, "fields": {"two|0": []}}  # its ReLUs are all dead
    assert call("field_probe", "lookup", empty, {}, state, 1) is None
    late = {**state, "unit": [80, 80]}  # Python has not answered yet
    assert call("field_probe", "lookup", data, answer, late, 1) is None


def test_strip_of_the_editor(call: Any) -> None:
    decisions = [{"stage": 1}, {"stage": 1}, {"stage": 2}]
    assert call("architecture_editor", "stages", decisions) == [[1, [0, 1]], [2, [2]]]
    presets = {"one": [0, 1, 2], "two": [2, 1, 0]}
    assert call("architecture_editor", "named", presets, [2, 1, 0]) == "two"
    assert call("architecture_editor", "named", presets, [2, 1, 1]) == ""
