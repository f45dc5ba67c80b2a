"""A folder of one's own: what a search will cost, who is trained for the comparison, and the front by the clock."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.experiments import experiment_on_scenes, fna_experiment
from workbench.data.loader import load_data
from workbench.lessons import cost_estimate as cost
from workbench.lessons import your_own_data as lesson
from workbench.methods.detnas.presets import SMOKE
from workbench.records.ledger import Entry
from workbench.records.score import Score
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-tiny")


def test_plans_are_those_of_the_methods_and_wrong_words_are_refused():
    assert lesson.plan_of("DetNAS", "smoke", "scenes").classifier == SMOKE.classifier
    assert lesson.plan_of("DetNAS", "smoke", "").classifier is None  # starts from random weights
    assert lesson.plan_of("FNA", "small", "scenes").data.search_share == 0.4
    with pytest.raises(ValueError, match="search is one of DetNAS, FNA; got 'NATS'"):
        lesson.plan_of("NATS", "tiny", "")
    with pytest.raises(ValueError, match="preset is one of smoke, tiny, small; got 'paper'"):
        lesson.plan_of("DetNAS", "paper", "")


def test_without_a_folder_scenes_are_written_and_the_classes_are_counted(tmp_path):
    plan = lesson.plan_of("DetNAS", "smoke", "")
    folder = lesson.folder_of("scenes", plan, 0, str(tmp_path))
    assert folder == lesson.folder_of("scenes", plan, 0, str(tmp_path)) and folder.startswith(str(tmp_path / "cache"))
    data = load_data(plan.data, "detection", folder, "", seed=0)
    table = lesson.class_table(data)
    assert table["class"].tolist() == list(data.train.categories)
    assert table["training boxes"].sum() == len(data.full_train.ground_truth()["annotations"])
    assert table["test boxes"].sum() == len(data.test.ground_truth()["annotations"])
    assert (table["training images"] <= table["training boxes"]).all()
    with pytest.raises(ValueError, match="data folder 'nowhere' was not found"):
        lesson.folder_of("nowhere", plan, 0, str(tmp_path))


def test_an_estimate_counts_every_step_and_trains_nothing(tmp_path, monkeypatch):
    experiment = experiment_on_scenes(tmp_path, SMOKE)
    monkeypatch.setattr(cost, "step_seconds", lambda *arguments, **options: 2.0)
    table = cost.cost_estimate(experiment, "DetNAS", networks=4)
    assert list(zip(table["work"], table["times"], strict=True)) == [
        (cost.PRETRAIN, 3), (cost.SUPERNET, 3), (cost.SEARCH, 6), (cost.RANDOM, 6), (cost.NETWORKS, 8),
        (cost.NETWORKS, 8),
    ]  # fmt: skip
    steps = table[~table["work"].isin([cost.SEARCH, cost.RANDOM])]
    assert steps["seconds"].tolist() == [6.0, 6.0, 16.0, 16.0] and (table["seconds"] > 0).all()
    assert experiment.run.ledger.entries == () and experiment.run.scores() == []
    without = replace(experiment, plan=replace(SMOKE, classifier=None))
    assert cost.PRETRAIN not in set(cost.cost_estimate(without, "DetNAS", networks=1)["work"])


def test_what_was_spent_goes_by_the_names_of_the_estimate():
    phases = {
        "pretrain supernet": 1.0, "finetune supernet": 2.0, "evolution": 4.0, "random": 8.0, "pretrain detnas": 16.0,
        "finetune best-scored-random": 32.0, "measure detnas": 64.0, "search": 128.0, "score search": 256.0,
        "random on search": 512.0,
    }  # fmt: skip
    entries = [Entry(phase=phase, seconds=seconds, images=0, forward_macs=0) for phase, seconds in phases.items()]
    assert cost.seconds_spent(entries) == {
        cost.PRETRAIN: 1.0, cost.SUPERNET: 130.0, cost.SEARCH: 260.0, cost.RANDOM: 520.0, cost.NETWORKS: 48.0,
    }  # fmt: skip


def scored(*rows: tuple[float, int, float]) -> pd.DataFrame:
    """A clock table of AP (error 0.02), MACs and milliseconds."""
    frame = pd.DataFrame(rows, columns=["AP", "MACs", "ms"])
    archs = [SPACE.arch([n % 4] * len(SPACE.decisions)) for n in range(len(rows))]
    extra = {"AP error": 0.02, "params": 1, "ms low": frame["ms"] - 1, "ms high": frame["ms"] + 2}
    return frame.assign(arch=archs, **extra, **{"scored by": ["evolution", "random"] * (len(rows) // 2)})


def test_the_lightest_of_the_best_goes_by_macs_and_not_by_the_clock():
    frame = scored((0.30, 9, 5.0), (0.29, 7, 9.0), (0.281, 8, 1.0), (0.27, 1, 1.0))
    assert lesson.lightest(frame, "AP") == frame["arch"][1]
    assert lesson.lightest(frame.assign(**{"AP error": 0.0}), "AP") == frame["arch"][0]


def test_the_front_joins_what_nothing_else_beats():
    frame = scored((0.30, 9, 5.0), (0.29, 7, 9.0), (0.28, 8, 1.0), (0.27, 1, 2.0))
    ax = lesson.plot_front(frame, "AP", "scored by", "AP")
    line = next(line for line in ax.lines if line.get_label() == "front")
    assert line.get_xydata().tolist() == [[1.0, 0.28], [5.0, 0.30]]
    # Bars are from the first quartile to the third.
    sideways = ax.containers[0].lines[2][0].get_segments()
    assert np.allclose(sideways[0], [[4.0, 0.30], [7.0, 0.30]])


def test_fna_goes_the_same_way_from_imagenet_weights(tmp_path):
    experiment = fna_experiment(tmp_path, "detection")
    estimate = cost.cost_estimate(experiment, "FNA", networks=3)
    plan = experiment.plan
    assert list(zip(estimate["work"], estimate["times"], strict=True)) == [
        (cost.SUPERNET, plan.search.weights.steps), (cost.SEARCH, 1), (cost.RANDOM, 1),
        (cost.NETWORKS, 3 * plan.finetune.steps),
    ]  # fmt: skip
    assert experiment.run.ledger.entries == ()
    found = lesson.fna_search(experiment)
    assert {phase for phases in found.phases.values() for phase in phases} <= {
        entry.phase for entry in experiment.run.ledger.entries
    }
    assert set(cost.seconds_spent(experiment.run.ledger.entries)) == {cost.SUPERNET, cost.SEARCH, cost.RANDOM}
    clock = lesson.clock_table(experiment, found, repeats=2)
    assert set(clock["arch"]) == {score.arch for scores in found.scores.values() for score in scores}
    assert clock["AP"].is_monotonic_decreasing
    assert (
        (clock["ms low"] <= clock["ms"]).all() and (clock["ms"] <= clock["ms high"]).all() and (clock["ms"] > 0).all()
    )
    networks = lesson.networks_to_train(found, clock, "AP")
    assert [network.name for network in networks][:3] == ["FNA", "seed network", "best-scored random"]
    assert networks[0].arch == found.found and all(network.start is not None for network in networks)


def test_a_failed_candidate_is_not_timed(tmp_path):
    experiment = experiment_on_scenes(tmp_path, SMOKE)
    archs = [SPACE.uniform(0), SPACE.uniform(1)]
    row = {"macs": 1, "params": 1, "seconds": 0.0, "seed": 0, "phase": "evolution", "step": 0}
    scores = [
        Score(arch=archs[0], metrics={"AP": 0.1, "AP_error": 0.01}, **row),
        Score(arch=archs[1], metrics={}, error="not finite: AP", **row),
    ]
    found = lesson.Searched(
        method="DetNAS", space=SPACE, scores={"evolution": scores, "random": scores[:1]}, found=archs[0],
        baseline=None, phases={}, network=lambda name, arch: None,
    )  # fmt: skip
    clock = lesson.clock_table(experiment, found, repeats=1)
    assert clock["arch"].tolist() == archs[:1]
