"""Counts what a built module really computes, by running it on the meta device; and measures how long it takes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.spaces.costs import Cost, ImageSize, height_width


def count(module: nn.Module, *inputs: Any, bias: bool = False) -> Cost:
    """MACs of one eval-mode forward pass of `module` and its learned parameters.

    `bias=True` adds one multiply-accumulate per output element of every biased layer, the rule of the FNA paper. Give
    meta tensors to a meta module and nothing is computed or allocated.
    """
    return count_layers(module, lambda: module(*inputs), bias=bias)


def count_layers(module: nn.Module, run: Callable[[], object], *, bias: bool = False) -> Cost:
    """Like `count` for whatever part of `module` the call `run()` executes."""
    biases = 0

    def add_bias(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal biases
        biases += output.numel() if layer.bias is not None else 0

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    handles = [layer.register_forward_hook(add_bias) for layer in layers] if bias else []
    try:
        with evaluating(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
    finally:
        for handle in handles:
            handle.remove()
    # PyTorch counts a multiply-accumulate as two operations.
    macs = counter.get_total_flops() // 2 + biases
    return Cost(macs, sum(parameter.numel() for parameter in module.parameters()))


def count_backbone(build: Callable[[], nn.Module], image_size: ImageSize) -> Cost:
    """Cost of the module that `build` makes, at batch 1 and `image_size`.

    Built on the meta device, so any size is free.
    """
    with torch.device("meta"):
        return count(build(), torch.empty(1, 3, *height_width(image_size)))


def latency_ms(module: nn.Module, image_size: ImageSize, *, repeats: int = 30) -> float:
    """Median milliseconds of one forward pass of one image on the module's own device."""
    image = torch.rand(1, 3, *height_width(image_size), device=next(module.parameters()).device)
    return latencies_of([(module, image)], repeats=repeats)[0]


def latencies_of(calls: Sequence[tuple[nn.Module, Tensor | list[Tensor]]], *, repeats: int = 30) -> list[float]:
    """Median milliseconds of each `module(features)` in eval mode; detectors take a list of images."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for module, _ in calls:
            stack.enter_context(evaluating(module))
        return median_ms([partial(module, features) for module, features in calls], repeats=repeats, warm_up=3)


def median_ms(runs: Sequence[Callable[[], object]], *, repeats: int, warm_up: int) -> list[float]:
    """Median milliseconds of each call on one thread, after warm-up; a GPU is waited for.

    They are called in turn, so that what else the machine does hits all of them alike.
    """
    # The timer imports PyTorch's compiler, which warns everybody who has CUDA's tools and no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timers = [Timer("run()", globals={"run": run}) for run in runs]
    for timer in timers:
        timer.timeit(warm_up)
    rounds = [[timer.timeit(1).mean for timer in timers] for _ in range(repeats)]
    return [1000 * sorted(times)[repeats // 2] for times in zip(*rounds, strict=True)]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, the previous mode of every submodule outside."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
