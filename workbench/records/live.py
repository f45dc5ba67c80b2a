"""What a person in JupyterLab sees of long work: one line that moves, and a curve of the numbers that it names."""

import re
import time
from html import escape
from itertools import cycle

from IPython.core.getipython import get_ipython
from IPython.display import HTML, DisplayHandle, display

from workbench.records.progress import duration

INTERVAL = 0.25  # seconds between two drawings
WIDTH, HEIGHT = 420, 90
POINTS = 300  # of a curve; more would not be seen
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00")  # blue, orange, green, vermillion of Okabe and Ito
NUMBER = re.compile(r"([^\d,;]*?[a-zA-Z][^\d,;]*) (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")  # "loss 0.71", "best AP 0.12"


def in_notebook() -> bool:
    """True in a kernel, where a display can be drawn again."""
    return getattr(get_ipython(), "kernel", None) is not None


class LiveLine:
    """A progress drawn in place; each number that follows a word in its text becomes a curve."""

    def __init__(self, label: str) -> None:
        self.label, self.start, self.drawn = label, time.monotonic(), 0.0
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.handle: DisplayHandle | None = None  # made at the first step: a skipped phase shows nothing

    def __call__(self, done: int, total: int, text: str) -> None:
        for name, number in NUMBER.findall(text):
            self.curves.setdefault(name.strip(), []).append((done, float(number)))
        now = time.monotonic()
        if now - self.drawn < INTERVAL and done < total:
            return
        self.drawn = now
        page = HTML(self.page(done, total, text, now - self.start))
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)

    def page(self, done: int, total: int, text: str, seconds: float) -> str:
        """The line and the curves as HTML, after so many seconds."""
        left = duration(seconds / max(done, 1) * (total - done))
        remark = f"{left} left" if done < total else f"took {duration(seconds)}"
        bar = f'<progress value="{done}" max="{total}" style="width:120px"></progress>'
        line = f"{bar} <b>{escape(self.label)}</b> {done}/{total}, {remark}{escape(', ' + text if text else '')}"
        curves = [(curve(points, total), name, points) for name, points in self.curves.items() if len(points) > 1]
        if not curves:
            return f"<div>{line}</div>"
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" style="max-width:100%;display:block"'
        body, words = "", ""
        for colour, (drawn, name, points) in zip(cycle(COLOURS), curves, strict=False):
            body += f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            words += f'<span style="color:{colour}">■</span> {escape(name)} {points[0][1]:.3g} to {points[-1][1]:.3g} '
        return f'<div>{line}<svg {size} role="img" aria-label="curves">{body}</svg><small>{words}</small></div>'


def curve(points: list[tuple[int, float]], total: int) -> str:
    """Places of an SVG line over `total` steps, from the lowest of its values to the highest."""
    shown = [*points[:: max(1, len(points) // POINTS)], points[-1]]
    low, high = (edge(value for _, value in shown) for edge in (min, max))
    heights = [4 + (HEIGHT - 8) * (high - value) / (high - low or 1) for _, value in shown]
    return " ".join(f"{WIDTH * step / total:.1f},{y:.1f}" for (step, _), y in zip(shown, heights, strict=True))
