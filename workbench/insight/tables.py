"""Stored tables, the papers' and our own, and tables that several notebooks make."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from workbench.evaluation.verdict import Stored
from workbench.records.files import read_csv
from workbench.records.score import Score
from workbench.spaces.allocation import centre_of_mass, depths_of
from workbench.spaces.catalogue import space_named

DATA = Path(__file__).resolve().parents[2] / "data"


def paper_table(name: str) -> pd.DataFrame:
    """The papers' table of that name, as printed; empty cells are values that no readable source confirms."""
    path = DATA / "papers" / f"{name}.csv"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
        raise ValueError(f"A paper table is one of {names}; got {name!r}.")
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # trailing zeros too


class Folded(NamedTuple):
    """Tables that a page shows folded, each under its name; for numbers that a figure has shown already."""

    tables: Mapping[str, pd.DataFrame]

    def _repr_html_(self) -> str:
        shown = {html.escape(name): table.to_html(index=False, border=0) for name, table in self.tables.items()}
        return "".join(f"<details><summary>{name}</summary>{table}</details>" for name, table in shown.items())

    def __repr__(self) -> str:
        return "\n\n".join(f"{name}\n{table.to_string(index=False)}" for name, table in self.tables.items())


def stored_results(name: str, settings: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """A table of several runs (`report RUNS --csv TABLE FILE`), and in words where it comes from.

    `settings` are the columns that tell rows apart: of several runs that trained one setting, a seed counts once.
    """
    frame = read_csv(DATA / "results" / f"{name}.csv", dtype={"blocks": str, "dilations": str})
    frame = frame.drop_duplicates([*settings, "preset", "data", "seed"])
    first, counts = frame.iloc[0], frame.groupby(list(settings), dropna=False)["seed"].nunique()
    seeds = " to ".join(dict.fromkeys([str(counts.min()), str(counts.max())]))
    source = f"{frame['run'].nunique()} runs, n = {seeds} seeds for a row, preset {first['preset']} on {first['data']}"
    return frame, f"{source}, {first['date']}"


def stored_seeds(name: str, metric: str) -> Stored | None:
    """The metric of every row of a stored comparison, by seed: `report RUNS --csv comparison data/results/<name>.csv`.

    `name` is that of the notebook (`10_detnas`). None without such a file; ValueError when it holds anything but one
    row for each seed and network, all of one preset and data.
    """
    path = DATA / "results" / f"{name}.csv"
    if not path.is_file():
        return None
    frame = read_csv(path, dtype={"preset": str, "data": str, "network": str})
    again = f"{path} does not fit: %s; write it again with `python -m workbench report RUNS --csv TABLE FILE`."
    if missing := sorted({"seed", "preset", "data", "network", metric} - set(frame)):
        raise ValueError(again % f"it has no column {missing[0]!r}")
    if not pd.api.types.is_numeric_dtype(frame[metric]) or frame[metric].isna().any() or frame.empty:
        raise ValueError(again % f"its column {metric!r} holds something other than numbers")
    settings = frame[["preset", "data"]].fillna("").drop_duplicates()
    if len(settings) > 1 or frame.duplicated(["seed", "network"]).any():
        raise ValueError(again % "it holds several runs of one seed, or several presets or data")
    preset, data = settings.iloc[0]
    seeds = [rows.set_index("network")[metric].to_dict() for _, rows in frame.groupby("seed")]
    return Stored(source=f"{preset} on {data}" if data else str(preset), seeds=tuple(seeds))


def ranking_table(scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """One row for each allocation that was scored, best by `metric` first: depths, centre of mass, metrics, costs."""
    rows = []
    for score in scores:
        if score.error is None:
            depths = depths_of(space_named(score.arch.space), score.arch)
            named = {"depths": depths, "centre of mass": centre_of_mass(depths)}
            rows.append(named | score.metrics | {"MACs": score.macs, "params": score.params})
    return pd.DataFrame(rows).sort_values([metric, "params"], ascending=[False, True], ignore_index=True)
