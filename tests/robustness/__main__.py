"""The long form of the tests beside it: mutated files of every format, killed writers, killed notebooks, two at once.

    python -m tests.robustness                            # 10,000 inputs, 160 killed writers, 40 killed notebooks
    python -m tests.robustness --inputs 500 --writers 8 --kills 4 --markdown short.md

Writes a table of what became of them, and ends with 1 when anything was neither a result nor a sentence.
"""

import argparse
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np

from tests.robustness import kills
from tests.robustness.mutations import Tally, examine
from tests.robustness.subjects import subjects
from workbench.batch.report import _in_markdown
from workbench.records.environment import environment
from workbench.records.files import write_text
from workbench.records.run_folder import RunFolder


def mutated(root: Path, inputs: int, seed: int) -> dict[str, Tally]:
    """What became of `inputs` files, equally many of every format."""
    every = list(subjects(root))
    return {each.name: examine(each, -(-inputs // len(every)), root, seed) for each in every}


def killed_writers(root: Path, count: int, rng: np.random.Generator) -> Tally:
    run, tally = RunFolder.open(root, "writers", {}, seed=0, data_digest="d"), Tally()
    del run._lock
    for _ in range(count):
        wrong = kills.kill_a_writer(run, rng.uniform(0.02, 0.5))
        tally.inputs, tally.results = tally.inputs + 1, tally.results + (not wrong)
        tally.failures += wrong
    return tally


def killed_notebook(root: Path, name: str, count: int, rng: np.random.Generator) -> Tally:
    """A command that is killed again and again until it ends, against one that never was; anew until `count` kills."""
    path, parameters = kills.PROJECT / "notebooks" / f"{name}.ipynb", {"preset": "smoke", "seed": 1}
    start = time.monotonic()
    whole, _ = kills.run_with_kills(path, root / name / "whole", parameters, 0, rng, 0)
    longest, tally = time.monotonic() - start, Tally()
    for turn in range(3 * count):
        if tally.inputs < count:
            place = root / name / f"killed {turn}"
            run, done = kills.run_with_kills(path, place, parameters, count - tally.inputs, rng, longest)
            wrong = kills.compare(run, whole)
            tally.inputs, tally.results = tally.inputs + done, tally.results + (0 if wrong else done)
            tally.failures += wrong
    return tally


def two_at_once(root: Path, name: str) -> Tally:
    """One command in two processes: two runs that are the same, and a cache that both use."""
    path = kills.PROJECT / "notebooks" / f"{name}.ipynb"
    both = [kills.start(path, root / "both", {"preset": "smoke", "seed": 1}) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    found = kills.finished(root / "both", path)
    if [process.returncode for process in both] != [0, 0] or len(found) != 2:
        return Tally(inputs=2, failures=[f"{len(found)} runs finished: {text[-300:]}" for text in texts])
    wrong = kills.compare(*found)
    return Tally(inputs=2, results=0 if wrong else 2, failures=wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=160, help="processes killed inside their writes")
    parser.add_argument("--kills", type=int, default=40, help="kills of notebooks, shared by the four methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path, default=Path("data/results/robustness.md"))
    given = parser.parse_args()
    matplotlib.use("Agg")
    warnings.simplefilter("error")
    rng, start = np.random.default_rng(given.seed), time.monotonic()
    rows: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def add(name: str, work: Callable[[], Tally]) -> None:
            rows[name] = work()
            minutes = (time.monotonic() - start) / 60
            print(f"{minutes:.1f} min: {name}", *rows[name].failures, sep="\n  ", flush=True)

        rows |= mutated(root / "files", given.inputs, given.seed)
        add("writers killed inside their writes", lambda: killed_writers(root, given.writers, rng))
        for name in kills.METHODS if given.kills else ():
            share = -(-given.kills // len(kills.METHODS))
            add(f"{name} in smoke, killed and continued", lambda n=name, s=share: killed_notebook(root, n, s, rng))  # type: ignore[misc]
        if given.kills:
            add("10_detnas in smoke, twice at once", lambda: two_at_once(root, "10_detnas"))
    minutes = (time.monotonic() - start) / 60
    write_text(given.markdown, summary(rows, given, minutes))
    failures = [failure for tally in rows.values() for failure in tally.failures]
    print(*failures, f"{len(failures)} other ends, {minutes:.0f} min, {given.markdown}", sep="\n")
    return 1 if failures else 0


def summary(rows: dict[str, Tally], given: argparse.Namespace, minutes: float) -> str:
    """The table as Markdown, with what every table says of itself."""
    options = [f"--{name} {getattr(given, name)}" for name in ("inputs", "writers", "kills", "seed")]
    found = environment("")
    commit = (
        found["git"]["commit"][:12] + (" with local changes" if found["git"]["dirty"] else "") if found["git"] else "–"
    )
    lines = [
        "<!-- Written by `python -m tests.robustness`; run it again instead of editing. -->",
        "",
        "# What damaged files, kills and races do",
        "",
        f"- command: `{shlex.join(['python', '-m', 'tests.robustness', *' '.join(options).split()])}`",
        f"- date: {datetime.now(UTC).date()}; git commit: {commit}; {minutes:.0f} minutes; Python {found['python']}",
        "- every file is read as its users read it; a *sentence* is a ValueError that names the file and a remedy",
        "- runs are compared without their clocks: evaluations, tables, costs, losses and every byte of the weights",
        "",
        "| what | inputs | results | sentences | other ends |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    every = Tally()
    for name, tally in rows.items():
        lines.append(f"| {name} | {tally.inputs} | {tally.results} | {tally.sentences} | {len(tally.failures)} |")
        every.inputs, every.results = every.inputs + tally.inputs, every.results + tally.results
        every.sentences += tally.sentences
        every.failures += tally.failures
    numbers = (every.inputs, every.results, every.sentences, len(every.failures))
    lines.append("| **all** | " + " | ".join(f"**{number}**" for number in numbers) + " |")
    lines += ["", *(f"- {_in_markdown(failure)}" for failure in every.failures)]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
