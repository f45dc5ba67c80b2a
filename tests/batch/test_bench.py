import time

import numpy as np
import pytest

from workbench.batch import bench


@pytest.mark.usefixtures("processor_seconds")
def test_calls_take_turns_and_the_first_round_only_warms_up():
    order = []

    def busy(name, seconds):
        order.append(name)
        end = time.perf_counter() + seconds * (20 if len(order) <= 2 else 1)
        while time.perf_counter() < end:
            pass

    seconds = bench.in_turn([lambda: busy("a", 0.004), lambda: busy("b", 0.002)], 4)
    assert "".join(order) == "ab" + "baab" * 2
    assert seconds.shape == (4, 2) and np.median(seconds[:, 0] / seconds[:, 1]) == pytest.approx(2, rel=0.2)
    assert seconds.max() < 0.04


def test_a_figure_is_a_median_with_quartiles_and_the_table_says_of_what():
    row = bench.figure("a / b", np.array([1.0, 2.0, 3.0, 4.0, 100.0]), "tiny")
    assert (row.value, row.low, row.high, row.n) == (3.0, 2.0, 4.0, 5)
    assert "| a / b | 3 | 2 to 4 | 5 | tiny |" in bench.as_markdown([row])


def test_costs_come_from_a_table():
    assert bench.costs(1, many=200).value > 100  # architectures while one is counted
