"""Architecture editor: click a block, choose an option; cost and predicted field follow, the supernet can be asked."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ipywidgets import Widget
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from workbench.insight.architecture_plots import DILATION_COLOURS, Cell, plot_strips
from workbench.insight.receptive_field import predicted_sigma
from workbench.insight.style import BLUE, FAINT, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from workbench.insight.widgets.frame import State
from workbench.insight.widgets.touch import Scored, asked, explorable
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize
from workbench.spaces.published import published_in
from workbench.spaces.space import SKIP, SearchSpace

# By the place of an option, as in the strips of the shuffle spaces; more options than colours begin again.
COLOURS = (SKY, GREEN, BLUE, ORANGE, PURPLE, VERMILLION, YELLOW)
QUANTITIES = ("MACs", "params", "sigma")


def widget(
    space: SearchSpace,
    arch: Arch,
    image_size: ImageSize,
    limits: Mapping[str, float] | None = None,
    *,
    score: Callable[[Arch], Score] | None = None,
    scored: Scored | None = None,
) -> Axes | Widget:
    """The editor of `space`, starting with `arch`; headless the strip of `arch` with its numbers.

    `limits` are upper bounds of `MACs`, `params` or `sigma` (pixels). `score` asks a supernet and may raise ValueError;
    `scored` gets each new score.
    """
    if unknown := sorted({*(limits or {})} - {*QUANTITIES}):
        raise ValueError(f"Limits are upper bounds of {', '.join(QUANTITIES)}; got {', '.join(unknown)}.")
    decisions = [{"name": d.name, "stage": d.stage, "options": list(d.options)} for d in space.decisions]
    presets = {name: list(known.choices) for name, known in starts(space).items()}
    data = {"decisions": decisions, "looks": looks(space), "presets": presets}

    def twin(state: State) -> Axes:
        ax = plot_strips({"architecture": cells(space, arch_of(space, state))}, colours(space))
        ax.set_title(facts_line(space, arch_of(space, state), image_size, limits), pad=16)
        return ax

    return explorable(
        "architecture_editor",
        data,
        arch.to_json(),
        label="Architecture editor",
        twin=twin,
        checked=lambda state: arch_of(space, state).to_json(),
        respond=lambda state: {"facts": facts(space, arch_of(space, state), image_size, limits)},
        ask=asked(lambda state: arch_of(space, state), score, scored),
    )


def facts(
    space: SearchSpace, arch: Arch, image_size: ImageSize, limits: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """MACs, params and the predicted sigma of the last map (pixels): value, text, and where one is set the limit."""
    values = (space.macs(arch, image_size), space.params(arch), max(predicted_sigma(space.spec(arch))[-1]))
    found: list[dict[str, Any]] = []
    for name, value in zip(QUANTITIES, values, strict=True):
        fact = {"name": name, "value": value, "text": quantity_text(name, value)}
        if limit := (limits or {}).get(name):
            fact |= {"limit": quantity_text(name, limit), "share": value / limit, "over": value > limit}
        found.append(fact)
    return found


def facts_line(space: SearchSpace, arch: Arch, image_size: ImageSize, limits: Mapping[str, float] | None = None) -> str:
    """The same in one line, for titles and captions."""
    parts = []
    for fact in facts(space, arch, image_size, limits):
        note = f" ({'over' if fact['over'] else 'within'} the limit of {fact['limit']})" if "limit" in fact else ""
        parts.append(f"{fact['name']} {fact['text']}{note}")
    return ", ".join(parts)


def quantity_text(name: str, value: float) -> str:
    if name == "sigma":
        return f"{value:.1f} px"
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k"


def arch_of(space: SearchSpace, state: State) -> Arch:
    """The architecture that a state names; ValueError for that of another space."""
    return space.check(Arch.from_json(state))


def starts(space: SearchSpace) -> dict[str, Arch]:
    """Networks to start from: the published ones that the space holds, then the uniform ones."""
    common = [option for option in space.decisions[0].options if all(option in d.options for d in space.decisions)]
    uniform = {f"all {o}": space.arch([d.options.index(o) for d in space.decisions]) for o in common if o != SKIP}
    return published_in(space) | uniform


def colours(space: SearchSpace) -> dict[str, Any]:
    """A colour for every option by its name; dilations have those that they have in all figures."""
    names = [name for name in dict.fromkeys(o for d in space.decisions for o in d.options) if name != SKIP]
    found = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    rates = {f"dilation {rate}": colour for rate, colour in DILATION_COLOURS.items()}
    skips = any(SKIP in decision.options for decision in space.decisions)
    return found | {name: rates[name] for name in names if name in rates} | ({SKIP: FAINT} if skips else {})


def looks(space: SearchSpace) -> dict[str, dict[str, str]]:
    """Colour, ink and letter of every option, for the browser."""
    return {
        name: {"colour": to_hex(colour), "ink": "#000" if sum(to_rgb(colour)) > 1.6 else "#fff", "text": letter(name)}
        for name, colour in colours(space).items()
    }


def letter(option: str) -> str:
    """What stands on a block: its first number (kernel, dilation, depth), X for Xception, a dash for a skipped one."""
    number = re.search(r"\d+", option)
    return "X" if option.startswith("xception") else number[0] if number else "–"


def cells(space: SearchSpace, arch: Arch) -> list[Cell]:
    """The blocks of an architecture for `plot_strips`."""
    colour = colours(space)
    return [Cell(decision.stage, colour[option], letter(option)) for decision, option in space.describe(arch)]
