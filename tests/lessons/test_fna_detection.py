"""The DetNAS run that a whole cost is compared with is one of the same preset, data and seed, or none."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from workbench.data.loader import load_data
from workbench.lessons.fna_detection import (
    change_sentence,
    cost_rows,
    detnas_cost,
    find_detnas_run,
    front_sentences,
    gap_sentence,
    plot_cost_curves,
    plot_front,
    plot_printed_cost,
    price_sentence,
    whole_models,
)
from workbench.lessons.whole_cost import WholeCost
from workbench.methods.compare import Network, Result
from workbench.methods.experiment import start_experiment
from workbench.methods.fna import method as fna
from workbench.methods.fna.paper import plan_named
from workbench.networks.backbone import Backbone
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder
from workbench.spaces.mbconv import fna_spec


def test_detnas_runs_are_found_by_preset_data_and_seed(tmp_path):
    plan = plan_named("smoke", "detection")
    data = load_data(plan.data, "detection", "scenes", seed=0)
    experiment = start_experiment(
        "other", {}, plan=plan, data=data, seed=0, device="cpu", runs=str(tmp_path), fresh=False
    )
    assert find_detnas_run(experiment, "", "smoke", "scenes", str(tmp_path)) is None
    run = RunFolder.open(tmp_path, "10_detnas", {"preset": "smoke", "data": "scenes"}, seed=0, data_digest="d")
    assert find_detnas_run(experiment, "", "smoke", "scenes", str(tmp_path)) is None  # not finished
    for phase in ("pretrain supernet", "finetune supernet", "evolution", "pretrain detnas", "finetune detnas"):
        run.ledger.add(Entry(phase=phase, seconds=1.0, images=1, forward_macs=2, backward_macs=4))
    run.save_table(pd.DataFrame({"network": ["DetNAS", "x"], "AP": [0.25, 0.3]}), "comparison")
    run.finish()
    found = find_detnas_run(experiment, "", "smoke", "scenes", str(tmp_path))
    assert found is not None and found.path == run.path
    cost = detnas_cost(experiment, found)
    assert math.isnan(cost.ap) and (cost.macs, len(cost.parts)) == (30, 5)  # its scenes have another digest
    found.data_digest = experiment.run.data_digest
    assert detnas_cost(experiment, found).ap == 0.25
    for phase in ("finetune re-ranked-1", "measure re-ranked-2", "finetune re-ranked-random-1"):
        run.ledger.add(Entry(phase=phase, seconds=1.0, images=1, forward_macs=2))
    assert detnas_cost(experiment, RunFolder(run.path)).parts == cost.parts | {
        "search": 6 + 2 + 2
    }  # without the control
    assert find_detnas_run(experiment, str(run.path), "smoke", "scenes", "").path == run.path
    assert find_detnas_run(experiment, "", "tiny", "scenes", str(tmp_path)) is None
    with pytest.raises(ValueError, match="compare whole runs on the same images"):
        find_detnas_run(experiment, str(run.path), "smoke", "my/photos", "")
    with pytest.raises(ValueError, match="compare whole runs on the same images"):
        find_detnas_run(experiment, str(run.path), "tiny", "scenes", "")
    with pytest.raises(ValueError, match="is no finished run of 10_detnas"):
        find_detnas_run(experiment, str(experiment.run.path), "smoke", "scenes", "")


def test_costs_next_to_detnas_below_within_and_above_its_ap():
    def cost(name, macs, ap):
        return WholeCost(name=name, parts={"search": macs}, seconds=1.0, ap=ap)

    seed = fna.seed_network(plan_named("smoke", "detection"))
    curves = {"FNA": [cost("FNA, 1/4", 10, 0.1), cost("FNA", 40, 0.3)], "seed network": [cost("seed", 5, 0.2)]}
    alone = cost_rows(curves, [curves["FNA"][-1]], seed)
    assert alone["detector"].tolist()[:2] == ["FNA", "FNA, 1/4"] and "240" in alone["detector"].iloc[-1]
    unknown = [curves["FNA"][-1], cost("DetNAS", 100, float("nan"))]
    assert not cost_rows(curves, unknown, seed)["detector"].str.contains("at least").any()
    (line,) = [line for line in plot_cost_curves({"DetNAS": unknown[1:]}).lines if line.get_linestyle() == ":"]
    assert "other scenes" in line.get_label()
    for ap, wanted in ((0.05, 10), (0.2, 25), (0.4, float("nan"))):
        rows = cost_rows(curves, [curves["FNA"][-1], cost("DetNAS", 100, ap)], seed)
        assert rows["detector"].iloc[0] == "DetNAS"
        row = rows[rows["detector"].str.contains("at least DetNAS's AP")].iloc[0]
        assert row["whole, TMACs"] * 1e12 == pytest.approx(wanted, nan_ok=True)


def test_the_gap_to_the_seed_network_is_told_by_length_the_shortest_first():
    def costs(*aps):
        return [WholeCost(name="x", parts={}, seconds=1.0, ap=ap) for ap in aps]

    curves = {"FNA": costs(0.1, 0.2, 0.3), "seed network": costs(0.2, 0.25, 0.29)}
    experiment = SimpleNamespace(plan=plan_named("tiny", "detection"))
    steps = experiment.plan.finetune.steps
    told = gap_sentence(experiment, curves, (2, 4))
    assert f"+0.100 after {steps // 4} steps, +0.050 after {steps // 2} steps, -0.010 after {steps} steps." in told


def test_only_what_nothing_beats_is_on_the_front():
    rows = [(0.0, 90e6, 0.30), (0.1, 80e6, 0.28), (0.5, 85e6, 0.20)]
    frame = pd.DataFrame(rows, columns=["strength", "MACs", "AP"])
    for column in ("seed network", "best-scored random"):
        frame[f"{column} MACs"], frame[f"{column} AP"] = 70e6, 0.25
    ax = plot_front(frame)
    (front,) = (line for line in ax.lines if line.get_linestyle() == "-")
    assert front.get_xdata().tolist() == pytest.approx([80, 90])


def test_backbone_and_whole_model_are_counted_at_one_image_size(tmp_path):
    plan = plan_named("smoke", "detection")
    data, larger = (load_data(replace(plan.data, image_side=side), "detection", "scenes", seed=0) for side in (96, 192))
    experiment = start_experiment(
        "other", {}, plan=plan, data=data, seed=0, device="cpu", runs=str(tmp_path), fresh=False
    )
    spec = fna.seed_form(experiment)
    model = experiment.task.build(Backbone(spec))
    result = Result(
        network=Network(name="seed network", spec=spec), metrics={}, model=model, detections=None, losses=(),
        macs=0, params=0, detector_params=0, seconds=0.0,
    )  # fmt: skip
    mixed = replace(experiment, data=replace(data, train=larger.train))
    expected = whole_models(experiment, [result])
    assert whole_models(mixed, [result]).equals(expected)
    assert expected["backbone MMACs"].iloc[0] < expected["whole model MMACs"].iloc[0]


def test_what_a_search_changed_is_told_by_stage():
    told = change_sentence("It", fna_spec("MobileNetV2"), fna_spec("FNA RetinaNet"))
    assert "depth of stage 3 from 3 to 2, stage 5 from 3 to 2, stage 6 from 3 to 4;" in told
    assert "kernel went from 3.0 to 5.4, the mean expansion from 5.7 to 5.5" in told  # stage 1 has expansion 1
    assert "depth of no stage" in change_sentence("It", fna_spec("MobileNetV2"), fna_spec("MobileNetV2"))


def test_prices_are_multiples_of_the_plainest_operation():
    frame = pd.DataFrame({"stage": [2, 2], "layers": ["first", "further"], "k3e3": [2.0, 1.0], "k3e6": [4.0, 3.0]})
    assert price_sentence(frame.assign(skip=0.0)).endswith("over the layers: k3e6 2.50.")


def test_a_front_is_told_by_strength_with_the_seed_network_last():
    frame = pd.DataFrame({"strength": [0.0, 0.0, 0.5], "MACs": [4e7, 6e7, 2e7], "AP": [0.2, 0.3, 0.1]})
    told = front_sentences(frame.assign(**{"seed network MACs": 3e7, "seed network AP": 0.4}))
    assert told == ["λ = 0: 50.0 MMACs, AP 0.250.", "λ = 0.5: 20.0 MMACs, AP 0.100.",
                    "The seed network: 30.0 MMACs, AP 0.400."]  # fmt: skip


def test_the_printed_bill_adds_up_and_unconfirmed_parts_are_one_grey_part():
    ax = plot_printed_cost()
    bars = {bars.get_label(): [patch.get_width() for patch in bars] for bars in ax.containers}
    assert [sum(row) for row in zip(*bars.values(), strict=True)] == pytest.approx([68, 9.2, 21.6, 8.5, 21.0])
    assert bars["parts not known"] == pytest.approx([0, 0, 0, 8.5, 21.0])
