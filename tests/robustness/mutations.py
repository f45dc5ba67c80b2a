"""Files as accidents and bad intentions leave them, and the one question about each of them.

Whatever a file has become, ours or a user's: reading it has a result, or ends with a ValueError of one sentence that
names the file and says what to do. Nothing else may happen, and nothing may be written elsewhere.
"""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 255, 2**31, 2**63, 10**40, -(10**9), 0.5, 1e-9, -0.0, 1e300),
    *(float("nan"), float("inf"), "", "x", "finished", "0", "\x1b[31mred", "\ud800", "$\\frac{", "<script>", "a\nb"),
    *("../../etc/passwd", "/etc/passwd", "x" * 3000, [], [[]], {}, {"a": 1}, [None], [1, 2, 3, 4], "NaN", "{x}"),
)
REMEDY = re.compile(
    r"(?i)delete|restore|mend|repair|correct|give|again|leave|name |write|use |train|choose|expected|save|tag |number"
)


@dataclass
class Tally:
    """What became of the inputs of one subject; `failures` are those with another end, smallest first."""

    inputs: int = 0
    results: int = 0
    sentences: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A file in one of the formats that are read, and how it is read: `use` gets its path."""

    name: str
    path: Path
    use: Callable[[Path], object]
    named: str = ""  # what a sentence must name, if not the file

    @property
    def is_json(self) -> bool:
        return self.path.suffix in (".json", ".jsonl", ".ipynb")


class Content(bytes):
    """What a file holds, as few of its bytes as a report can show."""

    def __repr__(self) -> str:
        return f"{bytes(self[:300])!r} ({len(self)} bytes)"


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as a container and the key there."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    return found + [each for key in keys if isinstance(value[key], dict | list) for each in places(value[key])]


@st.composite
def mutated_json(draw: st.DrawFn, healthy: bytes) -> bytes:
    """The JSON (or one of its lines) with one to three values changed, replaced, taken away, doubled or renamed."""
    lines = healthy.decode().splitlines() if healthy.count(b"\n{") else [healthy.decode()]
    which = draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[which])
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        if not isinstance(value, dict | list) or not (found := places(value)):
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        number = type(container[key]) in (int, float)
        match draw(st.sampled_from([*["nudge"] * 4 * number, "replace", "replace", "remove", "double", "rename"])):
            case "nudge":  # what looks right, and is not
                container[key] = container[key] * draw(st.sampled_from([-1, 0, 1e-9, 0.5, 2, 10, 1e6])) + draw(
                    st.sampled_from([0, 1, -1])
                )
            case "replace":
                container[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            case "remove":
                del container[key]
            case "double" if isinstance(container, list):
                container.insert(key, container[key])
            case _ if isinstance(container, dict):
                container[draw(st.sampled_from(["", "x", "id", "\x1b", "name"]))] = container.pop(key)
    lines[which] = json.dumps(value)
    return Content("\n".join(lines).encode() + b"\n")


@st.composite
def mutated_bytes(draw: st.DrawFn, healthy: bytes) -> bytes:
    """The bytes cut, emptied, with some of them changed, taken out, repeated, or followed by others."""
    data = bytearray(healthy)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        # Headers are at the beginning, and say the sizes of everything.
        place = place % 64 if draw(st.booleans()) else place
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(["cut", "change", "change", "flip", "take out", "repeat", "append", "zeros"])):
            case "cut":
                del data[place:]
            case "change":
                data[place : place + length] = draw(st.binary(min_size=1, max_size=length))
            case "flip" if data:
                data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
            case "take out":
                del data[place : place + length]
            case "repeat":
                data[place:place] = data[place : place + length]
            case "append":
                data += draw(st.binary(max_size=length))
            case _:
                data[place : place + length] = bytes(length)
    return Content(data)


def examine(subject: Subject, examples: int, root: Path, drawn: int = 0) -> Tally:
    """Reads `examples` mutations of a subject, and the healthy file before them; `root` is watched for new files."""
    tally, healthy = Tally(), subject.path.read_bytes()
    before = snapshot(root)
    subject.use(subject.path)  # else nothing below says anything
    structured = [mutated_json(healthy)] * 3 if subject.is_json else []

    @seed(drawn)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.one_of(*structured, mutated_bytes(healthy)))
    def read(content: bytes) -> None:
        subject.path.write_bytes(content)
        tally.inputs += 1
        try:
            subject.use(subject.path)
        except ValueError as error:
            first, *rest = str(error).splitlines() or [""]
            named = subject.named or subject.path.name
            assert named in first or named in str(error), f"the sentence does not name {named}: {error!r}"
            assert REMEDY.search(str(error)), f"the sentence has no remedy: {error!r}"
            assert all(line.startswith("- ") for line in rest), f"more than one sentence: {error!r}"
            tally.sentences += 1
        else:
            tally.results += 1

    try:
        read()
    except Exception as error:  # shrunk: the smallest such file is the last one written
        shown = Content(subject.path.read_bytes())
        tally.failures.append(f"{subject.name}: {type(error).__name__}: {error!s:.300} for {shown!r}")
    finally:
        subject.path.write_bytes(healthy)
    if strange := sorted(snapshot(root) - before):
        tally.failures.append(f"{subject.name}: wrote {strange[:3]}")
    return tally


def snapshot(root: Path) -> set[str]:
    """Every path below `root` but those in folders called `written`, where subjects may write."""
    return {str(path) for path in root.rglob("*") if "written" not in path.parts}
