"""The live line of a notebook: drawn in place, with a curve of every number that it names."""

import re
from typing import Any

import pytest

from workbench.records import live
from workbench.records.progress import reporter


class Shown:
    def __init__(self) -> None:
        self.pages: list[str] = []

    def update(self, page: Any) -> None:
        self.pages.append(page.data)


def watched(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """A kernel that shows what it is given."""
    shown = Shown()

    def display(page: Any, *, display_id: bool) -> Shown:
        assert display_id and not shown.pages  # one display, which is then drawn again
        shown.update(page)
        return shown

    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(live, "display", display)
    return shown


def test_one_line_with_a_curve_of_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = watched(monkeypatch), 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = reporter("search <a>")
    for step in range(1, 101):
        now = step * 0.1
        progress(step, 100, f"loss {5 - step / 25:.3f}, loss of alpha {1 + step:.1e}")
    assert 30 <= len(shown.pages) <= 36  # every quarter of a second, not every step
    last = shown.pages[-1]
    assert "search &lt;a&gt;</b> 100/100, took about 10 s, loss 1.000" in last
    assert "loss 4.96 to 1 " in last and "loss of alpha 2 to 100 " in last
    falling, rising = (
        [tuple(map(float, pair.split(","))) for pair in line.split()] for line in re.findall(r'points="([^"]+)"', last)
    )
    assert falling[0][1] == rising[-1][1] == 4 and falling[-1][1] == rising[0][1] == live.HEIGHT - 4
    assert falling[-1][0] == live.WIDTH


def test_work_without_numbers_is_a_line_and_a_skipped_phase_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = watched(monkeypatch)
    progress = reporter("reading")
    assert shown.pages == []
    progress(1, 1, "")
    assert len(shown.pages) == 1 and "<svg" not in shown.pages[0]
