"""Reports of runs: one self-contained HTML page, JSON, or Markdown tables aggregated over seeds."""

import contextlib
import html
import json
import os
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat

from workbench.batch.tables import aggregate, table_names
from workbench.evaluation.numbers import number
from workbench.evaluation.verdict import Comparison, judge
from workbench.records.files import compiled, digest, fields, read_json, write_text
from workbench.records.progress import duration
from workbench.records.run_folder import NOT_IDENTITY, RunFolder, read_table

COMMAND = compiled(fields({"notebook": "string", "parameters": "object"}, {"ran_by": "string"}), "command")
OBJECT = compiled({"type": "object"}, "content")


def find_runs(paths: Sequence[str | Path]) -> list[RunFolder]:
    """The runs that the paths name: a run folder itself, or the newest run in a notebook's folder.

    A folder of notebook folders (`runs`) stands for the newest run of each. ValueError for anything else.
    """
    found: list[RunFolder] = []
    for path in map(Path, paths):
        own = [path] if (path / "params.json").is_file() else []
        homes = [[file.parent for file in home.glob("*/params.json")] for home in (path, *sorted(path.glob("*")))]
        newest = own or [max(runs, key=_age) for runs in homes if runs]
        if not newest:
            raise ValueError(f"Expected a run folder (it holds params.json), got {path}; look below runs/.")
        found += map(RunFolder, newest)
    return found


def group_runs(runs: Sequence[RunFolder]) -> list[tuple[list[RunFolder], list[str]]]:
    """The newest finished run of each seed, grouped by notebook and other parameters; and sentences on the other runs.

    Groups come in the order of their first run, runs in that of their seeds. The sentences say which runs were left out
    (unfinished, or older than another of its seed).
    """
    groups: dict[str, tuple[dict[int, RunFolder], list[str]]] = {}
    for run in {run.path.resolve(): run for run in runs}.values():  # a run named twice is one
        shared = {name: value for name, value in run.params.items() if name not in (*NOT_IDENTITY, "seed")}
        by_seed, left_out = groups.setdefault(digest({"notebook": run.notebook, "params": shared}), ({}, []))
        if run.status != "finished":
            left_out.append(f"{run.path} is {run.status}")
            continue
        older, newest = sorted((by_seed.get(run.seed, run), run), key=lambda run: _age(run.path))
        if older is not newest:
            left_out.append(f"{older.path} is an older run of seed {run.seed}")
        by_seed[run.seed] = newest
    return [([by_seed[seed] for seed in sorted(by_seed)], left_out) for by_seed, left_out in groups.values()]


def write_markdown(runs: Sequence[RunFolder], path: str | Path, only: Sequence[str] = ()) -> None:
    """Write verdicts and tables of the finished runs, or `only` the tables named; aggregated over seeds.

    ValueError when no run is finished, or when none has a table that was named.
    """
    if unknown := sorted(set(only) - set(table_names(runs))):
        raise ValueError(f"No run of those has a table {unknown[0]!r}; their tables: {', '.join(table_names(runs))}.")
    groups = group_runs(runs)
    sections = [_section(title_of(found[0]), found, left_out, only) for found, left_out in groups if found]
    if not sections:
        raise ValueError(f"Expected a finished run, but {'; '.join(groups[0][1])}; finish it first.")
    write_text(path, rendered("report.md", sections=sections, opening=[] if only else sections))


def write_html(runs: Sequence[RunFolder], path: str | Path, pages: Mapping[Path, str] | None = None) -> None:
    """Write one page that needs no other file; of runs that are still going it shows what they have so far.

    It opens with the verdicts: over seeds where there are several, else of the run. Then tables, figures, parameters,
    costs and environment of each run. `pages` are links to the executed notebooks of run folders, else to their files.
    """
    together = sections_over_seeds(runs)
    single = [_section_of_run(run, Path(path).parent, pages) for run in runs]
    told = {run.path for section in together for run in section["runs"]}
    alone = [section for section in single if section["run"].path not in told]
    write_text(path, rendered("report.html", sections=[*together, *single], opening=[*together, *alone]))


