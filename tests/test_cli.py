import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.batch.test_report import finished
from tests.batch.test_run import OPEN, notebook
from workbench.__main__ import main
from workbench.batch import doctor
from workbench.records.environment import environment
from workbench.records.run_folder import RunFolder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    return tmp_path


def code(*words: str) -> int:
    try:
        return main(words)
    except SystemExit as end:  # argparse leaves in this way
        return int(end.code or 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "required: COMMAND"),
        ("rum", "invalid choice: 'rum'"),
        ("run", "required: NOTEBOOK"),
        ("run nowhere.ipynb", "Expected a notebook at nowhere.ipynb"),
        ("run lesson.ipynb -p seed", "expected 2 arguments"),
        ("run lesson.ipynb -p sede 1", "did you mean 'seed'"),
        ("run lesson.ipynb -p seed 1 -p seed 2", "given twice"),
        ("run lesson.ipynb -p seed 1 --sweep seed=1,2", "both set and swept"),
        ("run lesson.ipynb --sweep seed", "Expected --sweep NAME=V1,V2"),
        ("run lesson.ipynb --sweep seed=1,,2", "Expected --sweep NAME=V1,V2"),
        ("run lesson.ipynb --workers 2", "got 2 with the engine 'local'; add engine ray"),
        ("run lesson.ipynb --engine rey", "got 'rey'"),
        ("run lesson.ipynb --engine ray", "has no parameter 'engine'"),
        ("run lesson.ipynb --steps 2", "unrecognized arguments: --steps"),
        ("run lesson.ipynb -p runs a{seed}b", "Expected a path without braces"),
        (f"run lesson.ipynb -p runs {'x' * 300}", "names of at most 200 bytes in the path (of runs)"),
        (f"run lesson.ipynb -p preset {'x' * 5000}", "'preset' of lesson.ipynb has at most 4000 characters"),
        (f"run lesson.ipynb -p seed {'9' * 4400}", "'seed' of lesson.ipynb has at most 4000 characters"),
        ("run lesson.ipynb -p preset a\udcff", "expects a text, got bytes that are none"),
        ("report nowhere", "Expected a run folder"),
        ("report .", "Expected a run folder"),
        ("predict nowhere image.png", "Expected a run folder"),
        ("site nowhere", "Expected a run folder"),
        ("site nowhere.ipynb", "cannot be read as a notebook"),
        ("runs nowhere", "Expected a folder of runs"),
        ("doctor --data nowhere", "Expected a data folder"),
    ],
)
def test_mistakes_give_one_sentence_and_exit_code_2(folder: Path, capsys, words: str, sentence: str) -> None:
    notebook(folder / "lesson.ipynb", OPEN)
    assert code(*words.split()) == 2
    message = capsys.readouterr().err
    assert sentence in message and len(message.splitlines()) == 1 and message.startswith("workbench: ")


def test_run_prints_a_line_per_notebook_and_fails_with_1(folder: Path, capsys) -> None:
    notebook(folder / "good.ipynb", OPEN, "print('step 1 of 1')\nrun.finish()")
    notebook(folder / "bad.ipynb", OPEN, "raise ValueError('too few images')")
    assert code("run", "good.ipynb") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "step 1 of 1" and out[1].startswith("good.ipynb: finished in ") and "runs/lesson/" in out[1]
    assert code("run", "bad.ipynb", "-p", "seed", "1") == 1
    captured = capsys.readouterr()
    assert "bad.ipynb: failed after " in captured.out
    error = captured.err.splitlines()
    assert error[-1].startswith("workbench: cell In [4]: ValueError: too few images; partial notebook: runs/lesson/")


def test_report_writes_what_was_asked_for(folder: Path, capsys) -> None:
    run = finished(folder / "runs", 0, 0.5)
    assert code("report", str(run.path)) == 0
    assert code("report", "runs", "--markdown", "results.md") == 0
    assert capsys.readouterr().out.splitlines() == ["runs/report.html", "results.md"]
    assert "0.500" in Path("runs/report.html").read_text() and "0.500" in Path("results.md").read_text()


def printed_json(capsys, *words: str) -> Any:
    assert code(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_programs_read_reports_runs_and_the_doctor(folder: Path, capsys) -> None:
    run = finished(folder / "runs", 0, 0.5)
    going = RunFolder.open(folder / "runs", "01_data", {}, seed=0, data_digest="d")
    assert code("report", "runs", "--json") == 0
    captured = capsys.readouterr()
    assert [each["status"] for each in json.loads(captured.out)["runs"]] == ["running", "finished"]
    assert f"{going.path.relative_to(folder)} is still going, or killed" in captured.err
    assert not Path("runs/report.html").exists()  # asked for JSON alone
    (folder / "runs" / "cache" / "key").mkdir(parents=True)
    (folder / "runs" / "cache" / "key" / "phase.json").write_text("{}")
    listed = printed_json(capsys, "runs")
    assert {each["path"]: each["status"] for each in listed["runs"]} == {
        str(path.relative_to(folder)): status for path, status in ((run.path, "finished"), (going.path, "running"))
    }
    assert listed["cache"] == {"folders": 1, "bytes": 2, "freed": 0}
    assert printed_json(capsys, "runs", "--clean-cache")["cache"] == {"folders": 0, "bytes": 0, "freed": 2}
    findings = printed_json(capsys, "doctor")
    assert findings[0]["sentence"].startswith("Python 3.") and not any(each["problem"] for each in findings)


def test_runs_are_listed_in_plain_lines(folder: Path, capsys) -> None:
    run = finished(folder / "runs", 0, 0.5)
    assert code("runs") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(str(run.path.relative_to(folder))) and first.endswith("finished")
    assert last == "1 runs; runs/cache: 0 trainings that runs share, 0.0 MB"


def test_a_site_says_where_it_is(folder: Path, capsys) -> None:
    finished(folder / "runs", 0, 0.5)
    assert code("site", "runs", "--out", "pages") == 0
    assert capsys.readouterr().out == "pages/index.html\n" and Path("pages/report.html").is_file()


def test_predict_wants_a_finished_run_with_a_detector(folder: Path, capsys) -> None:
    run = finished(folder / "runs", 0, 0.5)
    assert code("predict", str(run.path), "nowhere.png") == 2
    assert "holds no detector" in capsys.readouterr().err
    run.fail("cell 3")
    assert code("predict", str(run.path), "nowhere.png") == 2
    assert "is failed: cell 3" in capsys.readouterr().err


def test_module_can_be_called() -> None:
    project = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "workbench", "rum"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "") and "Traceback" not in result.stderr


