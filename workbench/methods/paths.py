"""Which paths of a supernet see the batch of a step: a random one, every option once (FairNAS), or the sandwich."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.methods.experiment import body_of
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace
from workbench.tasks.task import Task
from workbench.training.fit import BeforeStep, path_generator
from workbench.training.side import Forward

PathRule = Literal["uniform", "fair", "sandwich"]
PathSampler = Callable[[np.random.Generator], Arch]
StepPaths = Callable[[np.random.Generator], list[Arch]]  # those of one step, in order


def step_paths(space: SearchSpace, rule: PathRule = "uniform", sample: PathSampler | None = None) -> StepPaths:
    """Draws the paths of a step. `sample` draws a random one (default: uniformly from the space).

    `fair`: see `fair_paths`. `sandwich`: the network of most MACs, that of fewest, and a random one (Yu and Huang, ICCV
    2019). ValueError where fair paths should follow a sampler of their own, or where all networks cost the same.
    """
    draw = sample or space.sample
    if rule == "uniform":
        return lambda rng: [draw(rng)]
    if rule == "fair":
        if sample is not None:
            raise ValueError("Fair paths hold every option once; they cannot follow another sampler. Use uniform ones.")
        return partial(fair_paths, space)
    macs = space.option_macs(space.image_size)
    largest, smallest = (space.arch([row.index(end(row)) for row in macs]) for end in (max, min))
    return lambda rng: [largest, smallest, draw(rng)]


def fair_paths(space: SearchSpace, rng: np.random.Generator) -> list[Arch]:
    """As many paths as a decision has options; each option of each decision comes once (FairNAS: strict fairness).

    Every decision has a random permutation of its own. One with fewer options than the widest repeats permutations: its
    options come equally often, give or take one.
    """
    counts = [len(decision.options) for decision in space.decisions]
    rows = [
        np.concatenate([rng.permutation(count) for _ in range(-(-max(counts) // count))])[: max(counts)]
        for count in counts
    ]
    return [space.arch([int(option) for option in column]) for column in zip(*rows, strict=True)]


def path_wise(paths: StepPaths, rule: PathRule, task: Task) -> BeforeStep:
    """What `fit` calls to train a supernet on these paths; ValueError where the task has no logits to distil."""
    if rule != "sandwich":

        def before_step(model: nn.Module, turn: str, rng: np.random.Generator) -> Iterator[Forward]:
            for arch in paths(rng):
                body_of(model).activate(arch)
                yield model

        return before_step
    if not task.logits:
        raise ValueError(
            f"The sandwich rule distils class logits, and {type(task).__name__} has none of one softmax for each"
            " answer; use uniform or fair paths."
        )

    def sandwich(model: nn.Module, turn: str, rng: np.random.Generator) -> Iterator[Forward]:
        """In-place distillation: the first path learns the labels, the others learn what it says."""
        teacher, *students = paths(rng)
        said: dict[int, Tensor] = {}  # of each part of the batch
        body_of(model).activate(teacher)
        yield lambda images, targets: _heard(model, task, images, targets, said)
        for arch in students:
            body_of(model).activate(arch)
            yield lambda images, targets: _distilled(model, task, images, targets, said[id(images)])

    return sandwich


def option_counts(space: SearchSpace, paths: StepPaths, seed: int, steps: int) -> list[list[int]]:
    """For every decision how many passes of a training with this seed go through each of its options.

    The draws of `fit` depend on its seed alone, so they are drawn again here; nothing has to be remembered.
    """
    counts = [[0] * len(decision.options) for decision in space.decisions]
    rng = path_generator(seed)
    for arch in (arch for _ in range(steps) for arch in paths(rng)):
        for row, option in zip(counts, arch.choices, strict=True):
            row[option] += 1
    return counts


def _heard(model: nn.Module, task: Task, images: Any, targets: Any, said: dict[int, Tensor]) -> Mapping[str, Tensor]:
    """The losses of the model; its logits (N, K) go into `said`, by the identity of the images."""
    layer = model.get_submodule(task.logits)
    with layer.register_forward_hook(lambda layer, inputs, output: said.update({id(images): output})):
        losses: Mapping[str, Tensor] = model(images, targets)
    return losses


def _distilled(model: nn.Module, task: Task, images: Any, targets: Any, teacher: Tensor) -> Mapping[str, Tensor]:
    """The cross entropy of the model's logits with what the `teacher` (N, K), logits of another path, says."""
    said: dict[int, Tensor] = {}
    _heard(model, task, images, targets, said)
    answers = teacher.detach().float().softmax(dim=1)
    return {"distillation": F.cross_entropy(said[id(images)].float(), answers)}
