"""Shared by all tests: figures without a screen, files over processes, a clock that other work does not disturb."""

import time

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, settings
from matplotlib import pyplot as plt
from xdist.scheduler import LoadFileScheduling

matplotlib.use("Agg")
# A busy machine is slow at random; what is too slow is tested in processor seconds.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


class FileScheduling(LoadFileScheduling):
    """Over several processes, the tests of a file stay together and share its trained fixtures; notebooks share none.

    Single tests are handed out last and fill the time of the process that is done first.
    """

    def _split_scope(self, nodeid):
        return nodeid if nodeid.startswith("tests/test_notebooks.py") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return FileScheduling(config, log)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


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
