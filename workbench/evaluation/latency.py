"""How long networks take on this machine: the median of repeated calls, with its quartiles."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from workbench.evaluation.statistics import Interval
from workbench.networks.count import evaluating
from workbench.spaces.costs import ImageSize, height_width


def latency_ms(module: nn.Module, image_size: ImageSize, *, repeats: int = 30) -> Interval:
    """Milliseconds of one forward pass of one image on the module's own device."""
    image = torch.rand(1, 3, *height_width(image_size), device=next(module.parameters()).device)
    return latencies_ms([(module, image)], repeats=repeats)[0]


def latencies_ms(calls: Sequence[tuple[nn.Module, Tensor | list[Tensor]]], *, repeats: int = 30) -> list[Interval]:
    """Milliseconds of each `module(features)` in eval mode, timed in turn; detectors take a list of images."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for module, _ in calls:
            stack.enter_context(evaluating(module))
        return timed_ms([partial(module, features) for module, features in calls], repeats=repeats)


def timed_ms(calls: Sequence[Callable[[], object]], *, repeats: int = 30) -> list[Interval]:
    """Median milliseconds of each call, its quartiles (`low`, `high`) and the number of repeats.

    The calls are made in turn, so that what else the machine does hits all of them alike, with PyTorch's threads as
    they are set here. `Timer` makes two calls that do not count before each one that does.
    """
    # The timer imports PyTorch's compiler, which warns everybody who has CUDA's tools and no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timers = [Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads()) for call in calls]
    rounds = 1000 * np.array([[timer.timeit(1).mean for timer in timers] for _ in range(repeats)])
    low, median, high = np.percentile(rounds, [25, 50, 75], axis=0)
    return [Interval(*row, n=repeats) for row in zip(median.tolist(), low.tolist(), high.tolist(), strict=True)]
