"""An estimate of seconds is a mean over steps that are alike."""

from workbench.training import timing


def test_several_steps_are_averaged(monkeypatch):
    """The first step only warms up: it is slow, whatever the path."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def trial(steps, progress):
        for step, seconds in enumerate([50.0, 1.0, 2.0, 3.0, 4.0, 5.0][:steps]):
            now[0] += seconds
            progress(step + 1, steps, "")

    assert timing.seconds_per_step(trial, 10) == 1.0  # one step stands for ten
    assert timing.seconds_per_step(trial, 100) == 3.0
