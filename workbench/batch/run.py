"""Notebooks executed without a person: strict parameters, sweeps, and everything kept in the run folder."""

import ast
import contextlib
import difflib
import itertools
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError

from workbench.methods.engine import check_engine, open_engine
from workbench.records.files import base_folder, lock, write_json
from workbench.records.parameters import fitting
from workbench.records.run_folder import MIME_TYPE, RunFolder

INTERRUPTED = "interrupted"
LONGEST_NAME = 200  # bytes of a file's name
PACKAGE_HOME = str(Path(__file__).resolve().parents[2])


class Executed(NamedTuple):
    """One executed notebook; `run` is None when it never opened a run folder, `error` None when it finished."""

    source: Path
    seconds: float
    notebook: Path  # the executed copy, partial when it failed
    run: Path | None
    error: str | None


def run_notebooks(
    notebooks: Sequence[str | Path],
    *,
    parameters: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    engine: str = "local",
    workers: int = 0,
    echo: TextIO | None = None,
) -> Iterator[Executed]:
    """Execute each notebook once per combination of the swept values, yielding each as it ends.

    Kernels run this interpreter in the current folder. Text values are read as the parameter's type. All names and
    values are checked before the first kernel starts: ValueError for a notebook or a parameter that does not fit.
    `echo` receives what the cells print. A notebook that fails does not stop the others.

    With another `engine` than "local" (see `open_engine`) its `workers` execute several runs at a time, which then do
    not echo; a single run gets engine and workers as parameters instead.
    """
    given, swept = dict(parameters or {}), dict(sweep or {})
    check_engine(engine, workers)
    single = len(notebooks) * math.prod(map(len, swept.values())) == 1
    if single and engine != "local":
        given |= {"engine": engine, "workers": workers}
    if twice := sorted(set(given) & set(swept)):
        raise ValueError(f"Expected each parameter once, but {twice} are both set and swept; drop one of the two.")
    jobs = []
    for notebook in map(Path, notebooks):
        known = parameters_of(notebook)
        for values in itertools.product(*swept.values()):
            chosen = {**given, **dict(zip(swept, values, strict=True))}
            checked = {name: fitting(str(notebook), known, name, value) for name, value in chosen.items()}
            home = base_folder() / str({"runs": "runs", **known, **checked}["runs"])
            _check_place(home)
            jobs.append((notebook, checked, home))
    device = "cpu" if all(checked.get("device") == "cpu" for _, checked, _ in jobs) else "auto"
    who = open_engine("local") if single else open_engine(engine, workers, device)
    ended = who.runs(partial(_execute, echo=None if who.remote else echo), jobs)
    return (done if isinstance(done, Executed) else _lost(jobs[number][0], done) for number, done in ended)


def _lost(source: Path, error: Exception) -> Executed:
    """A run whose worker died; its folder is not known here, but the same command continues it."""
    return Executed(source, 0.0, source, None, str(error))


def parameters_of(notebook: Path) -> dict[str, Any]:
    """Name and default value of each parameter in the notebook's parameters cell; ValueError when it has none."""
    if not notebook.is_file():
        near = difflib.get_close_matches(notebook.name, [path.name for path in notebook.parent.glob("*.ipynb")], n=1)
        hint = f"did you mean {notebook.parent / near[0]}?" if near else "give the path of an .ipynb file."
        raise ValueError(f"Expected a notebook at {notebook}, but there is none; {hint}")
    _check_place(notebook)
    try:
        found = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # nbformat, papermill and json each have errors of their own for a broken file
        raise ValueError(f"{notebook} cannot be read as a notebook ({error}); restore it.") from error
    if not found:
        raise ValueError(f"{notebook} has no parameters; tag a cell 'parameters' and assign literals there.")
    try:
        return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"The parameters cell of {notebook} may hold only literals: {error}.") from error


def _check_place(path: Path) -> None:
    """ValueError for a path that papermill or the file system would not take as it is."""
    if {"{", "}"} & set(str(path)):
        raise ValueError(f"Expected a path without braces (papermill would fill them in), got {path}; rename it.")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"Expected names of at most {LONGEST_NAME} bytes in the path (of runs), got {path!s:.80}...")


class _ThisInterpreter(AsyncKernelManager):
    """Starts the kernel with the running interpreter, whatever kernels are installed on the machine."""

    kernel_spec = KernelSpec(
        # Log level 50: each start would else warn that a local kernel talks unencrypted.
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=50"],
        env={
            "WORKBENCH_HEADLESS": "1",
            # Without the second renderer nbconvert's HTML of an executed notebook contains no plotly figure.
            "PLOTLY_RENDERER": "plotly_mimetype+notebook_connected",
            "PYTHONPATH": os.pathsep.join(filter(None, [PACKAGE_HOME, os.environ.get("PYTHONPATH")])),
        },
    )


def _execute(source: Path, chosen: dict[str, Any], home: Path, echo: TextIO | None) -> Executed:
    sweep_hidden(home)
    partial = home / f".{uuid.uuid4().hex}.ipynb"  # hidden until its run folder is known
    alive = lock(partial.with_suffix(".lock"))  # so that no other runner sweeps it
    start, error = time.monotonic(), None
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=chosen,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_ThisInterpreter,
            progress_bar=False,
            stdout_file=echo,
        )
    except PapermillExecutionError as failure:
        error = f"cell In [{failure.exec_count}]: {failure.ename}: {failure.evalue}"
    except KeyboardInterrupt:
        error = INTERRUPTED
    except DeadKernelError:  # a Ctrl-C may also reach us as this
        error = "the kernel died (out of memory, or interrupted)"
    except (PapermillException, RuntimeError, TimeoutError) as failure:
        error = f"the notebook could not be executed: {failure}"
    seconds = time.monotonic() - start
    run = run_of(partial) if partial.exists() else None
    kept = run.path / "notebook.ipynb" if run else home / source.name
    if partial.exists():
        partial.replace(kept)
    partial.with_suffix(".lock").unlink(missing_ok=True)
    del alive
    if run:
        write_json(run.path / "command.json", {"notebook": source.as_posix(), "parameters": chosen})
        if error is None and run.status != "finished":
            error = "the notebook ended, but its run is not finished; end it with run.finish()"
        if error:
            run.fail(error)
    if error == INTERRUPTED:
        raise KeyboardInterrupt
    return Executed(source, seconds, kept, run.path if run else None, error)


def sweep_hidden(home: Path) -> None:
    """Removes the hidden notebooks of killed runners; those of living ones are locked."""
    for left in home.glob(f".{'[0-9a-f]' * 32}.ipynb"):
        if (held := lock(left.with_suffix(".lock"))) is not None:
            left.unlink(missing_ok=True)
            left.with_suffix(".lock").unlink(missing_ok=True)
            held.release()


def run_of(notebook: Path) -> RunFolder | None:
    """The run that an executed notebook showed last, or None."""
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", [])]
    shown = [output.data[MIME_TYPE] for output in outputs if MIME_TYPE in output.get("data", {})]
    with contextlib.suppress(TypeError, LookupError, ValueError):
        return RunFolder(shown[-1]["path"])
    return None
