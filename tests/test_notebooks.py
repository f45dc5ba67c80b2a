"""Every notebook runs in the smoke preset and keeps the house rules (one test per notebook; none while none exists)."""

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.claims import check_captions, check_clean, check_verdicts
from workbench.batch.run import parameters_of, run_notebooks
from workbench.records.run_folder import RunFolder

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted([*PROJECT.glob("notebooks/*.ipynb"), *PROJECT.glob("notebooks/solutions/*.ipynb")])
MOST_CELLS, MOST_LINES, MOST_FUNCTIONS = 30, 20, 3
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@every_notebook
def test_runs_in_smoke(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)  # relative data paths in the notebooks start here
    parameters = {"preset": "smoke", "runs": str(tmp_path)}
    if "finished_runs" in parameters_of(path):
        parameters["finished_runs"] = str(tmp_path / "none")  # not the runs that this checkout happens to hold
    (done,) = run_notebooks([path], parameters=parameters, echo=sys.stdout)
    assert done.error is None and done.run is not None
    run = RunFolder(done.run)
    assert run.status == "finished"
    check_verdicts(run)
    check_captions(run)
    check_clean(done.notebook)


@every_notebook
def test_is_thin(path: Path) -> None:
    """Up to three short functions may show an algorithm, each asserted equal to the package's in its cell."""
    cells = code_cells(path)
    assert len(cells) <= MOST_CELLS
    defined = 0
    for cell in cells:
        assert len(cell.source.splitlines()) <= MOST_LINES, cell.source
        nodes = [*ast.walk(ast.parse(cell.source))]
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.ClassDef) for node in nodes), cell.source
        functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
        defined += len(functions)
        asserted = " ".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Assert))
        assert all(f"{name}(" in asserted for name in functions), f"assert {functions} equal to the package's"
    assert defined <= MOST_FUNCTIONS


@every_notebook
def test_each_cell_is_explained_and_has_no_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    for before, cell in zip([None, *cells], cells, strict=False):
        if cell.cell_type == "code":
            assert before is not None and before.cell_type == "markdown" and before.source.strip(), cell.source
            assert not cell.outputs and cell.execution_count is None, cell.source


@every_notebook
def test_parameters_are_typed_literals(path: Path) -> None:
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert {"preset", "fresh", "runs"} <= set(parameters_of(path))
    types = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.AnnAssign) and isinstance(statement.annotation, ast.Name)
        assert statement.value is not None and isinstance(statement.target, ast.Name)
        assert statement.target.id.islower()
        assert type(ast.literal_eval(statement.value)) is types[statement.annotation.id], statement.target.id


@every_notebook
def test_folders_are_read_by_the_same_parameters(path: Path) -> None:
    """A message that advises bad_boxes or classes is read where there are such parameters."""
    names, passed = parameters_of(path), arguments_of_load_data(path)
    if {"data", "pose_data"} & set(names):
        assert names["bad_boxes"] == "few" and "bad_boxes" in passed
    if {"mask_data", "task"} & set(names):
        assert {"classes", "void"} <= set(names) & passed


RESULTS = r"\b(falls?|rises?|rising|grows?|drops?|widens?|dominates?|beats?|wins?|better|worse|higher|lower)\b"


@every_notebook
def test_no_caption_states_a_result_in_words_written_beforehand(path: Path) -> None:
    """What a figure shows is computed; what a caption says beforehand is only what is drawn."""
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            shown = isinstance(node, ast.Call) and ast.unparse(node.func) == "style.show"
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "alt"
            text = node.args[3] if shown else node.value if named else ast.Constant("")
            written = " ".join(str(part.value) for part in ast.walk(text) if isinstance(part, ast.Constant))
            assert not re.search(RESULTS, written), written


def arguments_of_load_data(path: Path) -> set[str]:
    """The keywords of the notebook's calls of `load_data`, those of a dictionary above it in `**options` among them."""
    found: set[str] = set()
    for cell in code_cells(path):
        options: dict[str, set[str]] = {}
        for statement in ast.parse(cell.source).body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_data":
                    for keyword in node.keywords:
                        found |= {keyword.arg} if keyword.arg else options[ast.unparse(keyword.value)]
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
                keys = {key.value for key in statement.value.keys if isinstance(key, ast.Constant)}
                options |= {ast.unparse(target): keys for target in statement.targets}
    return found


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_no_time_was_left_to_be_filled_in() -> None:
    """Lessons and README say measured times; while they are written, words like TINYTIME stand in their place."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in [*NOTEBOOKS, PROJECT / "README.md"]}
    assert [name for name, text in texts.items() if re.search(r"(SMOKE|TINY|SMALL)(TIME|\d\d)", text)] == []
