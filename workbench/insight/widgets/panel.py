"""Controls above a drawing that follows them; the drawing alone where nobody is watching."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython.display import SVG
from traitlets import TraitError

from workbench.insight.widgets.frame import State, framed, said_of_mistakes
from workbench.records.progress import headless

Values = dict[str, Any]  # of the controls, by their names


def panel(controls: Mapping[str, widgets.ValueWidget], draw: Callable[[Values], Any]) -> Any:
    """A box in which `draw` makes a drawing of the values of `controls`, again at every change.

    That is SVG as text, or something that displays itself. The values are the widget's state. A ValueError of `draw` is
    told above the drawing, which stays what it was. Headless: only the drawing of the first values.
    """

    def read() -> Values:
        return {name: control.value for name, control in controls.items()}

    if headless():
        return SVG(drawn) if isinstance(drawn := draw(read()), str) else drawn
    image, figure, message, held = widgets.HTML(), widgets.Output(), widgets.HTML(), False

    def show() -> None:
        drawn = draw(read())
        if isinstance(drawn, str):
            image.value = drawn
        else:
            data, about = drawn._repr_mimebundle_()
            figure.outputs = ({"output_type": "display_data", "data": data, "metadata": about},)

    def redraw(_change: object = None) -> None:
        if not held:
            message.value = escape(said_of_mistakes(show))

    def put(state: State) -> None:
        nonlocal held
        held = True
        try:
            for name, value in state.items():
                controls[name].value = value
        finally:
            held = False

    def write(state: State) -> None:
        if state.keys() != controls.keys():
            raise ValueError(f"Expected a state of {', '.join(controls)}, got {', '.join(state)}; copy one from here.")
        before = read()
        try:
            put(state)
            # A slider cuts off what is too much, and a menu takes nothing at all.
            if wrong := [name for name, value in read().items() if value is None or value != state[name]]:
                raise ValueError(f"{wrong[0]} cannot be {state[wrong[0]]!r} here; choose a value that its control has.")
            show()
        except (TraitError, ValueError) as error:
            put(before)
            raise ValueError(str(error)) from error

    for name, control in controls.items():
        control.description, control.style.description_width = name, "initial"
        control.observe(redraw, names="value")
    redraw()
    row = widgets.Box([*controls.values()], layout=widgets.Layout(flex_flow="row wrap"))
    return framed(widgets.VBox([row, message, image, figure]), read, write)
