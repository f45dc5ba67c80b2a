"""The pipelines say the papers' numbers, and find the seconds of the phases that a run has done."""

import re

import pytest

from workbench.insight.pipeline import Step, pipeline_text
from workbench.lessons import pipelines
from workbench.methods.crnas import presets as crnas
from workbench.methods.detnas import presets as detnas
from workbench.methods.fna.paper import plan_named
from workbench.methods.nats import presets as nats
from workbench.records.ledger import Entry


def text_of(steps: list[Step]) -> str:
    return pipeline_text({"": steps})


def test_the_paper_presets_show_the_papers_numbers() -> None:
    told = {name: text_of(steps) for name, steps in pipelines.four_methods("paper-voc").items()}
    for fact in ("10¹² networks, 300,000 steps", "90,000 steps", "1,000 paths scored, 300 MMACs at most"):
        assert fact in told["DetNAS"]
    assert "13 layers, 1,232 alphas" in told["NATS"] and "alpha from epoch 11" in told["NATS"]
    assert "10¹⁷ networks" in told["FNA"] and "mobilenetv2" in told["FNA"]
    assert (
        "153 allocations of 16 blocks" in told["CR-NAS"] and "138 prefixes scored, best 3 kept a step" in told["CR-NAS"]
    )


PHASES = {
    "DetNAS": "pretrain supernet|finetune supernet|evolution|pretrain detnas|finetune detnas",
    "NATS": "pretrain seed network|search n16|score search n16|finetune nats",
    "FNA": "search|score search|finetune fna",
    "CR-NAS": "pretrain stage supernet|finetune stage supernet|stages|pretrain operation supernet"
    "|finetune operation supernet|beam|pretrain cr-nas|finetune cr-nas",
}


@pytest.mark.parametrize("method", PHASES)
def test_each_phase_of_a_run_is_counted_once(method: str) -> None:
    plans = {"DetNAS": detnas.TINY, "NATS": nats.TINY, "FNA": plan_named("tiny", "detection"), "CR-NAS": crnas.TINY}
    steps = {
        "DetNAS": pipelines.detnas_steps,
        "NATS": pipelines.nats_steps,
        "FNA": pipelines.fna_steps,
        "CR-NAS": pipelines.crnas_steps,
    }
    phases = PHASES[method].split("|")
    entries = [Entry(phase=phase, seconds=3.0, images=0, forward_macs=0) for phase in phases]
    before, after = text_of(steps[method](plans[method])), text_of(steps[method](plans[method], entries))
    told = r"(\d+) s\b"
    assert re.findall(told, before) == []
    assert sum(map(int, re.findall(told, after))) == 3 * len(phases)
