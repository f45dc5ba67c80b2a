"""A method as one diagram: what is given, trained, searched, measured, handed on and dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Patch

from workbench.insight.style import BLUE, GREEN, ORANGE, PURPLE, QUIET, new_axes, show
from workbench.records.ledger import Entry
from workbench.records.progress import duration
from workbench.records.run_folder import RunFolder

Role = Literal["given", "trained", "searched", "measured"]
COLOURS: dict[Role, Any] = {"given": PURPLE, "trained": BLUE, "searched": ORANGE, "measured": GREEN}
INK = "0.15"  # inside the boxes, whose fill is light in any theme


@dataclass(frozen=True, kw_only=True)
class Step:
    """One box of a pipeline."""

    name: str
    role: Role
    facts: Sequence[str] = ()  # this run's numbers: steps, networks, seconds
    hands_on: str = ""  # what the next step receives, written on the arrow
    dropped: str = ""  # what nobody uses after this step, written below the box


def plot_pipelines(pipelines: Mapping[str, Sequence[Step]]) -> Axes:
    """One row of boxes for each named method, from left to right, on one new figure; returns its axes."""
    longest = max(map(len, pipelines.values()))
    ax = new_axes(2.1 * longest, 0.5 + 1.9 * len(pipelines))
    for row, (method, steps) in enumerate(pipelines.items()):
        if len(pipelines) > 1:
            ax.text(-0.34, row - 0.42, method, weight="bold", color=QUIET, va="bottom")
        for column, step in enumerate(steps):
            _draw_step(ax, step, column, row, last=column == len(steps) - 1)
    roles = {step.role for steps in pipelines.values() for step in steps}
    drawn = [Patch(**_look(role), label=role) for role in COLOURS if role in roles]
    ax.legend(handles=drawn, ncols=4, loc="upper left", bbox_to_anchor=(0.0, 0.0), fontsize=9, labelcolor=QUIET)
    ax.set(xlim=(-0.5, longest - 0.5), ylim=(len(pipelines) - 0.32, -0.55 if len(pipelines) > 1 else -0.4))
    ax.axis("off")
    return ax


def _draw_step(ax: Axes, step: Step, column: int, row: int, last: bool) -> None:
    box = FancyBboxPatch((column - 0.32, row - 0.36), 0.64, 0.62, boxstyle="round,pad=0.02,rounding_size=0.06")
    box.set(**_look(step.role))
    ax.add_patch(box)
    ax.text(column, row - 0.33, fill(step.name, 17), ha="center", va="top", weight="bold", fontsize=9, color=INK)
    facts = "\n".join(fill(fact, 20) for fact in step.facts)
    ax.text(column, row + 0.09, facts, ha="center", va="center", fontsize=8, color=INK)
    if not last:
        arrow = {"arrowstyle": "-|>", "color": QUIET, "lw": 1.4}
        ax.annotate("", (column + 0.65, row - 0.05), (column + 0.35, row - 0.05), arrowprops=arrow)
        text = fill(step.hands_on, 10, break_long_words=False)
        ax.text(column + 0.5, row - 0.1, text, ha="center", va="bottom", fontsize=7.5, color=QUIET)
    if step.dropped:
        arrow = {"arrowstyle": "-|>", "color": QUIET, "lw": 1.0, "linestyle": ":"}
        ax.annotate("", (column, row + 0.4), (column, row + 0.28), arrowprops=arrow)
        text = fill(f"dropped: {step.dropped}", 26)
        ax.text(column, row + 0.42, text, ha="center", va="top", fontsize=7.5, style="italic", color=QUIET)


def _look(role: Role) -> dict[str, Any]:
    light = [0.35 * part + 0.65 for part in to_rgb(COLOURS[role])]
    return {"edgecolor": COLOURS[role], "facecolor": light}


def show_pipelines(run: RunFolder, pipelines: Mapping[str, Sequence[Step]], name: str = "pipeline") -> None:
    """Draws, keeps and displays the diagram; in words it is its own alt text."""
    show(run, plot_pipelines(pipelines), name, pipeline_text(pipelines))


def seconds_of(entries: Sequence[Entry], *phases: str) -> tuple[str, ...]:
    """How long these phases took together, as one fact of a `Step`; nothing where a run has not done them yet."""
    done = [entry.seconds for entry in entries if entry.phase in phases]
    return (duration(sum(done)).removeprefix("about "),) if done else ()


def pipeline_text(pipelines: Mapping[str, Sequence[Step]]) -> str:
    """The diagram in words, for who cannot see it."""
    rows = {name: "; ".join(_step_text(step) for step in steps) for name, steps in pipelines.items()}
    return " ".join(f"{name}: {text}." for name, text in rows.items())


def _step_text(step: Step) -> str:
    facts = f" ({', '.join(step.facts)})" if step.facts else ""
    passed = f", hands on {step.hands_on}" if step.hands_on else ""
    dropped = f", drops {step.dropped}" if step.dropped else ""
    return f"{step.name}, {step.role}{facts}{passed}{dropped}"
