"""The state of a widget goes out and in as JSON; a broken one is said in place and changes nothing."""

from typing import Any

import ipywidgets as widgets
import pytest

from workbench.insight.widgets.frame import framed, parsed_state


def parts(box: widgets.VBox) -> tuple[Any, Any, Any, Any]:
    text, row = box.children[1].children[0].children
    return text, *row.children


def test_state_is_shown_and_taken_back() -> None:
    state = {"choices": [0, 1]}
    text, show, apply, message = parts(framed(widgets.Label(), lambda: state, state.update))
    text.value = '{"choices": [2, 2]}'
    apply.click()
    assert state == {"choices": [2, 2]} and message.value == ""
    text.value = ""
    show.click()
    assert parsed_state(text.value) == state


@pytest.mark.parametrize("broken", ["", "{", "[1]", "null"])
def test_a_broken_state_is_said_in_place(broken: str) -> None:
    taken: list[Any] = []
    text, _, apply, message = parts(framed(widgets.Label(), dict, taken.append))
    text.value = broken
    apply.click()
    assert message.value.startswith("Expected") and taken == []
