import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.batch.run import parameters_of, run_notebooks
from workbench.records.files import read_json
from workbench.records.run_folder import RunFolder

PARAMETERS = """
preset: str = "tiny"
seed: int = 0
rate: float = 0.5
quick: bool = False
sizes: list = [1, 2]
fresh: bool = False
runs: str = "runs"
"""
# Each kernel would spend seconds on importing torch for env.json, which is tested elsewhere.
OPEN = """
from workbench.records import run_folder
from workbench.records.run_folder import RunFolder

run_folder.environment = lambda data_digest: {"data_digest": data_digest}
params = {"preset": preset, "rate": rate, "quick": quick, "sizes": sizes}
run = RunFolder.open(runs, "lesson", params, seed=seed, data_digest="d", fresh=fresh)
run
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    first = new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=metadata), path)
    return path


def test_parameters_arrive_typed_and_the_notebook_lands_in_its_run(folder: Path) -> None:
    report = "import os, sys\nprint(repr((seed, rate, quick, sizes, preset)))\nprint(sys.executable)"
    where = "print(os.getcwd(), os.environ['WORKBENCH_HEADLESS'], os.environ['PLOTLY_RENDERER'])\nrun.finish()"
    source, echo = notebook(folder / "lesson.ipynb", OPEN, report, where), io.StringIO()
    given = {"rate": "1e-2", "quick": "true", "sizes": "[3]", "seed": 2, "preset": "3"}
    (done,) = run_notebooks([source], parameters=given, echo=echo)
    assert done.error is None and done.run is not None and done.seconds > 0
    assert RunFolder(done.run).status == "finished"
    assert echo.getvalue().splitlines() == [
        "(2, 0.01, True, [3], '3')",
        sys.executable,
        f"{os.getcwd()} 1 plotly_mimetype+notebook_connected",
    ]
    assert done.notebook == done.run / "notebook.ipynb" and done.notebook.is_file()
    command = read_json(done.run / "command.json")
    assert command["parameters"] == {"rate": 0.01, "quick": True, "sizes": [3], "seed": 2, "preset": "3"}
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["lesson"]  # no temporary notebook stays


def test_failed_cell_keeps_the_partial_notebook_and_the_same_command_continues(folder: Path) -> None:
    flag = "from pathlib import Path\nassert Path('mended').exists(), 'not yet'\nrun.finish()"
    source = notebook(folder / "lesson.ipynb", OPEN, "print('before')", flag)
    (failed,) = run_notebooks([source])
    assert failed.error == "cell In [4]: AssertionError: not yet"  # no parameters given: none injected
    assert failed.run is not None and RunFolder(failed.run).status == "failed: cell In [4]: AssertionError: not yet"
    assert "not yet" in failed.notebook.read_text() and "before" in failed.notebook.read_text()
    Path("mended").touch()
    (done,) = run_notebooks([source])
    assert (done.error, done.run) == (None, failed.run)
    (again,) = run_notebooks([source], parameters={"fresh": True})
    assert again.run is not None and again.run.name.endswith("-2")


def test_what_a_killed_runner_left_is_swept_and_what_a_living_one_writes_is_not(folder: Path) -> None:
    runs, (dead, living) = folder / "runs", (f".{digit * 32}.ipynb" for digit in "0a")
    runs.mkdir()
    for name in (dead, living, ".mine.ipynb"):
        (runs / name).write_text("{}")
    command = f"import time, filelock; lock = filelock.FileLock('runs/.{'a' * 32}.lock'); lock.acquire(); "
    command += "print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        (done,) = run_notebooks([notebook(folder / "lesson.ipynb", OPEN, "run.finish()")])
        other.kill()
    assert done.error is None
    assert sorted(path.name for path in runs.iterdir()) == [
        f".{'a' * 32}.ipynb",
        f".{'a' * 32}.lock",
        ".mine.ipynb",
        "lesson",
    ]


def test_sweep_is_the_product_and_one_failure_does_not_stop_it(folder: Path) -> None:
    source = notebook(folder / "lesson.ipynb", OPEN, "assert seed != 1\nrun.finish()")
    done = list(run_notebooks([source], parameters={"runs": "out"}, sweep={"seed": ["0", "1"], "preset": ["a"]}))
    given = [read_json(each.run / "command.json")["parameters"] for each in done if each.run]
    assert [(each["seed"], each["preset"]) for each in given] == [(0, "a"), (1, "a")]
    assert [each.error is None for each in done] == [True, False]
    assert {each.run.parent for each in done if each.run} == {Path("out/lesson")}


def test_notebook_that_dies_before_its_run_folder_is_kept_and_one_that_never_finishes_fails(folder: Path) -> None:
    early = notebook(folder / "early.ipynb", "1 / 0")
    late = notebook(folder / "late.ipynb", OPEN)
    first, second = run_notebooks([early, late])
    assert first.run is None and first.notebook == Path("runs/early.ipynb") and first.notebook.is_file()
    assert first.error == "cell In [2]: ZeroDivisionError: division by zero"
    assert second.error is not None and "run.finish()" in second.error


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sede": "1"}, "no parameter 'sede'; did you mean 'seed'"),
        ({"zzzzzz": "1"}, "no parameter 'zzzzzz'; it has preset, seed, rate"),
        ({"seed": "1.5"}, r"'seed' of .* expects int \(as 0\), got '1.5'"),
        ({"seed": True}, "expects int"),
        ({"seed": 1.0}, "expects int"),
        ({"rate": "fast"}, "expects float"),
        ({"quick": "1"}, "expects bool .*: true or false"),
        ({"sizes": "3"}, "expects list"),
        ({"sizes": "__import__('os')"}, "expects list"),
        ({"preset": 3}, "expects str"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(folder: Path, parameters: dict, message: str) -> None:
    source = notebook(folder / "lesson.ipynb", "open('ran', 'w')")
    with pytest.raises(ValueError, match=message):
        run_notebooks([source], parameters=parameters)
    with pytest.raises(ValueError, match=message):
        run_notebooks([source], sweep={name: [value] for name, value in parameters.items()})
    assert not Path("ran").exists() and not Path("runs").exists()


def test_wrong_notebooks_are_refused(folder: Path) -> None:
    notebook(folder / "10_detnas.ipynb", "1")
    with pytest.raises(ValueError, match=r"did you mean .*10_detnas\.ipynb"):
        run_notebooks([folder / "10_detnass.ipynb"])
    (folder / "broken.ipynb").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as a notebook"):
        run_notebooks([folder / "broken.ipynb"])
    with pytest.raises(ValueError, match="has no parameters"):
        run_notebooks([notebook(folder / "none.ipynb", parameters="pass")])
    with pytest.raises(ValueError, match="only literals"):
        run_notebooks([notebook(folder / "derived.ipynb", parameters="a: int = 1\nb: int = a * 2")])
    with pytest.raises(ValueError, match="both set and swept"):
        run_notebooks([], parameters={"seed": "1"}, sweep={"seed": ["2"]})


def test_defaults_are_read_without_running(folder: Path) -> None:
    assert parameters_of(notebook(folder / "lesson.ipynb"))["sizes"] == [1, 2]