def sections_over_seeds(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """What a page says of finished runs that differ only in their seed, where there are several."""
    several = [group for group in group_runs(runs) if len(group[0]) > 1]
    return [_section(f"{title_of(found[0])}, {len(found)} seeds", found, rest) for found, rest in several]


def as_json(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The report for a program: each run with its raw tables, and aggregated texts where there are several seeds."""
    over_seeds = [
        {**section, "runs": [str(run.path) for run in section["runs"]], "tables": list(map(asdict, section["tables"]))}
        for section in sections_over_seeds(runs)
    ]
    single = [
        {
            "path": str(run.path),
            "title": title_of(run),
            "notebook": run.notebook,
            "seed": run.seed,
            "status": run.status,
            "started": run.started,
            "parameters": run.params,
            "facts": facts([run]),
            "verdicts": run.verdicts(),
            "tables": {name: read_table(run.path, name) for name in table_names([run])},
            "figures": captions_of(run),
            "costs": list(map(asdict, run.ledger.entries)),
            "environment": read_json(run.path / "env.json", OBJECT, missing={}),
        }
        for run in runs
    ]
    return {"runs": single, "over_seeds": over_seeds}


def verdicts(runs: Sequence[RunFolder]) -> list[str]:
    """A sentence for each method of runs that differ only in their seed; that of one run stands as it was saved.

    ValueError when the runs compare different rows.
    """
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in (record for run in runs for record in run.verdicts()):
        by_method.setdefault(record["method"], []).append(record)
    return [
        records[0]["sentence"] if len(records) == 1 else judge([*map(Comparison.from_json, records)]).sentence
        for records in by_method.values()
    ]


def facts(runs: Sequence[RunFolder], left_out: Sequence[str] = ()) -> dict[str, str]:
    """What every reported number must say of itself: preset, data, seeds, interval, date, commit and command."""
    first, n = runs[0], len(runs)
    meaning = "no interval (n = 1)" if n == 1 else "cells are mean [95 % t-interval] over the seeds"
    lines = {
        "preset": str(first.params.get("preset", "–")),
        "data": f"{_sources(first)} (digest {_each(run.data_digest for run in runs)})",
        "seeds": f"{_each(str(run.seed) for run in runs)}; n = {n}; {meaning}",
        "date": _each(run.started[:10] for run in runs),
        "git commit": _each(map(_commit, runs)),
        "command": command_of(runs),
    }
    return {**lines, "left out": "; ".join(left_out)} if left_out else lines


def command_of(runs: Sequence[RunFolder]) -> str:
    """The command that repeats these runs (they differ only in their seed)."""
    saved = [read_json(run.path / "command.json", COMMAND, missing={}) for run in runs]
    if not all(saved):
        return "run by hand in JupyterLab"
    skipped = (*NOT_IDENTITY, "seed") if len(runs) > 1 else NOT_IDENTITY
    notebook, given = str(saved[0]["notebook"]), saved[0]["parameters"]
    given = {name: value for name, value in given.items() if name not in skipped}
    if len(runs) == 1 and saved[0].get("ran_by") == "papermill":
        return shlex.join(["papermill", notebook, "executed.ipynb", "-y", json.dumps(given)])
    words = ["python", "-m", "workbench", "run", notebook]
    for name, value in given.items():
        words += ["-p", str(name), str(value)]
    if len(runs) > 1:
        words += ["--sweep", "seed=" + ",".join(str(run.seed) for run in runs)]
    return shlex.join(words)


def title_of(run: RunFolder, notebook: Any = None) -> str:
    """The first heading of the executed notebook (of the run's own, if none is given), or its name."""
    with contextlib.suppress(Exception):  # none, or damaged in any way
        for cell in (notebook or read_notebook(run.path / "notebook.ipynb")).cells:
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                return str(cell.source.splitlines()[0].removeprefix("# ").strip())
    return run.notebook


def read_notebook(path: Path) -> Any:
    """A notebook; ValueError for any other file, and for none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat, json and the file system each have errors of their own
        raise ValueError(f"{path} cannot be read as a notebook: {error}.") from error


def captions_of(run: RunFolder) -> dict[str, str]:
    """The alt texts of the run's figures, by file name."""
    captions: dict[str, str] = read_json(run.path / "figures" / "captions.json", OBJECT, missing={})
    return captions


def state_of(run: RunFolder) -> str:
    """The run's status, with what it means where it has not ended."""
    going = "still going, or killed: this is what it has so far, and the same command continues it"
    return going if run.status == "running" else run.status


def rendered(template: str, **values: Any) -> str:
    """One of the templates in this folder with these values."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("workbench.batch"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"markdown": _in_markdown, "duration": duration, "macs": partial(number, "macs")}
    environment.filters |= {"flat": _flat, "state": state_of}
    return environment.get_template(template).render(zip=zip, **values)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values under names such as "plan, search, steps"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        found |= {", ".join(filter(None, (name, key))): each for key, each in inner.items()}
    return found


def _in_markdown(text: object) -> str:
    """One line that Markdown shows as it is: no tags, no further cells of a table."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def _section(
    title: str, runs: Sequence[RunFolder], left_out: Sequence[str] = (), only: Sequence[str] = ()
) -> dict[str, Any]:
    names = [name for name in table_names(runs) if not only or name in only]
    tables = [aggregate(runs, name) for name in names]
    parts = {"title": title, "verdicts": verdicts(runs), "facts": facts(runs, left_out), "tables": tables}
    return {**parts, "runs": list(runs)}


def _section_of_run(run: RunFolder, base: Path, pages: Mapping[Path, str] | None) -> dict[str, Any]:
    """What the page shows of one run; links are relative to `base`, figures in the order they were drawn."""
    notebook, figures = run.path / "notebook.ipynb", run.path / "figures"
    captions = captions_of(run)
    link = os.path.relpath(notebook, base) if notebook.exists() else ""
    link = link if pages is None else pages.get(run.path, "")
    paths = sorted(figures.glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return {
        **_section(f"{title_of(run)}, seed {run.seed}", [run]),
        "run": run,
        "scores": run.scores(),
        "notebook": link,
        "figures": [(captions.get(path.name, path.stem), *_embedded(path)) for path in paths],
        "environment": read_json(run.path / "env.json", OBJECT, missing={}),
    }


def _embedded(path: Path) -> tuple[str, int]:
    """A PNG in base64, and the width in CSS pixels at which its letters have the size that they were drawn for."""
    data = path.read_bytes()
    return b64encode(data).decode(), int.from_bytes(data[16:20], "big") * 100 // 150


def _commit(run: RunFolder) -> str:
    state = read_json(run.path / "env.json", OBJECT, missing={}).get("git")
    if not isinstance(state, dict):
        return "none (not a git checkout)"
    return str(state.get("commit") or "none yet")[:12] + (" with local changes" if state.get("dirty") else "")


def _age(run: Path) -> tuple[int, str]:
    status = run / "status"
    return (status.stat().st_mtime_ns if status.exists() else 0, run.name)


def _sources(run: RunFolder) -> str:
    """The data that a run names: its parameter `data`, or one for each task (`mask_data`, `pose_data`)."""
    if data := run.params.get("data"):
        return str(data)
    named = {name: value for name, value in run.params.items() if name.endswith("_data") and name != "pretrain_data"}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value) or "scenes"


def _each(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
