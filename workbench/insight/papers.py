"""The papers' own tables: only confirmed values, kept as CSV in `data/papers`."""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "data" / "papers"


def paper_table(name: str) -> pd.DataFrame:
    """The table of that name; empty cells are values that no readable source confirms."""
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.csv")))
        raise ValueError(f"A paper table is one of {names}; got {name!r}.")
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # as printed, trailing zeros too
