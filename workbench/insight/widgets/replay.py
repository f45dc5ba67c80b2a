"""A recorded search, played step by step: generations, decisions of a beam, or epochs of alpha."""

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from ipywidgets import Dropdown
from matplotlib.colors import to_hex

from workbench.insight.style import BLUE, ORANGE, QUIET, SKY, VERMILLION, new_axes
from workbench.insight.widgets.panel import panel
from workbench.records.progress import headless
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named

# How candidates are joined: what a step is called then, and what the lines are.
JOINED = {
    "recorded": ("generation", "its parents, as recorded"),
    "nearest": ("generation", "the earlier candidate that differs least (parents are not recorded)"),
    "prefix": ("decision", "the prefix that it extends"),
    "epoch": ("epoch", "the epoch before"),
    "": ("step", ""),
}


class Replay:
    """A plotly figure that plays without a kernel. Headless it carries its last frame as an image, for static pages.

    JupyterLab would show that image instead of the figure.
    """

    def __init__(self, figure: go.Figure) -> None:
        self.figure = figure

    def __repr__(self) -> str:
        return str(self.figure.layout.title.text)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"application/vnd.plotly.v1+json": json.loads(self.figure.to_json()), "text/plain": repr(self)}
        if headless():
            data["image/png"] = base64.b64encode(still(self.figure)).decode()
        return data, {"image/png": {"alt": repr(self)}}


def replay(searches: Mapping[str, Sequence[Score]], metric: str, over: str = "") -> Replay:
    """The first of `searches` step by step; the others are its controls, always shown. Hovering tells an architecture.

    `over` is the horizontal axis: "step", "MACs" or "params"; empty: MACs where whole networks differ in them, else
    step. ValueError when no row of the first search has the metric.
    """
    rows = {name: [s for s in scores if not s.error and metric in s.metrics] for name, scores in searches.items()}
    (name, scores), *others = rows.items()
    if not scores:
        raise ValueError(f"Expected scores with the metric {metric}, but {name} has none; replay another search.")
    how, parents = links(scores)
    over = over or ("MACs" if how != "prefix" and len({score.macs for score in scores}) > 1 else "step")
    (called, lines), table = JOINED[how], points(scores, metric, over)

    def traces(step: int) -> list[go.Scatter]:
        seen, now = table[table["step"] <= step], table[table["step"] == step]
        joined = seen if how == "epoch" else now  # one path, or the lines of one step
        ends = [(parent, child) for child in joined.index for parent in parents[child]]
        x, y = ([v for a, b in ends for v in (table[axis][a], table[axis][b], None)] for axis in ("x", "y"))
        look = {"line": {"color": QUIET, "width": 1}, "hoverinfo": "skip", "showlegend": bool(lines)}
        return [
            dots(name, seen, SKY, 7),
            go.Scatter(x=x, y=y, mode="lines", name=lines, **look),
            dots(f"this {called}", now, BLUE, 10),
            dots("best", table.loc[[seen["y"].idxmax()]], VERMILLION, 15, symbol="star"),
        ]

    steps = sorted({score.step for score in scores})
    frames = [go.Frame(data=traces(step), name=str(step + 1), traces=[0, 1, 2, 3]) for step in steps]
    controls = [dots(label, points(other, metric, over), ORANGE, 6, opacity=0.6) for label, other in others]
    figure = go.Figure([*frames[-1].data, *controls], frames=frames)
    best = scores[int(table["y"].idxmax())]
    figure.layout.title = f"{name}: best {metric} {table['y'].max():.3f} in {called} {best.step + 1} of {steps[-1] + 1}"
    labels = {"MACs": "MACs of the backbone (millions)", "params": "params (thousands)", "step": called}
    return Replay(dressed(figure, called, {"x": labels[over], "y": f"{metric} on the search split (0-1)"}))


def links(scores: Sequence[Score]) -> tuple[str, list[list[int]]]:
    """How candidates came from earlier ones (a key of `JOINED`), and for each of them the places of those."""
    place = {score.arch.choices: number for number, score in enumerate(scores)}
    if len({len(choices) for choices in place}) > 1:
        return "prefix", [[place[c] for c in [score.arch.choices[:-1]] if c in place] for score in scores]
    if any(score.parents for score in scores):
        return "recorded", [[place[parent] for parent in score.parents if parent in place] for score in scores]
    if len({score.step for score in scores}) == len(scores):
        return "epoch", [[number - 1] if number else [] for number in range(len(scores))]
    if "evolution" in scores[0].phase:
        return "nearest", [nearest(scores, score) for score in scores]
    return "", [[] for _ in scores]


def nearest(scores: Sequence[Score], child: Score) -> list[int]:
    """The first of the earlier candidates that differ from `child` in the fewest decisions; none in the first step."""
    earlier = [number for number, score in enumerate(scores) if score.step < child.step]
    choices = np.array([scores[number].arch.choices for number in earlier])
    return [earlier[int((choices != child.arch.choices).sum(axis=1).argmin())]] if earlier else []


def points(scores: Sequence[Score], metric: str, over: str) -> pd.DataFrame:
    """Step, place and hover text of each score; steps count from 1 on, their candidates stand side by side."""
    table = pd.DataFrame({"step": [s.step for s in scores], "y": [s.metrics[metric] for s in scores]})
    steps = table.groupby("step")["y"]
    side = (steps.cumcount() + 0.5) / steps.transform("count") - 0.5
    costs = {"MACs": [score.macs / 1e6 for score in scores], "params": [score.params / 1e3 for score in scores]}
    return table.assign(x=costs.get(over, table["step"] + 1 + 0.7 * side), text=[told(s, metric) for s in scores])


