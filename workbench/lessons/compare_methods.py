"""Four methods next to each other: the rows of stored tables and of finished runs, and what they say over seeds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from workbench.evaluation.statistics import mean_interval
from workbench.evaluation.verdict import Comparison, Rival, Verdict, judge
from workbench.insight.plots import distances_of
from workbench.insight.style import BLUE, FAINT, GREEN, ORANGE, QUIET, RIGHT, SKY, VERMILLION
from workbench.insight.tables import DATA
from workbench.records.files import base_folder, read_json
from workbench.records.run_folder import RunFolder

# Whose comparison a notebook holds; notebook 41 has a column that says so.
NOTEBOOKS = {"10_detnas": "DetNAS", "20_nats": "NATS", "31_fna_detection": "FNA", "40_crnas": "CR-NAS"}
NOTEBOOKS["41_known_answers"] = ""
COLOURS = {"DetNAS": to_hex(BLUE), "NATS": to_hex(ORANGE), "FNA": to_hex(GREEN), "CR-NAS": to_hex(VERMILLION)}
MARKERS = {"found": "o", "baseline": "s", "random search": "X"}
ROLES = {**dict.fromkeys(COLOURS, "found"), "best-scored random": "random search"}
ROLES |= {"best-scored random dilations": "random search"}
ROLES |= dict.fromkeys(("all 3x3", "baseline", "seed network", "undilated", "seed layout"), "baseline")
PART_COLOURS = {
    "supernet": SKY,
    "search": ORANGE,
    "random search": FAINT,
    "networks trained": BLUE,
    "measuring": QUIET,
}
SETTING = ["source", "task", "preset", "data"]  # only rows that agree in these are drawn together
COSTS = {"MACs": "MMACs of the backbone", "params": "million parameters of the backbone"}


def comparison_rows(frame: pd.DataFrame, notebook: str, source: str) -> pd.DataFrame:
    """The found network, the baseline and the best of a random search of each method and seed, one row each.

    `frame` is a comparison as `report --csv comparison` writes it. Columns: `SETTING`, `method`, `role`, `network`,
    `seed`, the costs, `metric` (its name), `value`, `error`, and `reach` (pixels) where it is known.
    """
    metric = "accuracy" if "accuracy" in frame else "AP"
    task = "detection" if NOTEBOOKS[notebook] else "the probe"
    # 41 has no such parameter; in `tiny` the plans of DetNAS and CR-NAS draw the ladder, those of the others do not.
    scenes = "scenes of the ladder" if task == "the probe" or distances_of(frame) else "scenes"
    named = [scenes if pd.isna(data) or data in ("", "scenes") else data for data in frame["data"]]
    frame = frame.rename(columns={metric: "value", f"{metric} error": "error"})
    frame = frame.assign(source=source, task=task, metric=metric, data=named)
    frame = frame if "reach" in frame else frame.assign(reach=np.nan)
    if NOTEBOOKS[notebook]:
        frame["method"] = NOTEBOOKS[notebook]
    pairs = zip(frame["network"], frame["method"], strict=True)
    frame["role"] = [ROLES.get(name.removeprefix(f"{method}: ")) for name, method in pairs]
    kept = [*SETTING, "method", "role", "network", "seed", *COSTS, "metric", "value", "error", "reach"]
    return frame.dropna(subset=["role"])[kept]


def stored_rows() -> pd.DataFrame:
    """The rows of every comparison that is stored as `data/results/<notebook>.csv`."""
    paths = {name: DATA / "results" / f"{name}.csv" for name in NOTEBOOKS}
    found = [comparison_rows(pd.read_csv(path), name, "stored") for name, path in paths.items() if path.is_file()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def finished_runs(folder: str) -> tuple[dict[RunFolder, pd.DataFrame], list[str]]:
    """The rows of the newest finished run of every setting and seed below a folder; and a sentence on every other."""
    found: dict[Any, tuple[RunFolder, pd.DataFrame]] = {}
    left_out = []
    home = base_folder() / Path(folder).expanduser()
    for path in sorted({*home.glob("*/params.json"), *home.glob("*/*/params.json")}):
        try:
            run = RunFolder(path.parent)
            if run.notebook not in NOTEBOOKS:
                continue
            if run.status != "finished":
                raise ValueError(f"it is {run.status}")
            origin = {"seed": run.seed} | {name: run.params.get(name, "") for name in ("preset", "data")}
            table = pd.DataFrame(read_json(run.path / "tables" / "comparison.json")["rows"]).assign(**origin)
            rows = comparison_rows(table, run.notebook, "runs")
        except (ValueError, KeyError, TypeError) as error:
            left_out.append(f"{path.parent} is left out: {error}.")
            continue
        key = (run.notebook, *origin.values())
        if key in found:
            older, found[key] = sorted((found[key], (run, rows)), key=lambda pair: pair[0].started)
            left_out.append(f"{older[0].path} is left out: a newer run of its seed is there.")
        else:
            found[key] = run, rows
    return dict(found.values()), left_out


def settings(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each setting with its name, such as "detection, tiny on scenes (stored)"."""
    for (source, task, preset, data), part in rows.groupby(SETTING, sort=False):
        yield f"{task}, {preset} on {data} ({source})", part


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Over the seeds of one setting: a row for each method and role with the mean, its 95 % interval, n, and costs."""
    table = []
    for (method, role), part in rows.groupby(["method", "role"], sort=False):
        found = mean_interval(part["value"].tolist())
        costs = {name: part[name].mean() for name in COSTS}
        table.append({"method": method, "role": role, "network": part["network"].iloc[0], **costs, **found._asdict()})
    return pd.DataFrame(table)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Over the seeds of one setting: the found network minus baseline and random search, paired by seed."""
    table = []
    for method, part in rows.groupby("method", sort=False):
        by_seed = part.pivot_table(index="seed", columns="role", values="value")
        for other in ("baseline", "random search"):
            if {"found", other} <= {*by_seed} and len(pairs := by_seed[["found", other]].dropna()):
                found = mean_interval((pairs["found"] - pairs[other]).tolist())
                table.append({"method": method, "against": other, **found._asdict()})
    return pd.DataFrame(table, columns=["method", "against", "value", "low", "high", "n"])


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The verdict on every method of one setting over those seeds that have all three rows."""
    told = []
    for method, part in rows.groupby("method", sort=False):
        runs = []
        for _, seed in part.groupby("seed"):
            by_role = {row["role"]: row for row in seed.to_dict("records")}
            if {*by_role} >= {*MARKERS}:
                rivals = [
                    Rival(name=row["network"], value=row["value"], error=row["error"], macs=row["MACs"])
                    for row in (by_role[role] for role in MARKERS)
                ]
                found, *others = rivals
                names = {"baseline": others[0].name, "random": others[1].name, "metric": part["metric"].iloc[0]}
                runs.append(Comparison(method=str(method), found=found, others=tuple(others), **names))
        told += [judge(runs)] if runs else []
    return told


def seconds_by_part(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Mean seconds of the runs of each method (index), by what they were for (`PART_COLOURS`)."""
    rows = []
    for run in runs:
        for entry in run.ledger.entries:
            phase = entry.phase.lower()
            method = NOTEBOOKS[run.notebook] or next((name for name in COLOURS if name.lower() in phase), "all")
            rows.append({"run": run.path, "method": method, "part": part_of(phase), "seconds": entry.seconds})
    sums = pd.DataFrame(rows).groupby(["method", "run", "part"], sort=False)["seconds"].sum().unstack()
    means = sums.fillna(0.0).groupby("method", sort=False).mean()
    return means.reindex(columns=[*PART_COLOURS], fill_value=0.0)


