"""Notebook 80 in JupyterLab, as a person uses it: run all cells, click, drag, paste; numbers and drawings follow."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"
# No question on the first start, and every cell in the page, also those out of sight.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
PATIENCE = 240_000  # milliseconds; on a quiet machine a tenth of it


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    """The address of a JupyterLab that shows a copy of notebook 80; it stops with the module."""
    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    shutil.copy(PROJECT / "notebooks" / "80_explorer.ipynb", home / "notebooks")
    (home / "notebooks" / "none.png").write_bytes(b"no image")
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces", "IPYTHONDIR": "ipython"}
    folders |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    env = {**os.environ, **{name: str(home / folder) for name, folder in folders.items()}, "PYTHONPATH": str(PROJECT)}
    env.pop("WORKBENCH_HEADLESS", None)
    options = {
        "ip": "127.0.0.1",
        "port": port,
        "port_retries": 0,
        "root_dir": home / "notebooks",
        "open_browser": False,
    }
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    address = f"http://127.0.0.1:{port}"
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=home)
    try:
        wait_for(f"{address}/api/status?token={TOKEN}", server)
        yield f"{address}/lab/tree/80_explorer.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str, server: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        assert server.poll() is None, "JupyterLab ended at once"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"no answer from {address}")


WATCH = """each => {
  const seen = (window.seen = {});
  for (const kind of ["click", "input", "pointerup"])
    document.addEventListener(kind, () => (seen.begun ??= performance.now()), { capture: true, once: true });
  const look = new MutationObserver(() => (seen.ended = performance.now()) && look.disconnect());
  look.observe(each, { childList: true, characterData: true, subtree: true });
}"""


def shown(locator: Any, change: Any) -> tuple[str, float]:
    """The text of `locator` after `change` made it another one, and the milliseconds from the event to the new text."""
    before, page = locator.inner_text(), locator.page
    locator.evaluate(WATCH)
    change()
    page.wait_for_function("window.seen.ended", timeout=PATIENCE)
    page.wait_for_function(
        "([each, old]) => each.innerText !== old", arg=[locator.element_handle(), before], timeout=PATIENCE
    )
    return locator.inner_text(), page.evaluate("window.seen.ended - window.seen.begun")


def test_notebook_80_is_touched(lab: str, open_page: Any, tmp_path: Path) -> None:
    page = open_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    begun = time.monotonic()
    editor, mixer, desk, probe = (
        page.locator(f".touch[aria-label='{name}']")
        for name in ("architecture editor", "composite kernel", "allocation desk", "field probe")
    )
    editor.wait_for()
    took = {"first explorable, s": time.monotonic() - begun}
    page.get_by_text("within the anchor").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()

    # Click a block, choose another option.
    facts = editor.locator("table")
    facts.get_by_text("the limit of").wait_for()
    editor.get_by_label("stage 2 block 1: shuffle 3x3").click()
    choose = editor.get_by_role("group").get_by_role("button", name="shuffle 7x7")
    text, took["click, ms"] = shown(facts, choose.click)
    assert "the limit of" in text and editor.get_by_label("stage 2 block 1: shuffle 7x7").inner_text() == "7"
    page.screenshot(path=tmp_path / "editor.png")

    # The state of another space is refused in place, and one of this space taken.
    frame = page.locator(".widget-vbox", has=page.locator(".touch[aria-label='architecture editor']")).last
    frame.get_by_text("State as JSON").click()
    field = frame.locator(".workbench-state textarea")
    field.fill('{"space": "shuffle-20", "choices": [0]}')
    frame.get_by_role("button", name="apply").click()
    frame.get_by_text("Space shuffle-tiny got an architecture of space shuffle-20.").wait_for()
    field.fill('{"space": "shuffle-tiny", "choices": [3, 3, 3, 3, 3, 3, 3, 3]}')
    text, _ = shown(facts, frame.get_by_role("button", name="apply").click)
    assert editor.get_by_label("stage 3 block 3: xception 3x3").is_visible()

    # Move a slider.
    told, kernel = mixer.locator("p", has_text="Field of"), mixer.locator("canvas").first
    image = kernel.evaluate("canvas => canvas.toDataURL()")
    _, took["slider, ms"] = shown(told, lambda: mixer.get_by_label("alpha of 3x3").fill("2"))
    assert kernel.evaluate("canvas => canvas.toDataURL()") != image
    mixer.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "mixer.png")

    # Drag a block.
    block, target = desk.get_by_label("block 1 of stage 1"), desk.locator(".stage").nth(2)
    block.scroll_into_view_if_needed()
    start, end = block.bounding_box(), target.bounding_box()
    page.mouse.move(start["x"] + 9, start["y"] + 9)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + 20, steps=5)
    text, took["drag, ms"] = shown(desk.locator("p", has_text="blocks:"), page.mouse.up)
    assert text.startswith("8 blocks:") and desk.get_by_label("block 3 of stage 3").is_visible()
    desk.get_by_text("stored, trained alone").wait_for()
    page.screenshot(path=tmp_path / "desk.png")

    # Click a unit; then name a file that is no image: said in place, and the next click works.
    told = probe.locator("p", has_text="Unit at row").first
    canvas = probe.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    image = canvas.evaluate("canvas => canvas.toDataURL()")
    begun = time.monotonic()
    canvas.click(position={"x": 30, "y": 60})
    told.filter(has_text="within the anchor").wait_for()
    took["field, s"] = time.monotonic() - begun
    assert canvas.evaluate("canvas => canvas.toDataURL()") != image
    probe.get_by_label("image file").fill("none.png")
    probe.get_by_role("button", name="read it").click()
    probe.get_by_text("none.png cannot be decoded").wait_for()
    probe.get_by_label("image file").fill("")
    probe.get_by_role("button", name="read it").click()
    probe.locator(".mistake:empty").wait_for(state="attached")
    canvas.click(position={"x": 200, "y": 150})
    told.filter(has_text="within the anchor").wait_for()
    page.screenshot(path=tmp_path / "probe.png")
    print(", ".join(f"{name} {value:.1f}" for name, value in took.items()))
