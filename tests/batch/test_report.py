import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from tests.records.test_score import score
from workbench.batch.report import (
    as_json,
    command_of,
    facts,
    find_runs,
    group_runs,
    verdicts,
    write_html,
    write_markdown,
)
from workbench.evaluation.verdict import Comparison, Rival, judge
from workbench.records.files import write_json
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder


def finished(root: Path, seed: int, ap: float, notebook: str = "10_detnas", **params: object) -> RunFolder:
    values = {"preset": "tiny", "data": "", "seed": seed, "runs": str(root), "fresh": False, **params}
    run = RunFolder.open(root, notebook, values, seed=seed, data_digest=f"{seed:016x}")
    run.save_table(pd.DataFrame({"network": ["found"], "AP": [ap]}), "main", title="Comparison", note="Test split.")
    given = {"preset": "tiny", "seed": seed, "fresh": True}
    write_json(run.path / "command.json", {"notebook": f"notebooks/{notebook}.ipynb", "parameters": given})
    run.finish()
    return run


def test_a_run_of_two_tasks_names_the_data_of_both(tmp_path: Path) -> None:
    run = finished(tmp_path, 0, 0.5, mask_data="streets", pose_data="people", pretrain_data="scenes")
    assert facts([run])["data"].startswith("mask_data streets, pose_data people (digest")


def test_markdown_groups_seeds_and_states_what_it_is(tmp_path: Path) -> None:
    runs = [finished(tmp_path, seed, ap) for seed, ap in ((2, 0.3), (0, 0.1), (1, 0.2))]
    runs.append(finished(tmp_path, 0, 0.5, data="aquarium"))
    write_markdown(runs, tmp_path / "out" / "detnas.md")
    text = (tmp_path / "out" / "detnas.md").read_text()
    assert text.count("## 10_detnas") == 2
    first, second = text.split("## 10_detnas")[1:]
    assert "- preset: tiny\n" in first and "- data: scenes (digest 0000000000000000, 0000" in first
    assert "- seeds: 0, 1, 2; n = 3; cells are mean [95 % t-interval]" in first
    assert "- command: `python -m workbench run notebooks/10_detnas.ipynb -p preset tiny --sweep seed=0,1,2`" in first
    assert re.search(r"- date: \d{4}-\d\d-\d\d\n- git commit: \w", first)
    assert "| found | 0.200 [-0.048, 0.448] |" in first and "Test split." in first
    assert "n = 1" in second and "| found | 0.500 |" in second and "data: aquarium" in second
    assert "`python -m workbench run notebooks/10_detnas.ipynb -p preset tiny -p seed 0`" in second


def test_markdown_of_some_tables_only(tmp_path: Path) -> None:
    runs = [finished(tmp_path / "runs", seed, 0.1) for seed in range(2)]
    name = next((runs[0].path / "tables").glob("*.json")).stem
    runs[0].save_table(pd.DataFrame({"groups": ["n1"], "ms": [3.0]}), "latency", "Time of one image")
    write_markdown(runs, tmp_path / "some.md", [name])
    assert "Time of one image" not in (tmp_path / "some.md").read_text()
    write_markdown(runs, tmp_path / "all.md")
    assert "Time of one image" in (tmp_path / "all.md").read_text()
    with pytest.raises(ValueError, match=f"has a table 'latenzy'; their tables: {name}, latency"):
        write_markdown(runs, tmp_path / "none.md", ["latenzy"])
    assert not (tmp_path / "none.md").exists()


def test_only_the_newest_finished_run_of_a_seed_counts(tmp_path: Path) -> None:
    old, new = finished(tmp_path, 0, 0.1), finished(tmp_path, 0, 0.9)
    broken = finished(tmp_path, 1, 0.5)
    broken.fail("cell 3")
    os.utime(old.path / "status", ns=(1, 1))
    ((counted, left_out),) = group_runs([new, broken, old, new])
    assert [run.path for run in counted] == [new.path]
    assert left_out == [f"{broken.path} is failed: cell 3", f"{old.path} is an older run of seed 0"]
    with pytest.raises(ValueError, match="Expected a finished run"):
        write_markdown([broken], tmp_path / "x.md")


