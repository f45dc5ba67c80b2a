"""Files written whole or not at all, and names that cannot leave their folder."""

import hashlib
import json
import math
import os
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import fastjsonschema  # nbformat's own: jsonschema takes a second to import
from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import pandas


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write atomically: a reader (or a killed writer) sees the old content or the new one, never a part of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary file lies in the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")  # `mkstemp` would make it private, whatever the umask
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock(path: str | Path, wait: float = 0.0) -> FileLock | None:
    """The lock that this file is, or None while another process still holds it after `wait` seconds (-1: for ever).

    It is held until it is released, forgotten or its process dies, however that ends. One process may take it again.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    found = FileLock(path, is_singleton=True, thread_local=False)
    try:
        found.acquire(timeout=wait)
    except Timeout:
        return None
    return found


def sweep(folder: Path) -> None:
    """Removes what killed writers left below a folder; only for who alone writes there."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; a lone surrogate is written out (in JSON that is the same text)."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: object) -> None:
    """Write readable JSON atomically; ValueError for values that JSON cannot hold (NaN, infinity, tensors)."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} can hold only plain finite JSON values, but got one that is not: {error}.") from error
    write_text(path, text + "\n")


def read_json(path: str | Path, checked: Callable[[object], Any] | None = None, missing: Any = None) -> Any:
    """The value in a JSON file, one that `checked` accepts (see `compiled`); `missing`, if given, without a file.

    ValueError says which file is missing, broken or something else, and what to do.
    """
    if missing is not None and not Path(path).exists():
        return missing
    try:
        value = parse_json(Path(path).read_text(encoding="utf-8"), ours=checked is not None)
    except OSError as error:
        raise ValueError(f"Expected a JSON file at {path}, but it cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it or delete it.") from error
    try:
        return checked(value) if checked else value
    except ValueError as error:
        raise ValueError(f"{path} does not fit: {error}; delete it and run the notebook again.") from error


def read_csv(path: str | Path, **options: Any) -> "pandas.DataFrame":
    """The table in a CSV file, read with pandas' `options`; ValueError when it is none."""
    import pandas  # most who read files do without

    try:
        return pandas.read_csv(path, **options)
    except (OSError, ValueError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a table ({why}); restore it or delete it.") from error


def parse_json(text: str | bytes, *, ours: bool) -> Any:
    """The value of a JSON text; ValueError for anything else, in `ours` also for NaN and what no float can hold."""
    number = _finite if ours else None
    try:
        return json.loads(text, parse_int=number, parse_float=number, parse_constant=number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is no finite number")
    return int(text) if text.lstrip("-").isdecimal() else value


def fields(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON schema of an object with these fields and no others; each is given by a type's name or a schema."""
    every = {**required, **(optional or {})}
    schemas = {name: {"type": field} if isinstance(field, str) else field for name, field in every.items()}
    return {"type": "object", "required": list(required), "properties": schemas, "additionalProperties": False}


def fields_of(kind: type, most: float, **of: float) -> dict[str, Any]:
    """The JSON schema of a frozen dataclass of texts, choices, tuples, dataclasses, and numbers from 0 to `most`.

    Fields named in `of` have bounds of their own.
    """
    hints = get_type_hints(kind)
    return fields({}, {name: _schema(hint, of.get(name, most), of) for name, hint in hints.items()})


def _schema(hint: Any, most: float, of: Mapping[str, float]) -> dict[str, Any]:
    parts = [_schema(part, most, of) for part in get_args(hint) if part is not ... and get_origin(hint) is not Literal]
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        whole = ... not in get_args(hint)
        lengths = (len(parts), len(parts)) if whole else (0, of.get("length", most))
        return {"type": "array", "items": parts if whole else parts[0], "minItems": lengths[0], "maxItems": lengths[1]}
    if parts:  # a union
        return {"anyOf": parts}
    if isinstance(hint, type) and is_dataclass(hint):
        return fields_of(hint, most, **of)
    if hint in (int, float):
        return {"type": "integer" if hint is int else "number", "minimum": 0, "maximum": most}
    return {"type": {bool: "boolean", str: "string", type(None): "null"}[hint]}


def compiled(schema: dict[str, Any], what: str) -> Callable[[object], Any]:
    """A function that returns a value that fits the JSON schema; ValueError naming what in `what` does not fit."""
    return partial(fastjsonschema.compile(schema), name_prefix=what)


# A dataclass field with this metadata is left out of identities while it has its default: plans of before it was
# there keep their digests, and with them their runs and what is cached.
LATER = {"later": True}


def digest(value: object) -> str:
    """The first 16 hex digits of SHA-256 over canonical JSON: equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def plain(text: str, keep: str = "") -> str:
    """The text with all that a screen would not show written out: control characters, escapes, lone surrogates.

    Names from files pass here once, where they are read or shown; characters in `keep` stay.
    """
    hidden = (c for c in set(text) - set(keep) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in hidden})


def inside(root: str | Path, name: str) -> Path:
    """`root / name`; ValueError when the name (from a file, so perhaps hostile) is empty or leads out of `root`."""
    path = Path(root) / name
    foreign = "\0" in name or "\\" in name or Path(name).is_absolute() or ".." in Path(name).parts
    try:  # resolve() follows symbolic links, so that a link cannot lead out either; the root itself is no name inside
        foreign = foreign or Path(root).resolve() not in path.resolve().parents
    except (OSError, RuntimeError, ValueError):  # too long for the system, in a circle of links, no text at all
        foreign = True
    if foreign:
        raise ValueError(f"Expected a name inside {root}, got {name!r:.300}; use a relative name without '..'.")
    return path


def base_folder() -> Path:
    """Where relative paths start: the current folder, or the repository when JupyterLab started us in its notebooks."""
    here = Path.cwd()
    for folder in (here, here.parent):
        if folder.name == "notebooks" and (folder.parent / "pyproject.toml").is_file():
            return folder.parent
    return Path()  # relative paths stay relative, and short in messages
