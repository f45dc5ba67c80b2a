"""Which way each mixture of dilations is computed: by a rule, or measured once and kept with the run."""

import torch
from torch import Tensor

from workbench.methods.experiment import Experiment
from workbench.methods.plan import input_sizes
from workbench.networks.count import evaluating, median_ms
from workbench.networks.dilation_mixture import (
    IMPLEMENTATIONS,
    SIDES,
    DilationMixture,
    Implementation,
    Side,
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


def step_ms(layer: DilationMixture, features: Tensor, side: Side, repeats: int = 5) -> float:
    """Median milliseconds of a forward and backward pass of the layer while that side learns, the other frozen."""
    features = features.detach().requires_grad_()
    wanted = [features, layer.weight if side == "weights" else layer.alpha]
    both = (layer.weight, layer.alpha)
    flags = [tensor.requires_grad for tensor in both]
    for tensor in both:
        tensor.requires_grad_(tensor is wanted[1])
    try:
        device = features.device.type

        def run() -> None:
            with torch.autocast(device, enabled=device == "cuda"):  # as training does there
                total = layer(features).float().sum()
            torch.autograd.grad(total, wanted)

        return median_ms([run], repeats=repeats, warm_up=1)[0]
    finally:
        for tensor, flag in zip(both, flags, strict=True):
            tensor.requires_grad_(flag)


def measure_implementations(supernet: Supernet, images: Tensor) -> list[dict[Side, dict[Implementation, float]]]:
    """Milliseconds of one step of every mixture in `supernet`, by side and implementation, on the maps of `images`."""
    mixtures = supernet.mixtures()
    inputs: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, args: inputs.append(args[0].detach())) for layer in mixtures
    ]
    try:
        with evaluating(supernet), torch.no_grad():  # so that no batch statistics move
            supernet(images)
    finally:
        for handle in handles:
            handle.remove()
    times: list[dict[Side, dict[Implementation, float]]] = []
    for layer, features in zip(mixtures, inputs, strict=True):
        before = layer.implementation
        row: dict[Side, dict[Implementation, float]] = {side: {} for side in SIDES}
        for name in IMPLEMENTATIONS:
            layer.implementation = dict.fromkeys(SIDES, name)
            for side in SIDES:
                row[side][name] = step_ms(layer, features, side)
        layer.implementation = before
        times.append(row)
    return times
