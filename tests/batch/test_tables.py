from pathlib import Path

import pandas as pd
import pytest

from workbench.batch.tables import aggregate, collect, table_names
from workbench.records.run_folder import RunFolder


def runs_of(root: Path, *frames: pd.DataFrame, **options: object) -> list[RunFolder]:
    runs = []
    for seed, frame in enumerate(frames):
        run = RunFolder.open(root, "lesson", {"seed": seed}, seed=seed, data_digest="d")
        run.save_table(frame, "main", title="Comparison", **options)
        run.finish()
        runs.append(run)
    return runs


def frame(found: float, control: float, key: str = "k1") -> pd.DataFrame:
    rows = {
        "network": ["found", "control"],
        "AP": [found, control],
        "macs": [12_345_678, 300_000_000],
        "arch": [key, "–"],
    }
    return pd.DataFrame(rows)


def test_aggregated_over_seeds(tmp_path: Path) -> None:
    frames = [frame(0.30, 0.20, "k1"), frame(0.40, 0.30, "k2"), frame(0.50, 0.43, "k2").iloc[::-1]]
    runs = runs_of(tmp_path, *frames, baseline="control", paired=["AP"])
    table = aggregate(runs, "main")
    assert table.columns == ("network", "AP", "macs", "arch", "AP − control")
    assert table.numeric == (False, True, True, False, True)
    # standard errors 0.1 / sqrt(3) and 0.0173205 / sqrt(3), times t = 4.30265; rows are matched by name, not by place
    assert table.rows[0] == ("found", "0.400 [0.152, 0.648]", "12.35M", "k1, k2", "+0.090 [+0.047, +0.133]")
    assert table.rows[1] == ("control", "0.310 [0.024, 0.596]", "300M", "–", "–")


def test_differences_are_taken_to_every_baseline_that_a_run_has(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path, frame(0.3, 0.2), frame(0.5, 0.3), baseline=["control", "none such", "found"], paired=["AP"]
    )
    table = aggregate(runs, "main")
    assert table.columns[4:] == ("AP − control", "AP − found")
    assert [row[4:] for row in table.rows] == [
        ("+0.150 [-0.485, +0.785]", "–"),
        ("–", "-0.150 [-0.785, +0.485]"),
    ]


def test_one_run_is_shown_as_it_is(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, frame(0.3, 0.2))
    assert aggregate([run], "main").rows == (("found", "0.300", "12.35M", "k1"), ("control", "0.200", "300M", "–"))
    assert table_names([run]) == ["main"]


def test_missing_values_lower_n_and_say_so(tmp_path: Path) -> None:
    frames = [frame(0.2, 0.2), frame(0.4, 0.2), frame(float("nan"), 0.2).iloc[:1]]
    table = aggregate(runs_of(tmp_path, *frames), "main")
    assert table.rows[0][1] == "0.300 [-0.971, 1.571] (n=2)"
    assert table.rows[1][1] == "0.200 [0.200, 0.200] (n=2)"


def test_numeric_index_is_matched_not_averaged(tmp_path: Path) -> None:
    frames = [pd.DataFrame({"step": [0, 1, 1], "loss": [value, 1.0, 2.0]}) for value in (1.0, 3.0)]
    rows = aggregate(runs_of(tmp_path, *frames), "main").rows
    assert [row[0] for row in rows] == ["0", "1", "1"]
    assert rows[0][1].startswith("2 [") and rows[2][1].startswith("2 [2, 2")


def test_an_empty_table_stays_empty(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, frame(0.3, 0.2).iloc[:0], baseline="control", paired=["AP"])
    table = aggregate([run], "main")
    assert (table.columns, table.rows) == (("network", "AP", "macs", "arch"), ())


def test_differences_of_counts_stay_counts(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, frame(0.3, 0.2), frame(0.4, 0.2), baseline="control", paired=["macs"])
    assert aggregate(runs, "main").rows[0][-1] == "-287.7M"  # equal in both runs: no interval


def test_what_is_compared_is_shown_first_and_the_rest_on_request(tmp_path: Path) -> None:
    wide = pd.DataFrame([{**dict.fromkeys("abcdef", 1.0), "network": name, "AP": 0.1} for name in ("found", "control")])
    (run,) = runs_of(tmp_path, wide, index=["network"], baseline="control", paired=["AP"])
    table = aggregate([run], "main")
    assert table.columns == (*"abcdef", "network", "AP", "AP − control") and table.short != table
    assert table.short.columns == ("a", "b", "c", "network", "AP", "AP − control")
    assert table.short.rows[0] == ("1", "1", "1", "found", "0.100", "+0.000")
    many = pd.DataFrame({"step": range(40), "loss": 1.0})
    (run,) = runs_of(tmp_path / "many", many)
    assert len(aggregate([run], "main").short.rows) == 15
    (run,) = runs_of(tmp_path / "few", many[:15])
    assert aggregate([run], "main").short == aggregate([run], "main")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, frame(0.3, 0.2), frame(0.3, 0.2).drop(columns="arch"))
    with pytest.raises(ValueError, match="other columns"):
        aggregate(runs, "main")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"columns": []}',
        '{"columns": ["a"], "rows": [{"b": 1}]}',
        '{"columns": ["a"], "rows": [], "paired": ["b"]}',
    ],
)
def test_foreign_tables_are_refused(tmp_path: Path, text: str) -> None:
    (run,) = runs_of(tmp_path, frame(0.3, 0.2))
    (run.path / "tables" / "main.json").write_text(text)
    with pytest.raises(ValueError, match=r"main\.json (does not fit: table|is not a table)"):
        aggregate([run], "main")


def test_collected_rows_say_which_run_they_are_of(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, frame(0.3, 0.2), frame(0.4, 0.1))
    rows = collect(runs, "main")
    assert list(rows[["seed", "network", "AP"]].itertuples(index=False, name=None)) == [
        (0, "found", 0.3),
        (0, "control", 0.2),
        (1, "found", 0.4),
        (1, "control", 0.1),
    ]
    assert rows["run"].nunique() == 2 and set(rows["date"]) == {runs[0].started[:10]}
    with pytest.raises(ValueError, match=r"has a table 'other'; their tables: main"):
        collect(runs, "other")
