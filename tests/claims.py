"""What a finished run says in words, against its own tables: verdicts, and the numbers in captions."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd

from workbench.insight import tables
from workbench.records.files import read_json
from workbench.records.run_folder import RunFolder

# The methods on which a notebook has a verdict, each with a random-search control.
METHODS = {
    "10_detnas": ["DetNAS"],
    "20_nats": ["NATS"],
    "31_fna_detection": ["FNA"],
    "32_fna_segmentation_and_pose": ["FNA segmentation", "FNA pose"],
    "40_crnas": ["CR-NAS"],
    "41_known_answers": ["DetNAS", "NATS", "FNA", "CR-NAS"],
    "90_your_own_data": ["DetNAS"],
}
NUMBER = r"[+-]?\d+\.\d+"
OWN_WARNING = "The input patch is smaller than the field"  # smoke measures on small ones, and says so
SHOWN = {"text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml"}  # in place of a plain text


def check_verdicts(run: RunFolder) -> None:
    """Names, signs, numbers and outcomes of every verdict follow from the table, its costs from the ledger."""
    records = run.verdicts()
    if run.notebook in METHODS:
        assert [record["method"] for record in records] == METHODS[run.notebook]
        assert all(record["random"] for record in records)
    texts = shown_texts(run)
    for record in records:
        sentence, found, metric = record["sentence"], record["found"]["name"], record["metric"]
        names = [found, *(row["name"] for row in record["others"])]
        compared = (table for table in tables_of(run).values() if {"network", f"{metric} error"} <= {*table})
        (frame,) = (table.set_index("network") for table in compared if {*names} <= {*table["network"]})
        assert html.escape(sentence, quote=False) in texts
        assert f"{record['method']} ({metric} {frame.loc[found, metric]:.3f}, " in sentence
        for rival in {record["baseline"], record["random"], frame.loc[names[1:], metric].idxmax()} - {""}:
            gap = frame.loc[found, metric] - frame.loc[rival, metric]
            error = np.hypot(frame.loc[found, f"{metric} error"], frame.loc[rival, f"{metric} error"])
            size = abs(gap) / error if gap else 0.0
            verb = "tied with" if size <= 2 else "won against" if gap > 0 else "lost to"
            clause = re.search(rf"(\w+ \w+) [^()]*\({re.escape(rival)}: ({NUMBER}), (\S+) standard errors", sentence)
            assert clause is not None, (rival, sentence)
            assert clause.groups() == (verb, f"{gap:+.3f}", f"{size:.1f}")
        for row in [record["found"], *record["others"]]:
            assert bool(row["seconds"]) == bool(row["forward_macs"]) <= (row["macs"] == frame.loc[row["name"], "MACs"])
            assert row["forward_macs"] < run.ledger.total().forward_macs
            if row["name"] in (found, record["random"]) and run.notebook in METHODS:
                assert row["seconds"] > 0


def check_clean(notebook: Path) -> None:
    """No red log, no bare object above a figure, no name of a placeholder; and every image says what it shows."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            data, text = output.get("data", {}), output.get("text", "")
            assert output.get("name") != "stderr" or OWN_WARNING in text, text
            if not SHOWN & data.keys():
                text += data.get("text/plain", "")
                assert not re.match(r"<[\w.]+[ :]", text), text
            assert "__" not in text, text
            assert "image/png" not in data or output.metadata.get("image/png", {}).get("alt"), cell.source


def check_captions(run: RunFolder) -> None:
    """The numbers in the captions listed below are those of tables, scores, losses and the ledger."""
    captions = read_json(run.path / "figures" / "captions.json", missing={})
    for figure, expected in CAPTIONS.get(run.notebook, {}).items():
        parts = expected(run)
        assert parts and [part for part in parts if part not in captions[f"{figure}.png"]] == [], (figure, captions)


def ledger(run: RunFolder) -> list[str]:
    return [f"{run.ledger.total().seconds:.0f} s in all"]


