"""What each phase of a run cost."""

import contextlib
import dataclasses
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.records.files import compiled, fields, read_json, write_json

if TYPE_CHECKING:  # reading records must not cost the seconds that importing torch takes
    import torch

ENTRY = fields(
    {"phase": "string", "seconds": "number", "images": "integer", "forward_macs": "integer"},
    {"backward_macs": "integer", "peak_memory": "integer", "cached": "boolean"},
)
ENTRIES = compiled({"type": "array", "items": ENTRY}, "ledger")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The cost of one phase; a phase taken from the cache keeps its original cost and is marked `cached`."""

    phase: str
    seconds: float
    images: int  # images seen, repetitions counted
    forward_macs: int  # multiply-accumulates of all forward passes
    backward_macs: int = 0
    peak_memory: int = 0  # bytes, of the GPU where it computed there; 0: not measured on its own
    cached: bool = False


class Ledger:
    """The entries of a run in the order they were added, kept in one JSON file that is written atomically."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        rows = read_json(self.path, ENTRIES, missing=[])
        self.entries = tuple(Entry(**row) for row in rows)

    def add(self, entry: Entry) -> None:
        """Record a phase and save; a phase of the same name is replaced (it ran again)."""
        entries = {each.phase: each for each in (*self.entries, entry)}
        write_json(self.path, [dataclasses.asdict(each) for each in entries.values()])
        self.entries = tuple(entries.values())

    def total(self) -> Entry:
        """The sums over all phases (the largest peak memory), as an entry named "total"."""
        names = ("seconds", "images", "forward_macs", "backward_macs")
        sums: dict[str, Any] = {name: sum(getattr(entry, name) for entry in self.entries) for name in names}
        peak = max((entry.peak_memory for entry in self.entries), default=0)
        return Entry(phase="total", **sums, peak_memory=peak, cached=any(entry.cached for entry in self.entries))


def reset_peak_memory(device: "torch.device") -> None:
    """Begins a phase: `peak_memory` counts from here, starting at what is in use now."""
    if device.type == "cuda":
        import torch  # a CUDA device is torch's own, so this costs nothing

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # macOS has no such file
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: "torch.device") -> int:
    """The most memory in bytes in use since `reset_peak_memory`: the GPU's where it computes there.

    Where the system does not forget a peak (macOS) it is that of the process so far.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kilobytes
