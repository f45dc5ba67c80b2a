"""Whole cost: the parts a detector needs, and the cost at which a curve reaches an AP."""

from dataclasses import replace

import numpy as np
import pytest

from workbench.lessons.whole_cost import cost_at, whole_cost
from workbench.records.ledger import Entry


def entry(phase, forward, backward=0):
    return Entry(phase=phase, seconds=1.0, images=1, forward_macs=forward, backward_macs=backward)


def test_whole_cost_is_the_sum_of_what_a_detector_needs():
    entries = [entry("search", 10, 20), entry("random on search", 99), entry("finetune fna", 5, 10)]
    cost = whole_cost("FNA", entries, {"search": ("search",), "target fine-tuning": ("finetune fna",)}, 0.3)
    assert (cost.parts, cost.macs, cost.seconds) == ({"search": 30, "target fine-tuning": 15}, 45, 2.0)
    with pytest.raises(ValueError, match="lacks \\['evolution'\\]"):
        whole_cost("DetNAS", entries, {"search": ("evolution",)}, 0.3)
    curve = [replace(cost, parts={"search": macs}, ap=ap) for macs, ap in ((100, 0.1), (200, 0.3), (400, 0.4))]
    assert cost_at(curve, 0.05) == 100 and cost_at(curve, 0.2) == 150 and cost_at(curve, 0.35) == pytest.approx(300)
    assert np.isnan(cost_at(curve, 0.5))
