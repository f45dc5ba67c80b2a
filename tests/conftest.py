"""Shared by all tests: figures without a screen, files over processes, a clock that other work does not disturb."""

import time

import matplotlib
import pytest
import torch

matplotlib.use("Agg")


def pytest_collection_modifyitems(items):
    """Over several processes, the tests of a file stay together and share its trained fixtures; notebooks share none.

    Single tests are handed out last and fill the time of the process that is done first.
    """
    for item in items:
        if item.path.name != "test_notebooks.py":
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


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
