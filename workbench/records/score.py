"""One evaluation of one architecture: a row of evaluations.jsonl."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from workbench.records.files import compiled, fields
from workbench.spaces.arch import Arch

SCHEMA = fields(
    {
        "arch": fields({"space": "string", "choices": {"type": "array", "items": {"type": "integer"}}}),
        "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        **dict.fromkeys(("macs", "params", "seed", "step"), "integer"),
        **{"seconds": "number", "phase": "string"},
    },
    {
        "error": {"type": ["string", "null"]},
        "parents": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    },
)
CHECKED = compiled(SCHEMA, "score")


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
    parents: tuple[tuple[int, ...], ...] = ()  # the choices that a child of an evolution was made from

    def __post_init__(self) -> None:
        for name, value in {**self.metrics, "seconds": self.seconds}.items():
            if not math.isfinite(value):
                about = f"Expected a finite {name!r} of {self.arch.key}, got {value}"
                raise ValueError(f"{about}; write a result that is not finite into `error`.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `Score.from_json` reads it back to an equal value."""
        row = {**dataclasses.asdict(self), "arch": self.arch.to_json()}
        return row if self.parents else {name: value for name, value in row.items() if name != "parents"}

    @staticmethod
    def from_json(data: object) -> "Score":
        """The score written by `to_json`; ValueError naming what is wrong when the data is anything else."""
        if isinstance(data, dict) and isinstance(data.get("arch"), str):
            # An older row: the key of the architecture, and its parts next to it.
            data = {**data, "arch": {name: data.get(name) for name in ("space", "choices")}}
            data = {name: value for name, value in data.items() if name not in ("space", "choices")}
        row = CHECKED(data)
        parents = tuple(map(tuple, row.get("parents", ())))
        return Score(**{**row, "arch": Arch.from_json(row["arch"]), "parents": parents})
