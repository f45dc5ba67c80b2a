"""Numbers as texts, each in the unit of its column."""

import re

SHARES = {"ap", "ar", "ap50", "ap75", "aps", "apm", "apl", "miou", "iou", "top", "top1", "pck"}
SHARES |= {"accuracy", "share", "tau"}


def number(column: str, value: float, signed: bool = False) -> str:
    """A number as its column's unit asks: AP and shares with three decimals, MACs and parameters as 12.3M."""
    sign = "+" if signed else ""
    words = set(re.split(r"[^a-z0-9]+", column.lower()))
    if words & SHARES:
        return f"{value:{sign}.3f}"
    if words & {"macs", "params", "parameters"}:
        for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size * 0.99995:
                return f"{value / size:{sign}.4g}{letter}"
    if isinstance(value, int) or (abs(value) >= 1000 and value == int(value)):
        return f"{value:{sign},.0f}"
    return f"{value:{sign},.1f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"
