"""Files written whole or not at all, and names that cannot leave their folder."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fastjsonschema  # nbformat's own: jsonschema takes a second to import
from filelock import FileLock, Timeout


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
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


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
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"Expected a JSON file at {path}, but it cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it or delete it.") from error
    try:
        return checked(value) if checked else value
    except ValueError as error:
        raise ValueError(f"{path} does not fit: {error}; delete it and run the notebook again.") from error


def fields(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON schema of an object with these fields and no others; each is given by a type's name or a schema."""
    every = {**required, **(optional or {})}
    schemas = {name: {"type": field} if isinstance(field, str) else field for name, field in every.items()}
    return {"type": "object", "required": list(required), "properties": schemas, "additionalProperties": False}


def compiled(schema: dict[str, Any], what: str) -> Callable[[object], Any]:
    """A function that returns a value that fits the JSON schema; ValueError naming what in `what` does not fit."""
    return partial(fastjsonschema.compile(schema), name_prefix=what)


def digest(value: object) -> str:
    """The first 16 hex digits of SHA-256 over canonical JSON: equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def inside(root: str | Path, name: str) -> Path:
    """`root / name`; ValueError when the name (from a file, so perhaps hostile) is empty or leads out of `root`."""
    path = Path(root) / name
    foreign = "\0" in name or "\\" in name or Path(name).is_absolute() or ".." in Path(name).parts
    # resolve() follows symbolic links, so that a link cannot lead out either; the root itself is no name inside.
    if foreign or Path(root).resolve() not in path.resolve().parents:
        raise ValueError(f"Expected a name inside {root}, got {name!r}; use a relative name without '..'.")
    return path


def base_folder() -> Path:
    """Where relative paths start: the current folder, or the repository when JupyterLab started us in its notebooks."""
    here = Path.cwd()
    for folder in (here, here.parent):
        if folder.name == "notebooks" and (folder.parent / "pyproject.toml").is_file():
            return folder.parent
    return Path()  # relative paths stay relative, and short in messages
