"""Explorables on a page without a kernel: they move, on a phone, in the dark, and by the keyboard alone."""

from pathlib import Path
from typing import Any

import pytest

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.insight.widgets import allocation_desk, composite_kernel, field_probe, touch
from workbench.spaces.channel_dilation import DILATION_SETS
from workbench.spaces.residual import residual_spec

PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a headless run shows of three widgets, one below the other, as an exported notebook does."""
    shown: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HEADLESS", "1")
        patch.setattr(touch, "display", shown.append)
        composite_kernel.widget(DILATION_SETS["C"][0])
        known = {(3, 3, 2): "AP 0.231", (3, 2, 3): "AP 0.251"}
        allocation_desk.widget("resnet-tiny", (3, 3, 2), 128, known=lambda: known)
        specs = {"plain": residual_spec("resnet-tiny"), "dilated": residual_spec("resnet-tiny", (1, 3, 4), (2,) * 8)}
        image = Scenes(SceneConfig(image_size=96), 0, "test", 1)[0][0]
        field_probe.widget(image, {name: field_probe.structural(spec) for name, spec in specs.items()}, grid=3)
    text = "<!doctype html><title>run</title><meta name=viewport content='width=device-width'>"
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text + "".join(each.data for each in shown), encoding="utf-8")
    assert path.stat().st_size < 8_000_000
    return path


def frames(page: Any, document: Path) -> list[Any]:
    page.goto(document.as_uri())
    found = [page.frame_locator(f"iframe >> nth={place}") for place in range(3)]
    for frame in found:
        frame.locator(".touch").wait_for()
    return found


def pixels(canvas: Any) -> str:
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def centre(locator: Any) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_they_move_without_a_kernel(open_page: Any, document: Path, tmp_path: Path) -> None:
    page = open_page(viewport={"width": 900, "height": 900})
    mixer, desk, probe = frames(page, document)

    kernel, before = mixer.locator("canvas").first, mixer.locator("p", has_text="Field of").inner_text()
    image = pixels(kernel)
    mixer.get_by_label("alpha of 3x3").fill("2.5")
    assert pixels(kernel) != image and mixer.locator("p", has_text="Field of").inner_text() != before
    mixer.get_by_label("decode").check()
    assert "sigma 4.24 × 4.24" in mixer.locator("p", has_text="Field of").inner_text()  # sqrt(3 layers * 2/3 * 9)

    assert desk.get_by_text("AP 0.231").is_visible()
    block, target = desk.get_by_label("block 3 of stage 2"), desk.locator(".stage").nth(2)
    block.scroll_into_view_if_needed()
    page.mouse.move(*centre(block))
    page.mouse.down()
    page.mouse.move(*centre(target), steps=4)
    page.screenshot(path=tmp_path / "drag.png")
    page.mouse.up()
    assert desk.get_by_text("AP 0.251").is_visible() and "253.6 k params" in desk.locator(".touch").inner_text()

    text = probe.locator("p", has_text="Unit at row").first
    canvas = probe.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    before, image = text.inner_text(), pixels(canvas)
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + 4)
    assert "Unit at row 0, column 0" in text.inner_text() != before and pixels(canvas) != image
    probe.get_by_label("kernel", exact=True).fill("3")  # the fourth choice: 7
    assert text.inner_text().split("predicted")[1] != before.split("predicted")[1]
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    heights = page.evaluate("[...document.querySelectorAll('iframe')].map(each => each.offsetHeight)")
    inside = [frame.locator("body").evaluate("body => body.scrollHeight") for frame in (mixer, desk, probe)]
    assert all(abs(outer - inner) <= 8 for outer, inner in zip(heights, inside, strict=True))  # nothing scrolls inside


def test_on_a_phone_in_the_dark(open_page: Any, document: Path, tmp_path: Path) -> None:
    page = open_page(**PHONE, color_scheme="dark")
    found = frames(page, document)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    for frame in found:
        body = frame.locator("body")
        assert body.evaluate("body => body.scrollWidth <= window.innerWidth")
        colours = frame.locator(".touch").evaluate(
            "card => [getComputedStyle(card).color, getComputedStyle(card).backgroundColor]"
        )
        ink, ground = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
        assert ink > 600 and ground < 120
    before = found[1].locator("p", has_text="blocks:").inner_text()
    block, target = found[1].get_by_label("block 1 of stage 1"), found[1].locator(".stage").nth(1)
    block.scroll_into_view_if_needed()
    (x, y), (to, _) = centre(block), centre(target)
    finger = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchMove", [{"x": to, "y": y}]), ("touchEnd", [])):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    found[1].get_by_label("block 4 of stage 2").wait_for()
    assert found[1].locator("p", has_text="blocks:").inner_text() != before


def test_by_the_keyboard(open_page: Any, document: Path) -> None:
    page = open_page()
    mixer, desk, probe = frames(page, document)
    mixer.get_by_label("alpha of 1x1").focus()
    page.keyboard.press("ArrowRight")
    assert mixer.get_by_label("alpha of 1x1").get_attribute("aria-valuetext") == "0.1"
    desk.get_by_label("block 1 of stage 1").focus()
    page.keyboard.press("ArrowRight")
    focused = desk.locator("button:focus")
    assert focused.get_attribute("aria-label").startswith("block 4 of stage 2")  # the focus goes with the block
    page.keyboard.press("ArrowRight")
    assert focused.get_attribute("aria-label").startswith("block 3 of stage 3")
    page.keyboard.press("ArrowRight")  # there is no fourth stage
    assert focused.get_attribute("aria-label").startswith("block 3 of stage 3")
    text = probe.locator("p", has_text="Unit at row").first
    before = text.inner_text()
    probe.get_by_label("row of the unit").focus()
    page.keyboard.press("Home")
    assert text.inner_text().startswith("Unit at row 0,") and text.inner_text() != before


def test_every_control_has_a_name(open_page: Any, document: Path) -> None:
    for frame in frames(open_page(), document):
        for control in frame.locator("button, input, select, canvas, svg").all():
            named = control.get_attribute("aria-label") or control.evaluate(
                "each => each.closest('label')?.textContent"
            )
            assert named, control.evaluate("each => each.outerHTML")
