"""What a remapping did: every tensor with the origin of its numbers, and how far the function moved."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.networks.count import evaluating

Origin = Literal["copied", "centred", "spread", "cropped", "own"]


@dataclass(frozen=True)
class Remapped:
    """What became of one tensor: the seed's block it came from, and how many of its numbers have which origin."""

    name: str
    block: int
    seed_block: int | None  # None: the layer has no counterpart and keeps its own initialisation
    cloned: bool  # the seed's stage is shallower: another layer reads the same block
    origin: Origin
    copied: int = 0
    duplicated: int = 0  # further copies of a seed's channels, where the network is wider
    zero: int = 0
    own: int = 0

    @property
    def size(self) -> int:
        return self.copied + self.duplicated + self.zero + self.own


@dataclass(frozen=True, kw_only=True)
class RemapReport:
    """Everything that a remapping did, tensor by tensor."""

    seed: str
    target: str
    tensors: tuple[Remapped, ...]

    def table(self) -> pd.DataFrame:
        """One row for each tensor."""
        return pd.DataFrame([{**vars(tensor), "size": tensor.size} for tensor in self.tensors])

    def totals(self) -> dict[str, int]:
        """Numbers by origin, over all tensors."""
        kinds = ("copied", "duplicated", "zero", "own")
        return {kind: sum(getattr(tensor, kind) for tensor in self.tensors) for kind in kinds}

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
