import pytest

from workbench.records.progress import duration, reporter


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than a second"),
        (44.6, "about 45 s"),
        (59.6, "about 1 min"),
        (131, "about 2 min 10 s"),
        (599, "about 10 min"),
        (1500, "about 25 min"),
        (3580, "about 1 h"),
        (7500, "about 2 h 5 min"),
    ],
)
def test_duration_in_plain_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_headless_lines_every_ten_seconds_and_the_last(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = reporter("training")
    for step in range(1, 101):
        now = step * 0.25
        progress(step, 100, "loss 1.0")
    assert capsys.readouterr().out.splitlines() == [
        "training: 40/100, about 15 s left, loss 1.0",
        "training: 80/100, about 5 s left, loss 1.0",
        "training: 100/100, took about 25 s, loss 1.0",
    ]


def test_time_left_after_a_resume_is_that_of_the_steps_that_are_done_now(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = reporter("training")
    for step in range(901, 931):
        now = (step - 900) * 1.0
        progress(step, 1000, "")
    assert capsys.readouterr().out.splitlines() == [
        "training: 910/1000, about 1 min 30 s left",
        "training: 920/1000, about 1 min 20 s left",
        "training: 930/1000, about 1 min 10 s left",
    ]


def test_bar_counts_to_the_end(monkeypatch, capsys) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    progress = reporter("training")
    for step in (1, 2, 4):
        progress(step, 4, "loss 1.0")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "4/4" in captured.err
