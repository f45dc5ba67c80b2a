"""Which runs there are, with their status, outcome and size; and the cache of pre-training that they share."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.evaluation.verdict import VERBS, Comparison, judge
from workbench.records.run_folder import RunFolder

DAY = 86_400.0  # seconds; training that stood still for so long was given up


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One run: `outcomes` says for each method what it won against, tied with and lost to."""

    path: Path
    status: str
    started: str
    outcomes: tuple[str, ...]
    bytes: int


def list_runs(root: Path) -> list[Listed]:
    """All runs below a folder such as `runs`, the oldest first; one whose files are broken has that as its status."""
    found = [_listed(file.parent) for file in root.glob("*/*/params.json")]
    return sorted(found, key=lambda run: (run.started, run.path))


def cached(root: Path) -> list[Path]:
    """The folders of `root/cache`."""
    return sorted(path for path in (root / "cache").glob("*") if path.is_dir())


def clean_cache(folders: Sequence[Path]) -> list[Path]:
    """Deletes these folders of a cache, and returns those that stay: a run may be training there.

    What was deleted is trained again when a run needs it.
    """
    kept = []
    for folder in folders:
        record = folder / "phase.json"
        newest = max((file.stat().st_mtime for file in folder.rglob("*")), default=0.0)
        if not record.is_file() and time.time() - newest < DAY:
            kept.append(folder)
            continue
        record.unlink(missing_ok=True)  # first, because a phase counts as long as its record is there
        shutil.rmtree(folder)
    return kept


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def outcomes_of(run: RunFolder) -> tuple[str, ...]:
    """The verdicts of a run without their numbers, such as "NATS won against its seed, tied with random"."""
    found = [judge([Comparison.from_json(record)]) for record in run.verdicts()]
    told = [[f"{VERBS[each.result]} {each.rival.removeprefix(v.method + ': ')}" for each in v.outcomes] for v in found]
    return tuple(f"{verdict.method} {', '.join(clauses)}" for verdict, clauses in zip(found, told, strict=True))


def _listed(path: Path) -> Listed:
    try:
        run = RunFolder(path)
        told = outcomes_of(run)
    except ValueError as error:
        return Listed(path=path, status=f"broken: {error}", started="", outcomes=(), bytes=size_of(path))
    return Listed(path=path, status=run.status, started=run.started, outcomes=told, bytes=size_of(path))
