"""The mean of the weights at the end of a training, in place of the last ones (Izmailov et al., UAI 2018)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

SHARE = 0.25  # of the steps: how much of the end of a training is averaged over


class WeightAverage:
    """The running mean of `parameters` after `count` evenly spaced steps of the last quarter, the last step among them.

    `count` 0 averages nothing; ValueError when it is negative. Batch-norm statistics are not averaged: those of the
    mean weights are others, and have to be recalibrated.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], steps: int, count: int) -> None:
        if count < 0:
            raise ValueError(f"Weights are averaged over 0 (not at all) or more of the last steps; got {count}.")
        self.parameters = parameters
        self.due = {max(1, steps - round(place * SHARE * steps / count)) for place in range(count)}
        self.mean: list[Tensor] = []
        self.taken = 0

    def after(self, steps: int) -> None:
        """Takes the weights in where they are due; `steps` are done."""
        if steps not in self.due:
            return
        self.taken += 1
        now = [parameter.detach() for parameter in self.parameters]
        if not self.mean:
            self.mean = [value.clone() for value in now]
        for mean, value in zip(self.mean, now, strict=True):
            mean.lerp_(value, 1 / self.taken)

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the parameters their mean."""
        for parameter, mean in zip(self.parameters, self.mean, strict=bool(self.mean)):
            parameter.copy_(mean)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"mean": self.mean, "taken": self.taken}

    def restore(self, state: dict[str, Any]) -> None:
        pairs = zip(state["mean"], self.parameters, strict=bool(state["mean"]))
        self.mean, self.taken = [mean.to(parameter.device) for mean, parameter in pairs], state["taken"]
