from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.evaluation.statistics import mean_interval
from workbench.evaluation.verdict import Comparison, Rival, Stored, judge
from workbench.insight import tables
from workbench.records.run_folder import RunFolder


def row(name: str, value: float, error: float = 0.01, **costs: float) -> Rival:
    return Rival(name=name, value=value, error=error, macs=20_000_000, **costs)


def comparison(found: float = 0.20, plain: float = 0.16, drawn: float = 0.19, wide: float = 0.25) -> Comparison:
    others = row("all 3x3", plain), row("widened", wide), row("drawn", drawn, seconds=60.0, forward_macs=2e12)
    of_search = {"seconds": 120.0, "forward_macs": 3e12}
    rows = {"found": row("DetNAS", found, **of_search), "others": others, "baseline": "all 3x3", "random": "drawn"}
    return Comparison(method="DetNAS", metric="AP", why="the scores are 0.01 apart", **rows)


def test_one_run_is_decided_beyond_two_standard_errors_of_the_difference() -> None:
    told = judge([comparison()])
    assert [(o.rival, o.result) for o in told.outcomes] == [("all 3x3", "won"), ("drawn", "tied"), ("widened", "lost")]
    errors = [0.04 / 0.01 / 2**0.5, 0.01 / 0.01 / 2**0.5, 0.05 / 0.01 / 2**0.5]
    assert [outcome.errors for outcome in told.outcomes] == pytest.approx(errors)
    edge = 0.16 + 2 * np.hypot(0.01, 0.01)
    assert judge([comparison(found=edge - 1e-6)]).outcomes[0].result == "tied"
    assert judge([comparison(found=edge + 1e-6)]).outcomes[0].result == "won"


def test_the_sentence_is_made_of_the_numbers() -> None:
    assert judge([comparison()]).sentence == (
        "One training seed, standard errors of the test split: DetNAS (AP 0.200, 20M MACs, searched in about 2 min with"
        " 3T forward MACs) won against its baseline (all 3x3: +0.040, 2.8 standard errors, 20M MACs), tied with random"
        " search (drawn: +0.010, 0.7 standard errors, 20M MACs, searched in about 1 min with 2T forward MACs), lost to"
        " the strongest of 3 other rows (widened: -0.050, 3.5 standard errors, 20M MACs); no stored seeds; as for why:"
        " the scores are 0.01 apart."
    )


@pytest.mark.parametrize(
    ("values", "roles"),
    [
        ({"plain": 0.30}, [("its baseline", "the strongest of 3 other rows"), ("random search",)]),
        ({"drawn": 0.30}, [("its baseline",), ("random search", "the strongest of 3 other rows")]),
    ],
)
def test_a_row_is_told_once_with_all_its_roles(values: dict[str, float], roles: list[tuple[str, ...]]) -> None:
    assert [outcome.roles for outcome in judge([comparison(**values)]).outcomes] == roles


def test_without_a_control_or_a_third_row_it_says_so() -> None:
    pair = replace(comparison(), others=(row("all 3x3", 0.0, error=0.0),), random="", why="")
    (only,) = judge([replace(pair, found=row("DetNAS", 0.0, error=0.0))]).outcomes
    assert (only.roles, only.result, only.errors) == (("its baseline",), "tied", 0.0)  # neither learned anything
    assert judge([pair]).sentence.endswith("20M MACs); there is no random control; no stored seeds.")
    with pytest.raises(ValueError, match="names a row 'drawn'; the other rows are"):
        replace(pair, random="drawn")


def test_several_seeds_are_paired() -> None:
    founds, plains = (0.20, 0.30, 0.25), (0.16, 0.27, 0.20)
    runs = [comparison(found, plain, drawn=0.24) for found, plain in zip(founds, plains, strict=True)]
    baseline, drawn, strongest = judge(runs).outcomes
    assert baseline.difference == mean_interval([0.20 - 0.16, 0.30 - 0.27, 0.25 - 0.20])
    assert [outcome.result for outcome in (baseline, drawn, strongest)] == ["won", "tied", "tied"]
    assert strongest.rival == "widened"
    sentence = judge(runs).sentence
    assert sentence.startswith("Mean of 3 seeds, 95 % intervals: DetNAS (AP 0.250, 20M MACs, searched in about 2 min")
    assert "(all 3x3: +0.040 [+0.015, +0.065], n = 3, 20M MACs)" in sentence
    assert "stored" not in sentence and "why" not in sentence
    with pytest.raises(ValueError, match="runs of DetNAS compare other rows"):
        judge([runs[0], replace(runs[1], baseline="widened")])


