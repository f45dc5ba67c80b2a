"""Tables and figures of the known answers: what must be true, what was found, and what it is worth."""

from collections.abc import Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.verdict import Verdict
from workbench.insight import plots
from workbench.insight.receptive_field import predicted_sigma, theoretical_field
from workbench.insight.style import BLUE, FAINT, ORANGE, QUIET, RIGHT, new_axes
from workbench.lessons.known_answers import METRIC, Case
from workbench.methods import candidates, compare
from workbench.methods.compare import Result
from workbench.spaces.network_spec import NetworkSpec

COLOURS = (BLUE, QUIET, ORANGE)
ROLES = ("found", "baseline", "best of random")


def bound(data: Scenes, reach: float) -> float:
    """The best accuracy (0-1) of a network that sees `reach` pixels far: sure of what it sees, guessing the rest.

    Counted on the animals of `data`: far dots are fewer, because they find a place less often.
    """
    away = np.concatenate([data.scene(index).distances for index in range(len(data))])
    return data.config.bound(float(np.mean(data.config.covers(reach, away))))


def plot_bound(bounds: pd.DataFrame, scenes: SceneConfig, table: pd.DataFrame | None = None) -> Axes:
    """The bound over the reach, a step for each distance of the dot; with a `table` the trained networks below it."""
    ax, groups = new_axes(7.5, 3.6), [] if table is None else list(table.groupby("method", sort=False))
    edges = [distance - scenes.dot_radius for distance in scenes.distances]  # where a field begins to touch the dot
    right = 1.25 * max(edges if table is None else [*edges, table["reach"].max()])
    ax.stairs(bounds["bound"], [0, *edges, right], baseline=None, color=QUIET, label="bound")
    for (method, rows), marker in zip(groups, "os^D", strict=False):
        ax.scatter(rows["reach"], rows["accuracy"], c=list(COLOURS), marker=marker, s=34, zorder=3)
        ax.scatter([], [], c=FAINT, marker=marker, label=method)
    for colour, role in zip(COLOURS, ROLES, strict=True) if groups else ():
        ax.plot([], [], color=colour, linewidth=6, label=role)
    ax.axhline(1 / scenes.colours, color=QUIET, linestyle="--", linewidth=1, label="chance")
    ax.set(xlabel="reach of the network (px)", ylabel="accuracy (0-1)", xlim=(0, right))
    ax.legend(**RIGHT)
    return ax


def gains(case: Case) -> pd.DataFrame:
    """What must be true: one row for each searched block, with the most reach that its options add to the baseline.

    Then what they cost, and what was found there. Nothing of it is trained or scored.
    """
    space, (found_arch, plain), size = case.space, (row.arch for row in case.scores[:2]), case.experiment.plan.macs_at
    baseline, base = _field(space.spec(plain)), space.macs(plain, size)
    rows = []
    numbered = list(enumerate(space.decisions))
    for _, run in groupby(numbered, key=lambda pair: pair[1].block):
        governed = list(run)
        name = governed[0][1].name.split(" group")[0]
        tried = []
        for option in range(len(governed[0][1].options)):
            changed = {place: option for place, _ in governed}
            arch = space.arch([changed.get(place, old) for place, old in enumerate(plain.choices)])
            reach, macs = _field(space.spec(arch))["reach"] - baseline["reach"], space.macs(arch, size) - base
            tried.append((reach, -macs, governed[0][1].options[option]))
        most, cost, option_name = max(tried)
        found = [decision.options[found_arch.choices[place]] for place, decision in governed]
        rows.append(
            {
                "method": case.method,
                "block": name,
                "most reach by": option_name,
                "reach gained": most,
                "MACs added": -cost,
                "found": " ".join(f"{found.count(o)} x {o}" if len(found) > 1 else o for o in dict.fromkeys(found)),
                "changed": float(np.mean([found_arch.choices[n] != plain.choices[n] for n, _ in governed])),
            }
        )
    return pd.DataFrame(rows)


