"""What a remapping did: every tensor with the origin of its numbers, and how far the function moved."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.networks.count import evaluating


@dataclass(frozen=True, kw_only=True)
class RemapReport:
    """Everything that a remapping did.

    `tensors` has a row for each tensor: the `block` it is in and the seed's block it came from (none: the layer has no
    counterpart and keeps its own initialisation), whether the seed's block is `cloned` (its stage is shallower), the
    `origin` of the numbers, and how many of them are copied, duplicated (further copies of channels, where the network
    is wider), zero or own.
    """

    seed: str
    target: str
    tensors: pd.DataFrame

    def totals(self) -> dict[str, int]:
        """Numbers by origin, over all tensors."""
        return {kind: int(self.tensors[kind].sum()) for kind in ("copied", "duplicated", "zero", "own")}

    def __str__(self) -> str:
        shares = ", ".join(f"{count:,} {kind}" for kind, count in self.totals().items() if count)
        return f"{self.seed} -> {self.target}: {shares}"


def function_gap(first: nn.Module, second: nn.Module, images: Tensor) -> float:
    """Largest difference of any tapped map between two backbones in eval mode, as a share of the first's largest value.

    0 up to rounding where a remapping only changed kernels or widened.
    """
    with evaluating(first), evaluating(second), torch.inference_mode():
        pairs = list(zip(first(images), second(images), strict=True))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
