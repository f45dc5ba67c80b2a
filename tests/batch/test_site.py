"""Pages that need no network: what they hold is tested here, how they look in a browser in tests/browser."""

import re
from base64 import b64encode
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import nbformat
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.batch.test_report import finished, with_verdict
from workbench.batch.site import executed, markdown_page, mathml, thumbnail, write_site
from workbench.records.run_folder import MIME_TYPE, RunFolder

PROJECT = Path(__file__).resolve().parents[2]
TEXTS = sorted([*PROJECT.glob("notebooks/**/*.ipynb"), PROJECT / "notebooks" / "GLOSSARY.md"])
EXPLORABLE = '<iframe srcdoc="&lt;script&gt;alert(&quot;1 &amp;lt; 2&quot;)&lt;/script&gt;" title="a kernel"></iframe>'
FROM_OUTSIDE = re.compile(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|require\(|cdn\.|MathJax""")


def save_figure(run: RunFolder, side: float, name: str) -> bytes:
    figure = Figure(figsize=(side, side))
    figure.subplots().plot([0, 1])
    return run.save_figure(figure, name, f"alt of {name}").read_bytes()


def display(data: dict[str, object], **metadata: object) -> nbformat.NotebookNode:
    return new_output("display_data", data, metadata=metadata)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run whose notebook shows one output of every kind."""
    run = with_verdict(tmp_path / "runs", 0, 0.3)
    save_figure(run, 1, "small")
    image = b64encode(save_figure(run, 3, "large")).decode()
    figure = go.Figure(go.Scatter(y=[1, 3, 2])).to_plotly_json()
    outputs = [
        new_output("stream", name="stdout", text="training: 1/2\r"),
        new_output("stream", name="stdout", text="training: 2/2\nafter"),
        display({"image/png": image}, **{"image/png": {"alt": 'it "rises"'}}),
        display({"text/html": EXPLORABLE}),
        display({"text/latex": r"$\frac{a}{b}$", "text/plain": "a over b"}),
        display({"application/vnd.plotly.v1+json": figure, "text/html": "<script src=//cdn.plot.ly></script>"}),
        display({"text/html": '<script src="https://cdn.plot.ly/plotly-3.1.1.min.js"></script>'}),
        display({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "twin"}),
    ]
    texts = [
        "# Searching\n\n[next](01_data.ipynb), [glossary](GLOSSARY.md), [data](../data/README.md), [paper](https://a.org)",
        r"The field $\sigma_h$ is" "\n\n" r"$$\sigma^2 = \sum_l \operatorname*{arg\,min}_k \tag{3}$$",
    ]
    cells = [*map(new_markdown_cell, texts), new_code_cell("show()", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), run.path / "notebook.ipynb")
    return run


def test_a_page_needs_nothing_from_outside_and_keeps_what_the_notebook_shows(run: RunFolder, tmp_path: Path) -> None:
    index, report, page, glossary = write_site(executed([run.path]), tmp_path / "site")
    assert [path.name for path in (index, report, page, glossary)] == [
        "index.html",
        "report.html",
        "10_detnas.html",
        "glossary.html",
    ]
    text = page.read_text()
    shown = BeautifulSoup(text, "html.parser")
    script = max((tag.string or "" for tag in shown.find_all("script")), key=len)
    assert "plotly.js v" in script[:500] and text.count("* plotly.js v") == 1 and len(text) < 8e6
    for path in (index, report, page, glossary):
        assert not FROM_OUTSIDE.search(path.read_text().replace(script, "").replace('href="https://a.org"', "")), path
    (image,) = shown.find_all("img")
    assert image["alt"] == 'it "rises"' and image["src"].startswith("data:image/png;base64,")
    (frame,) = shown.find_all("iframe")
    assert frame["srcdoc"] == unescape(re.findall('srcdoc="(.*?)"', EXPLORABLE)[0]) and frame["title"] == "a kernel"
    assert [tag.name for tag in shown.find_all("math")] == ["math"] * 3 and "mfrac" in text
    assert "(3)" in shown.find(class_="equation").get_text()
    links = {link.get_text(): link["href"] for link in shown.find("section").find_all("a")}
    assert links == {"glossary": "glossary.html", "paper": "https://a.org"}  # others would lead nowhere
    assert "training: 2/2" in text and "training: 1/2" not in text and "twin" in text and "model_id" not in text


def test_the_index_shows_every_run_and_a_page_only_where_there_is_one(run: RunFolder, tmp_path: Path) -> None:
    again = finished(tmp_path / "runs", 1, 0.2)
    (again.path / "notebook.ipynb").write_bytes((run.path / "notebook.ipynb").read_bytes())
    going = RunFolder.open(tmp_path / "runs", "01_data", {"preset": "tiny"}, seed=0, data_digest="d")
    paths = write_site(executed([run.path, again.path, going.path]), tmp_path / "site")
    second = f"10_detnas-{again.path.name}.html"
    assert {path.name for path in paths[2:]} == {"10_detnas.html", second, "glossary.html"}
    index = BeautifulSoup(paths[0].read_text(), "html.parser")
    cards = index.find_all(class_="card")
    assert [card.a["href"] if card.a else None for card in cards] == ["10_detnas.html", second, None]
    assert cards[0].img["alt"] == "alt of large" and cards[0].find_all("p")[-1].string == "DetNAS won against all 3x3"
    assert "still going, or killed" in cards[2].get_text() and cards[2].img is None
    report = paths[1].read_text()
    assert f'href="{second}"' in report and ".ipynb" not in re.findall('href="(.*?)"', report)


def test_a_notebook_that_papermill_wrote_elsewhere_has_a_page(run: RunFolder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = new_output("display_data", {MIME_TYPE: {"path": str(run.path.relative_to(tmp_path))}})
    nbformat.write(new_notebook(cells=[new_code_cell("run", outputs=[shown])]), "out.ipynb")
    ((found, notebook),) = executed([Path("out.ipynb")])
    assert found.path.resolve() == run.path and notebook == Path("out.ipynb")
    nbformat.write(new_notebook(), "other.ipynb")
    with pytest.raises(ValueError, match=r"with its run folder here, got other\.ipynb"):
        executed([Path("other.ipynb")])


def test_a_run_cannot_name_a_page_outside(run: RunFolder, tmp_path: Path) -> None:
    text = (run.path / "params.json").read_text().replace('"10_detnas"', '"../10_detnas"')
    (run.path / "params.json").write_text(text)
    with pytest.raises(ValueError, match=r"Expected a name inside .*site, got '\.\./10_detnas\.html'"):
        write_site(executed([run.path, run.path]), tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_broken_notebook_is_refused_before_anything_is_written(run: RunFolder, tmp_path: Path) -> None:
    (run.path / "notebook.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"notebook\.ipynb cannot be read as a notebook"):
        write_site(executed([run.path]), tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("path", TEXTS, ids=[path.stem for path in TEXTS])
def test_every_equation_can_be_shown_without_mathjax(path: Path) -> None:
    if path.suffix == ".md":
        sources = [path.read_text(encoding="utf-8")]
    else:
        sources = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    for source in sources:
        page = BeautifulSoup(markdown_page(source, {}), "html.parser")
        said = [tag.get_text() for tag in [*page.find_all("math"), *page.find_all("code", class_="tex")]]
        assert [text for text in said if "\\" in text] == []


def test_tex_that_cannot_be_read_stands_as_it_is() -> None:
    assert mathml(r"x < \frac") == r'<code class="tex">x &lt; \frac</code>'
    assert "\\" not in mathml(r"\arg\min_x \operatorname{softmax}(x)")


def test_thumbnails_keep_their_ground(tmp_path: Path) -> None:
    save_figure(SimpleNamespace(save_figure=lambda figure, *_: _saved(figure, tmp_path / "a.png")), 5, "a")
    (tmp_path / "small.webp").write_bytes(thumbnail(tmp_path / "a.png", 100))
    with Image.open(tmp_path / "small.webp") as small:
        assert max(small.size) == 100 and small.convert("RGBA").getpixel((0, 0))[3] == 0


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, transparent=True)
    return path
