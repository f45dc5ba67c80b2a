from pathlib import Path

import pytest

from workbench.records.files import (
    base_folder,
    compiled,
    digest,
    fields,
    inside,
    plain,
    read_json,
    write_bytes,
    write_json,
    write_text,
)


def test_failed_write_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def torn(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("os.replace", torn)
    with pytest.raises(OSError, match="power cut"):
        write_bytes(path, b"half")
    assert read_json(path) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["value.json"]


def test_parents_are_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "α → β\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "α → β\n".encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_json_refuses_what_it_cannot_hold(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="plain finite JSON"):
        write_json(tmp_path / "x.json", {"value": value})
    assert not list(tmp_path.iterdir())


def test_broken_and_missing_json_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"a": ')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("torn.json", "deep.json", "binary.json", "missing.json"):
        with pytest.raises(ValueError, match=name):
            read_json(tmp_path / name)


def test_what_a_screen_would_not_show_is_written_out(tmp_path: Path) -> None:
    assert plain("héron \U0001f41f $x$ <b> 鯊") == "héron \U0001f41f $x$ <b> 鯊"
    assert plain("\x1b[31m\n\ud800\u202e") == r"\x1b[31m\n\ud800\u202e" and plain("a\nb", keep="\n") == "a\nb"
    write_json(tmp_path / "a.json", {"name": "\ud800 é"})
    assert read_json(tmp_path / "a.json") == {"name": "\ud800 é"}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-1e400", "1" + 400 * "0"])
def test_numbers_that_we_never_write_are_refused_in_our_own_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"seconds": {text}}}')
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON \(.* is no finite number\); restore it or delete"):
        read_json(tmp_path / "a.json", compiled(fields({"seconds": "number"}), "costs"))


def test_digest_is_stable_and_ignores_key_order() -> None:
    assert digest({"seed": 0, "data": "scenes", "r": 0.5}) == "835e1da5b8e0a1ac"
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a\\..\\b", "a\0b", "link/x"])
def test_hostile_names_stay_inside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="Expected a name inside"):
        inside(root, name)


def test_plain_names_are_inside(tmp_path: Path) -> None:
    assert inside(tmp_path, "retrain/found.json") == tmp_path / "retrain" / "found.json"


def test_relative_paths_start_at_the_repository_when_jupyter_starts_in_its_notebooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "notebooks" / "solutions"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        monkeypatch.chdir(folder)
        assert base_folder() / "runs" == tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    assert base_folder() / "runs" == Path("runs")
