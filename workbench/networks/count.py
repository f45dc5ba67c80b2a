"""Counts what a built module really computes, by running it on the meta device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def saved_bytes(module: nn.Module, run: Callable[[], object]) -> int:
    """Bytes that the call `run()` keeps for a backward pass, the module's own parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output that keeps itself would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    total = sum(kept.values())
    del output  # until here, so that no storage is used twice
    return total


def count_backbone(build: Callable[[], nn.Module], image_size: ImageSize) -> Cost:
    """Cost of the module that `build` makes, at batch 1 and `image_size`.

    Built on the meta device, so any size is free.
    """
    with torch.device("meta"):
        return count(build(), torch.empty(1, 3, *height_width(image_size)))


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
