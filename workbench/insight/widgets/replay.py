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
import plotly.graph_objects as go
from ipywidgets import Dropdown, VBox
from matplotlib.colors import to_hex

from workbench.insight.pipeline import QUIET
from workbench.insight.style import BLUE, ORANGE, SKY, VERMILLION, new_axes
from workbench.insight.widgets.panel import panel
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named

# How candidates are joined: what a step is called then, and what the lines are.
JOINED = {
    "recorded": ("generation", "parents, as recorded"),
    "nearest": ("generation", "the earlier candidate that differs least (no parents are recorded)"),
    "prefix": ("decision", "the prefix that a candidate extends"),
    "epoch": ("epoch", "the network of the epoch before"),
    "": ("step", ""),
}
CLEAR = "rgba(0,0,0,0)"


class Replay:
    """A plotly figure that plays without a kernel; its last frame is an image where nothing can show the figure."""

    def __init__(self, figure: go.Figure) -> None:
        self.figure = figure

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        plotly = json.loads(self.figure.to_json())
        image = base64.b64encode(_still(self.figure)).decode()
        alt = {"image/png": {"alt": self.figure.layout.title.text}}
        return {"application/vnd.plotly.v1+json": plotly, "image/png": image}, alt


def replay(searches: Mapping[str, Sequence[Score]], metric: str, over: str = "") -> Replay:
    """The first of `searches` step by step; the others are its controls, always shown.

    `over` is the horizontal axis: "step", "MACs" or "params"; empty: MACs where whole networks differ in them, else
    step. Hovering tells a candidate's architecture. ValueError when no row of the first search has the metric.
    """
    rows = {name: [s for s in scores if not s.error and metric in s.metrics] for name, scores in searches.items()}
    name, scores = next(iter(rows.items()))
    if not scores:
        raise ValueError(f"Expected scores with the metric {metric}, but {name} has none; replay another search.")
    how, parents = links(scores)
    (step_name, lines), steps = JOINED[how], sorted({score.step for score in scores})
    over = over or ("MACs" if how != "prefix" and len({score.macs for score in scores}) > 1 else "step")
    x, y = positions(scores, over), [score.metrics[metric] for score in scores]

    def traces(step: int) -> list[go.Scatter]:
        now = [n for n, score in enumerate(scores) if score.step == step]
        seen = [n for n, score in enumerate(scores) if score.step <= step]
        best = max(seen, key=y.__getitem__)
        joined = seen if how == "epoch" else now  # one path, or the lines of one step
        ends = [(parent, child) for child in joined for parent in parents[child]]
        joins = [[value for pair in ends for value in (axis[pair[0]], axis[pair[1]], None)] for axis in (x, y)]
        look = {"mode": "lines", "line": {"color": QUIET, "width": 1}, "hoverinfo": "skip", "name": lines}
        return [
            _dots(name, scores, over, metric, seen, {"color": to_hex(SKY), "size": 7}),
            go.Scatter(x=joins[0], y=joins[1], showlegend=bool(lines), **look),
            _dots(f"this {step_name}", scores, over, metric, now, {"color": to_hex(BLUE), "size": 10}),
            _dots("best", scores, over, metric, [best], {"color": to_hex(VERMILLION), "size": 15, "symbol": "star"}),
        ]

    frames = [go.Frame(data=traces(step), name=str(step + 1), traces=[0, 1, 2, 3]) for step in steps]
    faint = {"color": to_hex(ORANGE), "size": 6, "opacity": 0.6}
    controls = [_dots(label, other, over, metric, range(len(other)), faint) for label, other in [*rows.items()][1:]]
    best = max(scores, key=lambda score: score.metrics[metric])
    title = f"{name}: best {metric} {max(y):.3f} in {step_name} {best.step + 1} of {steps[-1] + 1}"
    axis = {"MACs": "MACs of the backbone (millions)", "params": "params (thousands)"}.get(over, step_name)
    figure = go.Figure([*frames[-1].data, *controls], frames=frames)
    figure.update_layout(title=title, xaxis_title=axis, yaxis_title=f"{metric} on the search split (0-1)")
    for axis_name in ("x", "y"):  # fixed, so that nothing jumps while the search plays
        values = [float(value) for trace in figure.data for value in trace[axis_name] if value is not None]
        margin = 0.06 * (max(values) - min(values)) or 0.5
        figure.layout[f"{axis_name}axis"].range = [min(values) - margin, max(values) + margin]
    return Replay(_with_slider(figure, step_name))


def _dots(
    name: str, scores: Sequence[Score], over: str, metric: str, which: Sequence[int], marker: Mapping[str, Any]
) -> go.Scatter:
    x = positions(scores, over)
    return go.Scatter(
        x=[x[number] for number in which],
        y=[scores[number].metrics[metric] for number in which],
        text=[told(scores[number], metric) for number in which],
        hovertemplate="%{text}<extra></extra>",
        mode="markers",
        marker=marker,
        name=name,
    )


