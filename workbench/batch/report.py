"""Reports of runs: one self-contained HTML page, or Markdown tables aggregated over seeds."""

import base64
import contextlib
import html
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from workbench.batch.tables import Table, aggregate, as_html, as_markdown, number, table_names
from workbench.records.files import digest, read_json, write_text
from workbench.records.progress import duration
from workbench.records.run_folder import NOT_IDENTITY, RunFolder

STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one notebook whose parameters differ only in the seed, one run per seed, in the order of the seeds."""

    runs: tuple[RunFolder, ...]
    left_out: tuple[str, ...]  # sentences: which run was not counted, and why


def find_runs(paths: Sequence[str | Path]) -> list[RunFolder]:
    """The runs that the paths name: a run folder itself, or the newest run in a notebook's folder.

    A folder of notebook folders (`runs`) stands for the newest run of each. ValueError for anything else.
    """
    found: list[RunFolder] = []
    for path in map(Path, paths):
        if (path / "params.json").is_file():
            found.append(RunFolder(path))
            continue
        homes = [path, *sorted(child for child in path.glob("*") if child.is_dir())]
        newest = [max(runs, key=_age) for runs in map(_children, homes) if runs]
        if not newest:
            raise ValueError(f"Expected a run folder (it holds params.json), got {path}; look below runs/.")
        found += [RunFolder(run) for run in newest]
    return found


def group_runs(runs: Sequence[RunFolder]) -> list[Group]:
    """Groups in the order of their first run; unfinished runs and older runs of the same seed are left out."""
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        groups.setdefault(digest({"notebook": run.notebook, "params": _shared(run)}), []).append(run)
    result = []
    for members in groups.values():
        by_seed: dict[int, RunFolder] = {}
        left_out = [f"{run.path} is {run.status}" for run in members if run.status != "finished"]
        finished = {run.path.resolve(): run for run in members if run.status == "finished"}  # a run named twice is one
        for run in sorted(finished.values(), key=lambda run: _age(run.path)):
            if run.seed in by_seed:
                left_out.append(f"{by_seed[run.seed].path} is an older run of seed {run.seed}")
            by_seed[run.seed] = run
        result.append(Group(runs=tuple(by_seed[seed] for seed in sorted(by_seed)), left_out=tuple(left_out)))
    return result


def write_markdown(runs: Sequence[RunFolder], path: str | Path, only: Sequence[str] = ()) -> None:
    """Write the tables of the finished runs (or `only` those named), aggregated over seeds.

    ValueError when no run is finished, or when none has a table that was named.
    """
    if unknown := sorted(set(only) - set(table_names(runs))):
        raise ValueError(f"No run of those has a table {unknown[0]!r}; their tables: {', '.join(table_names(runs))}.")
    groups = group_runs(runs)
    if not any(group.runs for group in groups):
        raise ValueError(f"Expected a finished run, but {'; '.join(groups[0].left_out)}; finish it first.")
    parts = ["<!-- Written by `python -m workbench report --markdown`; run it again instead of editing. -->\n"]
    for group in groups:
        if group.runs:
            parts.append(f"## {title_of(group.runs[0])}\n")
            parts.append("\n".join(f"- {name}: {text}" for name, text in facts(group).items()) + "\n")
            names = [name for name in table_names(group.runs) if not only or name in only]
            parts += [as_markdown(aggregate(group.runs, name)) for name in names]
    write_text(path, "\n".join(parts))


def write_html(runs: Sequence[RunFolder], path: str | Path) -> None:
    """Write one page that needs no other file: tables, figures, parameters, costs and environment of each run."""
    path = Path(path)
    body, links = [], []
    for position, group in enumerate(group_runs(runs)):
        if len(group.runs) > 1:
            links.append((f"group{position}", f"{title_of(group.runs[0])}, {len(group.runs)} seeds"))
            tables = "\n".join(as_html(aggregate(group.runs, name)) for name in table_names(group.runs))
            heading = f"<h2>{html.escape(links[-1][1])}</h2>\n{_definitions(facts(group))}"
            body.append(f"<section id='group{position}'>{heading}\n{tables}</section>\n")
    for position, run in enumerate(runs):
        links.append((f"run{position}", f"{title_of(run)}, seed {run.seed}"))
        body.append(_run_section(run, f"run{position}", path.parent))
    navigation = "".join(f"<a href='#{anchor}'>{html.escape(text)}</a>" for anchor, text in links)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Workbench report</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body><main>
<h1>Workbench report</h1>
<nav>{navigation}</nav>
{"".join(body)}
</main></body>
</html>
"""
    write_text(path, page)


def facts(group: Group) -> dict[str, str]:
    """What every reported number must say of itself: preset, data, seeds, interval, date, commit and command."""
    runs, first = group.runs, group.runs[0]
    n = len(runs)
    meaning = "no interval (n = 1)" if n == 1 else "cells are mean [95 % t-interval] over the seeds"
    commits = dict.fromkeys(_commit(run) for run in runs)
    digests = ", ".join(dict.fromkeys(run.data_digest for run in runs))
    lines = {
        "preset": str(first.params.get("preset", "–")),
        "data": f"{_sources(first)} (digest {digests})",
        "seeds": f"{', '.join(str(run.seed) for run in runs)}; n = {n}; {meaning}",
        "date": ", ".join(dict.fromkeys(run.started[:10] for run in runs)),
        "git commit": ", ".join(commits),
        "command": f"`{command_of(runs)}`",
    }
    return {**lines, "left out": "; ".join(group.left_out)} if group.left_out else lines


