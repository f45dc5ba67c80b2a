"""Where the work of a run is done: in this process, or by Ray on workers of this machine or of a cluster."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from workbench.records.progress import Progress

ADDRESS = re.compile(r"[\w.-]+:\d+")
Call = Mapping[str, Any]


class Judge(Protocol):
    """Scores one candidate; `lost` is the row of one whose workers died."""

    def __call__(self, **call: Any) -> Any: ...
    def lost(self, error: str, **call: Any) -> Any: ...


class Engine(Protocol):
    """Who does the work; what comes out is the same, but for what batch norm sees where several CPUs train."""

    @property
    def name(self) -> str: ...
    @property
    def workers(self) -> int: ...
    @property
    def remote(self) -> bool: ...  # is the work done in other processes?
    def processes(self, batch: int) -> int:
        """How many train together when they share a batch of so many images."""

    def train(self, work: Callable[..., Any], folder: Path, batch: int, progress: Progress) -> Any:
        """What `work(progress=...)` returns; it keeps its state in `folder`, and goes on from there."""

    def each(self, judge: Judge, calls: Iterable[Call]) -> Iterator[Any]:
        """`judge(**call)` of each call, in their order."""

    def runs(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """The number of a job and `function(*job)`, or the error that its worker died of, as each ends."""


class Local:
    """All work in this process, one thing after the other."""

    name, workers, remote = "local", 1, False

    def processes(self, batch: int) -> int:
        return 1

    def train(self, work: Callable[..., Any], folder: Path, batch: int, progress: Progress) -> Any:
        return work(progress=progress)

    def each(self, judge: Judge, calls: Iterable[Call]) -> Iterator[Any]:
        return (judge(**call) for call in calls)

    def runs(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        return ((number, function(*job)) for number, job in enumerate(jobs))


def open_engine(name: str, workers: int = 0, device: str = "auto") -> Engine:
    """`local`, `ray` (on this machine) or the address of a Ray cluster: `auto` or host:port; 0 workers: all it has.

    Where there are GPUs and `device` is not cpu, a worker has one, or with more workers than GPUs a share of one.
    ValueError, before any work, when Ray is missing, no cluster answers, or it has no room for so many workers.
    """
    check_engine(name, workers)
    if name == "local":
        return Local()
    from workbench.methods.ray_engine import join  # Ray is an extra

    return join(name, workers, device)


def check_engine(name: str, workers: int) -> None:
    """ValueError for what cannot be an engine, wherever the command runs."""
    if workers < 0 or (workers and name == "local"):
        raise ValueError(f"Expected workers of Ray or none, got {workers} with the engine {name!r}; add engine ray.")
    if name not in ("local", "ray", "auto") and not ADDRESS.fullmatch(name):
        raise ValueError(
            f"An engine is local, ray, auto (the Ray cluster that this machine is in) or its host:port; got {name!r}."
            " Over ray:// nothing can be trained: start the command on a machine of the cluster."
        )
