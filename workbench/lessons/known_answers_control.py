"""The matched control of the ladder: a question about the spot itself, where a larger field is no help.

An animal's species is told by its own shape and not by its dot. Networks were trained on the dots alone. Here each of
them stands still, and a linear layer is fitted to read the species off its features.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes

from workbench.data.scenes.tasks import Scenes
from workbench.insight.style import BLUE, ORANGE, QUIET, RIGHT, new_axes
from workbench.methods.compare import Result
from workbench.tasks.probe import CentreProbe, Probe, ProbeConfig
from workbench.tasks.task import share_correct

BATCH = 50  # images
RIDGE = 1.0  # for features of spread 1


def species_table(results: Sequence[Result], train: Scenes, test: Scenes, device: torch.device) -> pd.DataFrame:
    """Accuracy (0-1) of every trained network: of the class, and of the species by ridge regression on its features.

    The regression is fitted on animals of at most 300 images of `train`, and measured on those of as many of `test`.
    """
    rows = []
    for result in results:
        (features, answers), (unseen, truth) = (_features(result, scenes, device) for scenes in (train, test))
        mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        fitted, asked = (np.c_[(part - mean) / spread, np.ones(len(part))] for part in (features, unseen))
        wanted = np.eye(len(train.config.kinds))[answers]
        layer = np.linalg.solve(fitted.T @ fitted + RIDGE * np.eye(fitted.shape[1]), fitted.T @ wanted)
        hits = torch.from_numpy((asked @ layer).argmax(axis=1) == truth)
        metrics = {name: result.metrics[name] for name in ("accuracy", "accuracy_error")}
        rows.append({"network": result.network.name, **metrics, **share_correct("species", hits)})
    return pd.DataFrame(rows)


def _features(
    result: Result, scenes: Scenes, device: torch.device, most: int = 300
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Features of the animals (N, C) as the network's own probe reads them, and their species from 0 on."""
    asking = Probe(categories=scenes.categories, config=ProbeConfig(questions=(("species", len(scenes.config.kinds)),)))
    model, features, answers = result.model.to(device).eval(), [], []
    assert isinstance(model, CentreProbe)
    indices = range(min(len(scenes), most))
    with torch.no_grad():
        for start in indices[::BATCH]:
            images, targets = asking.batch(scenes, indices[start : start + BATCH], device)
            features.append(model.at_centres(images, [target["centres"] for target in targets]).cpu().double())
            answers += [target["species"].cpu() - 1 for target in targets]
    return torch.cat(features).numpy(), torch.cat(answers).numpy()


def plot_control(table: pd.DataFrame, kinds: int) -> Axes:
    """The two questions to every network: the class, which a dot tells from afar, and the species, told on the spot."""
    ax = new_axes(8.5, 1.2 + 0.33 * len(table))
    for name, label, colour in (("accuracy", "class: colour of the dot", BLUE), ("species", "species: shape", ORANGE)):
        error = table[f"{name}_error"]
        ax.errorbar(table[name], range(len(table)), xerr=error, fmt="o", color=colour, capsize=3, label=label)
    ax.axvline(1 / kinds, color=QUIET, linestyle="--", linewidth=1, label="chance")
    ax.set_yticks(range(len(table)), table["network"].to_list(), fontsize=9)
    ax.set(xlabel="accuracy on the test split (0-1), with its standard error", ylim=(len(table) - 0.5, -0.5))
    ax.legend(**RIGHT)
    return ax
