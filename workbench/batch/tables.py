"""Tables of runs: read from their folders, and aggregated over seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from workbench.evaluation.numbers import number
from workbench.evaluation.statistics import mean_interval
from workbench.records.run_folder import RunFolder, read_table

BRIEF_COLUMNS, BRIEF_ROWS = 6, 15  # what a page shows of a table before its reader asks for all of it
NUMBERS = (int, float)  # the types that JSON has; a bool is none


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table ready to be shown: every cell is text; `numeric` columns are set flush right, `brief` ones come first."""

    title: str
    note: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    brief: tuple[int, ...]

    @property
    def short(self) -> "Table":
        """At most `BRIEF_COLUMNS` columns and `BRIEF_ROWS` rows of it; all of it where they are no more."""
        return replace(
            self,
            columns=tuple(self.columns[number] for number in self.brief),
            numeric=tuple(self.numeric[number] for number in self.brief),
            rows=tuple(tuple(row[number] for number in self.brief) for row in self.rows[:BRIEF_ROWS]),
            brief=tuple(range(len(self.brief))),
        )


def table_names(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the tables of all the runs, those of the first run first, in the order they were written."""
    homes = [(run.path / "tables").glob("*.json") for run in runs]
    paths = [sorted(home, key=lambda path: (path.stat().st_mtime_ns, path.name)) for home in homes]
    return list(dict.fromkeys(path.stem for path in itertools.chain(*paths)))


def collect(runs: Sequence[RunFolder], name: str) -> pd.DataFrame:
    """The rows of one table of every finished run, each with where it comes from: for a CSV that a lesson draws.

    ValueError when no finished run has a table of that name.
    """
    found = [run for run in runs if run.status == "finished" and name in table_names([run])]
    if not found:
        known = ", ".join(table_names(runs)) or "none"
        raise ValueError(f"No finished run of those has a table {name!r}; their tables: {known}.")
    rows = []
    for run in found:
        origin = {"run": run.path.name, "seed": run.seed, "date": run.started[:10]}
        origin |= {key: run.params.get(key, "") for key in ("preset", "data")}
        rows += [{**origin, **row} for row in read_table(run.path, name)["rows"]]
    return pd.DataFrame(rows)


def aggregate(runs: Sequence[RunFolder], name: str) -> Table:
    """One table over runs that differ only in their seed (one run: the table itself).

    Rows are matched by their index columns. Numbers become a mean with its 95 % t-interval over the runs, other cells
    are shown once when they agree and joined when not. Differences to baselines are paired by run.
    """
    tables = [read_table(run.path, name) for run in runs if name in table_names([run])]
    first, columns, index = tables[0], tables[0]["columns"], tables[0]["index"]
    if any((table["columns"], table["index"]) != (columns, index) for table in tables):
        raise ValueError(f"Table {name!r} has other columns in other runs; report runs of one version together.")
    # As objects, cells stay what they were: a count stays an int, and shows no interval where all runs agree.
    frames = [pd.DataFrame(table["rows"], columns=columns, dtype=object) for table in tables]
    rows = pd.concat(frames, keys=range(len(frames)), names=["run", None])
    run = rows.index.get_level_values("run").to_series(index=rows.index)
    keys = [rows[column].map(str) for column in index]
    number_in_run = rows.groupby([run, *keys]).cumcount()  # rows of one name are matched by their order
    row = rows.groupby([*keys, number_in_run], sort=False).ngroup()
    is_number = rows.map(lambda value: type(value) in NUMBERS)
    numeric = is_number.any() & (is_number | rows.isna()).all()
    cells: dict[str, pd.Series] = {}
    for column in columns:
        averaged = numeric[column] and column not in index
        shown = partial(cell, column, expected=len(runs)) if averaged else partial(_joined, column)
        cells[column] = rows[column].groupby(row).agg(list).map(shown)
    for baseline, column in itertools.product(first["baseline"], first["paired"]):
        values = rows[column].where(is_number[column])
        control = keys[0] == baseline
        of_run = values[control].groupby(run).head(1).droplevel(1)
        differences = (values - run.map(of_run)).mask(control)
        if differences.notna().any():
            title = f"{column} − {baseline}"
            cells[title] = differences.groupby(row).agg(list).map(partial(cell, title, expected=len(runs), signed=True))
    # Most telling: what names a row, then what is compared, with the differences.
    told = [*index, *(column for column in cells if column.partition(" − ")[0] in first["paired"])]
    brief = sorted([*cells].index(column) for column in [*dict.fromkeys([*told, *cells])][:BRIEF_COLUMNS])
    return Table(
        title=first["title"] or name,
        note=first["note"],
        columns=tuple(cells),
        numeric=tuple(bool(numeric.get(column, True)) for column in cells),
        rows=tuple(pd.DataFrame(cells).itertuples(index=False, name=None)),
        brief=tuple(brief),
    )


def cell(column: str, values: Sequence[Any], expected: int = 1, signed: bool = False) -> str:
    """A number of a table over one or more runs: "0.123 [0.110, 0.136]", with n where some of the runs have none."""
    numbers = [value for value in values if not pd.isna(value)]
    if not numbers:
        return "–"
    # What is counted and the same in all runs (MACs, steps) has no uncertainty to state.
    if len(numbers) == 1 or (all(isinstance(value, int) for value in numbers) and len(set(numbers)) == 1):
        text = number(column, numbers[0], signed)
    else:
        mean, low, high = (number(column, value, signed) for value in mean_interval(numbers)[:3])
        text = f"{mean} [{low}, {high}]"
    return text if len(numbers) == expected else f"{text} (n={len(numbers)})"


def _joined(column: str, values: Sequence[Any]) -> str:
    texts = ("–" if v is None else number(column, v) if type(v) in NUMBERS else str(v) for v in values)
    return ", ".join(dict.fromkeys(texts))
