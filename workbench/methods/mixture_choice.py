"""Which way each layer of a mixture is computed: measured before a search, kept with the run, shown after it."""

import copy
import time
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

from workbench.methods.candidates import detection_task
from workbench.methods.phases import Study
from workbench.methods.presets import input_sizes
from workbench.networks.mixed_dilation import SIDES, Implementation, Side
from workbench.networks.mixed_supernet import MixedSupernet, measure_implementations
from workbench.spaces.channel_dilation import searched_layers
from workbench.spaces.space import SearchSpace
from workbench.training.alternating import train_alternating
from workbench.training.parallel import world


def implementations(study: Study, supernet: MixedSupernet, phase: str) -> list[dict[Side, Implementation]]:
    """How each searched layer is computed: as the plan says, or the faster way of each side by a short measurement.

    What was measured stays with the run, so that a run continued on the same device computes as before, to the last
    bit. Several processes must agree: they take what is usually faster, unmeasured.
    """
    if study.plan.implementation != "auto":
        return [dict.fromkeys(SIDES, study.plan.implementation) for _ in supernet.mixtures()]
    if world()[1] > 1:
        return [{"weights": "composite", "alpha": "branches"} for _ in supernet.mixtures()]
    where = _where(study, supernet.space)
    known = study.run.load(f"implementations {phase}", where)
    if known is None:
        height, width = input_sizes(study.plan, study.data)[0]
        batch = min(study.plan.search.weights.batch_size, 16)
        images = torch.zeros(batch, 3, height, width, device=study.device)
        known = {"ms": measure_implementations(supernet, images.contiguous(memory_format=torch.channels_last))}
        study.run.store(f"implementations {phase}", where, known)
    return [{side: min(ms, key=ms.get) for side, ms in row.items()} for row in known["ms"]]


def chosen_implementations(study: Study, space: SearchSpace, phase: str) -> pd.DataFrame:
    """What was measured and chosen for each searched layer and side; empty where the plan forces one way."""
    known = study.run.load(f"implementations {phase}", _where(study, space))
    rows = []
    for layer, by_side in zip(searched_layers(space), (known or {"ms": []})["ms"], strict=False):
        for side, ms in by_side.items():
            times = {f"{name} ms": value for name, value in ms.items()}
            rows.append({"block": layer.block, "who learns": side, **times, "chosen": min(ms, key=ms.get)})
    return pd.DataFrame(rows)


def step_ratio(study: Study, model: nn.Module, turns: int = 5) -> float:
    """Time of a search step of `model` (weights, then alpha) as it is computed, over that by branches alone.

    The two are timed in turn on copies, the fastest of `turns` each: what the machine does besides hits both alike.
    """
    plan, task = study.plan, detection_task(study)
    short = replace(plan.search, weights=replace(plan.search.weights, steps=2), epochs=1, warm_epochs=0)
    models = [copy.deepcopy(model) for _ in range(2)]
    best = [float("inf")] * 2
    models[1].get_submodule("backbone.body").use("branches")  # type: ignore[operator]
    for _ in range(turns):
        for which, trial in enumerate(models):
            marks: list[float] = []
            train_alternating(
                trial,
                trial.get_submodule("backbone.body").alphas(),  # type: ignore[operator]
                task,
                study.data.train,
                study.data.search,
                short,
                seed=0,
                device=study.device,
                progress=lambda done, total, text, marks=marks: marks.append(time.perf_counter()),
            )
            best[which] = min(best[which], marks[1] - marks[0])  # the first step also warms up
    return best[0] / best[1]


def _where(study: Study, space: SearchSpace) -> str:
    return f"{space.name} on {study.device.type}, {torch.get_num_threads()} threads"
