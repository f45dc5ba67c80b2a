"""Figures have no ground of their own: what is drawn must be seen on a white page and on a dark one."""

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from workbench.insight.style import FAINT, QUIET, SERIES, contrast, ink_on, plain_ticks, use_style

PROJECT = Path(__file__).resolve().parents[2]
GROUNDS = ("#ffffff", "#111111")
# What is left of linear RGB with one kind of cone missing (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no red cones": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green cones": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue cones": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.0089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("white", "black") == pytest.approx(21) and contrast("#777777", "white") == pytest.approx(
        4.48, abs=0.01
    )
    assert (ink_on("yellow"), ink_on("navy")) == ("black", "white")


@pytest.mark.parametrize("ground", GROUNDS)
def test_lines_and_texts_can_be_seen_on_both_grounds(ground: str) -> None:
    assert min(contrast(colour, ground) for colour in SERIES) >= 3  # WCAG 2 asks for it of graphics
    assert contrast(QUIET, ground) >= 4  # no one grey has 4.5, which texts should have, on both
    (colour, alpha), page = FAINT, np.array(to_rgb(ground))
    assert contrast((1 - alpha) * page + alpha * np.array(to_rgb(colour)), ground) >= 1.3


@pytest.mark.parametrize("eyes", EYES)
def test_series_can_be_told_apart_by_all_eyes(eyes: str) -> None:
    rgb = np.array([to_rgb(colour) for colour in SERIES])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.clip(np.array(EYES[eyes]) @ colour, 0, 1)) for colour in linear]
    least = min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))
    assert least >= (15 if eyes == "no blue cones" else 19)  # Okabe and Ito's own: 16, and 17 for the others


def test_figures_have_no_ground() -> None:
    with plt.rc_context():
        use_style()
        figure, ax = plt.subplots()
        assert figure.get_facecolor()[3] == ax.get_facecolor()[3] == 0
        assert ax.xaxis.label.get_color() == ax.title.get_color() == ax.xaxis.get_ticklabels()[0].get_color() == QUIET


def test_logarithmic_axes_have_plain_numbers() -> None:
    with plt.rc_context():
        use_style()
        figure, ax = plt.subplots()
        ax.set(yscale="log", ylim=(3, 120))
        figure.canvas.draw()
        assert any("mathdefault" in label.get_text() for label in ax.get_yticklabels())  # text with math off
        plain_ticks(ax.yaxis, *ax.get_ylim())
        assert [label.get_text() for label in ax.get_yticklabels()] == ["5", "10", "20", "50", "100"]
        plain_ticks(ax.yaxis, 3, 3500)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["10", "100", "1000"]


def test_no_plot_uses_a_grey_that_one_ground_swallows() -> None:
    """Greys between are `QUIET` and `FAINT`; "0.15" may be written on light boxes."""
    for path in [*(PROJECT / "workbench" / "insight").rglob("*.py"), *(PROJECT / "workbench" / "lessons").glob("*.py")]:
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        assert [text for text in texts if isinstance(text, str) and re.fullmatch(r"0?\.[3-9]\d*", text)] == [], path
