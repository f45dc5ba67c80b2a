"""Finished runs as experiments again: same plan, same data, or a sentence that says why not."""

import json

import pytest

from workbench.data.loader import load_data
from workbench.lessons import explorer
from workbench.methods.crnas import presets as crnas_presets
from workbench.methods.detnas.presets import PRESETS
from workbench.methods.experiment import start_experiment
from workbench.records.files import read_json, write_json
from workbench.records.score import Score
from workbench.spaces.catalogue import space_named

GIVEN = {"preset": "smoke", "data": "scenes", "pretrain_data": "scenes", "max_steps": 0, "bad_boxes": "few"}


def run_folder(root, notebook, plan, **given):
    """What the notebook opens; nothing is trained."""
    data = load_data(plan.data, "detection", "scenes", "scenes", seed=3)
    options = {"plan": plan, "data": data, "seed": 3, "device": "cpu", "runs": str(root), "fresh": False}
    return start_experiment(notebook, {**GIVEN, **given}, **options)


def test_a_run_is_an_experiment_again(tmp_path):
    began = run_folder(tmp_path, "10_detnas", PRESETS["smoke"])
    again = explorer.finished_experiment(str(began.run.path), explorer.DETNAS)
    assert again.plan == began.plan and again.seed == 3 and again.data.digest == began.data.digest
    plan = crnas_presets.with_budget(crnas_presets.PRESETS["smoke"], 4)
    began = run_folder(tmp_path, "40_crnas", plan, budget=4.0)
    assert explorer.finished_experiment(str(began.run.path), explorer.CRNAS).plan.budget == 4


def test_other_and_older_runs_are_refused_in_words(tmp_path):
    run = run_folder(tmp_path, "10_detnas", PRESETS["smoke"]).run
    with pytest.raises(ValueError, match="is a run of 10_detnas; give the folder of a run of 40_crnas"):
        explorer.finished_experiment(str(run.path), explorer.CRNAS)
    with pytest.raises(ValueError, match="Expected a run folder"):
        explorer.finished_experiment(str(tmp_path / "none"), explorer.DETNAS)
    record = read_json(run.path / "params.json")
    for changed in ({"plan": {}}, {"max_steps": None}):
        params = {k: v for k, v in {**record["params"], **changed}.items() if v is not None}
        write_json(run.path / "params.json", {**record, "params": params})
        with pytest.raises(ValueError, match="another version of the workbench"):
            explorer.finished_experiment(str(run.path), explorer.DETNAS)


def test_a_supernet_is_read_when_it_is_asked(tmp_path):
    assert explorer.asked_of("", explorer.DETNAS) is None and explorer.scores_of("", "stages") == []
    run = run_folder(tmp_path, "10_detnas", PRESETS["smoke"]).run
    score = explorer.asked_of(str(run.path), explorer.DETNAS)
    with pytest.raises(ValueError, match="run the cells that train the supernet first"):
        score(space_named("shuffle-tiny").uniform(0))


def test_a_torn_record_counts_up_to_its_last_whole_line(tmp_path):
    run = run_folder(tmp_path, "40_crnas", crnas_presets.PRESETS["smoke"], budget=0.0).run
    arch = space_named("allocation-resnet-tiny").uniform(0)
    row = {"macs": 1, "params": 1, "seconds": 0.0, "seed": 0, "phase": "stages", "step": 0}
    run.append(Score(arch=arch, metrics={"AP": 0.5}, **row))
    with (run.path / "evaluations.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"arch": arch.to_json()})[:20])
    assert [score.metrics["AP"] for score in explorer.scores_of(str(run.path), "stages")] == [0.5]


def test_networks_to_probe_have_their_weights():
    probed = explorer.networks_to_probe()
    assert [each.mode for each in probed.values()] == ["linearised"] * 3 + ["trained"]
    assert len({each.spec.strides[-1] for each in probed.values()}) == 2
