"""Figures of receptive fields show what they are given."""

import numpy as np
import pytest

from workbench.insight import field_plots
from workbench.insight.measured_field import structure_field
from workbench.spaces.residual import residual_spec


def test_field_figures_show_what_they_are_given():
    field = structure_field(residual_spec("resnet-tiny"), 1)
    ax = field_plots.plot_field(field, boxes=[10, 20], smooth=3, reach=30)
    assert [patch.get_width() for patch in ax.patches] == [10, 20] and ax.get_xlim() == (-30, 30)
    shown = np.asarray(ax.images[0].get_array())
    assert shown.sum() == pytest.approx(1) and ax.images[0].get_clim()[1] == pytest.approx(shown.max())
    assert field_plots.plot_field(field, brightest=0.5).images[0].get_clim() == (0, 0.5)
    row, column = (int(place) for place in field.centre)
    assert (ax.images[0].get_extent()[0], ax.images[0].get_extent()[3]) == (-column - 0.5, -row - 0.5)
    curves = field_plots.plot_area_sides({"tiny": field}, smooth=5).lines[0].get_ydata()
    assert np.all(np.diff(curves) <= 0)


def test_published_points_are_circles():
    points = {"R50": {0.0455: 100.0, 0.5: 20.0}}
    ax = field_plots.plot_area_sides({"R50": structure_field(residual_spec("resnet-tiny"))}, measured=points)
    circles = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(circles) == 1 and circles[0].get_ydata().tolist() == [100, 20]