def _with_slider(figure: go.Figure, step_name: str) -> go.Figure:
    """Theme-aware, with a slider over the frames and a button that plays them."""
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [{"label": frame.name, "method": "animate", "args": [[frame.name], still]} for frame in figure.frames]
    moving = {"frame": {"duration": 700, "redraw": False}, "transition": {"duration": 0}}
    play = {"label": "play", "method": "animate", "args": [None, moving]}
    pause = {"label": "pause", "method": "animate", "args": [[None], still]}
    place = {"x": 0.12, "len": 0.88, "y": -0.2}
    now = {"prefix": f"{step_name} "}
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False}
    return figure.update_layout(
        template="none",
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font_color=QUIET,
        height=520,
        margin={"t": 90, "r": 20, "b": 150},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
        xaxis=grid,
        yaxis=grid,
        sliders=[{**place, "steps": steps, "active": len(steps) - 1, "currentvalue": now}],
        updatemenus=[
            {"type": "buttons", "showactive": False, "buttons": [play, pause], "x": 0.06, "y": -0.22, "yanchor": "top"}
        ],
    )


def _still(figure: go.Figure) -> bytes:
    """What a plotly figure of dots and lines shows, as PNG."""
    ax = new_axes(7.5, 4.0)
    for trace in figure.data:
        x, y = (np.array(values, dtype=float) for values in (trace.x, trace.y))  # None becomes a gap
        if trace.mode == "lines":
            ax.plot(x, y, color=QUIET, linewidth=1, label=trace.name, zorder=1)
        else:
            star = {"marker": "*"} if trace.marker.symbol == "star" else {}
            ax.scatter(x, y, s=4 * trace.marker.size, color=trace.marker.color, label=trace.name, **star)
    ax.set(xlabel=figure.layout.xaxis.title.text, ylabel=figure.layout.yaxis.title.text)
    ax.set_title(figure.layout.title.text)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=9)
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(ax.figure)  # type: ignore[arg-type]
    return buffer.getvalue()


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
        return "nearest", [_nearest(scores, score) for score in scores]
    return "", [[] for _ in scores]


def _nearest(scores: Sequence[Score], child: Score) -> list[int]:
    """The first of the earlier candidates that differ from `child` in the fewest decisions; none in the first step."""
    earlier = [number for number, score in enumerate(scores) if score.step < child.step]
    choices = np.array([scores[number].arch.choices for number in earlier])
    return [earlier[int((choices != child.arch.choices).sum(axis=1).argmin())]] if earlier else []


def positions(scores: Sequence[Score], over: str) -> list[float]:
    """Where scores stand: millions of MACs, thousands of params, or steps from 1 on, side by side in their order."""
    if over in ("MACs", "params"):
        return [score.macs / 1e6 if over == "MACs" else score.params / 1e3 for score in scores]
    total, so_far, places = Counter(score.step for score in scores), Counter[int](), []
    for score in scores:
        places.append(score.step + 1 + 0.7 * ((so_far[score.step] + 0.5) / total[score.step] - 0.5))
        so_far[score.step] += 1
    return places


def told(score: Score, metric: str) -> str:
    """A candidate in a few lines: what it is worth, what it costs, and its options stage by stage."""
    error = score.metrics.get(f"{metric}_error")
    value = f"{metric} {score.metrics[metric]:.3f}" + (f" ± {error:.3f}" if error is not None else "")
    lines = [f"{score.phase}: {value}", f"{score.macs / 1e6:.2f} MMACs, {score.params / 1e3:.0f}k params"]
    return "<br>".join([*lines, *strip_lines(score.arch)])


def strip_lines(arch: Arch) -> list[str]:
    """The options of an architecture (or of a prefix) by stage, where a group of channels decides counted."""
    lines = []
    pairs = zip(space_named(arch.space).decisions, arch.choices, strict=False)
    for stage, run in groupby(pairs, key=lambda pair: pair[0].stage):
        governed = [(decision, decision.options[choice]) for decision, choice in run]
        words = ["Xception" if o.startswith("xception") else o.split()[-1] for _, o in governed]
        if any(decision.of_channels for decision, _ in governed):
            words = [f"{count} of {word}" for word, count in Counter(words).most_common()]
        lines.append(f"stage {stage}: {' '.join(words) if len(words) < 9 else ', '.join(words)}")
    return lines


def replays(folders: Mapping[str, Path], over: str = "") -> VBox | Replay:
    """A menu of the searches that runs have recorded, and the replay of the chosen one.

    A record that cannot be read is told in place.
    """
    searches: dict[str, tuple[Path, str]] = {}
    for name, folder in folders.items():
        try:
            phases = dict.fromkeys(score.phase for score in RunFolder(folder).scores())
        except ValueError:
            phases = {"cannot be read": None}  # said when it is chosen
        searches |= {f"{name}: {phase}": (folder, phase) for phase in phases}
    if not searches:
        raise ValueError("Expected runs with scores, got none; run a notebook that searches first.")

    def draw(state: dict[str, Any]) -> Replay:
        folder, phase = searches[state["search"]]
        scores = RunFolder(folder).scores(phase)
        metrics = [name for score in scores for name in score.metrics if f"{name}_error" in score.metrics]
        return replay({phase: scores}, metrics[0] if metrics else "AP", over)

    return panel({"search": Dropdown(options=[*searches], layout={"width": "420px"})}, draw)
