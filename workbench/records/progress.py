"""How long work takes: a bar for a person who watches, one line for each phase in a log."""

import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from workbench.records.files import compiled, read_json, write_json

HEADLESS_INTERVAL = 10.0  # seconds between two states of a line in a log
SECONDS = compiled({"type": "number", "minimum": 0}, "seconds")
WIDTH = 79  # to which these are filled up, so that each covers the one before it


class Progress(Protocol):
    """Called by long work after each step: `done` of `total` steps, and a few words about the current state."""

    def __call__(self, done: int, total: int, text: str) -> None: ...


def silent(done: int, total: int, text: str) -> None:
    """A progress that shows nothing."""


def shell() -> Any:
    """IPython's shell where this process runs cells, else None."""
    ipython = sys.modules.get("IPython")  # where it runs cells it is there; else it would cost a second
    return ipython.get_ipython() if ipython else None


def headless() -> bool:
    """True when nobody is watching.

    Either the variable WORKBENCH_HEADLESS is set, or who runs this cell would answer no question: papermill, nbconvert
    and others that have no person say so with every cell, front ends for people say that they take input.
    """
    if os.environ.get("WORKBENCH_HEADLESS"):
        return True
    request: dict[str, Any] = getattr(shell(), "get_parent", dict)() or {}  # only a kernel's shell has one
    return request.get("content", {}).get("allow_stdin") is False


def announce(text: str) -> None:
    """Prints what is about to be done and how long it will take; in a log the line of its `reporter` replaces it."""
    if headless():
        _print_over(text, "\r")
    else:
        print(text)


def reporter(label: str) -> Progress:
    """A progress that shows a live curve in a notebook and a bar in a terminal.

    In headless mode it prints one line, which is written over every ten seconds.
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
        line = f"{label}: {done}/{total}, {remark}{', ' + text if text else ''}"
        _print_over(line, "\r" if done < total else "\n")

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


class PhaseClock:
    """A progress that also counts the seconds of a phase, those before a kill too."""

    NAME = "seconds.json"

    def __init__(self, folder: Path, shown: Progress) -> None:
        self.path = folder / self.NAME
        self.before = float(read_json(self.path, SECONDS, missing=0.0))
        self.start = time.perf_counter()
        self.shown = shown

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.start

    def __call__(self, done: int, total: int, text: str) -> None:
        self.shown(done, total, text)
        if done % 100 == 0:
            write_json(self.path, self.seconds)


def _print_over(line: str, end: str) -> None:
    """After a carriage return the next line takes this one's place: on terminals, in JupyterLab, in pages of a site."""
    print(line.ljust(WIDTH), end=end, flush=True)


def duration(seconds: float) -> str:
    """A time in plain words, rounded as one would say it: "about 2 min 10 s"."""
    if seconds < 1:
        return "less than a second"
    step = 1 if seconds < 59.5 else 5 if seconds < 600 else 60
    minutes, rest = divmod(round(seconds / step) * step, 60)
    parts = zip((*divmod(minutes, 60), rest), ("h", "min", "s"), strict=True)
    return "about " + " ".join(f"{number} {unit}" for number, unit in parts if number)
