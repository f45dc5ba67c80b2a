"""Which way each mixture of dilations is computed: by a rule, or measured once and kept with the run."""

import torch

from workbench.methods.experiment import Experiment
from workbench.methods.plan import input_sizes
from workbench.networks.dilation_mixture import (
    SIDES,
    Implementation,
    Side,
    measure_implementations,
    usual_implementation,
)
from workbench.networks.supernet import Supernet
from workbench.spaces.space import SearchSpace
from workbench.training.parallel import world


def implementations(experiment: Experiment, supernet: Supernet, phase: str) -> list[dict[Side, Implementation]]:
    """How each searched layer is computed: by the rule of its size ("auto"), or as the plan says.

    "measured" takes the faster way of each side by a stopwatch. The two ways differ in their last bits, and a search
    turns last bits into other choices: two runs of one seed may then find two networks. What was measured stays with
    the run, so that a continued one computes as before. Several processes must agree and do not measure.
    """
    plan = experiment.plan
    if plan.implementation == "auto" or (plan.implementation == "measured" and world()[1] > 1):
        return [usual_implementation(layer) for layer in supernet.mixtures()]
    if plan.implementation != "measured":
        return [dict.fromkeys(SIDES, plan.implementation) for _ in supernet.mixtures()]
    where = measured_on(experiment, supernet.space)
    known = experiment.run.load(f"implementations {phase}", where)
    if known is None:
        height, width = input_sizes(plan, experiment.data)[0]
        batch = min(plan.search.weights.batch_size, 16)
        images = torch.zeros(batch, 3, height, width, device=experiment.device)
        supernet.to(experiment.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        supernet.mix()
        known = {"ms": measure_implementations(supernet, images.contiguous(memory_format=torch.channels_last))}
        experiment.run.store(f"implementations {phase}", where, known)
    return [{side: min(ms, key=ms.get) for side, ms in row.items()} for row in known["ms"]]


def measured_on(experiment: Experiment, space: SearchSpace) -> str:
    """What a measurement depends on."""
    return f"{space.name} on {experiment.device.type}, {torch.get_num_threads()} threads"
