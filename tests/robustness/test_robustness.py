"""The short form of `python -m tests.robustness`: a few inputs of every format, a few kills, two processes at once."""

from pathlib import Path

import numpy as np
import pytest

from tests.batch.test_run import OPEN, notebook
from tests.robustness import kills
from tests.robustness.mutations import examine
from tests.robustness.subjects import subjects
from workbench.records.run_folder import RunFolder

NOTEBOOKS = kills.PROJECT / "notebooks"


def test_whatever_a_file_has_become_there_is_a_result_or_a_sentence(tmp_path: Path) -> None:
    tallies = [examine(subject, 4, tmp_path) for subject in subjects(tmp_path)]
    assert [failure for tally in tallies for failure in tally.failures] == []
    assert len(tallies) > 40 and min(tally.inputs for tally in tallies) >= 4
    assert sum(tally.results for tally in tallies) > 20 and sum(tally.sentences for tally in tallies) > 100


def test_what_is_not_refused_in_a_sentence_is_found(tmp_path: Path) -> None:
    """Nothing above would say anything otherwise."""
    from tests.robustness.mutations import Subject

    def careless(path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(path.read_bytes()[:1])
        assert path.read_bytes()[:4] == b"good", "no sentence"

    path = tmp_path / "a.txt"
    path.write_bytes(b"good")
    tally = examine(Subject(name="careless", path=path, use=careless), 20, tmp_path)
    assert len(tally.failures) == 2 and "AssertionError: no sentence" in tally.failures[0]
    assert "wrote" in tally.failures[1] and path.read_bytes() == b"good"


def test_killed_writers_leave_whole_files(tmp_path: Path) -> None:
    run, rng = RunFolder.open(tmp_path, "written", {}, seed=0, data_digest="d"), np.random.default_rng(0)
    del run._lock
    for _ in range(3):
        assert kills.kill_a_writer(run, rng.uniform(0.05, 0.4)) == []


ROWS = """
import time
from tests.records.test_score import score
for step in range(15):
    run.append(score(step=step))
    time.sleep(0.2)
run.finish()
"""


def test_one_command_twice_at_once_writes_two_runs(tmp_path: Path) -> None:
    source = notebook(tmp_path / "lesson.ipynb", OPEN, ROWS)
    both = [kills.start(source, tmp_path / "runs", {"seed": 3}) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    found = kills.finished(tmp_path / "runs", source)
    assert sorted(run.name[-2:] for run in found) == ["-1", "-2"]
    assert [len(RunFolder(run).scores()) for run in found] == [15, 15]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["lesson"]


@pytest.mark.parametrize("name", ["10_detnas"])
def test_one_seed_has_one_result_also_when_it_is_killed(tmp_path: Path, name: str) -> None:
    path, parameters = NOTEBOOKS / f"{name}.ipynb", {"preset": "smoke", "seed": 1}
    whole = kills.start(path, tmp_path / "whole", parameters)
    killed, _ = kills.run_with_kills(path, tmp_path / "killed", parameters, 1, np.random.default_rng(0), 20)
    text, _ = whole.communicate()
    assert whole.returncode == 0, text
    (other,) = kills.finished(tmp_path / "whole", path)
    assert kills.compare(killed, other) == []
