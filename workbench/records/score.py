"""One evaluation of one architecture: a row of evaluations.jsonl."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one evaluation found, or the error that it died of.

    Metrics are finite (AP in 0-1; `AP_error` is the bootstrap standard error of AP); macs are multiply-accumulates.
    Raises ValueError for a metric that is not a finite number: a network that went non-finite is an `error`.
    """

    arch: str  # the key of the architecture
    choices: tuple[int, ...]  # one option index per decision
    space: str
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
                raise ValueError(f"Metric {name!r} of {self.arch} is {value}; write non-finite results into `error`.")
        if not math.isfinite(self.seconds):
            raise ValueError(f"Expected finite seconds for {self.arch}, got {self.seconds}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `Score.from_json` reads it back to an equal value."""
        return {**dataclasses.asdict(self), "choices": list(self.choices)}

    @staticmethod
    def from_json(data: object) -> "Score":
        """The score written by `to_json`; ValueError naming the field when the data is anything else."""
        if not isinstance(data, dict):
            raise ValueError(f"Expected a score as a JSON object, got {type(data).__name__}.")
        expected = {field.name for field in dataclasses.fields(Score)}
        missing, unknown = sorted(expected - {"error"} - set(data)), sorted(set(data) - expected, key=str)
        if missing or unknown:
            raise ValueError(f"Expected a score's fields; missing: {missing}, unknown: {unknown}.")
        choices, metrics, error = data["choices"], data["metrics"], data.get("error")
        if not isinstance(choices, list):
            raise ValueError(f"Field 'choices' of a score must be a list of integers, got {choices!r}.")
        if not isinstance(metrics, dict):
            raise ValueError(f"Field 'metrics' of a score must be an object of numbers, got {metrics!r}.")
        if error is not None and not isinstance(error, str):
            raise ValueError(f"Field 'error' of a score must be text or null, got {error!r}.")
        return Score(
            arch=_text(data, "arch"),
            choices=tuple(_whole(choice, "choices") for choice in choices),
            space=_text(data, "space"),
            metrics={name: _number(value, f"metrics.{name}") for name, value in metrics.items()},
            macs=_whole(data["macs"], "macs"),
            params=_whole(data["params"], "params"),
            seconds=_number(data["seconds"], "seconds"),
            seed=_whole(data["seed"], "seed"),
            phase=_text(data, "phase"),
            step=_whole(data["step"], "step"),
            error=error,
        )


def _text(data: dict[str, Any], field: str) -> str:
    if not isinstance(data[field], str):
        raise ValueError(f"Field {field!r} of a score must be text, got {data[field]!r}.")
    return str(data[field])


def _whole(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"Field {field!r} of a score must hold integers, got {value!r}.")
    return value


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"Field {field!r} of a score must be a number, got {value!r}.")
    return float(value)
