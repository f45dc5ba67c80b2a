"""Controls and a drawing: the drawing follows, a mistake is told in place, a pasted state is taken whole or not."""

from typing import Any

import pytest
from ipywidgets import Dropdown, IntSlider

from workbench.insight.widgets.panel import panel


def draw(state: dict[str, Any]) -> str:
    if state["number"] == 13:
        raise ValueError("Expected another number than <13>; choose one.")
    return f'<svg xmlns="http://www.w3.org/2000/svg">{state["word"]} {state["number"]}</svg>'


def controls() -> dict[str, Any]:
    return {"number": IntSlider(value=3, max=20), "word": Dropdown(options=("a", "b"))}


def test_the_drawing_follows_and_survives_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    row, message, image, _ = panel(controls(), draw).children[0].children
    number, word = row.children
    number.value, word.value = 5, "b"
    assert "b 5" in image.value and message.value == ""
    number.value = 13
    assert "&lt;13&gt;" in message.value and "b 5" in image.value
    number.value = 14
    assert message.value == "" and "b 14" in image.value


def test_a_pasted_state_is_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    box = panel(controls(), draw)
    number, word = box.children[0].children[0].children
    text, buttons = box.children[1].children[0].children
    _, apply, said = buttons.children
    text.value = '{"number": 7, "word": "b"}'
    apply.click()
    assert (number.value, word.value, said.value) == (7, "b", "") and "b 7" in box.children[0].children[2].value
    for broken, expected in {
        '{"number": 1, "word": "c"}': "c",
        '{"number": 99, "word": "a"}': "number cannot be 99",
        '{"number": "many", "word": "a"}': "many",
        '{"number": 1, "word": null}': "word cannot be None",
        '{"number": 13, "word": "a"}': "another number",
        '{"choices": [0, 1]}': "Expected a state of number, word, got choices",
    }.items():
        text.value = broken
        apply.click()
        assert expected in said.value and (number.value, word.value) == (7, "b"), broken


def test_headless_is_the_first_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    assert "a 3" in panel(controls(), draw).data
