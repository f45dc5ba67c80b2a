"""Hard limits on architectures: MACs, params or measured latency, all the same way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.spaces.arch import Arch


@dataclass(frozen=True)
class Limit:
    """`measure(arch)` must not exceed `maximum`; `quantity` is its name with unit, for messages."""

    quantity: str
    maximum: float
    measure: Callable[[Arch], float]

    def allows(self, arch: Arch) -> bool:
        return self.measure(arch) <= self.maximum


def feasible(arch: Arch, limits: Sequence[Limit]) -> bool:
    """True when `arch` keeps every limit."""
    return all(limit.allows(arch) for limit in limits)


def describe(limits: Sequence[Limit]) -> str:
    """The limits in words, for messages and captions."""
    return " and ".join(f"{limit.quantity} <= {limit.maximum:,.0f}" for limit in limits) or "no limit"
