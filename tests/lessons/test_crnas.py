"""Figures of the lesson on CR-NAS: every block, every dilation."""

from matplotlib.patches import Rectangle

from workbench.insight.widgets import menus
from workbench.lessons import crnas as lesson
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import residual_spec


def test_every_block_is_a_square_and_every_dilation_a_number():
    net = next(net for net in CRNAS if net.name == "CR-R50")
    ax = lesson.plot_networks({"before": residual_spec("resnet50"), "after": net.spec})
    assert sum(isinstance(patch, Rectangle) for patch in ax.patches) == 16 + 16
    texts = [text.get_text() for text in ax.texts]
    assert (texts.count("2"), texts.count("3")) == (5, 3)  # the published histogram
    assert "23.5M params" in texts and "39.8M params" in texts
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]


def test_the_editor_follows_its_sliders(monkeypatch):
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    monkeypatch.setattr(menus, "headless", lambda: False)
    box = lesson.allocation_editor("resnet-tiny", (3, 3, 2), 128)
    sliders = box.children[0].children
    assert [slider.value for slider in sliders] == [3, 3, 2]
    sliders[2].value = 3
    line = lesson.allocation_line("resnet-tiny", [slider.value for slider in sliders], 128)
    assert line.startswith("9 blocks: 42.4 MMACs")
    monkeypatch.setattr(menus, "headless", lambda: True)
    ax = lesson.allocation_editor("resnet-tiny", (1, 2, 5), 128)
    assert ax.get_title().startswith("8 blocks: 37.7 MMACs, 392k params")