def test_runs_are_found_by_folder(tmp_path: Path) -> None:
    first, second = finished(tmp_path, 0, 0.1), finished(tmp_path, 1, 0.2)
    other = finished(tmp_path, 0, 0.1, notebook="01_data")
    os.utime(first.path / "status", ns=(1, 1))
    assert [run.path for run in find_runs([first.path])] == [first.path]
    assert [run.path for run in find_runs([tmp_path / "10_detnas"])] == [second.path]
    assert [run.path for run in find_runs([tmp_path])] == [other.path, second.path]
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere"):
        with pytest.raises(ValueError, match="Expected a run folder"):
            find_runs([tmp_path / path])


def test_page_holds_everything_and_points_only_to_notebooks(tmp_path: Path) -> None:
    run, failed = finished(tmp_path / "runs", 0, 0.1), finished(tmp_path / "runs", 1, 0.3, notebook="01_data")
    failed.fail("cell In [3]: ValueError: <b>no</b>")
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    run.save_figure(figure, "line", 'rises "steadily" <')
    plt.close(figure)
    run.append(score())
    run.append(score(metrics={}, error="nan"))
    run.ledger.add(Entry(phase="search", seconds=130, images=12_800, forward_macs=3_000_000_000, cached=True))
    heading = new_markdown_cell("# Searching with evolution\n\nText")
    nbformat.write(new_notebook(cells=[heading]), run.path / "notebook.ipynb")
    write_html([run, failed], tmp_path / "runs" / "report.html")
    page = (tmp_path / "runs" / "report.html").read_text()
    for piece in (
        "<h2>Searching with evolution, seed 0</h2>",
        "evaluations: 2, with an error: 1",
        'alt="rises &#34;steadily&#34; &lt;" src="data:image/png;base64,iVBOR',
        '<td>search (cached)</td><td class="number">about 2 min 10 s</td><td class="number">12,800</td>',
        "&lt;b&gt;no&lt;/b&gt;",
        "<dt>preset</dt><dd>tiny</dd>",
    ):
        assert piece in page
    links = re.findall(r'(?:href|src)="([^"#][^"]*)"', page)
    assert [link for link in links if not link.startswith("data:")] == [f"10_detnas/{run.path.name}/notebook.ipynb"]