def ablation(case: Case) -> pd.DataFrame:
    """Accuracy by the supernet with only the late or only the early changes of the found network left.

    Early is the first half of the decisions that the found network answers otherwise than the baseline. One row for
    each, with the field of the network; nothing is trained.
    """
    space, found, plain = case.space, case.scores[0].arch.choices, case.scores[1].arch.choices
    changed = [place for place, pair in enumerate(zip(found, plain, strict=True)) if pair[0] != pair[1]]
    early = set(changed[: len(changed) // 2])
    kept = {
        "found": found,
        "late changes only": [b if n in early else a for n, (a, b) in enumerate(zip(found, plain, strict=True))],
        "early changes only": [a if n in early else b for n, (a, b) in enumerate(zip(found, plain, strict=True))],
        "baseline": plain,
    }
    archs = [space.arch(choices) for choices in kept.values()]
    scores = candidates.score_all(case.experiment, archs, case.scorer, f"{case.method} ablation")
    return pd.DataFrame(
        {
            "method": case.method,
            "changes": name,
            **_field(space.spec(arch)),
            "accuracy": score.metrics[METRIC],
            "MACs": score.macs,
        }
        for name, arch, score in zip(kept, archs, scores, strict=True)
    )


def search_table(cases: Sequence[Case]) -> pd.DataFrame:
    """One row for each method: accuracy by the supernet of found network, baseline and best of a random search."""
    rows = []
    for case in cases:
        found, baseline, control = (score.metrics[METRIC] for score in case.scores)
        row = {"method": case.method, "found": found, "baseline": baseline, "random": control}
        row |= {"found - baseline": found - baseline, "found - random": found - control}
        rows.append(row | {"evaluations": len(case.trajectories["random"])})
    return pd.DataFrame(rows)


def network_table(cases: Sequence[Case], results: Sequence[Result]) -> pd.DataFrame:
    """The trained networks with their fields: reach and predicted sigma in pixels, then accuracy by distance."""
    frame = compare.comparison_table(results)
    fields = pd.DataFrame(_field(result.network.spec) for result in results)
    frame.insert(0, "method", [case.method for case in cases for _ in case.networks])
    frame.insert(2, "reach", fields["reach"])
    frame.insert(3, "sigma", fields["sigma"])
    return frame.drop(columns=["accuracy sd", "detector params"])


def _field(spec: NetworkSpec) -> dict[str, float]:
    return {"reach": (theoretical_field(spec)[-1][0] - 1) / 2, "sigma": predicted_sigma(spec)[-1][0]}


def plot_by_distance(cases: Sequence[Case], frame: pd.DataFrame, scenes: SceneConfig) -> Axes:
    """Accuracy of the trained networks at every distance of the dot, a panel for each method.

    Triangles below stand at the reach of each network, an arrow where it lies farther right; the dashed line is chance.
    """
    _, axes = plt.subplots(1, len(cases), figsize=(3.2 * len(cases) + 0.6, 3.6), sharey=True, squeeze=False)
    right = 1.3 * max(scenes.distances)
    for ax, case in zip(axes[0], cases, strict=True):
        rows = frame[frame["method"] == case.method].to_dict("records")
        for place, (row, colour, what) in enumerate(zip(rows, COLOURS, ROLES, strict=True)):
            values = [row.get(f"accuracy at {distance} px", np.nan) for distance in scenes.distances]
            ax.plot(scenes.distances, values, "o-", color=colour, markersize=4, label=what)
            beyond = row["reach"] > right - 3
            height, mark = 0.395 - 0.022 * place, ">" if beyond else "^"
            ax.plot(min(row["reach"], right - 2), height, mark, color=colour, markersize=6)
        ax.axhline(1 / scenes.colours, color=QUIET, linestyle="--", linewidth=1)
        ax.set(title=case.method, xlabel="distance of the dot (px)", xlim=(10, right), ylim=(0.33, 1.02))
        ax.set_xticks(scenes.distances)
    axes[0][0].set(ylabel="accuracy on the test split (0-1)")
    axes[0][-1].legend(**RIGHT, title="line: accuracy\ntriangle: reach", title_fontsize=9)
    return axes[0][0]


def plot_searches(cases: Sequence[Case]) -> Axes:
    """Every score of every search in its order, those of the random control, and the baseline's; a panel for each."""
    _, axes = plt.subplots(1, len(cases), figsize=(3.2 * len(cases) + 2.2, 3.4), sharey=True, squeeze=False)
    for ax, case in zip(axes[0], cases, strict=True):
        name = next(iter(case.trajectories))
        plots.plot_trajectory({"search": case.trajectories[name], "random": case.trajectories["random"]}, METRIC, ax)
        ax.axhline(case.scores[1].metrics[METRIC], color=QUIET, linewidth=1, label="baseline")
        ax.set(title=f"{case.method}: {name}", ylabel="", xlabel="networks scored")
        ax.get_legend().remove()
    axes[0][-1].legend(**RIGHT)
    axes[0][0].set(ylabel="accuracy by the supernet (0-1)")
    return axes[0][0]


def cost_table(cases: Sequence[Case]) -> pd.DataFrame:
    """Seconds and forward MACs of each search, of its random control, and of training the three networks."""
    rows = []
    for case in cases:
        entries = case.experiment.run.ledger.entries
        trained = [f"finetune {compare.slug(network.name)}" for network in case.networks]
        for what, phases in zip(("search", "random search", "three trainings"), (*case.phases, trained), strict=True):
            chosen = [entry for entry in entries if entry.phase in phases]
            seconds, macs = (sum(getattr(entry, name) for entry in chosen) for name in ("seconds", "forward_macs"))
            rows.append({"method": case.method, "what": what, "seconds": round(seconds, 1), "forward MACs": macs})
    return pd.DataFrame(rows)


def case_verdict(case: Case, table: pd.DataFrame) -> Verdict:
    """The verdict on one method from the table of trained networks; the reason is where the found network sees."""
    found, baseline, control = case.networks
    rows = table[table["method"] == case.method].set_index("network")
    reach, base, other = (rows.loc[network.name, "reach"] for network in case.networks)
    why = f"reach {reach:.0f} px, the baseline's {base:.0f}, the random one's {other:.0f}; "
    return compare.verdict(
        case.experiment,
        table[table["method"] == case.method],
        found=found.name,
        baseline=baseline.name,
        random=control.name,
        searches={found.name: case.phases[0], control.name: case.phases[1]},
        why=why + candidates.score_gap(case.scores[0], case.scores[2], METRIC),
    )
