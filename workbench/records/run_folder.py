"""The folder of one run: parameters, environment, evaluations, costs, figures, tables and its status."""

import io
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.records.environment import environment
from workbench.records.files import (
    compiled,
    digest,
    fields,
    inside,
    lock,
    parse_json,
    plain,
    read_json,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from workbench.records.ledger import Ledger
from workbench.records.score import Score

if TYPE_CHECKING:  # plotting and tables are needed only where a caller already has them
    import pandas
    from matplotlib.figure import Figure

MIME_TYPE = "application/vnd.workbench.run+json"  # the headless runner finds the folder of an executed notebook by it
# Parameters that say where to record and who computes, not what.
NOT_IDENTITY = ("fresh", "runs", "engine", "workers")
NAMES = {"notebook": "string", "params": "object", "seed": "integer", "data_digest": "string", "started": "string"}
RECORD = compiled(fields(NAMES), "record")
ENVIRONMENT = compiled({"type": "object", "properties": {"earlier": {"type": "array"}}}, "environment")
CAPTIONS = compiled({"type": "object", "additionalProperties": {"type": "string"}}, "captions")
STORED = compiled(fields({"key": "string", "value": "object"}), "result")
ROW = fields({"name": "string", **dict.fromkeys(("value", "error", "macs", "seconds", "forward_macs"), "number")})
WORDS = dict.fromkeys(("method", "metric", "baseline", "random", "why", "sentence"), "string")
VERDICT = fields({**WORDS, "found": ROW, "others": {"type": "array", "items": ROW, "minItems": 1}})
NAMED = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
CELLS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
TABLE = compiled(
    fields(
        {"columns": {**NAMED, "minItems": 1}, "rows": {"type": "array", "items": CELLS}},
        {"title": "string", "note": "string", **dict.fromkeys(("index", "baseline", "paired"), NAMED)},
    ),
    "table",
)
VERDICTS = compiled({"type": "array", "items": VERDICT}, "verdicts")


class RunFolder:
    """One run on disk; everything is written atomically, so that a killed run can be continued.

    What `open` gives is locked: no other process opens the same folder while this one lives.
    """

    busy: tuple[Path, ...] = ()  # the folders that `open` passed by, because other processes write them

    def __init__(self, path: str | Path) -> None:
        """The run recorded at `path`; ValueError when there is none (`RunFolder.open` starts one)."""
        self.path = Path(path)
        if not (self.path / "params.json").is_file():
            raise ValueError(f"Expected a run folder, but {path} holds no params.json; give a folder below runs/.")
        saved = read_json(self.path / "params.json", RECORD)
        self.notebook: str = saved["notebook"]
        self.params: dict[str, Any] = saved["params"]
        self.seed: int = saved["seed"]
        self.data_digest: str = saved["data_digest"]
        self.started: str = saved["started"]  # UTC, ISO 8601
        self.ledger = Ledger(self.path / "ledger.json")
        self._lock: object = None

    @staticmethod
    def open(
        root: str | Path,
        notebook: str,
        params: Mapping[str, Any],
        *,
        seed: int,
        data_digest: str,
        fresh: bool = False,
        engine: str = "local",
    ) -> "RunFolder":
        """Continue the newest unfinished run of these parameters, seed and data, or start the next one.

        The folder is `root/<notebook>/<digest>-<n>`. `fresh=True` always starts the next number. A run that another
        process has open is passed by. `engine` is only recorded: who computes.
        """
        if not re.fullmatch(r"\w[\w.-]*", notebook):
            raise ValueError(f"Expected a plain notebook name such as '10_detnas', got {notebook!r}.")
        identity = {name: value for name, value in params.items() if name not in NOT_IDENTITY}
        key = digest({"notebook": notebook, "params": identity, "seed": seed, "data": data_digest})
        home = Path(root) / notebook
        matches = [re.fullmatch(rf"{key}-([1-9]\d*)", path.name) for path in home.glob(f"{key}-*")]
        numbers = [0, *sorted(int(match[1]) for match in matches if match)]
        old = [] if fresh else numbers[:0:-1]
        busy: list[Path] = []
        for number in itertools.chain(old, itertools.count(numbers[-1] + 1)):
            path = home / f"{key}-{number}"
            if number in old and _status(path) == "finished":
                continue
            if (held := lock(path / ".lock")) is None:
                busy.append(path)
                continue
            # While we looked, another process may have finished this one, or begun the next one.
            if _status(path) != "finished" if number in old else not (path / "params.json").exists():
                break
            held.release()
        sweep(path)
        if not (path / "params.json").is_file():
            started = datetime.now(UTC).isoformat(timespec="seconds")
            origin = {"seed": seed, "data_digest": data_digest, "started": started}
            write_json(path / "params.json", {"notebook": notebook, "params": dict(params), **origin})
        # A run may be continued on another machine, engine or commit: the earlier environments stay on record.
        now = {**environment(data_digest), "engine": engine}
        before = read_json(path / "env.json", ENVIRONMENT, missing={})
        earlier = before.pop("earlier", [])
        if before and before != now:
            earlier.append(before)
        write_json(path / "env.json", {**now, "earlier": earlier} if earlier else now)
        write_text(path / "status", "running\n")
        run = RunFolder(path)
        run.busy, run._lock = tuple(busy), held  # the lock is held as long as somebody has the run
        return run

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None}  # a copy in another process does not hold the lock

    @property
    def status(self) -> str:
        """ "running" (or killed), "finished", or "failed: " and the reason."""
        return _status(self.path)

    def finish(self) -> None:
        write_text(self.path / "status", "finished\n")

    def fail(self, message: str) -> None:
        write_text(self.path / "status", "failed: " + plain(" ".join(message.split())) + "\n")

    def append(self, score: Score) -> None:
        """Add a row to evaluations.jsonl; when this returns, the row is on disk."""
        path = self.path / "evaluations.jsonl"
        line = json.dumps(score.to_json(), allow_nan=False) + "\n"
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(len(_whole_lines(file.read())))  # a line torn by a kill never counted
            file.write(line.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def scores(self, phase: str | None = None) -> list[Score]:
        """The rows of evaluations.jsonl in order, or those of one phase; ValueError naming a broken line."""
        path = self.path / "evaluations.jsonl"
        data = path.read_bytes() if path.exists() else b""
        rows = []
        for number, line in enumerate(_whole_lines(data).splitlines(), start=1):
            try:
                rows.append(Score.from_json(parse_json(line, ours=True)))
            except ValueError as error:
                raise ValueError(f"{path} line {number} is broken: {error}; delete that line.") from error
        return [row for row in rows if phase is None or row.phase == phase]

    def claim(self, phase: str, key: str) -> None:
        """The scores of `phase` are those of the supernet `key`; ValueError when they are those of another."""
        name = f"scores of {phase}"
        if self.scores(phase) and self.load(name, key) is None:
            raise ValueError(
                f"{self.path} holds scores of {phase!r} by other weights (another seed network, device, thread count or"
                " version of the code trained them); start anew with --fresh."
            )
        self.store(name, key, {})

    def store(self, name: str, key: str, value: Mapping[str, Any]) -> None:
        """Keep the result of a finished phase under a key that says what it was computed from."""
        write_json(inside(self.path / "phases", name + ".json"), {"key": key, "value": dict(value)})

    def load(self, name: str, key: str) -> dict[str, Any] | None:
        """The stored result of a phase, or None when there is none or it was computed from something else."""
        stored = read_json(inside(self.path / "phases", name + ".json"), STORED, missing={"key": None})
        return stored["value"] if stored["key"] == key else None

    def save_figure(self, figure: "Figure", name: str, alt: str) -> Path:
        """Save a matplotlib figure as figures/<name>.png (150 dpi); `alt` says in words what it shows."""
        path = inside(self.path / "figures", name + ".png")
        write_bytes(path, png_of(figure, bbox_inches="tight"))
        captions = self.path / "figures" / "captions.json"
        write_json(captions, {**read_json(captions, CAPTIONS, missing={}), f"{name}.png": alt})
        return path

    def save_table(
        self,
        frame: "pandas.DataFrame",
        name: str,
        title: str = "",
        note: str = "",
        *,
        index: Sequence[str] = (),
        baseline: str | Sequence[str] = (),
        paired: Sequence[str] = (),
    ) -> Path:
        """Save a table for the report as tables/<name>.json; non-finite numbers become empty cells.

        `index` names the columns that identify a row across seeds (default: the first column). With `baseline`, the
        first index value of a control row or of several, the report adds the differences to each, paired by seed, for
        `paired` columns.
        """
        columns = [str(column) for column in frame.columns]
        index = list(index) or columns[:1]
        if unknown := sorted({*index, *paired} - set(columns)):
            raise ValueError(f"Expected columns of table {name!r} (it has {columns}), got {unknown}.")
        baselines = [baseline] if isinstance(baseline, str) else list(baseline)
        rows = json.loads(frame.set_axis(columns, axis=1).to_json(orient="records", double_precision=15))
        table = {"title": title, "note": note, "columns": columns, "index": index, "baseline": baselines}
        path = inside(self.path / "tables", name + ".json")
        write_json(path, {**table, "paired": list(paired), "rows": rows})
        return path

    def save_verdict(self, verdict: Mapping[str, Any]) -> None:
        """Keep the verdict on a method in verdicts.json: the rows that it compares, and its sentence.

        An earlier verdict on the same method is replaced. ValueError for anything but such a verdict.
        """
        kept = {known["method"]: known for known in self.verdicts()} | {verdict["method"]: dict(verdict)}
        write_json(self.path / "verdicts.json", VERDICTS([*kept.values()]))

    def verdicts(self) -> list[dict[str, Any]]:
        """The verdicts in the order they were first saved; ValueError when the file holds anything else."""
        verdicts: list[dict[str, Any]] = read_json(self.path / "verdicts.json", VERDICTS, missing=[])
        return verdicts

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        text = f"run folder {self.path}: {self.status}, {len(self.scores())} evaluations"
        text += "".join(f" (another process writes {path})" for path in self.busy)
        return {"text/plain": text, MIME_TYPE: {"path": str(self.path)}}


def png_of(figure: "Figure", **options: Any) -> bytes:
    """The figure as PNG, 150 dpi."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, **options)
    return buffer.getvalue()


def read_table(run: Path, name: str) -> dict[str, Any]:
    """A table as `RunFolder.save_table` wrote it, with every field; ValueError when the file holds anything else."""
    path = run / "tables" / f"{name}.json"
    table = {"title": "", "note": "", "baseline": [], "paired": [], **read_json(path, TABLE)}
    columns = set(table["columns"])
    table["index"] = table.get("index") or table["columns"][:1]
    if not {*table["index"], *table["paired"]} <= columns or any(set(row) != columns for row in table["rows"]):
        raise ValueError(f"{path} is not a table (rows and columns differ); delete it and run the notebook again.")
    return table


def _status(path: Path) -> str:
    try:
        text = (path / "status").read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return "running"  # killed while it was being made
    if text in ("running", "finished") or text.startswith("failed: "):
        return text
    raise ValueError(f"{path / 'status'} says neither running, finished nor failed; write one of them into it.")


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
