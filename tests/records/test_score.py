import json
from typing import Any

import pytest

from workbench.records.score import Score
from workbench.spaces.arch import Arch


def score(**changes: Any) -> Score:
    values: dict[str, Any] = {
        "arch": Arch("shuffle-tiny", (0, 3, 1)),
        "metrics": {"AP": 0.25, "AP_error": 0.01},
        "macs": 5_000_000,
        "params": 100_000,
        "seconds": 0.5,
        "seed": 0,
        "phase": "evolution",
        "step": 2,
    }
    return Score(**{**values, **changes})


ROWS = [score(), score(metrics={}, error="out of memory"), score(metrics={"AP": 1 / 3}), score(parents=((0, 3, 2),))]


@pytest.mark.parametrize("row", ROWS)
def test_json_round_trip_is_exact(row: Score) -> None:
    assert Score.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_rows_of_earlier_versions_are_read() -> None:
    data = score().to_json()
    old = {**data, **data["arch"], "arch": score().arch.key}
    assert Score.from_json(old) == score()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_metrics_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="'AP' of shuffle-tiny-"):
        score(metrics={"AP": value})
    with pytest.raises(ValueError, match="finite 'seconds'"):
        score(seconds=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("macs", 1.5),
        ("macs", True),
        ("arch", {"space": "shuffle-tiny", "choices": [0, "1"]}),
        ("arch", {"space": "shuffle-tiny", "choices": "012"}),
        ("arch", {"choices": [0]}),
        ("metrics", []),
        ("arch", 3),
        ("metrics", {"AP": "0.2"}),
        ("metrics", {"AP": True}),
        ("error", 1),
        ("seed", None),
        ("phase", None),
    ],
)
def test_wrong_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Score.from_json({**score().to_json(), field: value})


def test_missing_and_unknown_fields_are_named() -> None:
    data = score().to_json()
    del data["macs"]
    with pytest.raises(ValueError, match=r"must contain \['macs'\]"):
        Score.from_json(data)
    with pytest.raises(ValueError, match=r"must not contain \{'mac'\}"):
        Score.from_json({**score().to_json(), "mac": 1})
    with pytest.raises(ValueError, match="score must be object"):
        Score.from_json([1])
