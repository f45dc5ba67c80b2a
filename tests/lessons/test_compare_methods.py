"""Rows of stored tables and of finished runs: who is compared with whom, over which seeds, and what is left out."""

import json
import shutil

import pandas as pd
import pytest

from workbench.insight import tables
from workbench.lessons import compare_methods as lesson
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder

ROWS = {
    "DetNAS": (0.30, 21e6),
    "all 3x3": (0.20, 18e6),
    "all 3x3 widened": (0.25, 21e6),
    "best-scored random": (0.28, 20e6),
}


def table(shift: float = 0.0) -> pd.DataFrame:
    """A comparison as notebook 10 saves it."""
    rows = [[name, macs, 1e5, value + shift * (name == "DetNAS"), 0.01] for name, (value, macs) in ROWS.items()]
    return pd.DataFrame(rows, columns=["network", "MACs", "params", "AP", "AP error"])


def stored(seeds: int = 3) -> pd.DataFrame:
    """Seeds of it, in which the found network is 0.00, 0.01, 0.02 ... better."""
    frames = [table(0.01 * seed).assign(seed=seed, preset="tiny", data="") for seed in range(seeds)]
    return pd.concat(frames, ignore_index=True)


def run_of(root, seed: int, notebook: str = "10_detnas", finished: bool = True, **params: str) -> RunFolder:
    run = RunFolder.open(
        root, notebook, {"preset": "tiny", "data": "scenes", **params}, seed=seed, data_digest=str(seed)
    )
    run.save_table(table(0.01 * seed), "comparison", index=["network"])
    for phase, seconds in {
        "pretrain supernet": 5.0, "finetune supernet": 7.0, "evolution": 3.0, "random": 2.0, "finetune detnas": 4.0,
        "pretrain all-3x3": 1.0, "measure detnas": 0.5,
    }.items():  # fmt: skip
        run.ledger.add(Entry(phase=phase, seconds=seconds, images=1, forward_macs=1))
    if finished:
        run.finish()
    return run


def test_rows_are_told_apart_by_their_role():
    rows = lesson.comparison_rows(stored(1), "10_detnas", "stored").set_index("role")
    assert rows["network"].to_dict() == {
        "found": "DetNAS", "baseline": "all 3x3", "random search": "best-scored random",
    }  # fmt: skip
    assert rows["value"].tolist() == [0.30, 0.20, 0.28] and set(rows["method"]) == {"DetNAS"}
    assert (rows.loc["found", "data"], rows.loc["found", "task"]) == ("scenes", "detection")
    ladder = lesson.comparison_rows(stored().assign(**{"AP at 20 px": 0.5}), "10_detnas", "stored")
    assert set(ladder["data"]) == {"scenes of the ladder"}  # never drawn together with other scenes


def test_every_stored_comparison_has_all_three_roles_of_every_method_and_seed():
    rows = lesson.stored_rows()
    assert len(rows) and {path.stem for path in (tables.DATA / "results").glob("*.csv")} & {*lesson.NOTEBOOKS}
    for _, part in rows.groupby([*lesson.SETTING, "method", "seed"]):
        assert sorted(part["role"]) == sorted(lesson.MARKERS)
    assert rows["value"].between(0, 1).all() and (rows["error"] >= 0).all()


def test_gains_are_paired_by_seed_and_a_seed_without_its_pair_does_not_count():
    rows = lesson.comparison_rows(stored(), "10_detnas", "stored")
    gains = lesson.gains(rows).set_index("against")
    assert gains["value"].tolist() == pytest.approx([0.11, 0.03]) and gains["n"].tolist() == [3, 3]
    # t(0.975, 2) x 0.01 / sqrt(3)
    assert gains["high"].tolist() == pytest.approx([0.11 + 0.02484, 0.03 + 0.02484], abs=1e-5)
    alone = rows[~((rows["role"] == "random search") & (rows["seed"] > 0))]
    again = lesson.gains(alone).set_index("against")
    assert again["n"].to_dict() == {"baseline": 3, "random search": 1}
    assert again.loc["random search", "value"] == pytest.approx(0.02)
    means = lesson.means(rows).set_index("role")
    assert means.loc["found", "value"] == pytest.approx(0.31) and means.loc["found", "MACs"] == 21e6


