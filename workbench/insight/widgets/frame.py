"""The rim that all widgets share: state as JSON to copy and to paste back, and mistakes told in place."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

State = Mapping[str, Any]  # JSON data


def framed(body: widgets.Widget, read: Callable[[], State], write: Callable[[State], None]) -> widgets.VBox:
    """`body` above a folded text field with its state: copy it from there, or paste another and press "apply".

    `read` returns the state. `write` takes one; its ValueError is shown under the field, and nothing has changed then.
    """
    text = widgets.Textarea(layout=widgets.Layout(width="100%", height="70px"))
    text.add_class("workbench-state")
    show, apply = (widgets.Button(description=name) for name in ("show state", "apply"))
    message = widgets.Label()

    def say_state(_button: object = None) -> None:
        text.value, message.value = json.dumps(read()), ""

    def take_state(_button: object = None) -> None:
        message.value = said_of_mistakes(lambda: write(parsed_state(text.value)))

    show.on_click(say_state)
    apply.on_click(take_state)
    folded = widgets.Accordion([widgets.VBox([text, widgets.HBox([show, apply, message])])], titles=("State as JSON",))
    say_state()
    return widgets.VBox([body, folded])


def parsed_state(text: str) -> dict[str, Any]:
    """The JSON object in `text`; ValueError in one sentence for anything else."""
    try:
        state = json.loads(text, parse_constant=int)  # NaN and infinity are no numbers here
    except ValueError as error:
        raise ValueError(f"Expected the state of a widget as JSON, but {error}; copy it whole.") from error
    if not isinstance(state, dict):
        raise ValueError(f"Expected a JSON object such as {{...}}, got {type(state).__name__}; copy it whole.")
    return state


def said_of_mistakes(act: Callable[[], object]) -> str:
    """What went wrong in `act`, or nothing: a widget tells a mistake in place and goes on."""
    try:
        act()
    except ValueError as error:
        return str(error)
    return ""
