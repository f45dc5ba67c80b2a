"""What the papers print and what is counted: every number is met or explained, and prints what data/papers holds."""

import json
import time

import pandas as pd
import pytest

from workbench.__main__ import main
from workbench.batch import published
from workbench.insight.tables import paper_table


@pytest.fixture(scope="module")
def rows(processor_seconds):
    start = time.perf_counter()
    found = list(published.rows())
    assert time.perf_counter() - start < 20
    return found


def test_every_printed_number_is_met_or_explained(rows):
    assert len(rows) >= 30
    pairs = [(row, *pair) for row in rows for pair in row.pairs if pair[0]]
    unmet = {(row.network, row.counted) for row, *pair in pairs if not published.is_met(*pair)}
    assert len(pairs) >= 50 and all(row.note for row in rows if (row.network, row.counted) in unmet)
    # Which they are is a finding of its own: one more means that a network or its counting changed.
    assert unmet == {
        *((name, "ImageNet network") for name in ("DetNASNet (3.8)", "SPOS (ImageNet)")),
        *((f"{name}-300M", "ImageNet network") for name in ("COCO-FPN", "COCO-RetinaNet", "VOC-FPN", "VOC-RetinaNet")),
        ("DetNASNet", "Faster R-CNN, 4conv1fc"),
        ("ShuffleNetV2-20", "RetinaNet"),
        ("COCO-RetinaNet-300M", "RetinaNet"),
        *((row.network, row.counted) for row in rows if row.counted == "Mask R-CNN"),
    }


def test_mask_heads_explain_the_difference_that_their_note_says(rows):
    masked = [row for row in rows if row.counted == "Mask R-CNN"]
    assert len(masked) == 6
    for row in masked:
        assert abs(published.difference(row.printed_macs, row.cost.macs + published.MISCOUNTED)) < 0.005


@pytest.mark.parametrize(
    ("printed", "counted", "met"),
    [
        ("192.5G", 194_424_000_000, True),
        ("192.5G", 194_426_000_000, False),  # 1 % is 194.425
        ("0.8B", 849_000_000, True),  # far off, but it rounds to the digit
        ("0.8B", 851_000_000, False),
        ("300M", 303_000_000, True),
    ],
)
def test_a_number_is_met_within_a_hundredth_or_by_its_last_digit(printed, counted, met):
    assert published.is_met(printed, counted) == met


def test_printed_numbers_are_those_of_the_papers_tables(rows):
    printed = {(row.network, row.counted): (row.printed_macs, row.printed_params) for row in rows}
    for _, row in paper_table("crnas_main").iterrows():
        assert printed[row["backbone"], "Faster R-CNN"][0] == row["FLOPs"]
    masks = paper_table("crnas_transfer")
    for _, row in masks[masks["setting"].str.contains("Mask") & (masks["FLOPs"] != "")].iterrows():
        assert printed[row["backbone"], "Mask R-CNN"][0] == row["FLOPs"]
    tables = pd.concat([paper_table("fna_detection"), paper_table("fna_segmentation")])
    for network, method, frame in (
        ("MobileNetV2", "MobileNetV2", "RetinaNet"),
        ("FNA RetinaNet", "FNA", "RetinaNet"),
        ("ShuffleNetV2-20", "ShuffleNetV2-20", "RetinaNet"),
        ("COCO-RetinaNet-300M", "DetNAS", "RetinaNet"),
        ("MobileNetV2", "MobileNetV2", "SSDLite"),
        ("FNA SSDLite", "FNA", "SSDLite"),
        ("MobileNetV2", "MobileNetV2", "DeepLabv3, output stride 16"),
        ("FNA DeepLabv3", "FNA", "DeepLabv3, output stride 16"),
    ):
        line = tables[(tables["method"] == method) & (tables["frame"] == frame.partition(",")[0])].iloc[0]
        assert printed[network, frame] == (line["MAdds"], line["params"].partition(" ")[0])


def test_every_plan_of_a_paper_says_where_it_deviates():
    found = published.deviations()
    named = {name for names in found for name in names.split(", ")}
    assert {"DetNAS: paper", "NATS: paper", "CR-NAS: paper-resnet18", "FNA: paper-ssdlite (detection)"} <= named
    assert all(listed and all(text.endswith(".") for text in listed) for listed in found.values())


def test_the_command_prints_markdown_or_json(rows, monkeypatch, capsys):
    monkeypatch.setattr(published, "rows", lambda: iter(rows))
    assert main(["published"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n| ") == len(rows) + 1 and "printed numbers are met" in text and "[1]" in text
    assert main(["published", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["rows"]) == len(rows) and content["deviations"]
