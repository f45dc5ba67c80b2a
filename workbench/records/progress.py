"""How long work takes: a bar for a person who watches, plain lines in a log."""

import os
import time
from collections.abc import Callable
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


def reporter(label: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A progress that shows a bar, or in headless mode prints at most a line every ten seconds, and the last one."""
    return _lines(label, clock) if headless() else _bar(label)


def duration(seconds: float) -> str:
    """A time in plain words, rounded as one would say it: "about 2 min 10 s"."""
    if seconds < 1:
        return "less than a second"
    if seconds < 59.5:
        return f"about {round(seconds)} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds / 5) * 5, 60)
        return f"about {minutes} min {rest} s" if rest else f"about {minutes} min"
    if seconds < 3570:
        return f"about {round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes} min" if minutes else f"about {hours} h"


def _lines(label: str, clock: Callable[[], float]) -> Progress:
    start = printed = clock()

    def progress(done: int, total: int, text: str) -> None:
        nonlocal printed
        now = clock()
        if done < total and now - printed < HEADLESS_INTERVAL:
            return
        printed = now
        if done >= total:
            remark = f"took {duration(now - start)}"
        else:
            remark = f"{duration((now - start) / max(done, 1) * (total - done))} left"
        print(f"{label}: {done}/{total}, {remark}{', ' + text if text else ''}", flush=True)

    return progress


def _bar(label: str) -> Progress:
    bar: tqdm | None = None  # made at the first step, so that a skipped phase shows no empty bar

    def progress(done: int, total: int, text: str) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=label)
        bar.total = total
        bar.set_postfix_str(text, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return progress
