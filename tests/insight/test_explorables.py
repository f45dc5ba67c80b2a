"""Explorables without a browser: their numbers, their static twins, and states that do not fit."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scores import score_of
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.widgets import allocation_desk, architecture_editor, composite_kernel, field_probe, touch
from workbench.networks.backbone import Backbone
from workbench.networks.dilation_mixture import DilationMixture
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import DILATION_SETS
from workbench.spaces.published import published_in
from workbench.spaces.residual import residual_spec

TINY = space_named("shuffle-tiny")
IMAGE = Scenes(SceneConfig(image_size=64), 0, "test", 1)[0][0]
PROBED = {
    "structure": field_probe.structural(residual_spec("resnet-tiny")),
    "as it is": field_probe.Probed(spec=residual_spec("resnet-tiny"), module=Backbone(residual_spec("resnet-tiny"))),
}


@pytest.fixture(params=[False, True], ids=["live", "headless"])
def headless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    if request.param:
        monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    return bool(request.param)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)


def view_of(box: Any) -> Any:
    """The explorable inside its frame."""
    return box.children[0]


def paste(box: Any, state: Any) -> str:
    """What the frame says of a pasted state."""
    text, row = box.children[1].children[0].children
    text.value = json.dumps(state)
    row.children[1].click()
    return str(row.children[2].value)


WIDGETS = {
    "architecture_editor": lambda: architecture_editor.widget(TINY, TINY.uniform(1), 128, {"MACs": 2e7}),
    "composite_kernel": lambda: composite_kernel.widget(DILATION_SETS["C"][0]),
    "allocation_desk": lambda: allocation_desk.widget("resnet-tiny", (3, 3, 2), 128),
    "field_probe": lambda: field_probe.widget(IMAGE, PROBED, grid=2, probes=1),
}


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_for_people_a_figure_without(name: str, headless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(touch, "display", shown.append)
    made: Any = WIDGETS[name]()
    if not headless:
        state = dict(view_of(made).state)
        assert paste(made, state) == "" and view_of(made).state == state
        assert view_of(made)._esm == touch.module_text(name) and "error" not in view_of(made).answer
        json.dumps([view_of(made).data, view_of(made).answer], allow_nan=False)  # the browser can read them
        return
    assert made.figure.axes[0] is made
    assert len(shown) == (name != "architecture_editor")
    for page in shown:
        assert "srcdoc=" in page.data and "http" not in page.data.replace("http://www.w3.org/2000/svg", "")


BROKEN: dict[str, list[tuple[dict[str, Any], str]]] = {
    "architecture_editor": [
        ({"space": "shuffle-20", "choices": [0] * 20}, "Space shuffle-tiny got an architecture of space shuffle-20"),
        ({"choices": [0] * 8}, "An architecture is"),
        ({"space": "shuffle-tiny", "choices": [0] * 7 + [4]}, "options 0 to 3"),
    ],
    "composite_kernel": [
        ({"dilations": [[1, 1], [2, 2]]}, "dilations"),
        ({"alpha": [0.0] * 4}, "alpha must contain at least 5"),
        ({"alpha": [0.0] * 4 + [40.0]}, "smaller than or equal to 4"),
        ({"layers": 0}, "layers must be bigger"),
    ],
    "allocation_desk": [
        ({"backbone": "resnet50"}, "backbone"),
        ({"depths": [3, 3, 3]}, "This desk has 8 blocks; the state has 9"),
        ({"depths": [8, 0, 0]}, "bigger than or equal to 1"),
    ],
    "field_probe": [
        ({"image": "no/such.png"}, "no/such.png is missing"),
        ({"panes": []}, "panes must contain at least 2"),
        ({"panes": [{"network": "another", "level": 0}] * 2}, "must be one of"),
        ({"panes": [{"network": "structure", "level": 9}] * 2}, "has the levels 0 to 2; got 9"),
        ({"change": {"kernel": 4, "dilation": 0, "stride": 0, "shortcut": 0.5}}, "kernel must be one of"),
    ],
}


@pytest.mark.parametrize("name", WIDGETS)
def test_a_state_that_does_not_fit_is_told_in_place(name: str, live: None) -> None:
    box: Any = WIDGETS[name]()
    good = dict(view_of(box).state)
    for broken, told in BROKEN[name]:
        given = broken if name == "architecture_editor" else {**good, **broken}
        assert told in paste(box, given)
        assert view_of(box).state == good
        view_of(box).state = given  # a browser that sends it all the same
        assert told in view_of(box).answer["error"]
        view_of(box).state = good
        assert "error" not in view_of(box).answer  # and the widget goes on
    assert paste(box, [1]).startswith("Expected a JSON object") and view_of(box).state == good


def test_the_supernet_is_asked_and_what_it_says_is_handed_on(live: None) -> None:
    told: list[Any] = []

    def score(arch: Any) -> Any:
        if arch == TINY.uniform(0):
            raise ValueError("There is no supernet yet.")
        return score_of(arch, {"AP": 0.25, "AP_error": 0.01, "AP50": 0.5})

    box: Any = architecture_editor.widget(TINY, TINY.uniform(0), 128, score=score, scored=told.append)
    view = view_of(box)
    view._handle_custom_msg({"score": True}, [])
    assert view.answer["error"] == "There is no supernet yet." and view.answer["scores"] == [] and told == []
    view.state = TINY.uniform(2).to_json()
    view._handle_custom_msg({"score": True}, [])
    (text,) = view.answer["scores"]
    assert text.startswith("AP 0.250 ± 0.010; ") and text.endswith("2 2 2 2 2 2 2 2")
    assert [found.arch for found in told] == [TINY.uniform(2)] and "error" not in view.answer


SPACES = (
    "shuffle-40",
    "dilation-resnet50",
    "allocation-resnet50",
    "layers-mobilenetv2-4.4.4.4.4.1",
    "layers-resnet18-2.2.2.2",
)


@pytest.mark.parametrize("name", SPACES)
def test_the_editor_knows_every_space_from_its_decisions(name: str, processor_seconds: None) -> None:
    space = space_named(name)
    arch = space.sample(np.random.default_rng(0))
    cells, look = architecture_editor.cells(space, arch), architecture_editor.looks(space)
    assert [cell.stage for cell in cells] == [decision.stage for decision in space.decisions]
    assert {option for decision in space.decisions for option in decision.options} == set(look)
    facts = {fact["name"]: fact for fact in architecture_editor.facts(space, arch, 224, {"params": 1.0, "MACs": 1e15})}
    begun = time.perf_counter()
    architecture_editor.facts(space, space.mutate(arch, np.random.default_rng(1), 0.5), 224)
    assert time.perf_counter() - begun < 0.1  # a click, in processor seconds
    assert facts["sigma"]["value"] == max(predicted_sigma(space.spec(arch))[-1])
    assert facts["MACs"]["value"] == space.macs(arch, 224) and not facts["MACs"]["over"] and facts["params"]["over"]
    assert all(space.check(start) for start in architecture_editor.starts(space).values())


def test_published_networks_are_found_in_their_spaces() -> None:
    names = {
        "shuffle-40": {"DetNASNet"},
        "dilation-resnet50-1.3.5.7": {"CR-R50"},
        "allocation-resnet50": {"CR-R50", "resnet50 as published"},
        "allocation-resnext101": {"resnext101 as published"},  # the printed code is off the grid
        "layers-mobilenetv2-4.4.4.4.4.1": {"MobileNetV2", "FNA RetinaNet", "FNA SSDLite"},
        "layers-efficientnet-lite0-front-2.2.3.3": {"EfficientNet-Lite0"},
    }
    for name, wanted in names.items():
        assert set(published_in(space_named(name))) == wanted
    fna = space_named("layers-mobilenetv2-4.4.4.4.4.1")
    rebuilt = fna.spec(published_in(fna)["FNA RetinaNet"])
    assert [b.kernel for b in rebuilt.blocks if b.stage == 6] == [7, 7, 7, 7]
    assert [b.expansion for b in rebuilt.blocks if b.stage == 6] == [6, 6, 3, 6]


def test_limits_are_of_what_is_counted() -> None:
    with pytest.raises(ValueError, match="MACs, params, sigma; got macs"):
        architecture_editor.widget(TINY, TINY.uniform(0), 128, {"macs": 1.0})


@pytest.mark.parametrize("late", [0, 1])
def test_the_composite_kernel_is_that_of_the_mixture(late: int) -> None:
    rng = np.random.default_rng(late)
    dilations = DILATION_SETS["C"][late]
    conv = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    mixture = DilationMixture(conv, dilations).double()
    alpha = rng.normal(size=len(dilations))
    with torch.no_grad():
        mixture.alpha.copy_(torch.from_numpy(alpha))
        whole = mixture.composite_kernel(mixture.shares())[0, 0].numpy()
    found = composite_kernel.composite(dilations, conv.weight.detach()[0, 0].numpy(), alpha.tolist(), 1)
    assert found.kernel == pytest.approx(whole) and found.field == pytest.approx(np.abs(whole))


def test_the_field_of_a_stack_is_the_sum_of_its_layers() -> None:
    """(k^2 - 1) / 12 d^2 for each layer, in the shares of the mixture."""
    found = composite_kernel.composite(((1, 1), (2, 2), (1, 3)), np.full((3, 3), 1 / 9), [0.3, -0.4, 1.0], 4)
    squares = np.array([[1, 1], [4, 4], [1, 9]])
    assert found.sigma == pytest.approx(np.sqrt(4 * 2 / 3 * found.shares @ squares))
    assert found.field.shape == (4 * 4 + 1, 6 * 4 + 1) and found.field.sum() == pytest.approx(1)
    decoded = composite_kernel.composite(((1, 1), (2, 2)), np.full((3, 3), 1 / 9), [0.0, 0.1], 1, decoded=True)
    assert decoded.shares.tolist() == [0, 1] and (decoded.kernel > 0).sum() == 9


def test_the_desk_counts_a_block_like_the_specification() -> None:
    data = allocation_desk.desk_data("resnet50", (3, 4, 6, 3), 224)
    found = allocation_desk.desk_numbers("resnet50", (1, 3, 5, 7), 224)
    further = [(depth - 1) * stage["more"]["params"] for depth, stage in zip((1, 3, 5, 7), data["stages"], strict=True)]
    assert data["base"]["params"] + sum(further) == found["params"] == 39_820_352
    assert allocation_desk.allocation_line("resnet-tiny", (1, 2, 5), 128).startswith(
        "8 blocks: 37.7 MMACs, 392k params"
    )
    with pytest.raises(ValueError, match="This desk has 8 blocks; the state has 7"):
        allocation_desk.widget("resnet-tiny", (3, 3, 2), 128, starts={"other": (3, 3, 1)})


def test_a_desk_tells_what_becomes_known(live: None) -> None:
    known = {(3, 3, 2): "AP 0.2"}
    view = view_of(allocation_desk.widget("resnet-tiny", (3, 3, 2), 128, known=lambda: known))
    assert view.answer["known"] == {"3.3.2": "AP 0.2"}
    known[2, 3, 3] = "AP 0.3"
    view.state = {"backbone": "resnet-tiny", "depths": [2, 3, 3]}
    assert view.answer["known"]["2.3.3"] == "AP 0.3"


def test_the_probe_measures_the_unit_under_the_finger(live: None) -> None:
    view = view_of(field_probe.widget(IMAGE, PROBED, probes=1))
    panes = [{"network": "structure", "level": 0}, {"network": "as it is", "level": 2}]
    view.state = {**view.state, "unit": [30, 43], "panes": panes}
    fine, coarse = view.answer["fields"]
    assert fine["of"] == "structure|0" and fine["unit"] == [32, 44] and coarse["unit"] == [32, 48]
    values = field_probe.unquantised(fine["map"]).reshape(fine["shape"])
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert values.max() == 1 and abs(4 * row - 32) <= 4 and abs(4 * column - 44) <= 4
    sigma = predicted_sigma(PROBED["structure"].spec)[0][0]
    assert fine["sigma"][0] == pytest.approx(sigma, rel=0.1) and coarse["cut"] and 0 < fine["inside"] <= 1


def test_an_image_of_the_readers_own(live: None, tmp_path: Path) -> None:
    Image.new("RGB", (300, 150), "navy").save(tmp_path / "wide.png")
    (tmp_path / "none.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none\.png cannot be decoded"):
        field_probe.widget(tmp_path / "none.png", PROBED)
    view = view_of(field_probe.widget(IMAGE, PROBED, probes=1))
    view.state = {**view.state, "image": str(tmp_path / "wide.png"), "unit": [500, 200]}
    assert view.answer["size"] == [128, 256] and view.answer["image"].startswith("data:image/jpeg;base64,")
    assert view.answer["fields"][0]["unit"] == [112, 208]  # the last row of units


def test_changes_of_the_probe_are_changes_of_the_specification() -> None:
    spec = residual_spec("resnet50")
    assert field_probe.changed(spec, 3) == spec
    wide = field_probe.changed(spec, 3, kernel=5, dilation=2, stride=1)
    assert {b.kernel for b in wide.blocks if b.kind == "bottleneck"} == {5}
    assert [b.dilations != () for b in wide.blocks] == [b.stage == 4 for b in wide.blocks]
    assert wide.strides == tuple(stride // 2 for stride in spec.strides)
