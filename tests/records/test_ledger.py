import mmap
import os
from pathlib import Path

import pytest
import torch

from workbench.records.ledger import Entry, Ledger, peak_memory, reset_peak_memory


def entry(phase: str, **changes: float) -> Entry:
    return Entry(**{"phase": phase, "seconds": 2.0, "images": 10, "forward_macs": 100, **changes})


def test_entries_survive_and_a_repeated_phase_is_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.add(entry("pretrain", cached=True, peak_memory=7))
    ledger.add(entry("search", peak_memory=5))
    ledger.add(entry("search", seconds=3.0))
    again = Ledger(tmp_path / "ledger.json")
    assert again.entries == (entry("pretrain", cached=True, peak_memory=7), entry("search", seconds=3.0))
    total = again.total()
    assert (total.seconds, total.images, total.forward_macs, total.peak_memory) == (5.0, 20, 200, 7)


def test_empty_total(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none.json").total() == Entry(phase="total", seconds=0, images=0, forward_macs=0)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"phase": "x"}]', '[{"phase": 1, "seconds": 1, "images": 1, "forward_macs": 1}]']
)
def test_hostile_ledger_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(ValueError, match=r"ledger\.json"):
        Ledger(tmp_path / "ledger.json")


def test_peak_memory_is_in_bytes() -> None:
    assert 10e6 < peak_memory(torch.device("cpu")) < 1e12


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget a peak")
def test_peak_memory_is_that_of_the_phase_and_not_of_an_earlier_one() -> None:
    device = torch.device("cpu")
    reset_peak_memory(device)
    with mmap.mmap(-1, 240_000_000) as large:  # not an array: its memory may come from, and stay in, the heap
        for page in range(0, len(large), mmap.PAGESIZE):
            large[page] = 1
    first = peak_memory(device)
    reset_peak_memory(device)
    assert peak_memory(device) < first - 200e6
