"""Plain papermill, as a user calls it: without our runner and without our environment variables."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.batch.test_run import notebook
from workbench.batch.report import command_of
from workbench.records.files import read_json
from workbench.records.run_folder import RunFolder

PROJECT = Path(__file__).resolve().parents[2]
PARAMETERS = 'seed: int = 0\nrate: float = 0.5\nmethods: list = ["a"]\nruns: str = "runs"\nfresh: bool = False'
START = """
from types import SimpleNamespace

from workbench.methods.experiment import check_parameters, start_experiment
from workbench.records.progress import headless

check_parameters()
data = SimpleNamespace(digest="d")
parameters = {"rate": rate, "methods": methods}
options = {"plan": None, "data": data, "seed": seed, "device": "cpu", "runs": runs, "fresh": fresh}
run = start_experiment("lesson", parameters, **options).run
print("headless:", headless())
"""


def papermill(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "WORKBENCH_HEADLESS"}
    environment["PYTHONPATH"] = str(PROJECT)
    command = [sys.executable, "-m", "papermill", *words, "--no-progress-bar"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the notebook lies, and another folder, where papermill is called."""
    lessons, here = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("here")
    notebook(lessons / "lesson.ipynb", START, "assert seed != 1, 'not this seed'\nrun.finish()", parameters=PARAMETERS)
    return lessons, here


def test_it_is_noticed_recorded_and_can_be_called_from_anywhere(folders: tuple[Path, Path]) -> None:
    lessons, here = folders
    done = papermill(here, str(lessons / "lesson.ipynb"), "out.ipynb", "-y", "{methods: [b, c], seed: 2}")
    assert done.returncode == 0, done.stderr
    run = RunFolder(next((here / "runs" / "lesson").iterdir()))
    assert run.status == "finished" and run.params["methods"] == ["b", "c"] and run.seed == 2
    command = read_json(run.path / "command.json")
    assert command == {
        "notebook": "lesson.ipynb",
        "parameters": {"methods": ["b", "c"], "seed": 2},
        "ran_by": "papermill",
    }
    again = command_of([run])
    assert again == """papermill lesson.ipynb executed.ipynb -y '{"methods": ["b", "c"], "seed": 2}'"""
    texts = [output.text for cell in nbformat.read(here / "out.ipynb", 4).cells for output in cell.get("outputs", [])]
    assert "headless: True\n" in texts


def test_a_cell_that_fails_fails_the_run(folders: tuple[Path, Path]) -> None:
    lessons, here = folders
    assert papermill(here, str(lessons / "lesson.ipynb"), "failed.ipynb", "-p", "seed", "1").returncode != 0
    (status,) = (RunFolder(path).status for path in (here / "runs" / "lesson").iterdir() if RunFolder(path).seed == 1)
    assert status == "failed: cell In [4]: AssertionError: not this seed"


def test_a_misspelled_parameter_is_refused_before_anything_is_recorded(folders: tuple[Path, Path]) -> None:
    lessons, here = folders
    done = papermill(here, str(lessons / "lesson.ipynb"), "refused.ipynb", "-p", "raet", "0.1", "-p", "runs", "other")
    assert done.returncode != 0
    assert "ValueError: this notebook has no parameter 'raet'; did you mean 'rate'?" in done.stderr
    assert not (here / "other").exists()
