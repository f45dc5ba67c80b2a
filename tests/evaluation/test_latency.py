"""Times are medians with quartiles, of calls in turn, by the threads that are set, and modules stay as they were."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils import benchmark

from workbench.evaluation import latency


def test_median_and_quartiles_of_calls_in_turn(monkeypatch):
    """A call that takes 1, 2, 3, ... s when it is timed; the two calls before each one that counts are not in it."""
    now, made = [0.0], []
    monkeypatch.setattr(benchmark, "Timer", partial(benchmark.Timer, timer=lambda: now[0]))

    def call(name, seconds):
        def run():
            made.append(name)
            now[0] += next(seconds)

        return run

    slow = (value for second in range(1, 6) for value in (100.0, 100.0, float(second)))
    (first, second) = latency.timed_ms([call("a", slow), call("b", iter([0.5] * 15))], repeats=5)
    assert first == pytest.approx((3000, 2000, 4000, 5))
    assert second == pytest.approx((500, 500, 500, 5))
    assert made == [*"aaabbb"] * 5


def test_modules_are_timed_in_eval_mode_with_the_threads_that_are_set():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            seen.append((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), images.shape))
            return images * self.scale

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        spy = Spy().train()
        found = latency.latency_ms(spy, (8, 16), repeats=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert spy.training and set(seen) == {(False, True, 2, (1, 3, 8, 16))}
    assert 0 < found.low <= found.value <= found.high and found.n == 3


def test_a_network_with_more_to_do_takes_longer():
    """Interleaved, so that a busy machine is busy for both."""
    image = torch.rand(1, 16, 64, 64)
    small, large = (nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth))) for depth in (1, 8))
    quick, slow = latency.latencies_ms([(small, image), (large, image)], repeats=9)
    assert quick.value < slow.value
