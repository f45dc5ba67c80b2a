"""Reports of runs: one self-contained HTML page, or Markdown tables aggregated over seeds."""

import base64
import contextlib
import html
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat

from workbench.batch.tables import aggregate, number, table_names
from workbench.records.files import compiled, digest, fields, read_json, write_text
from workbench.records.progress import duration
from workbench.records.run_folder import NOT_IDENTITY, RunFolder

COMMAND = compiled(fields({"notebook": "string", "parameters": "object"}), "the command of a run")
OBJECT = compiled({"type": "object"}, "a JSON object")


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
    sections = [_section(title_of(group.runs[0]), group, only) for group in groups if group.runs]
    write_text(path, _rendered("report.md", sections))


def write_html(runs: Sequence[RunFolder], path: str | Path) -> None:
    """Write one page that needs no other file: tables, figures, parameters, costs and environment of each run."""
    several = [group for group in group_runs(runs) if len(group.runs) > 1]
    sections = [_section(f"{title_of(group.runs[0])}, {len(group.runs)} seeds", group) for group in several]
    sections += [_section_of_run(run, Path(path).parent) for run in runs]
    write_text(path, _rendered("report.html", sections))


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
        "command": command_of(runs),
    }
    return {**lines, "left out": "; ".join(group.left_out)} if group.left_out else lines


def command_of(runs: Sequence[RunFolder]) -> str:
    """The command that repeats these runs (they differ only in their seed)."""
    saved = [_read(run.path / "command.json", COMMAND) for run in runs]
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


def _rendered(template: str, sections: Sequence[dict[str, Any]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["zip"] = zip
    environment.filters |= {"markdown": _in_markdown, "duration": duration, "macs": partial(number, "macs")}
    return environment.get_template(template).render(sections=sections)


def _in_markdown(text: object) -> str:
    """One line that Markdown shows as it is: no tags, no further cells of a table."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def _section(title: str, group: Group, only: Sequence[str] = ()) -> dict[str, Any]:
    names = [name for name in table_names(group.runs) if not only or name in only]
    return {"title": title, "facts": facts(group), "tables": [aggregate(group.runs, name) for name in names]}


def _section_of_run(run: RunFolder, base: Path) -> dict[str, Any]:
    """What the page shows of one run; links are relative to `base`."""
    notebook = run.path / "notebook.ipynb"
    return {
        **_section(f"{title_of(run)}, seed {run.seed}", Group(runs=(run,), left_out=())),
        "run": run,
        "scores": run.scores(),
        "notebook": os.path.relpath(notebook, base) if notebook.exists() else "",
        "figures": _figures(run),
        "environment": _read(run.path / "env.json"),
    }


def _figures(run: RunFolder) -> list[tuple[str, str]]:
    """The words for each figure and its PNG in base64, in the order they were drawn."""
    captions = _read(run.path / "figures" / "captions.json")
    paths = sorted((run.path / "figures").glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [(captions.get(path.name, path.stem), base64.b64encode(path.read_bytes()).decode()) for path in paths]


def _read(path: Path, checked: Callable[[object], Any] = OBJECT) -> dict[str, Any]:
    """The JSON object in a file, empty when there is no file."""
    return dict(read_json(path, checked)) if path.is_file() else {}


def _commit(run: RunFolder) -> str:
    state = _read(run.path / "env.json").get("git")
    if not isinstance(state, dict):
        return "none (not a git checkout)"
    return str(state.get("commit") or "none yet")[:12] + (" with local changes" if state.get("dirty") else "")


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
