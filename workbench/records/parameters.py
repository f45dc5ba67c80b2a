"""Parameters that a notebook is given from outside: names and types are those of its parameters cell."""

import ast
import contextlib
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from workbench.records.progress import shell

# How a parameter's text is read, by the type of its default.
READERS: dict[type, Callable[[str], Any]] = {int: int, float: float, str: str, list: ast.literal_eval}
READERS[bool] = lambda text: {"true": True, "false": False}[text.lower()]
LONGEST_VALUE = 4000  # characters of a parameter
INJECTED = "# Parameters\n"  # how the cell begins that papermill puts below the parameters cell


def fitting(notebook: str, known: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value as the type of the parameter's default; ValueError for an unknown name or a value of another type."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
        raise ValueError(f"{notebook} has no parameter {name!r}; {hint}")
    if len(str(value)) > LONGEST_VALUE:
        raise ValueError(
            f"Parameter {name!r} of {notebook} has at most {LONGEST_VALUE} characters, got {value!s:.40}..."
        )
    kind, found = type(known[name]), value
    if kind not in READERS:
        raise ValueError(f"Parameter {name!r} of {notebook} has no type that can be set; edit the notebook instead.")
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, KeyError):  # what cannot be read stays a text
            found = READERS[kind](value)
    if kind is float and type(found) is int:
        found = float(found)
    if isinstance(found, str) and any("\ud800" <= character <= "\udfff" for character in found):
        raise ValueError(f"Parameter {name!r} of {notebook} expects a text, got bytes that are none: {found!r}.")
    if type(found) is not kind:
        expected = f"{kind.__name__} (as {known[name]!r}){': true or false' if kind is bool else ''}"
        raise ValueError(f"Parameter {name!r} of {notebook} expects {expected}, got {value!r}.")
    return found


def injected() -> dict[str, Any] | None:
    """What papermill set in the notebook that runs here; None where it set nothing, or runs nothing.

    papermill itself only warns of a name that it does not find. ValueError for such a name, with the nearest one, and
    for a value of another type.
    """
    cells = [""]
    cells += getattr(shell(), "user_ns", {}).get("In", [])
    places = [place for place, cell in enumerate(cells) if cell.startswith(INJECTED)]
    if not places:
        return None
    known, given = (_literals(cells[place]) for place in (places[-1] - 1, places[-1]))
    return {name: fitting("this notebook", known, name, value) for name, value in given.items()} if known else given


def _literals(cell: str) -> dict[str, Any]:
    """Names and values of a cell of assignments; nothing of any other cell (run by hand, out of order)."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError, SyntaxError):
        for line in ast.parse(cell).body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
                found[ast.unparse(target)] = ast.literal_eval(line.value)
    return found
