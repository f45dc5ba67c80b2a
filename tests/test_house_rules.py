"""Rules that a reader relies on: imports point one way, files stay small, the dependency lists agree."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FILES = sorted((PROJECT / "workbench").rglob("*.py"))
TRUNK = {"records", "spaces", "data", "networks", "tasks", "training"}
MAY_IMPORT: dict[str, set[str]] = {
    "spaces": set(),
    "records": {"spaces"},
    "data": {"records"},
    "networks": {"spaces"},
    "tasks": {"networks", "spaces", "data", "records"},
    "training": TRUNK,
    "search": {"spaces", "records"},
    "evaluation": TRUNK | {"search"},
    "insight": TRUNK | {"evaluation", "search"},
    "methods": TRUNK | {"evaluation", "search", "insight"},
    "lessons": TRUNK | {"evaluation", "search", "insight", "methods"},
}
MOST_LINES = 320
MOST_LINES_OF_A_METHOD = 450  # method.py tells a paper's method from top to bottom
MOST_BYTES = 500_000


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the full path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_one_way(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | {folder}
    for path in (PROJECT / "workbench" / folder).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "workbench" or parts[1] in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("folder", ["spaces", "search"])
def test_values_do_without_torch(folder: str) -> None:
    for path in (PROJECT / "workbench" / folder).rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchvision"}, path


def test_every_folder_has_its_place() -> None:
    folders = {path.relative_to(PROJECT / "workbench").parts[0] for path in FILES if path.parent.name != "workbench"}
    assert folders <= {*MAY_IMPORT, "batch"}


def test_files_stay_readable() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    most = {path: MOST_LINES_OF_A_METHOD if path.name == "method.py" else MOST_LINES for path in FILES}
    assert {str(path): length for path, length in lengths.items() if length > most[path]} == {}


def test_packages_import_by_full_path() -> None:
    assert [path for path in FILES if path.name == "__init__.py" and path.read_text(encoding="utf-8").strip()] == []


def test_nothing_large_is_tracked() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("not a git checkout, so nothing is tracked")
    paths = [PROJECT / name for name in result.stdout.split("\0") if name]
    assert [str(path) for path in paths if path.is_file() and path.stat().st_size > MOST_BYTES] == []


def test_dependency_lists_agree() -> None:
    """environment.yml asks for the bounds of pyproject.toml; constraints.txt pins each, and those of two extras."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    conda = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- ([\w-]+>=[\w.]+)$", conda, re.M))
    renamed = {
        "pytorch": "torch",
        "matplotlib-base": "matplotlib",
        "jupyter_client": "jupyter-client",
    }  # on conda-forge
    assert {re.sub(r"^[\w-]+", lambda name: renamed.get(name[0], name[0]), line) for line in listed} == wanted
    pinned = re.findall(r"^([\w-]+)==", (PROJECT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    extras = project["optional-dependencies"]
    tested = wanted | {*extras["export"], *extras["cluster"]}  # what continuous integration installs
    assert set(pinned) == {re.split(r"\[|>=", line)[0] for line in tested}


OLD_WORDS = re.compile(
    r"(?<![a-z])(?:pictures?|contenders?|entrants?|genotypes?|plates?|votes?|lucky|firmness|pitfalls?)(?![a-z])"
    r"|(?<![a-z])(?-i:Study)(?![a-z])|of the specification",
    re.IGNORECASE,
)


def test_words_of_the_field_are_used() -> None:
    """Image, baseline, found network, dilation option, input patch, assignments; the papers' own sections."""
    tests = {*(PROJECT / "tests").rglob("*.py")} - {Path(__file__).resolve()}
    texts = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "notebooks/GLOSSARY.md")]
    paths = [*FILES, *sorted((PROJECT / "notebooks").rglob("*.ipynb")), *sorted(tests), *texts]
    found = {path: sorted({*map(str.lower, OLD_WORDS.findall(path.read_text(encoding="utf-8")))}) for path in paths}
    assert {path.relative_to(PROJECT).as_posix(): words for path, words in found.items() if words} == {}