def test_doctor_checks_masks_and_keypoints(tmp_path: Path, capsys) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "streets" / "train" / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "streets" / "train" / "images" / "a.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "streets" / "train" / "masks" / "a.png")
    assert code("doctor", "--data", str(tmp_path)) == 0
    assert "does not say what the numbers in its masks mean" in capsys.readouterr().out
    (tmp_path / "streets" / "classes.json").write_text('{"classes": "road"}')
    assert code("doctor", "--data", str(tmp_path)) == 1 and "streets, train has 1 problem" in capsys.readouterr().out
    (tmp_path / "streets" / "classes.json").write_text('{"classes": ["road", "car"]}')
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "b.png")
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "keypoints": [1, 1, 2]}
    images = [{"id": 1, "file_name": "b.png", "width": 8, "height": 8}]
    categories = [{"id": 1, "name": "fish", "keypoints": ["head", "tail"]}]
    content = {"images": images, "annotations": [row], "categories": categories}
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert code("doctor", "--data", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert "unknown class number 7" in text and "should have 6 keypoint numbers" in text


def test_doctor_checks_keypoints_without_boxes_and_cityscapes(tmp_path: Path, capsys) -> None:
    assert code("doctor", "--data", str(tmp_path)) == 1
    assert "holds no data set in a layout that is read here" in capsys.readouterr().out
    (tmp_path / "people" / "annotations").mkdir(parents=True)
    (tmp_path / "people" / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "people" / "images" / "a.png")
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "keypoints": [1, 1, 2]}
    images = [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}]
    content = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "fish", "keypoints": ["head"]}]}
    path = tmp_path / "people" / "annotations" / "person_keypoints_val.json"
    path.write_text(json.dumps(content))
    for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        (tmp_path / "city" / folder / "val" / "town").mkdir(parents=True)
        Image.new("L", (8, 4)).save(tmp_path / "city" / folder / "val" / "town" / f"town_0_0_{ending}.png")
    assert code("doctor", "--data", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "people, val (keypoints): healthy" in text and "city, Cityscapes val: healthy" in text
    path.write_text(json.dumps({**content, "annotations": [{**row, "keypoints": [1, 1]}]}))
    (tmp_path / "city" / "leftImg8bit" / "val" / "town" / "town_0_0_leftImg8bit.png").write_bytes(b"no image")
    assert code("doctor", "--data", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert text.count("should have 3 keypoint numbers") == 1 and "town_0_0_leftImg8bit.png cannot be decoded" in text


def test_doctor_examines_everything_and_never_raises(tmp_path: Path, capsys) -> None:
    """Class folders below the given one, circles of links, names that no file can have, and names that are no text."""
    red = "\x1b[31m"
    for split in ("train", "val"):
        folder = tmp_path / "fish" / split / f"{red}eel"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (0, 0, len(split))).save(folder / f"{split}.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert code("doctor", "--data", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "fish, train: healthy class folders." in text and "between train, val: nothing shared." in text
    (tmp_path / "fish" / "val" / f"{red}eel" / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    (tmp_path / "sea" / "annotations").mkdir(parents=True)
    (tmp_path / "sea" / "images").mkdir()
    (tmp_path / "sea" / "images" / "round.png").symlink_to("round.png")
    names = ["round.png", "x" * 300, "\ud800.png", f"{red}.png", "a\0b"]
    images = [{"id": n, "file_name": name, "width": 8, "height": 8} for n, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": f"{red}fish"}]}
    (tmp_path / "sea" / "annotations" / "instances_train.json").write_text(json.dumps(content))
    Image.new("RGB", (8, 8)).save(tmp_path / "sea" / "images" / f"{red}.png")
    assert code("doctor", "--data", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert "\x1b" not in text and r"\x1b[31meel" in text and r"\udcff.png cannot be decoded" in text
    assert "sea, train has 4 problem" in text and "round.png" in text and r"\ud800.png" in text


def test_doctor_names_what_it_cannot_examine(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object, **__: object) -> list[str]:
        raise RuntimeError("what nobody thought of")

    (tmp_path / "train" / "eel").mkdir(parents=True)
    monkeypatch.setattr("workbench.data.checks.check_classes", surprise)
    assert code("doctor", "--data", str(tmp_path)) == 1
    assert "train cannot be examined (RuntimeError('what nobody thought of'))" in capsys.readouterr().out


def test_doctor_fails_where_a_package_is_missing(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**environment(""), "packages": {"torch": "2", "numpy": None}}
    monkeypatch.setattr(doctor, "environment", lambda digest: found)
    assert code("doctor") == 1 and "numpy is missing: install the project again." in capsys.readouterr().out


def test_doctor_reports_versions_and_speed(capsys) -> None:
    assert code("doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Python 3.") and any("images a second" in line for line in lines)