def part_of(phase: str) -> str:
    """What a phase of any method's ledger was for."""
    if phase.startswith("measure"):
        return "measuring"
    if "supernet" in phase or phase.endswith(" seed"):
        return "supernet"
    if phase.startswith(("pretrain", "finetune", "refresh")):
        return "networks trained"
    return "random search" if "random" in phase else "search"


def plot_costs(table: pd.DataFrame, metric: str) -> Axes:
    """A metric over MACs and over params, from `means`: found network, baseline and random search of each method.

    Bars are 95 % intervals over seeds, where there are two seeds or more; a line joins baseline and found network.
    """
    _, axes = plt.subplots(1, 2, figsize=(10.5, 3.9), sharey=True)
    for ax, (cost, label) in zip(axes, COSTS.items(), strict=True):
        for method, part in table.groupby("method", sort=False):
            rows, colour = part.set_index("role"), COLOURS[str(method)]
            for role, row in rows.iterrows():
                bars = [[row["value"] - row["low"]], [row["high"] - row["value"]]] if row["n"] > 1 else None
                face = colour if role == "found" else "white"
                ax.errorbar(row[cost] / 1e6, row["value"], bars, fmt=MARKERS[str(role)], color=colour, markersize=8,
                            markerfacecolor=face, elinewidth=1, capsize=3)  # fmt: skip
            ends = rows.reindex(["baseline", "found"]).dropna(subset=["value"])
            ax.plot(ends[cost] / 1e6, ends["value"], color=colour, linewidth=0.8, linestyle=":")
        ax.set(xlabel=label)
    bottom, top = axes[0].get_ylim()
    # Intervals of few seeds may leave the range of a share.
    axes[0].set(ylabel=f"{metric} on the test split (0-1)", ylim=(max(bottom, -0.02), min(top, 1.02)))
    handles = [Line2D([], [], color=COLOURS[str(name)], linewidth=3, label=name) for name in table["method"].unique()]
    for role, marker in MARKERS.items():
        face = QUIET if role == "found" else "white"
        handles.append(Line2D([], [], color=QUIET, marker=marker, linestyle="", markerfacecolor=face, label=role))
    axes[1].legend(handles=handles, **RIGHT)
    return axes[0]


def plot_gains(table: pd.DataFrame, printed: pd.DataFrame, metric: str) -> Axes:
    """Left what a search gained here, over its baseline and over random search, with 95 % intervals over seeds.

    Right the gains over a baseline that the papers print (`method`, `network`, `gain` in AP); they print no intervals.
    """
    _, axes = plt.subplots(1, 2, figsize=(11, 0.8 + 0.27 * max(len(table), len(printed))))
    for place, row in enumerate(table.to_dict("records")):
        colour, known = COLOURS[row["method"]], row["n"] > 1
        bars = [[row["value"] - row["low"]], [row["high"] - row["value"]]] if known else None
        marker = MARKERS[row["against"]]
        axes[0].errorbar(row["value"], place, xerr=bars, fmt=marker, color=colour, markerfacecolor="white", capsize=3)
    names = [f"{row['method']} - {row['against']} (n = {row['n']})" for row in table.to_dict("records")]
    axes[0].set(title="here", xlabel=f"{metric} of the found network less that of the other")
    axes[1].barh(range(len(printed)), printed["gain"], color=[COLOURS[name] for name in printed["method"]], height=0.6)
    axes[1].set(title="as printed in the papers", xlabel="AP on COCO of the found network less the baseline's")
    for ax, labels in zip(axes, (names, printed["network"]), strict=True):
        ax.axvline(0, color=QUIET, linewidth=1, linestyle=":")
        ax.locator_params(axis="x", nbins=5)
        ax.set_yticks(range(len(labels)), labels, fontsize=9)
        ax.invert_yaxis()
    return axes[0]