def losses(run: RunFolder, *phases: str) -> list[str]:
    """First loss, and mean of the last tenth, of phases that the run trained or took from the cache."""
    paths = [*(run.path / "phases").glob("*/phase.json"), *(run.path.parent.parent / "cache").glob("*/phase.json")]
    records = [json.loads(path.read_text()) for path in paths]
    found = {record["entry"]["phase"]: record["losses"] for record in records if "losses" in record}
    ends = [(found[phase], found[phase][-max(1, len(found[phase]) // 10) :]) for phase in phases]
    return [f"{values[0]:.2f} at first and {np.mean(last):.2f} in the end" for values, last in ends]


def best(run: RunFolder, *names: str) -> list[str]:
    """The best AP of the phases whose names begin so."""
    scores = [score for score in run.scores() if score.phase.startswith(names) and "AP" in score.metrics]
    phases = dict.fromkeys(score.phase for score in scores)
    return [f"{max(s.metrics['AP'] for s in scores if s.phase == phase):.3f}" for phase in phases]


def recalibration(run: RunFolder) -> list[str]:
    without = [score.metrics["AP"] for score in run.scores("without recalibration") if not score.error]
    before = [score.metrics["AP"] for score in run.scores("random") if not score.error][: len(without)]
    return [f"{np.mean(before):.3f} recalibrated, {np.mean(without):.3f} without"]


def cells(run: RunFolder, table: str, column: str, form: str) -> list[str]:
    """A column of a table, each value written as `form` says (with the first cell of its row as `name`)."""
    frame = tables_of(run)[table]
    return [form.format(value, name=name) for name, value in zip(frame.iloc[:, 0], frame[column], strict=True)]


def highest(run: RunFolder) -> list[str]:
    frame = tables_of(run)["comparison"]
    row = frame.loc[frame["AP"].idxmax()]
    return [f"Test AP of {len(frame)} networks; highest: {row['network']}, {row['AP']:.3f}"]


def sizes(run: RunFolder) -> list[str]:
    macs = tables_of(run)["comparison"]["MACs"] / 1e6
    return [f"of {len(macs)} networks at {macs.min():.1f} to {macs.max():.1f} MMACs"]


def ranking(run: RunFolder) -> list[str]:
    ranked = tables.ranking_table(run.scores("stages"), "AP")
    return [f"AP of {len(ranked)} allocations", f"best {list(ranked['depths'][0])}"]


def latency(run: RunFolder) -> list[str]:
    worst = tables_of(run)["latency"][["backbone ratio", "detector ratio"]].max()
    return [f"{worst.iloc[0]:.2f} (backbone)", f"{worst.iloc[1]:.2f} (detector)"]


def gains(run: RunFolder) -> list[str]:
    rows = tables_of(run)["gains_1"].itertuples()
    return [f"{row.method} - {row.against} {row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows]


def transfer_gains(run: RunFolder) -> list[str]:
    frame = tables_of(run)["transfer"]
    values = {(row["setting"], row["measure"], row["network"]): row["value"] for _, row in frame.iterrows()}
    return [
        f"{name} in {setting}, {measure}: {value - values[setting, measure, 'baseline']:+.3f} to the baseline"
        for (setting, measure, name), value in values.items()
        if name != "baseline"
    ]


SUPERNET = ("pretrain supernet", "finetune supernet")
STAGES = ("pretrain stage supernet", "finetune stage supernet")
CAPTIONS: dict[str, dict[str, Callable[[RunFolder], list[str]]]] = {
    "01_data_and_detectors": {
        "loss": lambda run: losses(run, "train detector"),
        "detections": lambda run: cells(run, "detector", "AP50", "is {:.2f}"),
    },
    "10_detnas": {
        "supernet_losses": lambda run: losses(run, *SUPERNET),
        "trajectory": lambda run: best(run, "evolution", "random"),
        "recalibration": recalibration,
        "comparison": highest,
        "by_object": lambda run: [f"AP of {len(tables_of(run)['comparison'])} networks by kind of object"],
        "detections": lambda run: cells(run, "comparison", "AP50", "test AP50 {:.2f}")[:1],
        "ledger": ledger,
    },
    "20_nats": {
        "trajectory": lambda run: best(run, "search", "random"),
        "by_object": sizes,
        "latency": latency,
        "ledger": ledger,
    },
    "30_fna_remap": {"grid": lambda run: cells(run, "grid", "mIoU", "{:.3f}"), "ledger": ledger},
    "31_fna_detection": {
        "trajectory": lambda run: best(run, "search", "random"),
        "comparison": lambda run: cells(run, "comparison", "AP", "{name}: AP {:.3f}"),
        "whole_cost": lambda run: cells(run, "whole_cost", "whole, TMACs", "FNA: {:.1f} TMACs")[:1],
        "ledger": ledger,
    },
    "32_fna_segmentation_and_pose": {
        "images_segmentation": lambda run: cells(run, "segmentation", "mIoU", "mIoU {:.2f}")[:1],
        "images_pose": lambda run: cells(run, "pose", "PCK", "PCK {:.2f}")[:1],
        "ledger": ledger,
    },
    "40_crnas": {
        "supernet_losses": lambda run: losses(run, *STAGES),
        "ranking": ranking,
        "sizes": sizes,
        "ledger": ledger,
    },
    "50_receptive_fields": {
        "nats_fields": lambda run: cells(run, "nats_fields", "A(0.0455)", "{name} {:.0f} px"),
        "training": lambda run: cells(run, "training", "sigma_h", "{name} {:.0f} px"),
        "box_shares": lambda run: cells(run, "box_shares", "SCR", "{name} {:.2f}"),
    },
    "65_transfer": {"gains": transfer_gains, "ledger": ledger},
    "70_compare_methods": {"costs_1": lambda run: cells(run, "means_1", "value", ": {:.3f}"), "gains_1": gains},
    "90_your_own_data": {
        "trajectory": lambda run: best(run, "evolution", "random"),
        "clock": lambda run: [f"of {len(tables_of(run)['clock'])} networks"],
        "choice": lambda run: cells(run, "comparison", "AP", ", AP {:.3f}"),
        "detections": lambda run: cells(run, "comparison", "AP50", "test AP50 {:.2f}")[:1],
    },
}


def tables_of(run: RunFolder) -> dict[str, pd.DataFrame]:
    """The tables of a run by name."""
    read = {path.stem: read_json(path) for path in (run.path / "tables").glob("*.json")}
    return {name: pd.DataFrame(table["rows"], columns=table["columns"]) for name, table in read.items()}


def shown_texts(run: RunFolder) -> list[str]:
    """The Markdown that the cells of the executed notebook showed."""
    cells: list[Any] = nbformat.read(run.path / "notebook.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"]["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
