from types import SimpleNamespace

import pytest

from workbench.records import parameters
from workbench.records.parameters import injected

KNOWN = 'preset: str = "tiny"  # a comment\nseed: int = 0\nsizes: list = [1, 2]'


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What IPython remembers of the cells that ran."""
    ran = ["", KNOWN]
    monkeypatch.setattr(parameters, "shell", lambda: SimpleNamespace(user_ns={"In": ran}))
    return ran


def test_what_papermill_set_is_known_and_the_last_of_it_counts(cells: list[str]) -> None:
    assert injected() is None
    cells.append('# Parameters\nseed = 3\nsizes = [4, "a"]\n')
    assert injected() == {"seed": 3, "sizes": [4, "a"]}
    cells += [KNOWN, "# Parameters\nseed = 5"]  # run once more by a person
    assert injected() == {"seed": 5}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sede = 3", "this notebook has no parameter 'sede'; did you mean 'seed'"),
        ("seed = 1.5", "'seed' of this notebook expects int"),
        ("preset = None", "'preset' of this notebook expects str"),
    ],
)
def test_what_does_not_fit_is_refused(cells: list[str], line: str, sentence: str) -> None:
    cells.append(f"# Parameters\n{line}")
    with pytest.raises(ValueError, match=sentence):
        injected()


def test_cells_run_out_of_order_are_no_reason_to_stop(cells: list[str]) -> None:
    cells += ["import os\nos.getcwd()", "# Parameters\nseed = 3"]
    assert injected() == {"seed": 3}


def test_outside_a_notebook_nothing_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "shell", lambda: None)
    assert injected() is None