def test_text_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "lesson", {"preset": "<script>|"}, seed=0, data_digest="d")
    run.save_table(pd.DataFrame({"a|b": ["<script>alert(1)</script>\n| x"]}), "main", title="<script>", note="<script>")
    command = {"notebook": "lesson.ipynb", "parameters": {"preset": "`<script>`"}}
    write_json(run.path / "command.json", command)
    run.finish()
    write_html([run], tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text()
    write_markdown([run], tmp_path / "page.md")
    lines = (tmp_path / "page.md").read_text().splitlines()
    assert "- preset: &lt;script&gt;\\|" in lines
    command_line = "- command: `python -m workbench run lesson.ipynb -p preset ''<script>''`"
    assert [line for line in lines if "<script>" in line] == [command_line]  # as code, which it cannot end
    assert lines[-7:] == [
        "### &lt;script&gt;",
        "",
        "| a\\|b |",
        "| --- |",
        "| &lt;script&gt;alert(1)&lt;/script&gt; \\| x |",
        "",
        "&lt;script&gt;",
    ]


def test_page_aggregates_several_seeds(tmp_path: Path) -> None:
    runs = [finished(tmp_path, seed, 0.1 * seed) for seed in range(3)]
    write_html(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "10_detnas, 3 seeds" in page and "0.100 [-0.148, 0.348]" in page
    assert page.count("<section") == 4


def test_a_run_that_is_still_going_is_told_as_such(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "10_detnas", {"preset": "tiny"}, seed=0, data_digest="d")
    run.append(score())
    with (run.path / "evaluations.jsonl").open("a") as file:
        file.write('{"torn')  # a row that is being written
    write_html([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "still going, or killed: this is what it has so far" in page and "evaluations: 1" in page


def test_programs_read_the_same(tmp_path: Path) -> None:
    runs = [finished(tmp_path, seed, 0.1 * seed) for seed in range(3)]
    report = json.loads(json.dumps(as_json(runs), allow_nan=False))
    assert [(run["seed"], run["status"]) for run in report["runs"]] == [
        (0, "finished"),
        (1, "finished"),
        (2, "finished"),
    ]
    assert report["runs"][2]["tables"]["main"]["rows"] == [{"network": "found", "AP": 0.2}]
    (together,) = report["over_seeds"]
    assert together["runs"] == [str(run.path) for run in runs] and together["facts"]["seeds"].startswith(
        "0, 1, 2; n = 3"
    )
    assert together["tables"][0]["rows"] == [["found", "0.100 [-0.148, 0.348]"]]


def test_wide_tables_are_folded_and_parameters_are_flat(tmp_path: Path) -> None:
    run = RunFolder.open(
        tmp_path, "lesson", {"preset": "tiny", "plan": {"search": {"steps": 7}}}, seed=0, data_digest="d"
    )
    run.save_table(pd.DataFrame({f"column {number}": [0.5] for number in range(9)}), "main", title="Wide")
    run.finish()
    write_html([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "All of it: 9 columns, 1 rows" in page and "<dt>plan, search, steps</dt><dd>7</dd>" in page
    opened = page[: page.index("<details")]
    assert opened.count("<th") - opened.count("<thead") == 6


def test_run_by_hand_has_no_command(tmp_path: Path) -> None:
    run = finished(tmp_path, 0, 0.1)
    (run.path / "command.json").unlink()
    assert command_of([run]) == "run by hand in JupyterLab"


def with_verdict(root: Path, seed: int, found: float, why: str = "") -> RunFolder:
    run = finished(root, seed, found)
    plain = Rival(name="all 3x3", value=0.2, error=0.01, macs=1_000_000)
    told = Comparison(
        method="DetNAS",
        metric="AP",
        found=replace(plain, name="DetNAS", value=found),
        others=(plain,),
        baseline="all 3x3",
        why=why,
    )
    run.save_verdict(asdict(told) | {"sentence": judge([told]).sentence})
    return run


def test_reports_open_with_verdicts_over_the_seeds(tmp_path: Path) -> None:
    runs = [with_verdict(tmp_path, seed, found) for seed, found in enumerate((0.30, 0.31, 0.32))]
    other = finished(tmp_path, 0, 0.5, notebook="01_data")
    write_html([*runs, other], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    opening = page[page.index('id="verdicts"') : page.index("</section>")]
    assert "Mean of 3 seeds" in opening and "+0.110 [+0.085, +0.135], n = 3" in opening
    assert opening.count("<p>") == 1 and "01_data" not in opening  # the single seeds stand in their own sections
    assert page.count("<p>One training seed") == 3
    write_markdown([*runs, other], tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[2] == "## Verdicts" and lines[4].startswith("- 10_detnas (preset tiny, data scenes (digest 000")
    assert "): Mean of 3 seeds, 95 % intervals: DetNAS (AP 0.310" in lines[4] and lines[5] == ""
    write_markdown(runs, tmp_path / "some.md", ["main"])
    assert "Verdicts" not in (tmp_path / "some.md").read_text()  # only those tables


def test_the_verdict_of_one_run_stands_as_it_was_saved_and_is_escaped(tmp_path: Path) -> None:
    run, pair = with_verdict(tmp_path / "a", 0, 0.3, why="<script>|"), finished(tmp_path / "b", 0, 0.3)
    assert verdicts([run]) == [run.verdicts()[0]["sentence"]] == verdicts([run, pair])
    write_html([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and page.count("as for why: &lt;script&gt;|.") == 2
    write_markdown([run], tmp_path / "page.md")
    assert "as for why: &lt;script&gt;\\|." in (tmp_path / "page.md").read_text()
    write_html([pair], tmp_path / "page.html")
    assert "Verdicts" not in (tmp_path / "page.html").read_text()
