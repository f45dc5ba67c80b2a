"""Shared by all tests: figures are drawn without a screen; a clock that other work does not disturb."""

import time

import matplotlib
import pytest
import torch

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def processor_seconds():
    """`time.perf_counter` counts the processor seconds of one thread: what else the machine does is not in them.

    With more threads the waiting of idle ones would be counted too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", time.process_time)
        yield
    torch.set_num_threads(threads)
