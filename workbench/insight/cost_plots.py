"""Figures of what found detectors cost as a whole."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from workbench.evaluation.whole_cost import PARTS, WholeCost
from workbench.insight.plots import BLACK, BLUE, GREEN, ORANGE, SKY, new_axes

PART_COLOURS = dict(zip(PARTS, (SKY, BLUE, ORANGE, GREEN, BLACK), strict=True))


def plot_whole_cost(costs: Sequence[WholeCost], ax: Axes | None = None) -> Axes:
    """Whole cost in TMACs as bars made of parts."""
    ax = ax or new_axes(7.5, 0.9 + 0.5 * len(costs))
    for row, cost in enumerate(costs):
        left = 0.0
        for part, macs in cost.parts.items():
            ax.barh(row, macs / 1e12, left=left, color=PART_COLOURS[part], edgecolor="white")
            left += macs / 1e12
        ax.text(left, row, f" {left:.1f} TMACs, AP {cost.ap:.3f}", va="center", fontsize=9)
    ax.set_yticks(range(len(costs)), [cost.name for cost in costs])
    ax.invert_yaxis()
    ax.margins(x=0.3)
    ax.set(xlabel="multiply-accumulates of forward and backward passes, 10¹²")
    used = {part for cost in costs for part in cost.parts}
    ax.legend(handles=[Patch(color=c, label=p) for p, c in PART_COLOURS.items() if p in used], fontsize=8, ncols=3,
              loc="lower center", bbox_to_anchor=(0.5, 1.0))  # fmt: skip
    return ax


def plot_cost_curves(curves: Mapping[str, Sequence[WholeCost]], ax: Axes | None = None) -> Axes:
    """AP over whole cost, a point for each length of fine-tuning; where does a curve reach another's AP?"""
    ax = ax or new_axes(6.4, 3.6)
    for index, (name, costs) in enumerate(curves.items()):
        ordered = sorted(costs, key=lambda cost: cost.macs)
        style = "o-" if len(ordered) > 1 else "D"
        macs = [cost.macs / 1e12 for cost in ordered]
        ax.plot(macs, [cost.ap for cost in ordered], style, color=f"C{index}", label=name)
    ax.set(xlabel="whole cost, 10¹² multiply-accumulates", ylabel="AP on the test split (0-1)")
    ax.set_xlim(left=0)
    ax.legend(fontsize=9)
    return ax
