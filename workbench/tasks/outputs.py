"""What a model says about every picture of a data set, in order."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from workbench.data.augmentation import stack_images
from workbench.networks.count import evaluating


def outputs(
    model: nn.Module,
    data: Any,
    device: torch.device,
    batch_size: int,
    before_batch: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Pairs of an index of `data` and the model's output for it, in eval mode, on the model's device.

    `before_batch` is called with the index of each batch; it may switch the path of a supernet.
    """
    with evaluating(model), torch.inference_mode():
        for number, start in enumerate(range(0, len(data), batch_size)):
            if before_batch is not None:
                before_batch(number)
            chunk = range(start, min(start + batch_size, len(data)))
            yield from zip(chunk, model(stack_images([data[index][0] for index in chunk], device)), strict=True)
