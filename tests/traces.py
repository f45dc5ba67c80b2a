"""What the notebooks compute, in a form that a refactoring must not change. Not part of the suite.

    python -m tests.traces FOLDER                 # run every notebook in smoke for seeds 0 and 1, keep FOLDER/*.json
    python -m tests.traces FOLDER 10 40           # only those whose names begin so
    python -m tests.traces FOLDER --preset tiny   # the same in tiny
    python -m tests.traces FOLDER --compare OTHER # name every difference between two such folders; exit code 1 if any

A trace holds evaluations, tables without clock columns, costs and losses of every phase and a digest of the found
weights that does not depend on tensor names. Seed 0 runs with the notebook's own controls, seed 1 with all of them.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from workbench.batch.run import parameters_of, run_notebooks

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CLOCKS = ("seconds", " ms", "ms ", "ratio", "minutes", "date", "run")  # words in columns that hold times


def trace(run: Path) -> dict[str, Any]:
    """The canonical content of one run folder (and of the cache beside it)."""
    rows = (run / "evaluations.jsonl").read_text().splitlines() if (run / "evaluations.jsonl").exists() else []
    tables = {path.stem: json.loads(path.read_text())["rows"] for path in sorted((run / "tables").glob("*.json"))}
    phases = [*(run / "phases").glob("*/phase.json"), *(run.parent.parent / "cache").glob("*/phase.json")]
    records = [json.loads(path.read_text()) for path in phases]
    losses = sorted([r["entry"]["phase"], r["losses"], r.get("alpha_losses", [])] for r in records if "losses" in r)
    weights = run / "weights.safetensors"
    tensors = load_file(weights).values() if weights.exists() else []
    costs = [[e["phase"], e["images"], e["forward_macs"], e["backward_macs"]] for e in json.loads(_ledger_of(run))]
    return {
        "costs": sorted(costs),
        "evaluations": [evaluation(json.loads(row)) for row in rows],
        "tables": {name: [without_clocks(row) for row in rows] for name, rows in tables.items()},
        "losses": losses,
        "weights": digest(sorted(hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for t in tensors)),
    }


def _ledger_of(run: Path) -> str:
    return (run / "ledger.json").read_text() if (run / "ledger.json").exists() else "[]"


def evaluation(row: dict[str, Any]) -> list[Any]:
    """One evaluation without its seconds; the architecture as its space and choices, however the row writes it."""
    arch = row["arch"]
    space, choices = (row["space"], row["choices"]) if isinstance(arch, str) else (arch["space"], arch["choices"])
    return [row["phase"], row["step"], space, choices, row["metrics"], row["macs"], row["params"], row.get("error")]


def without_clocks(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not any(word in f" {name} " for word in CLOCKS)}


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where two traces differ, as paths into them."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted(ours.keys() | theirs.keys())
        return [d for n in names for d in differences(ours.get(n), theirs.get(n), f"{place}/{n}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for n, pair in enumerate(zip(ours, theirs, strict=True)) for d in differences(*pair, f"{place}/{n}")]
    return [] if ours == theirs else [f"{place}: {str(ours)[:100]} | {str(theirs)[:100]}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", nargs="*", help="the first letters of their names; none: all of them")
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--preset", default="smoke")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.compare is not None:
        found = []
        for path in sorted(given.folder.glob("*.json")):
            other = given.compare / path.name
            if not other.exists():
                print(f"{path.name}: not in {given.compare}")
                continue
            rows = differences(json.loads(path.read_text()), json.loads(other.read_text()))
            print(f"{path.name}: {len(rows)} differences", *rows[:8], sep="\n  ")
            found += rows
        return 1 if found else 0
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    prefixes = tuple(given.notebooks) or ("",)
    failed = 0
    for notebook in sorted(path for path in NOTEBOOKS.glob("*.ipynb") if path.name.startswith(prefixes)):
        for seed in given.seeds:
            with tempfile.TemporaryDirectory() as runs:
                parameters: dict[str, Any] = {"preset": given.preset, "seed": seed, "runs": runs}
                if seed and "controls" in parameters_of(notebook):
                    parameters["controls"] = "all"
                (done,) = run_notebooks([notebook], parameters=parameters)
                print(f"{notebook.stem} seed {seed}: {done.error or 'done'} in {done.seconds:.0f} s", flush=True)
                if done.run is None or done.error:
                    failed += 1
                    continue
                text = json.dumps(trace(done.run), indent=1)
                (given.folder / f"{notebook.stem}-{seed}.json").write_text(text)
    return failed


if __name__ == "__main__":
    sys.exit(main())
