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
from workbench.networks.dilation_mixture import (
    SIDES,
    Implementation,
    Side,
    measure_implementations,
    use,
    usual_implementation,
)
from workbench.networks.supernet import Supernet
from workbench.spaces.channel_dilation import searched_layers
from workbench.spaces.space import SearchSpace
from workbench.training.alternating import train_alternating
from workbench.training.parallel import world


def implementations(study: Study, supernet: Supernet, phase: str) -> list[dict[Side, Implementation]]:
    """How each searched layer is computed: by the rule of its size ("auto"), or as the plan says.

    "measured" takes the faster way of each side by a stopwatch. The two ways differ in their last bits, and a search
    turns last bits into other choices: two runs of one seed may then find two networks. What was measured stays with
    the run, so that a continued one computes as before. Several processes must agree and do not measure.
    """
    if study.plan.implementation == "auto" or (study.plan.implementation == "measured" and world()[1] > 1):
        return [usual_implementation(layer) for layer in supernet.mixtures()]
    if study.plan.implementation != "measured":
        return [dict.fromkeys(SIDES, study.plan.implementation) for _ in supernet.mixtures()]
    where = _where(study, supernet.space)
    known = study.run.load(f"implementations {phase}", where)
    if known is None:
        height, width = input_sizes(study.plan, study.data)[0]
        batch = min(study.plan.search.weights.batch_size, 16)
        images = torch.zeros(batch, 3, height, width, device=study.device)
        known = {"ms": measure_implementations(supernet, images.contiguous(memory_format=torch.channels_last))}
        study.run.store(f"implementations {phase}", where, known)
    return [{side: min(ms, key=ms.get) for side, ms in row.items()} for row in known["ms"]]


def chosen_implementations(study: Study, supernet: Supernet, phase: str) -> pd.DataFrame:
    """How each searched layer is computed on each side, with the milliseconds where they were measured."""
    measured = study.run.load(f"implementations {phase}", _where(study, supernet.space)) or {}
    rows = []
    pairs = zip(supernet.mixtures(), searched_layers(supernet.space), strict=True)
    for index, (layer, searched) in enumerate(pairs):
        for side, chosen in layer.implementation.items():
            times = measured["ms"][index][side] if measured else {}
            timed = {f"{name} ms": value for name, value in times.items()}
            rows.append({"block": searched.block, "who learns": side, **timed, "chosen": chosen})
    return pd.DataFrame(rows)


def step_ratio(study: Study, model: nn.Module, turns: int = 5) -> float:
    """Time of a search step of `model` (weights, then alpha) as it is computed, over that by branches alone.

    The two are timed in turn on copies, the fastest of `turns` each: what the machine does besides hits both alike.
    """
    plan, task = study.plan, detection_task(study)
    short = replace(plan.search, weights=replace(plan.search.weights, steps=2), epochs=1, warm_epochs=0)
    models = [copy.deepcopy(model) for _ in range(2)]
    best = [float("inf")] * 2
    use(models[1].get_submodule("backbone.body"), "branches")
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
