"""Tables of runs: read from their folders, aggregated over seeds, and written as HTML or Markdown."""

import html
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.evaluation.statistics import mean_interval
from workbench.records.files import read_json
from workbench.records.run_folder import RunFolder

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table ready to be shown: every cell is text; `numeric` columns are set flush right."""

    title: str
    note: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """A table as `RunFolder.save_table` wrote it."""

    title: str
    note: str
    columns: list[str]
    index: list[str]
    baselines: list[str]
    paired: list[str]
    rows: list[Row]


def table_names(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the tables of all the runs, those of the first run first, in the order they were written."""
    names: dict[str, None] = {}
    for run in runs:
        paths = sorted((run.path / "tables").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        names.update(dict.fromkeys(path.stem for path in paths))
    return list(names)


def collect(runs: Sequence[RunFolder], name: str) -> pd.DataFrame:
    """The rows of one table of every finished run, each with where it comes from: for a CSV that a lesson draws.

    ValueError when no finished run has a table of that name.
    """
    frames = []
    for run in runs:
        if run.status == "finished" and _has(run, name):
            origin = {"run": run.path.name, "seed": run.seed, "date": run.started[:10]}
            origin |= {key: run.params.get(key, "") for key in ("preset", "data")}
            rows = _read(run.path / "tables" / f"{name}.json").rows
            frames.append(pd.DataFrame([{**origin, **row} for row in rows]))
    if not frames:
        known = ", ".join(table_names(runs)) or "none"
        raise ValueError(f"No finished run of those has a table {name!r}; their tables: {known}.")
    return pd.concat(frames, ignore_index=True)


def aggregate(runs: Sequence[RunFolder], name: str) -> Table:
    """One table over runs that differ only in their seed (one run: the table itself).

    Rows are matched by their index columns. Numbers become a mean with its 95 % t-interval over the runs, other cells
    are shown once when they agree and joined when not. Differences to baselines are paired by run.
    """
    tables = [_read(run.path / "tables" / f"{name}.json") for run in runs if _has(run, name)]
    first = tables[0]
    if any(table.columns != first.columns or table.index != first.index for table in tables):
        raise ValueError(f"Table {name!r} has other columns in other runs; report runs of one version together.")
    keyed = [_keyed(table) for table in tables]
    keys = list(dict.fromkeys(key for rows in keyed for key in rows))
    values = {
        (key, column): [rows[key][column] for rows in keyed if key in rows] for key in keys for column in first.columns
    }
    numeric = {
        column: all(_is_number(value) or value is None for key in keys for value in values[key, column])
        and any(_is_number(value) for key in keys for value in values[key, column])
        for column in first.columns
    }
    columns, flags, rows = list(first.columns), [numeric[column] for column in first.columns], []
    for key in keys:
        cells = []
        for column in first.columns:
            if numeric[column] and column not in first.index:
                cells.append(cell(column, values[key, column], len(runs)))
            else:
                cells.append(_joined(column, values[key, column]))
        rows.append(cells)
    for baseline, column in itertools.product(first.baselines, first.paired):
        differences = [_differences(keyed, baseline, key, column) for key in keys]
        if any(differences):
            columns.append(f"{column} − {baseline}")
            flags.append(True)
            for cells, values_of_row in zip(rows, differences, strict=True):
                cells.append(cell(column, values_of_row, len(runs), signed=True))
    return Table(
        title=first.title or name,
        note=first.note,
        columns=tuple(columns),
        numeric=tuple(flags),
        rows=tuple(tuple(cells) for cells in rows),
    )


def cell(column: str, values: Sequence[Any], expected: int = 1, signed: bool = False) -> str:
    """A number of a table, over one or more runs: "0.123 [0.110, 0.136]"; fewer runs than expected are told."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    # What is counted and the same in all runs (MACs, steps) has no uncertainty to state.
    if len(numbers) == 1 or (all(isinstance(value, int) for value in numbers) and len(set(numbers)) == 1):
        text = number(column, numbers[0], signed)
    else:
        mean, low, high = (number(column, value, signed) for value in mean_interval(numbers)[:3])
        text = f"{mean} [{low}, {high}]"
    return text if len(numbers) == expected else f"{text} (n={len(numbers)})"


def number(column: str, value: float, signed: bool = False) -> str:
    """A number as its column's unit asks: AP and shares with three decimals, MACs and parameters as 12.3M."""
    sign = "+" if signed else ""
    words = set(re.split(r"[^a-z0-9]+", column.lower()))
    if words & {"ap", "ar", "ap50", "ap75", "aps", "apm", "apl", "accuracy", "share", "tau"}:
        return f"{value:{sign}.3f}"
    if words & {"macs", "params", "parameters"}:
        for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size * 0.99995:
                return f"{value / size:{sign}.4g}{letter}"
    if isinstance(value, int) or (abs(value) >= 1000 and value == int(value)):
        return f"{value:{sign},.0f}"
    return f"{value:{sign},.1f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"


def as_html(table: Table) -> str:
    """The table as an HTML figure with its title and note."""
    classes = [' class="number"' if flag else "" for flag in table.numeric]
    head = "".join(f"<th{c}>{html.escape(name)}</th>" for name, c in zip(table.columns, classes, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{c}>{html.escape(text)}</td>" for text, c in zip(row, classes, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f"<p class='note'>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<h3>{html.escape(table.title)}</h3>\n<div class='scroll'><table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>\n{note}"
    )


def as_markdown(table: Table) -> str:
    """The table as Markdown with its title and note."""
    lines = [
        f"### {table.title}",
        "",
        _markdown_row(table.columns),
        _markdown_row(["---:" if flag else "---" for flag in table.numeric]),
        *(_markdown_row(row) for row in table.rows),
        *(["", table.note] if table.note else []),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(text.replace("|", "\\|").split()) for text in cells) + " |"


def _has(run: RunFolder, name: str) -> bool:
    return (run.path / "tables" / f"{name}.json").is_file()


def _read(path: Path) -> _Saved:
    data = read_json(path)
    problem = f"{path} is not a table as RunFolder.save_table writes it; delete it and run the notebook again."
    if not isinstance(data, dict):
        raise ValueError(problem)
    columns, rows = data.get("columns"), data.get("rows")
    if not isinstance(columns, list) or not columns or not all(isinstance(column, str) for column in columns):
        raise ValueError(problem)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(row) == set(columns) for row in rows):
        raise ValueError(problem)
    named = data.get("baseline") or []
    baselines = [named] if isinstance(named, str) else [str(name) for name in named]
    index, paired = data.get("index") or columns[:1], data.get("paired") or []
    if not isinstance(index, list) or not isinstance(paired, list) or not {*index, *paired} <= set(columns):
        raise ValueError(problem)
    return _Saved(
        title=str(data.get("title") or ""),
        note=str(data.get("note") or ""),
        columns=columns,
        index=index,
        baselines=baselines,
        paired=paired,
        rows=rows,
    )


def _keyed(table: _Saved) -> dict[tuple[str, ...], Row]:
    """Rows by the text of their index cells; equal ones are told apart by their order."""
    rows: dict[tuple[str, ...], Row] = {}
    for row in table.rows:
        name = tuple(str(row[column]) for column in table.index)
        occurrence = 0
        while (*name, str(occurrence)) in rows:
            occurrence += 1
        rows[(*name, str(occurrence))] = row
    return rows


def _differences(
    keyed: Sequence[dict[tuple[str, ...], Row]], baseline: str, key: tuple[str, ...], column: str
) -> list[float]:
    """Per run that has both, the value of row `key` minus that of the baseline row; none for the baseline itself."""
    if key[0] == baseline:
        return []
    differences = []
    for rows in keyed:
        control = next((row for name, row in rows.items() if name[0] == baseline), None)
        if key in rows and control and _is_number(rows[key][column]) and _is_number(control[column]):
            differences.append(rows[key][column] - control[column])
    return differences


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _joined(column: str, values: Sequence[Any]) -> str:
    texts = [number(column, value) if _is_number(value) else "–" if value is None else str(value) for value in values]
    return ", ".join(dict.fromkeys(texts))