def test_the_strongest_row_over_seeds_is_one_that_all_have() -> None:
    once = replace(comparison(), others=(*comparison().others, row("only here", 0.9)))
    assert [outcome.rival for outcome in judge([comparison(), once]).outcomes] == ["all 3x3", "drawn", "widened"]


def test_stored_seeds_stand_beside_one_run() -> None:
    seeds = [{"DetNAS": 0.2 + step, "all 3x3": 0.1 + 2 * step, "drawn": 0.3} for step in (0.0, 0.01, 0.02)]
    told = judge([comparison()], Stored(source="tiny on scenes", seeds=tuple(seeds)))
    assert [outcome.stored and outcome.stored.n for outcome in told.outcomes] == [3, 3, None]
    assert (
        "stored seeds (tiny on scenes): won against all 3x3, +0.090 [+0.065, +0.115], n = 3, lost to drawn, -0.090"
        " [-0.115, -0.065], n = 3; as for why" in told.sentence
    )
    one = judge([comparison()], Stored(source="tiny", seeds=tuple(seeds[:1])))
    assert "tied with all 3x3, +0.100 without an interval, n = 1" in one.sentence
    assert "no stored seeds" in judge([comparison()], Stored(source="tiny", seeds=({"DetNAS": 0.1},))).sentence


def test_a_verdict_is_kept_and_read_back(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "lesson", {}, seed=0, data_digest="d")
    assert run.verdicts() == []
    for given in (comparison(), replace(comparison(), method="other"), comparison(found=0.1)):
        run.save_verdict(asdict(given) | {"sentence": judge([given]).sentence})
    first, second = RunFolder(run.path).verdicts()
    assert Comparison.from_json(first) == comparison(found=0.1) and second["method"] == "other"
    assert judge([Comparison.from_json(first)]).sentence == first["sentence"]
    with pytest.raises(ValueError, match="verdicts"):
        run.save_verdict(asdict(comparison()))
    (run.path / "verdicts.json").write_text('[{"method": "DetNAS"}]')
    with pytest.raises(ValueError, match=r"verdicts\.json does not fit"):
        run.verdicts()


def test_the_notebook_shows_text_not_tags() -> None:
    told = judge([replace(comparison(), why="<script>")])
    assert "<script>" in told.sentence and "&lt;script&gt;" in told._repr_markdown_()


def stored_frame() -> pd.DataFrame:
    names = [(seed, name) for seed in (0, 1) for name in ("DetNAS", "all 3x3")]
    frame = pd.DataFrame(names, columns=["seed", "network"])
    return frame.assign(run="r", date="d", preset="tiny", data="scenes", AP=[0.1, 0.2, 0.3, 0.4])


def test_stored_seeds_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DATA", tmp_path)
    assert tables.stored_seeds("10_detnas", "AP") is None
    (tmp_path / "results").mkdir()
    path, frame = tmp_path / "results" / "10_detnas.csv", stored_frame()
    frame.to_csv(path, index=False)
    seeds = ({"DetNAS": 0.1, "all 3x3": 0.2}, {"DetNAS": 0.3, "all 3x3": 0.4})
    assert tables.stored_seeds("10_detnas", "AP") == Stored(source="tiny on scenes", seeds=seeds)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (stored_frame().drop(columns="AP"), "no column 'AP'"),
        (stored_frame().assign(AP=["high", 0.1, 0.1, 0.1]), "other than numbers"),
        (stored_frame().assign(seed=0), "several runs of one seed"),
        (stored_frame().assign(preset=["tiny", "tiny", "small", "small"]), "several presets or data"),
        (stored_frame().iloc[:0], "other than numbers"),
    ],
)
def test_other_stored_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: pd.DataFrame, sentence: str
) -> None:
    monkeypatch.setattr(tables, "DATA", tmp_path)
    (tmp_path / "results").mkdir()
    broken.to_csv(tmp_path / "results" / "10_detnas.csv", index=False)
    with pytest.raises(ValueError, match=rf"10_detnas\.csv does not fit: .*{sentence}"):
        tables.stored_seeds("10_detnas", "AP")
