"""A site of runs: executed notebooks as pages that need no network, an index with images of them, the report."""

import html
import io
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image
from pygments.formatters import HtmlFormatter

from workbench.batch.listing import outcomes_of
from workbench.batch.report import (
    captions_of,
    facts,
    find_runs,
    read_notebook,
    rendered,
    sections_over_seeds,
    title_of,
    write_html,
)
from workbench.batch.run import run_of
from workbench.records.files import inside, write_text
from workbench.records.run_folder import RunFolder

GLOSSARY = Path(__file__).resolve().parents[2] / "notebooks" / "GLOSSARY.md"
PLOTLY = "application/vnd.plotly.v1+json"
# These need a kernel, or libraries from the network: what stands next to them is shown instead.
LIVE = ("application/vnd.jupyter.widget-view+json", "application/javascript")


def executed(paths: Sequence[Path]) -> list[tuple[RunFolder, Path]]:
    """Runs, each with its executed notebook: of run folders (see `find_runs`), or of notebooks that papermill wrote."""
    found: list[tuple[RunFolder, Path]] = []
    for path in paths:
        if path.suffix == ".ipynb":
            read_notebook(path)  # refuses what is none
            if (run := run_of(path)) is None:
                raise ValueError(
                    f"Expected an executed notebook with its run folder here, got {path}; name the folder."
                )
            found.append((run, path))
        else:
            found += [(run, run.path / "notebook.ipynb") for run in find_runs([path])]
    return [*{run.path.resolve(): (run, path) for run, path in found}.values()]  # a run named twice is one


def write_site(found: Sequence[tuple[RunFolder, Path]], out: Path) -> list[Path]:
    """Writes the index, the report, and a page for each run that has its notebook; the index comes first.

    ValueError, before anything is written, for a file that is no notebook, and for names that lead out of `out`.
    """
    names: dict[Path, str] = {}
    notebooks = {run.path: read_notebook(path) for run, path in found if path.is_file()}
    for run, _ in found:
        if run.path in notebooks:
            first = inside(out, f"{run.notebook}.html").name
            names[run.path] = f"{run.notebook}-{run.path.name}.html" if first in names.values() else first
    pages = {Path(name).stem: name for name in names.values()}
    if GLOSSARY.is_file():
        pages["GLOSSARY"] = "glossary.html"
        _write_page(out / "glossary.html", "Glossary", markdown_page(GLOSSARY.read_text(encoding="utf-8"), pages))
    for run, _ in found:
        if run.path in notebooks:
            body, plotly = notebook_page(notebooks[run.path], pages)
            told = {"run": run, "facts": facts([run])}
            _write_page(out / names[run.path], title_of(run, notebooks[run.path]), body, plotly, **told)
    runs = [run for run, _ in found]
    write_html(runs, out / "report.html", names)
    cards = [_card(run, notebooks.get(run.path), names.get(run.path, "")) for run in runs]
    shown = {"cards": cards, "over_seeds": sections_over_seeds(runs), "glossary": pages.get("GLOSSARY")}
    write_text(out / "index.html", rendered("index.html", **shown))
    return [out / "index.html", out / "report.html", *(out / name for name in pages.values())]


def notebook_page(notebook: Any, pages: Mapping[str, str]) -> tuple[str, bool]:
    """The body of an executed notebook's page, and whether it holds figures by plotly."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = any(PLOTLY in output.get("data", {}) for output in outputs)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                output["data"] = _without_network(output["data"])
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("data", True)]
    options = {"exclude_input_prompt": True, "exclude_output_prompt": True}
    exporter = HTMLExporter(template_name="basic", **options)

    @pass_context
    def markdown2html(context: Any, source: str) -> str:
        return markdown_page(source, pages, context.get("cell", {}).get("attachments", {}))

    exporter.register_filter("markdown2html", markdown2html)
    exporter.register_preprocessor(CoalesceStreamsPreprocessor(), enabled=True)  # lines that were written over go
    return exporter.from_notebook_node(notebook)[0], drawn


def _without_network(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an output shows without a kernel and without the network; nothing where that is nothing."""
    if PLOTLY in data:
        return {"text/html": _plotly_figure(data[PLOTLY])}
    if "cdn.plot.ly" in data.get("text/html", ""):  # plotly's own start, which loads it
        return {}
    if "text/latex" in data and "text/html" not in data:
        return {"text/markdown": data["text/latex"]}
    return {kind: value for kind, value in data.items() if kind not in LIVE}