def test_a_verdict_takes_the_seeds_that_have_all_rows():
    rows = lesson.comparison_rows(stored(), "10_detnas", "stored")
    (verdict,) = lesson.verdicts(rows)
    assert verdict.sentence.startswith("Mean of 3 seeds") and [o.result for o in verdict.outcomes] == ["won", "won"]
    (verdict,) = lesson.verdicts(rows[~((rows["role"] == "baseline") & (rows["seed"] == 2))])
    assert verdict.sentence.startswith("Mean of 2 seeds")
    assert lesson.verdicts(rows[rows["role"] != "random search"]) == []


def test_settings_that_differ_are_never_one():
    parts = [
        lesson.comparison_rows(stored(), "10_detnas", "stored"),
        lesson.comparison_rows(stored(), "10_detnas", "runs"),
        lesson.comparison_rows(stored().assign(data="my_photos"), "10_detnas", "runs"),
    ]
    names = [name for name, part in lesson.settings(pd.concat(parts)) if len(part) == 9]
    assert names == [
        "detection, tiny on scenes (stored)", "detection, tiny on scenes (runs)", "detection, tiny on my_photos (runs)",
    ]  # fmt: skip


def test_of_finished_runs_the_newest_of_a_seed_counts_and_the_others_are_named(tmp_path):
    older, newer = run_of(tmp_path, 0), run_of(tmp_path, 0)
    for run, started in ((older, "2026-01-01"), (newer, "2026-01-02")):
        record = json.loads((run.path / "params.json").read_text()) | {"started": started}
        (run.path / "params.json").write_text(json.dumps(record))
    other = run_of(tmp_path, 1)
    running = run_of(tmp_path, 2, finished=False)
    broken, torn, without = (run_of(tmp_path, seed) for seed in (3, 4, 5))
    (broken.path / "params.json").write_text("{")
    (torn.path / "tables" / "comparison.json").write_text('{"rows": [{"network": "DetNAS"}]}')
    shutil.rmtree(without.path / "tables")
    run_of(tmp_path, 0, notebook="50_receptive_fields")  # of no interest, and no mistake
    found, left_out = lesson.finished_runs(str(tmp_path))
    assert {run.path for run in found} == {newer.path, other.path}
    assert all(len(rows) == 3 for rows in found.values())
    for run, reason in ((older, "a newer run"), (running, "it is running"), (broken, ""), (torn, ""), (without, "")):
        assert [text for text in left_out if str(run.path) in text and reason in text], (run.path, left_out)
    assert len(left_out) == 5
    assert {run.path for run in lesson.finished_runs(str(tmp_path / "10_detnas"))[0]} == {newer.path, other.path}
    assert lesson.finished_runs(str(tmp_path / "nowhere")) == ({}, [])


def test_seconds_are_sums_of_phases_and_means_over_runs(tmp_path):
    runs = [run_of(tmp_path, seed) for seed in (0, 1)]
    runs[1].ledger.add(Entry(phase="evolution", seconds=5.0, images=1, forward_macs=1))
    seconds = lesson.seconds_by_part(runs)
    assert seconds.loc["DetNAS"].to_dict() == {
        "supernet": 12.0, "search": 4.0, "random search": 2.0, "networks trained": 5.0, "measuring": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "part"),
    [
        ("cr-nas operation supernet", "supernet"),
        ("fna seed", "supernet"),
        ("finetune detnas:-best-scored-random", "networks trained"),
        ("random on nats search", "random search"),
        ("beam", "search"),
        ("measure fna", "measuring"),
    ],
)
def test_phases_of_every_method_have_their_part(phase, part):
    assert lesson.part_of(phase) == part


def test_figures_show_every_row():
    rows = lesson.comparison_rows(stored(), "10_detnas", "stored")
    ax = lesson.plot_costs(lesson.means(rows), "AP")
    assert len(ax.containers) == 3 and ax.get_ylim()[1] <= 1.02
    printed = pd.DataFrame({"method": ["DetNAS"], "network": ["DetNAS: RetinaNet"], "gain": [0.012]})
    ax = lesson.plot_gains(lesson.gains(rows), printed, "AP")
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "DetNAS - baseline (n = 3)", "DetNAS - random search (n = 3)",
    ]  # fmt: skip
