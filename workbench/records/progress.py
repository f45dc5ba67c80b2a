"""How long work takes: a bar for a person who watches, plain lines in a log."""

import os
import time
from typing import Protocol

from tqdm.auto import tqdm

HEADLESS_INTERVAL = 10.0  # seconds between two lines in a log


class Progress(Protocol):
    """Called by long work after each step: `done` of `total` steps, and a few words about the current state."""

    def __call__(self, done: int, total: int, text: str) -> None: ...


def silent(done: int, total: int, text: str) -> None:
    """A progress that shows nothing."""


def headless() -> bool:
    """True when nobody is watching (the variable WORKBENCH_HEADLESS is set)."""
    return bool(os.environ.get("WORKBENCH_HEADLESS"))


def reporter(label: str) -> Progress:
    """A progress that shows a live curve in a notebook and a bar in a terminal.

    In headless mode it prints at most a line every ten seconds, and the last one.
    """
    start = printed = time.monotonic()
    before: int | None = None  # steps that were done when this began: of a continued phase
    bar: tqdm | None = None  # made at the first step, so that a skipped phase shows no empty bar

    def print_line(done: int, total: int, text: str) -> None:
        nonlocal printed, before
        before = done - 1 if before is None else before
        now = time.monotonic()
        if done < total and now - printed < HEADLESS_INTERVAL:
            return
        printed = now
        left = (now - start) / max(done - before, 1) * (total - done)
        remark = f"{duration(left)} left" if done < total else f"took {duration(now - start)}"
        print(f"{label}: {done}/{total}, {remark}{', ' + text if text else ''}", flush=True)

    def move_bar(done: int, total: int, text: str) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=label, initial=max(0, done - 1))
        bar.total = total
        bar.set_postfix_str(text, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    if headless():
        return print_line
    from workbench.records.live import LiveLine, in_notebook  # needs IPython, which a log does not

    return LiveLine(label) if in_notebook() else move_bar


def duration(seconds: float) -> str:
    """A time in plain words, rounded as one would say it: "about 2 min 10 s"."""
    if seconds < 1:
        return "less than a second"
    step = 1 if seconds < 59.5 else 5 if seconds < 600 else 60
    minutes, rest = divmod(round(seconds / step) * step, 60)
    parts = zip((*divmod(minutes, 60), rest), ("h", "min", "s"), strict=True)
    return "about " + " ".join(f"{number} {unit}" for number, unit in parts if number)
