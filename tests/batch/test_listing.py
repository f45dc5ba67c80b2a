import os
import time
from pathlib import Path

from tests.batch.test_report import finished, with_verdict
from workbench.batch.listing import DAY, cached, clean_cache, list_runs


def test_runs_are_listed_with_what_became_of_them(tmp_path: Path) -> None:
    run, failed = with_verdict(tmp_path, 0, 0.3), finished(tmp_path, 1, 0.2)
    failed.fail("cell 3")
    broken = finished(tmp_path, 2, 0.2)
    (broken.path / "params.json").write_text("{")
    first, second, third = sorted(list_runs(tmp_path), key=lambda run: run.status)
    assert first.path == broken.path and first.status.startswith("broken: ") and "is not valid JSON" in first.status
    assert (second.status, second.outcomes) == ("failed: cell 3", ())
    assert third.path == run.path and third.outcomes == ("DetNAS won against all 3x3",)
    assert third.bytes == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    assert list_runs(tmp_path / "nothing") == []


def test_cleaning_leaves_what_a_run_may_be_training(tmp_path: Path) -> None:
    for name in ("done", "going", "given-up"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "checkpoint.pt").write_bytes(b"weights")
    (tmp_path / "cache" / "done" / "phase.json").write_text("{}")
    old = time.time() - DAY - 1
    os.utime(tmp_path / "cache" / "given-up" / "checkpoint.pt", (old, old))
    assert clean_cache(cached(tmp_path)) == cached(tmp_path) == [tmp_path / "cache" / "going"]
