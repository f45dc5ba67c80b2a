"""A real browser: Debian's Chromium, driven by Playwright; skipped with a reason where either is missing."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.insight.widgets.touch import module_text

IMPORT = """async ([text, name, values]) => {
  const module = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  return module[name](...values);
}"""


@pytest.fixture(scope="module")  # not longer: while it is open no other test of this process can start an event loop
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; pip install -e '.[dev]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium here; `.ci/run` installs it, or apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def mistakes() -> Iterator[list[str]]:
    """Errors of a page's console; the test fails where there is one in the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(chromium: Any, mistakes: list[str]) -> Iterator[Any]:
    """Opens new pages; what a page asks for outside this machine is a mistake."""
    contexts = []

    def new(**options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and mistakes.append(message.text))
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("request", lambda request: _local(request.url) or mistakes.append(request.url))
        return page

    yield new
    for context in contexts:
        context.close()


def _local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "ws://127.0.0.1:"))


@pytest.fixture
def call(open_page: Any) -> Any:
    """Calls a function that a module exports, in the browser."""
    page = open_page()

    def run(module: str, name: str, *values: Any) -> Any:
        return page.evaluate(IMPORT, [module_text(module), name, list(values)])

    return run
