import numpy as np
import pytest

from workbench.evaluation.statistics import mean_interval, pareto_front, rank_correlation, share_of_steps


def test_mean_interval_is_students():
    interval = mean_interval([0.30, 0.32, 0.34])
    assert interval.value == pytest.approx(0.32) and interval.n == 3
    assert interval.high - interval.value == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert mean_interval([0.3]).high == np.inf


def test_mean_interval_covers():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(size=4).tolist()) for _ in range(2000)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.015)


def test_rank_correlation():
    rng = np.random.default_rng(0)
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40], rng).value == 1.0
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1], rng).value == -1.0
    noisy = rank_correlation(np.arange(30), np.arange(30) + rng.normal(size=30) * 8, rng)
    assert noisy.low < noisy.value < noisy.high and noisy.n == 30
    assert np.isnan(rank_correlation([1, 2], [1, 2], rng).value)
    with pytest.raises(ValueError, match="the same items; got 3 and 2"):
        rank_correlation([1, 2, 3], [1, 2], rng)


def test_pareto_front():
    assert pareto_front([3, 1, 2, 2], [0.5, 0.2, 0.4, 0.3]) == [1, 2, 0]


def test_share_of_steps_to_another_networks_last_loss():
    slow, fast = [1.0 - 0.01 * step for step in range(100)], [1.0 - 0.04 * min(step, 30) for step in range(100)]
    assert share_of_steps(slow, slow) == 1.0
    assert 0.2 < share_of_steps(fast, slow, window=1) < 0.3
    assert np.isnan(share_of_steps(slow, [0.0] * 5))
