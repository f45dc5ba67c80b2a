from types import SimpleNamespace

import pytest

from workbench.records import progress as progress_module
from workbench.records.progress import announce, duration, headless, reporter


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


def test_a_phase_is_one_line_in_a_log_written_over_every_ten_seconds(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    announce("training: 100 steps of 8 images, about 25 s")
    progress = reporter("training")
    for step in range(1, 101):
        now = step * 0.25
        progress(step, 100, "loss 1.0")
    shown = capsys.readouterr().out
    assert [line.rstrip() for line in shown.removesuffix("\n").split("\r")] == [
        "training: 100 steps of 8 images, about 25 s",
        "training: 40/100, about 15 s left, loss 1.0",
        "training: 80/100, about 5 s left, loss 1.0",
        "training: 100/100, took about 25 s, loss 1.0",
    ]
    assert shown.count("\n") == 1 and {len(line) for line in shown[:-1].split("\r")} == {79}  # each covers the last


@pytest.mark.parametrize(("takes_input", "nobody"), [(True, False), (False, True)])
def test_nobody_watches_cells_whose_sender_takes_no_input(monkeypatch, takes_input: bool, nobody: bool) -> None:
    """A kernel's shell, as JupyterLab and as papermill ask it; real kernels are in tests/batch/test_papermill.py."""
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    request = {"header": {"msg_type": "execute_request"}, "content": {"code": "", "allow_stdin": takes_input}}
    monkeypatch.setattr(progress_module, "shell", lambda: SimpleNamespace(get_parent=lambda: request))
    assert headless() is nobody
    request.update(content={"comm_id": "a slider was moved"})
    assert not headless()


def test_time_left_after_a_resume_is_that_of_the_steps_that_are_done_now(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = reporter("training")
    for step in range(901, 931):
        now = (step - 900) * 1.0
        progress(step, 1000, "")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
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
