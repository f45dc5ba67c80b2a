"""Explorables: a small ES module draws under the finger, with a kernel behind it or alone on a page."""

import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import anywidget
import traitlets
from IPython.display import HTML, display
from ipywidgets import Widget
from matplotlib.axes import Axes

from workbench.insight.widgets.frame import State, framed, said_of_mistakes
from workbench.records.progress import headless
from workbench.records.score import Score
from workbench.spaces.arch import Arch

FOLDER = Path(__file__).parent
Scored = Callable[[Score], object]  # is told of every new score, for example to add it to a trajectory


class Touch(anywidget.AnyWidget):
    """What a module shares with the kernel: `data` that stays, the reader's `state`, and Python's `answer` to it."""

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)


def text_of(*files: str) -> str:
    return "".join((FOLDER / file).read_text(encoding="utf-8") for file in files)


def module_text(name: str) -> str:
    """The ES module `name`.js behind what all of them share: browsers get one file."""
    return text_of("touch.js", f"{name}.js")


def page(name: str, data: State, state: State, label: str) -> str:
    """The explorable as a whole HTML page that needs no kernel and no network."""
    values = json.dumps([data, state], allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    parts = {"label": html.escape(label), "css": text_of("touch.css"), "module": module_text(name), "values": values}
    return Template(text_of("templates/page.html")).substitute(parts)


def framed_page(name: str, data: State, state: State, label: str) -> str:
    """`page` inside an iframe that is as high as its content."""
    source = html.escape(page(name, data, state, label))
    style = "width:100%;height:620px;border:0"
    return f'<div><iframe srcdoc="{source}" title="{html.escape(label)}" style="{style}"></iframe></div>'


def explorable(
    name: str,
    data: State,
    state: State,
    *,
    label: str,
    twin: Callable[[State], Axes],
    checked: Callable[[State], State],
    respond: Callable[[State], Mapping[str, Any]] = lambda state: {},
    ask: Callable[[State], str] | None = None,
    alone: bool = False,
) -> Axes | Widget:
    """The module `name` with its state as JSON below it; headless its static `twin`, and `alone` also a live page.

    `checked` returns a state that fits, or raises ValueError; `respond` is Python's answer to it. `ask` scores it by
    the supernet when its button is pressed. A ValueError of any of them is told in place.
    """
    data, start = {**data, "scorable": ask is not None}, dict(checked(state))
    if headless():
        if alone:
            display(HTML(framed_page(name, data, start, label)))
        return twin(start)
    texts: list[str] = []  # what the supernet answered
    view = Touch(_esm=module_text(name), _css=text_of("touch.css"), data=data, state=start)

    def follow(_change: object = None, mistake: str = "") -> None:
        answer: dict[str, Any] = {}
        mistake = mistake or said_of_mistakes(lambda: answer.update(respond(checked(view.state))))
        view.answer = {**answer, "scores": list(texts), **({"error": mistake} if mistake else {})}

    def score(_view: object, _content: object, _buffers: object) -> None:
        assert ask is not None
        follow(mistake=said_of_mistakes(lambda: texts.append(ask(checked(view.state)))))
        view.send_state("answer")  # also where it is the same as before: the button waits for it

    def write(pasted: State) -> None:
        view.state = dict(checked(pasted))

    view.observe(follow, "state")
    view.on_msg(score)
    follow()
    return framed(view, lambda: view.state, write)


def asked(
    arch_of: Callable[[State], Arch], score: Callable[[Arch], Score] | None, scored: Scored | None
) -> Callable[[State], str] | None:
    """For `explorable`: the supernet's score of a state in words, told to `scored`; None where there is none to ask."""
    if score is None:
        return None

    def ask(state: State) -> str:
        found = score(arch_of(state))
        if scored is not None:
            scored(found)
        return score_text(found)

    return ask


def score_text(score: Score) -> str:
    """Its metrics with their errors, MACs and seconds in one line."""
    if score.error is not None:
        return f"{list(score.arch.choices)} failed: {score.error}"
    plain = {name: value for name, value in score.metrics.items() if f"{name}_error" in score.metrics}
    values = [f"{name} {value:.3f} ± {score.metrics[f'{name}_error']:.3f}" for name, value in plain.items()]
    costs = f"{score.macs / 1e6:.1f} MMACs, scored in {score.seconds:.1f} s"
    return f"{', '.join(values)}; {costs}: {' '.join(map(str, score.arch.choices))}"
