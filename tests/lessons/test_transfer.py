"""Who is moved where, what the papers print of it, and gains with their errors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workbench.lessons import transfer as lesson
from workbench.networks.backbone import Backbone
from workbench.records.files import write_json
from workbench.spaces.costs import backbone_cost
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import residual_spec
from workbench.tasks.detection import Detection, build_detector


def test_a_stored_network_is_moved_with_its_baseline_and_a_random_one_of_equal_cost() -> None:
    networks, told = lesson.moved_networks("", "tiny", 1)
    assert [network.name for network in networks] == ["found", "baseline", "random"] and "seed 1" in told
    found, baseline, random = (network.spec for network in networks)
    assert found.blocks != baseline.blocks and found.blocks != random.blocks
    costs = [backbone_cost(spec, 128) for spec in (found, baseline, random)]
    assert len({cost.macs for cost in costs}) == 1 and costs[0] == costs[2]
    assert lesson.moved_networks("", "tiny", 7)[1] == lesson.moved_networks("", "tiny", 0)[1]  # no such seed is stored
    published, _ = lesson.moved_networks("", "paper", 0)
    assert (
        published[0].spec.blocks == CRNAS[1].spec.blocks
        and published[1].spec.blocks == residual_spec("resnet50").blocks
    )


@pytest.mark.parametrize("space", ["shuffle-tiny", "channel-dilation-resnet-bottleneck-tiny-n4-C"])
def test_the_network_of_a_finished_run_is_moved(tmp_path: Path, space: str) -> None:
    from workbench.spaces.catalogue import space_named

    arch = space_named(space).uniform(1)
    write_json(tmp_path / "arch.json", {"arch": arch.to_json()})
    networks, told = lesson.moved_networks(str(tmp_path), "tiny", 0)
    assert networks[0].spec == space_named(space).spec(arch) and str(tmp_path) in told
    assert networks[1].spec == space_named(space).spec(space_named(space).uniform(0))
    write_json(tmp_path / "arch.json", {"arch": None})
    with pytest.raises(ValueError, match="Expected a finished run of notebook 10, 20 or 40"):
        lesson.moved_networks(str(tmp_path), "tiny", 0)


def test_settings_are_named_and_cut_short_together() -> None:
    plan = lesson.chosen(lesson.TINY, ["pose", "mask_rcnn"], 7)
    assert list(plan.settings) == ["pose", "mask_rcnn"] and plan.finetune.steps == 7
    assert {setting.finetune.steps for setting in plan.settings.values()} == {7}
    with pytest.raises(ValueError, match=r"settings are some of faster_rcnn, .* pose; got 'posse'"):
        lesson.chosen(lesson.TINY, ["posse"], 0)


def test_the_papers_settings_are_theirs_and_build() -> None:
    plan = lesson.paper_plan()
    recipes = {name: setting.finetune for name, setting in plan.settings.items()}
    assert recipes["cascade_mask"].steps == 20 * 117_266 // 16 and recipes["cascade_mask"].milestones == (0.8, 0.95)
    assert recipes["other_data"].steps == 18 * 16_551 // 16 and recipes["mask_rcnn"].steps == plan.finetune.steps
    assert plan.deviations and plan.settings["other_data"].data.split == "detnas-voc"
    for setting in plan.settings.values():
        with torch.device("meta"):
            model: Any = build_detector(Backbone(residual_spec("resnet50")), 80, setting.head)
        assert model.roi_heads.has_mask() == ("mask AP" in setting.measures) == setting.data.masks
    nas: Any = plan.settings["nas_fpn"].head
    assert (nas.pyramid_cells, nas.pyramid_channels, 4 * nas.pyramid_channels) == (7, 384, 1536)


def test_fitness_follows_the_measure_of_a_setting() -> None:
    experiment: Any = lesson.Experiment(
        run=SimpleNamespace(), plan=lesson.paper_plan(), data=None, seed=0, device=torch.device("cpu")
    )  # type: ignore[arg-type]
    data: Any = SimpleNamespace(train=SimpleNamespace(categories=("cat",)))
    voc, masks = (lesson.moved(experiment, name, data).task for name in ("other_data", "mask_rcnn"))
    assert isinstance(voc, Detection) and (voc.metric, masks.metric) == ("AP50", "AP") and masks.config.masks


def test_printed_gains_are_those_of_the_tables() -> None:
    gains = lesson.paper_gains()
    assert len(gains) == 16 and gains["gain"].between(0.006, 0.021).all()
    row = gains.set_index(["setting", "measure", "backbone"])["gain"]
    assert row["COCO, Mask R-CNN", "mask", "CR-R50"] == pytest.approx(0.013)
    assert row["VOC 2007 test, Faster R-CNN", "box", "CR-R101"] == pytest.approx(0.007)
    assert row["COCO, Cascade R-CNN", "box", "NATS-R50"] == pytest.approx(0.013)


def test_gains_have_the_error_of_a_difference() -> None:
    def result(ap: float, error: float) -> Any:
        metrics = {"AP": ap, "AP_error": error, "mask AP": ap / 2}
        return SimpleNamespace(metrics=metrics, macs=1, params=2)

    plan = lesson.chosen(lesson.TINY, ["mask_rcnn"], 0)
    table = lesson.transfer_table(plan, {"mask_rcnn": [result(0.5, 0.03), result(0.3, 0.04), result(0.2, 0.04)]})
    found = table[(table["network"] == "found") & (table["measure"] == "AP")].iloc[0]
    assert found["gain"] == pytest.approx(0.2) and found["gain error"] == pytest.approx(0.05)
    masks = table[table["measure"] == "mask AP"]
    assert masks["gain"].tolist() == pytest.approx([0.1, 0, -0.05]) and masks["error"].isna().all()
    assert lesson.gain_sentences(table, "found") == [
        "found in mask_rcnn, AP: +0.200 to the baseline (standard error 0.050: won).",
        "found in mask_rcnn, mask AP: +0.100 to the baseline (without an error).",
    ]
    assert lesson.gain_sentences(table, "random")[0].endswith("(standard error 0.057: tied).")
    ax = lesson.plot_gains(table[table["network"] != "baseline"].reset_index(drop=True), "network")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["mask_rcnn, AP", "mask_rcnn, mask AP"]