def markdown_page(source: str, pages: Mapping[str, str], attachments: Mapping[str, Any] | None = None) -> str:
    """Markdown as HTML: equations as MathML, links to notebooks only where the site has their `pages` (by name)."""
    renderer = _Renderer(escape=False, attachments=dict(attachments or {}), exclude_anchor_links=True)
    renderer.pages = pages
    return MarkdownWithMath(renderer=renderer).render(source)


class _Renderer(IPythonRenderer):
    """nbconvert's, without MathJax and without links that lead nowhere."""

    pages: Mapping[str, str]

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if url.startswith(("http://", "https://", "#", "mailto:")):
            return str(super().link(text, url, title))
        page = self.pages.get(Path(url.partition("#")[0]).stem) if url.endswith((".ipynb", "GLOSSARY.md")) else None
        return f'<a href="{html.escape(page)}">{text}</a>' if page else text


def mathml(tex: str, block: bool = False) -> str:
    r"""An equation as MathML, which every current browser shows; TeX that cannot be read stands as it is.

    `\tag` becomes the number at the right, and operators of two words are upright.
    """
    tag = re.search(r"\\tag\{(.*?)\}", tex)
    plain = tex.replace(tag[0], "") if tag else tex
    plain = re.sub(r"\\operatorname(\*?)\{([^{}]*)\}", _operator, plain)
    plain = re.sub(r"\\arg(?![a-z])", r"\\mathrm{arg}\\,", plain)
    try:
        found = convert(plain.strip(), display="block" if block else "inline")
    except Exception:  # latex2mathml has many errors of its own, and none in common
        return f'<code class="tex">{html.escape(tex)}</code>'
    found = found.replace(r"\{", "{").replace(r"\}", "}")  # behind \Big it leaves them as they are
    number = f"<span>({html.escape(tag[1])})</span>" if tag else ""
    return f'<span class="equation scroll">{found}{number}</span>' if block else found


def _operator(found: re.Match[str]) -> str:
    return rf"\mathop{{\mathrm{{{found[2]}}}}}" + (r"\limits" if found[1] else "")


def thumbnail(path: Path, width: int = 640) -> bytes:
    """A figure as a small WebP, its ground as transparent as before."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGBA")
        small.thumbnail((width, width), Image.Resampling.LANCZOS)
        small.save(buffer, "webp", quality=85, method=6)
    return buffer.getvalue()


def _card(run: RunFolder, notebook: Any, page: str) -> dict[str, Any]:
    """What the index shows of a run; its image is the figure with most in it, which is the largest file."""
    paths = [path for path in (run.path / "figures").glob("*.png") if path.stem != "ledger"]  # costs are no cover
    figures = sorted(paths, key=lambda path: (path.stat().st_size, path.name))
    told = {"run": run, "title": title_of(run, notebook), "page": page, "outcomes": outcomes_of(run), "image": ""}
    if not figures:
        return told
    alt = captions_of(run).get(figures[-1].name, figures[-1].stem)
    return {**told, "image": b64encode(thumbnail(figures[-1])).decode(), "alt": alt}


def _plotly_figure(figure: Mapping[str, Any]) -> str:
    from plotly.io import to_html

    height = figure.get("layout", {}).get("height", 450)
    options = {"include_plotlyjs": False, "full_html": False, "config": {"responsive": True}, "validate": False}
    return str(to_html(dict(figure), default_height=f"{height}px", **options))


def _write_page(path: Path, title: str, body: str, plotly: bool = False, **told: Any) -> None:
    script = ""
    if plotly:
        from plotly.offline import get_plotlyjs

        script = get_plotlyjs()
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    shown = {"title": title, "body": body, "script": script, "light": light, "dark": dark, "run": None}
    write_text(path, rendered("notebook.html", **shown | told))