def command_of(runs: Sequence[RunFolder]) -> str:
    """The command that repeats these runs (they differ only in their seed)."""
    saved = [_object(run.path / "command.json") for run in runs]
    if not all(saved):
        return "run by hand in JupyterLab"
    skipped = (*NOT_IDENTITY, "seed") if len(runs) > 1 else NOT_IDENTITY
    words = ["python", "-m", "workbench", "run", str(saved[0]["notebook"])]
    for name, value in saved[0]["parameters"].items():
        if name not in skipped:
            words += ["-p", str(name), str(value)]
    if len(runs) > 1:
        words += ["--sweep", "seed=" + ",".join(str(run.seed) for run in runs)]
    return shlex.join(words)


def title_of(run: RunFolder) -> str:
    """The first heading of the executed notebook, or its name."""
    path = run.path / "notebook.ipynb"
    if path.is_file():
        with contextlib.suppress(nbformat.reader.NotJSONError, nbformat.ValidationError):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.cell_type == "markdown" and cell.source.startswith("# "):
                    return str(cell.source.splitlines()[0].removeprefix("# ").strip())
    return run.notebook


def _run_section(run: RunFolder, anchor: str, base: Path) -> str:
    alone = facts(Group(runs=(run,), left_out=()))
    notebook = run.path / "notebook.ipynb"
    status = html.escape(run.status)
    environment = _object(run.path / "env.json")
    scores = run.scores()
    failed = sum(score.error is not None for score in scores)
    parts = [
        f"<h2>{html.escape(title_of(run))}, seed {run.seed}</h2>",
        f"<p class='note'>{html.escape(str(run.path))} is "
        + (status if run.status == "finished" else f"<span class='bad'>{status}</span>")
        + (f"; evaluations: {len(scores)}, with an error: {failed}" if scores else "")
        + (f"; <a href='{html.escape(os.path.relpath(notebook, base))}'>notebook</a>" if notebook.exists() else "")
        + "</p>",
        _definitions(alone),
        *(as_html(aggregate([run], name)) for name in table_names([run])),
        *_figures(run),
        *([as_html(_costs(run))] if run.ledger.entries else []),
        f"<details><summary>Parameters</summary>{_definitions(run.params)}</details>",
        f"<details><summary>Environment</summary>{_definitions(environment)}</details>",
    ]
    return f"<section id='{anchor}'>" + "\n".join(parts) + "</section>\n"


def _figures(run: RunFolder) -> list[str]:
    captions = _object(run.path / "figures" / "captions.json")
    figures = []
    paths = (run.path / "figures").glob("*.png")
    for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        alt = html.escape(str(captions.get(path.name, path.stem)))
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        image = f"<img alt='{alt}' src='data:image/png;base64,{data}'>"
        figures.append(f"<figure>{image}<figcaption>{alt}</figcaption></figure>")
    return figures


def _costs(run: RunFolder) -> Table:
    rows = []
    for entry in (*run.ledger.entries, run.ledger.total()):
        memory = f"{entry.peak_memory / 1e6:,.0f} MB" if entry.peak_memory else "–"
        macs = [number("macs", value) for value in (entry.forward_macs, entry.backward_macs)]
        name = f"{entry.phase} (cached)" if entry.cached and entry.phase != "total" else entry.phase
        rows.append((name, duration(entry.seconds), f"{entry.images:,}", *macs, memory))
    columns = ("phase", "time", "images seen", "forward MACs", "backward MACs", "peak memory")
    note = "Cached phases are counted at their original cost; the total of the peaks is the largest."
    return Table(title="Cost", note=note, columns=columns, numeric=(False, *[True] * 5), rows=tuple(rows))


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty when there is no file."""
    value = read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path}, got a {type(value).__name__}; delete it.")
    return value


def _commit(run: RunFolder) -> str:
    state = _object(run.path / "env.json").get("git")
    if not isinstance(state, dict):
        return "none (not a git checkout)"
    return str(state.get("commit") or "none yet")[:12] + (" with local changes" if state.get("dirty") else "")


def _definitions(values: dict[str, Any]) -> str:
    items = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{_definition(v)}</dd>" for k, v in values.items())
    return f"<dl>{items}</dl>"


def _definition(value: object) -> str:
    text = str(value)
    if len(text) > 2 and text.startswith("`") and text.endswith("`"):
        return f"<code>{html.escape(text[1:-1])}</code>"
    return html.escape(text)


def _shared(run: RunFolder) -> dict[str, Any]:
    return {name: value for name, value in run.params.items() if name not in (*NOT_IDENTITY, "seed")}


def _children(folder: Path) -> list[Path]:
    return [child for child in folder.glob("*") if (child / "params.json").is_file()]


def _age(run: Path) -> tuple[int, str]:
    status = run / "status"
    return (status.stat().st_mtime_ns if status.exists() else 0, run.name)


def _sources(run: RunFolder) -> str:
    """The data that a run names: its parameter `data`, or one for each task (`mask_data`, `pose_data`)."""
    if data := run.params.get("data"):
        return str(data)
    named = {name: value for name, value in run.params.items() if name.endswith("_data") and name != "pretrain_data"}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value) or "scenes"
