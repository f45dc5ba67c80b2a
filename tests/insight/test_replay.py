"""The replay: who is joined to whom, what a frame shows, and records that cannot be read."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.scores import score_of
from workbench.insight.widgets.replay import Replay, links, replay, replays, strip_lines
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-tiny")


def score(choices: tuple[int, ...], value: float, step: int, **changes: Any) -> Score:
    metrics = {"AP": value, "AP_error": 0.01}
    return score_of(
        Arch(SPACE.name, choices), metrics, **{"step": step, "phase": "evolution", "macs": step + 1, **changes}
    )


A, B, C, D = (0,) * 8, (3,) * 8, (0,) * 7 + (1,), (3,) * 4 + (0,) * 4


def evolution(**recorded: Any) -> list[Score]:
    return [score(A, 0.1, 0), score(B, 0.2, 0), score(C, 0.4, 1, **recorded), score(D, 0.3, 1)]


def test_links_are_recorded_or_said_to_be_guessed() -> None:
    assert links(evolution(parents=(A, B))) == ("recorded", [[], [], [0, 1], []])
    assert links(evolution()) == ("nearest", [[], [], [0], [0]])
    assert links([score(A[: step + 1], 0.1, step) for step in range(3)]) == ("prefix", [[], [0], [1]])
    assert links([score(A, 0.1, 2), score(A, 0.1, 3)]) == ("epoch", [[], [0]])
    assert links([score(A, 0.1, 0, phase="random"), score(B, 0.1, 0, phase="random")])[0] == ""
    guessed, told = (
        str(replay({"evolution": scores}, "AP").figure.to_json()) for scores in (evolution(), evolution(parents=(A,)))
    )
    assert "parents are not recorded" in guessed and "parents are not recorded" not in told


def test_frames_show_what_was_known_then() -> None:
    died = score_of(Arch(SPACE.name, A), {}, error="boom", step=1)
    made = replay({"evolution": [*evolution(parents=(A, B)), died], "random": evolution()[:2]}, "AP")
    first, last = made.figure.frames
    assert [len(trace.x or ()) for trace in first.data] == [2, 0, 2, 1]
    assert [len(trace.x or ()) for trace in last.data] == [4, 6, 2, 1]  # two lines: from, to, gap
    assert last.data[1].y == (0.1, 0.4, None, 0.2, 0.4, None)
    assert (first.data[3].y, last.data[3].y) == ((0.2,), (0.4,))
    assert made.figure.data[4].name == "random" and len(made.figure.layout.sliders[0].steps) == 2
    assert "generation 2 of 2" in made.figure.layout.title.text
    with pytest.raises(ValueError, match="metric mIoU, but evolution has none"):
        replay({"evolution": evolution()}, "mIoU")


def test_headless_it_carries_an_image_for_static_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replay({"evolution": evolution()}, "AP")
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    data, _ = made._repr_mimebundle_()
    assert {*data} == {"application/vnd.plotly.v1+json", "text/plain"}
    assert len(json.dumps(data)) < 20_000
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    data, about = made._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG") and "0.400" in about["image/png"]["alt"]


def test_architectures_are_told_stage_by_stage() -> None:
    assert strip_lines(SPACE.arch((0, 1, 2, 3, 0, 1, 2, 3)))[0] == "stage 1: 3x3 5x5"
    assert strip_lines(Arch(SPACE.name, (3,))) == ["stage 1: Xception"]
    groups = space_named("channel-dilation-resnet50-n4-C")
    assert strip_lines(groups.uniform(1))[0] == "stage 2: 16 of 2x2"


def test_a_record_that_cannot_be_read_is_told_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    whole, torn = (RunFolder.open(tmp_path / name, "n", {}, seed=0, data_digest="d") for name in ("whole", "torn"))
    for row in evolution():
        whole.append(row)
    (torn.path / "evaluations.jsonl").write_text('{"arch": 3}\n')
    folders = {"torn": torn.path, "none": tmp_path / "none", "whole": whole.path}
    row, message, _, figure = replays(folders).children[0].children
    menu = row.children[0]
    assert "line 1 is broken" in message.value and figure.outputs == ()
    menu.value = "none: cannot be read"
    assert "Expected a run folder" in message.value
    menu.value = "whole: evolution"
    assert message.value == "" and "application/vnd.plotly.v1+json" in figure.outputs[0]["data"]
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    assert isinstance(replays({"whole": whole.path}), Replay)
    with pytest.raises(ValueError, match="Expected runs with scores"):
        replays({})