def told(score: Score, metric: str) -> str:
    """A candidate in a few lines: what it is worth, what it costs, and its options stage by stage."""
    error = f" ± {score.metrics[f'{metric}_error']:.3f}" if f"{metric}_error" in score.metrics else ""
    head = [f"{score.phase}: {metric} {score.metrics[metric]:.3f}{error}"]
    head += [f"{score.macs / 1e6:.2f} MMACs, {score.params / 1e3:.0f}k params"]
    return "<br>".join([*head, *strip_lines(score.arch)])


def strip_lines(arch: Arch) -> list[str]:
    """The options of an architecture (or of a prefix) by stage; where groups of channels decide they are counted."""
    lines = []
    pairs = zip(space_named(arch.space).decisions, arch.choices, strict=False)
    for stage, run in groupby(pairs, key=lambda pair: pair[0].stage):
        governed = [(decision, decision.options[choice]) for decision, choice in run]
        words = ["Xception" if option.startswith("xception") else option.split()[-1] for _, option in governed]
        if governed[0][0].of_channels:
            words = [f"{count} of {word}," for word, count in Counter(words).most_common()]
        lines.append(f"stage {stage}: {' '.join(words).rstrip(',')}")
    return lines


def dots(name: str, table: pd.DataFrame, colour: Any, size: int, **marker: Any) -> go.Scatter:
    values = {axis: table[axis].tolist() for axis in ("x", "y", "text")}
    look = {"color": to_hex(colour), "size": size, **marker}
    return go.Scatter(**values, mode="markers", marker=look, hovertemplate="%{text}<extra></extra>", name=name)


def dressed(figure: go.Figure, called: str, titles: Mapping[str, str]) -> go.Figure:
    """With axes that stand still, a slider over the frames and a button that plays them, on any background."""
    for axis, title in titles.items():
        values = [float(value) for trace in figure.data for value in trace[axis] if value is not None]
        margin = 0.06 * (max(values) - min(values)) or 0.5
        look = {"range": [min(values) - margin, max(values) + margin], "gridcolor": "rgba(128,128,128,0.25)"}
        figure.layout[f"{axis}axis"] = {**look, "title": title, "zeroline": False}
    moving: dict[str, Any] = {"frame": {"duration": 700, "redraw": False}, "transition": {"duration": 0}}
    still = {**moving, "frame": {"duration": 0, "redraw": False}, "mode": "immediate"}
    steps = [{"label": frame.name, "method": "animate", "args": [[frame.name], still]} for frame in figure.frames]
    slider = {"steps": steps, "active": len(steps) - 1, "currentvalue": {"prefix": f"{called} "}}
    pairs = (("play", [None, moving]), ("pause", [[None], still]))
    buttons = [{"label": label, "method": "animate", "args": args} for label, args in pairs]
    return figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font_color=QUIET,
        height=560,
        margin={"t": 50, "r": 20, "b": 220},
        legend={"orientation": "h", "y": -0.55, "yanchor": "top"},
        hoverlabel={"align": "left"},
        sliders=[{**slider, "x": 0.12, "len": 0.88, "y": -0.22}],
        updatemenus=[{"type": "buttons", "showactive": False, "buttons": buttons, "x": 0.06, "y": -0.25}],
    )


def still(figure: go.Figure) -> bytes:
    """What a plotly figure of dots and lines shows, as PNG."""
    ax = new_axes(7.5, 4.0)
    for trace in figure.data:
        x, y = (np.array(values, dtype=float) for values in (trace.x, trace.y))  # None becomes a gap
        if trace.mode == "lines":
            ax.plot(x, y, color=QUIET, linewidth=1, label=trace.name, zorder=1)
        else:
            size, shape = 4 * trace.marker.size, "*" if trace.marker.symbol else "o"
            ax.scatter(x, y, s=size, color=trace.marker.color, label=trace.name, marker=shape)
    ax.set(xlabel=figure.layout.xaxis.title.text, ylabel=figure.layout.yaxis.title.text)
    ax.set_title(figure.layout.title.text)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    buffer = io.BytesIO()
    plt.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close()
    return buffer.getvalue()


def replays(folders: Mapping[str, Path]) -> Any:
    """A menu of the searches that runs have recorded, and the replay of the chosen one.

    What cannot be read is told in place. ValueError without any folder.
    """
    searches: dict[str, tuple[Path, str]] = {}
    for name, folder in folders.items():
        try:
            phases = [*dict.fromkeys(score.phase for score in RunFolder(folder).scores())]
        except ValueError:
            phases = ["cannot be read"]  # when it is chosen, it says why
        searches |= {f"{name}: {phase}": (folder, phase) for phase in phases}
    if not searches:
        raise ValueError("Expected runs with scores, got none; run a notebook that searches, 41 for example.")

    def draw(state: Mapping[str, Any]) -> Replay:
        folder, phase = searches[state["search"]]
        scores = RunFolder(folder).scores(phase)
        metrics = [name for score in scores for name in score.metrics if f"{name}_error" in score.metrics]
        return replay({phase: scores}, metrics[0] if metrics else "AP")

    return panel({"search": Dropdown(options=[*searches], layout={"width": "420px"})}, draw)
