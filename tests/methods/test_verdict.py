"""A verdict from a comparison table: costs from the ledger, several methods of one run, gaps between scores."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.experiments import experiment_on_scenes
from workbench.methods import compare
from workbench.methods.candidates import score_gap
from workbench.methods.detnas.presets import PRESETS
from workbench.methods.experiment import Experiment
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.arch import Arch

TABLE = pd.DataFrame(
    {
        "network": ["A", "B", "plain", "drawn"],
        "AP": [0.9, 0.5, 0.7, 0.88],
        "AP error": [0.02, 0.03, 0.02, 0.02],
        "MACs": [30, 20, 10, 30],
    }
)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    made = experiment_on_scenes(tmp_path, PRESETS["smoke"])
    for phase, seconds in (("train", 3.0), ("search A", 4.0), ("search B", 5.0), ("random", 6.0)):
        made.run.ledger.add(Entry(phase=phase, seconds=seconds, images=1, forward_macs=int(1000 * seconds)))
    return made


def test_a_run_has_a_verdict_for_each_method(experiment: Experiment) -> None:
    for name in ("A", "B"):
        searches = {name: ("train", f"search {name}"), "drawn": ("train", "random")}
        options = {"random": "drawn", "searches": searches}
        compare.verdict(experiment, TABLE, found=name, baseline="plain", **options)
    first, second = experiment.run.verdicts()
    assert (first["method"], second["method"]) == ("A", "B")
    assert first["found"] == {
        "name": "A",
        "value": 0.9,
        "error": 0.02,
        "macs": 30,
        "seconds": 7.0,
        "forward_macs": 7000,
    }
    assert [row["name"] for row in second["others"]] == ["A", "plain", "drawn"]
    assert [row["seconds"] for row in second["others"]] == [0, 0, 9.0]  # who was not searched has no cost of a search
    assert "lost to the strongest of 3 other rows (A: -0.400, 11.1 standard errors" in second["sentence"]


def test_names_that_are_not_there_are_refused(experiment: Experiment) -> None:
    options = {"baseline": "plain"}
    with pytest.raises(ValueError, match="names 'C', neither a row nor a phase"):
        compare.verdict(experiment, TABLE, found="C", **options)
    with pytest.raises(ValueError, match="names 'serch A', neither"):
        compare.verdict(experiment, TABLE, found="A", searches={"A": ["serch A"]}, **options)
    with pytest.raises(ValueError, match="names a row 'chance'"):
        compare.verdict(experiment, TABLE, found="A", random="chance", **options)
    assert experiment.run.verdicts() == []


def test_gap_of_two_scores() -> None:
    def score(**metrics: float) -> Score:
        costs = {"macs": 1, "params": 1, "seconds": 0.0, "seed": 0, "phase": "p", "step": 0}
        return Score(arch=Arch("toy", (0,)), metrics=metrics, **costs)

    text = score_gap(score(AP=0.2, AP_error=0.03), score(AP=0.21, AP_error=0.04), "AP")
    assert "-0.010 against" in text and text.endswith("an error of 0.050")
    assert "no score of both" in score_gap(score(), score(AP=0.2, AP_error=0.01), "AP")


def test_where_ap50_was_searched_for_it_has_an_error_of_its_own(experiment: Experiment) -> None:
    """Pascal VOC: the verdict is on AP50, and VOC's own numbers stand in the table, too."""

    def result(name: str, ap50: float) -> Any:
        metrics = {"AP": ap50 / 2, "AP_error": 0.01, "AP50": ap50, "AP50_error": 0.02, "AP50 VOC07": ap50 - 0.01}
        costs = {"macs": 10, "params": 5, "detector_params": 6, "seconds": 1.0}
        return SimpleNamespace(network=SimpleNamespace(name=name, group=""), metrics=metrics, **costs)

    table = compare.comparison_table([result("A", 0.6), result("plain", 0.5)])
    assert table["AP50 error"].tolist() == [0.02, 0.02] and table["AP error"].tolist() == [0.01, 0.01]
    assert "AP50 VOC07" in table and not {"AP50 VOC10", "mask AP", "top1"} & set(table)
    voc = replace(experiment, plan=replace(experiment.plan, fitness="AP50"))
    sentence = compare.verdict(voc, table, found="A", baseline="plain").sentence
    assert "A (AP50 0.600, " in sentence and "plain: +0.100, 3.5 standard errors" in sentence
