import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tests.records.test_score import score
from workbench.records.files import read_json
from workbench.records.ledger import Entry
from workbench.records.run_folder import MIME_TYPE, RunFolder


def start(root: Path, fresh: bool = False, **params: Any) -> RunFolder:
    params = {"preset": "smoke", "fresh": fresh, "runs": str(root), **params}
    return RunFolder.open(root, "10_detnas", params, seed=0, data_digest="0" * 16, fresh=fresh)


def test_unfinished_is_continued_and_finished_or_fresh_starts_the_next(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert first.status == "running"
    assert start(tmp_path).path == first.path
    first.fail("cell 3:\n boom")
    assert first.status == "failed: cell 3: boom"
    assert start(tmp_path).path == first.path
    first.finish()
    second = start(tmp_path)
    assert second.path.name == first.path.name.replace("-1", "-2")
    third = start(tmp_path, fresh=True)
    assert third.path.name.endswith("-3")
    second.finish()
    assert start(tmp_path).path == third.path
    third.finish()
    assert start(tmp_path).path.name.endswith("-4")


def test_identity_is_what_is_computed_not_where(tmp_path: Path) -> None:
    first = start(tmp_path / "a")
    assert start(tmp_path / "b").path.name == first.path.name
    assert start(tmp_path / "b", preset="tiny").path.name != first.path.name


def test_record_is_read_back(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.ledger.add(Entry(phase="search", seconds=1.0, images=2, forward_macs=3))
    again = RunFolder(run.path)
    assert (again.notebook, again.seed, again.params["preset"]) == ("10_detnas", 0, "smoke")
    assert again.ledger.entries == run.ledger.entries
    environment = read_json(run.path / "env.json")
    assert environment["packages"]["torch"] and environment["threads"] >= 1
    assert run._repr_mimebundle_()[MIME_TYPE] == {"path": str(run.path)}


def test_changed_environment_keeps_the_earlier_one(tmp_path: Path, monkeypatch) -> None:
    run = start(tmp_path)
    before = read_json(run.path / "env.json")
    assert read_json(start(tmp_path).path / "env.json") == before
    monkeypatch.setattr("platform.python_version", lambda: "3.99")
    start(tmp_path)
    start(tmp_path)
    assert read_json(run.path / "env.json") == {**before, "python": "3.99", "earlier": [before]}


def test_torn_last_line_is_cut_and_the_next_row_is_whole(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.append(score(step=0))
    run.append(score(step=1, phase="random"))
    path = run.path / "evaluations.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"arch": "k2", "cho')
    assert [row.step for row in run.scores()] == [0, 1]
    assert path.read_bytes() != whole  # reading changes nothing
    run.append(score(step=2))
    assert [row.step for row in run.scores()] == [0, 1, 2]
    assert [row.step for row in run.scores("random")] == [1]


def test_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    run = start(tmp_path)
    for step in range(3):
        run.append(score(step=step))
    path = run.path / "evaluations.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    with pytest.raises(ValueError, match=r"evaluations\.jsonl line 2"):
        run.scores()
    path.write_text(lines[0].replace("0.25", "NaN") + "\n")
    with pytest.raises(ValueError, match="line 1"):
        run.scores()


KILLED = """
import sys
from tests.records.test_score import score
from workbench.records.run_folder import RunFolder
run = RunFolder(sys.argv[1])
for step in range(100_000):
    run.append(score(step=step))
    print(step, flush=True)
"""


def test_every_acknowledged_row_survives_a_kill(tmp_path: Path) -> None:
    run = start(tmp_path)
    project = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", KILLED, str(run.path)]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "20\n":
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = [int(line) for line in process.stdout]
    last = acknowledged[-1] if acknowledged else 20
    assert [row.step for row in run.scores()][: last + 1] == list(range(last + 1))
    run.append(score(step=-1))
    assert run.scores()[-1].step == -1


HOLDS = """
import sys, time
from tests.records.test_run_folder import start
run = start(sys.argv[1])
print(run.path, flush=True)
time.sleep(60)
"""


def test_a_run_that_another_process_writes_is_passed_by_and_a_dead_one_is_taken_over(tmp_path: Path) -> None:
    mine = start(tmp_path)
    project = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], cwd=project, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        assert theirs.name == mine.path.name.replace("-1", "-2")
        mine.finish()
        third = start(tmp_path)
        assert third.path.name.endswith("-3") and third.busy == (theirs,)
        assert f"another process writes {theirs}" in third._repr_mimebundle_()["text/plain"]
        (theirs / ".0123456789abcdef.part").write_bytes(b"half")  # as a killed writer leaves it
        other.kill()
    third.finish()
    again = start(tmp_path)
    assert again.path == theirs and again.busy == ()
    assert not [*theirs.glob("*.part"), *theirs.glob(".*.part")]


def test_phase_results_are_found_by_key(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert run.load("pretrain", "k") is None
    run.store("pretrain", "k", {"loss": [0.5, 0.25]})
    assert run.load("pretrain", "k") == {"loss": [0.5, 0.25]}
    assert run.load("pretrain", "other") is None
    (run.path / "phases" / "pretrain.json").write_text("[]")
    with pytest.raises(ValueError, match="delete it"):
        run.load("pretrain", "k")


def test_a_status_that_is_none_is_named(tmp_path: Path) -> None:
    run = start(tmp_path)
    for content in (b"", b"done", b"\xff\xfe", b"finished?"):
        (run.path / "status").write_bytes(content)
        with pytest.raises(ValueError, match=r"status says neither running, finished nor failed; write one of them"):
            start(tmp_path)
    run.fail("no class \x1b[31m\ud800")
    assert run.status == r"failed: no class \x1b[31m\ud800"


def test_names_never_lead_outside(tmp_path: Path) -> None:
    run = start(tmp_path)
    with pytest.raises(ValueError, match="inside"):
        run.store("../status", "k", {})
    for notebook in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(ValueError, match="plain notebook name"):
            RunFolder.open(tmp_path, notebook, {}, seed=0, data_digest="")


@pytest.mark.parametrize("record", ["[]", "{}", '{"notebook": "x", "params": 3, "seed": 0, "data_digest": ""}', "{"])
def test_foreign_folder_is_no_run(tmp_path: Path, record: str) -> None:
    with pytest.raises(ValueError, match="holds no params"):
        RunFolder(tmp_path)
    (tmp_path / "params.json").write_text(record)
    with pytest.raises(ValueError, match=r"params\.json"):
        RunFolder(tmp_path)


def test_figures_keep_their_captions(tmp_path: Path) -> None:
    run = start(tmp_path)
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([0, 1])
    path = run.save_figure(figure, "line", "a rising line")
    run.save_figure(figure, "second", "again")
    plt.close(figure)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert read_json(run.path / "figures" / "captions.json") == {"line.png": "a rising line", "second.png": "again"}


def test_tables_keep_order_types_and_full_precision(tmp_path: Path) -> None:
    run = start(tmp_path)
    frame = pd.DataFrame({"net": ["b", "a"], "AP": [1 / 3, np.nan], "macs": np.array([1, 2], dtype=np.int64)})
    table = json.loads(run.save_table(frame, "main", title="Main", baseline="b", paired=["AP"]).read_text())
    assert table["columns"] == ["net", "AP", "macs"] and table["index"] == ["net"]
    assert table["rows"] == [
        {"net": "b", "AP": pytest.approx(1 / 3, abs=1e-15), "macs": 1},
        {"net": "a", "AP": None, "macs": 2},
    ]
    with pytest.raises(ValueError, match="ap"):
        run.save_table(frame, "main", paired=["ap"])


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
def test_records_can_be_shared(tmp_path: Path) -> None:
    """As the user's umask says."""
    for umask, mode in ((0o022, 0o644), (0o027, 0o640), (0o007, 0o660)):
        before = os.umask(umask)
        try:
            run = start(tmp_path, preset=str(umask))
        finally:
            os.umask(before)
        assert (run.path / "params.json").stat().st_mode & 0o777 == mode
