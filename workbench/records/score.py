"""One evaluation of one architecture: a row of evaluations.jsonl."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from workbench.spaces.arch import Arch

KINDS: dict[str, tuple[Any, str]] = {  # what each field of a row holds, and that in words
    "arch": (dict, "an object with a space and choices"),
    "metrics": (dict, "an object of numbers"),
    "macs": (int, "an integer"),
    "params": (int, "an integer"),
    "seconds": (int | float, "a number"),
    "seed": (int, "an integer"),
    "phase": (str, "text"),
    "step": (int, "an integer"),
    "error": (str | None, "text or null"),
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one evaluation found, or the error that it died of.

    Metrics are finite (AP in 0-1; `AP_error` is the bootstrap standard error of AP); macs are multiply-accumulates.
    Raises ValueError for a metric that is not a finite number: a network that went non-finite is an `error`.
    """

    arch: Arch  # in a beam search the prefix decided so far
    metrics: dict[str, float]
    macs: int
    params: int
    seconds: float
    seed: int
    phase: str  # for example "evolution" or "random"
    step: int  # generation or epoch
    error: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"Metric {name!r} of {self.arch.key} is {value}; write non-finite results into `error`."
                )
        if not math.isfinite(self.seconds):
            raise ValueError(f"Expected finite seconds for {self.arch.key}, got {self.seconds}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `Score.from_json` reads it back to an equal value."""
        return {**dataclasses.asdict(self), "arch": self.arch.to_json()}

    @staticmethod
    def from_json(data: object) -> "Score":
        """The score written by `to_json`; ValueError naming the field when the data is anything else."""
        if not isinstance(data, dict):
            raise ValueError(f"Expected a score as a JSON object, got {type(data).__name__}.")
        data = {"error": None, **data}
        if isinstance(data.get("arch"), str):  # an older row: the key of the architecture, its parts next to it
            data["arch"] = {name: data.pop(name, None) for name in ("space", "choices")}
        missing, unknown = sorted(set(KINDS) - set(data)), sorted(set(data) - set(KINDS), key=str)
        if missing or unknown:
            raise ValueError(f"Expected a score's fields; missing: {missing}, unknown: {unknown}.")
        for field, (kind, words) in KINDS.items():
            _expect(data[field], field, kind, words)
        for name, value in data["metrics"].items():
            _expect(value, f"metrics.{name}", int | float, "a number")
        metrics = {name: float(value) for name, value in data["metrics"].items()}
        values = {"arch": Arch.from_json(data["arch"]), "metrics": metrics, "seconds": float(data["seconds"])}
        return Score(**{**data, **values})


def _expect(value: object, field: str, kind: Any, words: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):  # True is an int, but no count
        raise ValueError(f"Field {field!r} of a score must be {words}, got {value!r}.")
