"""What the fixed first blocks of a beam's candidates give, computed once and reused.

All candidates of a beam step share the blocks decided before, up to the `width` kept prefixes. Neither the features of
those blocks nor their recalibrated batch norm depend on what follows, so both are computed once for each prefix and
batch; scores are the same as without.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from workbench.evaluation.recalibration import ImageBatches, averaging, batch_norms
from workbench.networks.backbone import Prefix
from workbench.networks.count import evaluating
from workbench.networks.supernet import Supernet
from workbench.spaces.costs import ImageSize, block_cost, height_width
from workbench.spaces.space import SearchSpace

Batches = list[Prefix]


@dataclass
class PrefixReuse:
    """Keeps, for prefixes of decisions, the supernet's features on the calibration and on the scoring images."""

    model: nn.Module
    supernet: Supernet
    calibration: ImageBatches
    scored: ImageBatches
    known: dict[tuple[int, ...], tuple[Batches, Batches]] = field(default_factory=dict)
    seconds: float = 0.0  # spent on building prefixes

    def features(self, choices: tuple[int, ...]) -> tuple[Batches, Batches]:
        """Calibration and scoring batches after all blocks before decision `len(choices)`, these choices fixed.

        A prefix is built from the one that is a decision shorter; those of other lengths are forgotten.
        """
        if choices not in self.known:
            lengths = (len(choices) - 1, len(choices))
            self.known = {known: kept for known, kept in self.known.items() if len(known) in lengths}
            parent = self.features(choices[:-1]) if choices else None
            began = time.perf_counter()
            self.known[choices] = self._advance(*(parent or self._inputs()), choices)
            self.seconds += time.perf_counter() - began
        return self.known[choices]

    def _inputs(self) -> tuple[Batches, Batches]:
        """What the backbone reads, after the task's own normalising and padding."""
        seen: list[Prefix] = []
        noting = self.supernet.register_forward_pre_hook(lambda _, inputs: seen.append(Prefix(0, inputs[0])))
        with noting, evaluating(self.model), torch.no_grad():
            for batches in (self.calibration, self.scored):
                for images in batches:
                    batches.task.run_layers(self.model, images)
        return seen[: len(self.calibration)], seen[len(self.calibration) :]

    def _advance(self, calibration: Batches, scoring: Batches, choices: tuple[int, ...]) -> tuple[Batches, Batches]:
        """One decision further: batch statistics from the calibration batches, then the scoring batches with them."""
        self.supernet.choose(choices)
        undecided = (index for index, answered in enumerate(self.supernet.decisions) if len(choices) in answered)
        with evaluating(self.model), torch.no_grad():
            for index in range(calibration[0].start, next(undecided, len(self.supernet.blocks))):
                with averaging(batch_norms(self.supernet.blocks[index])):
                    calibration = [self.supernet.advance(prefix, index + 1) for prefix in calibration]
                scoring = [self.supernet.advance(prefix, index + 1) for prefix in scoring]
        return calibration, scoring


def prefix_bytes(space: SearchSpace, image_size: ImageSize, images: int, kept: int) -> int:
    """Memory for `kept` prefixes on `images` images in single precision: their largest features and all tapped maps."""
    height, width = size = height_width(image_size)
    spec = space.spec(space.uniform(0))
    maps = sum(
        c * -(-height // stride) * -(-width // stride) for c, stride in zip(spec.channels, spec.strides, strict=True)
    )
    largest = 0
    for block in spec.blocks:
        _, size = block_cost(block, size)
        largest = max(largest, block.out_channels * size[0] * size[1])
    return 4 * images * kept * (largest + maps)


def beam_macs(space: SearchSpace, width: int, image_size: ImageSize, first: int = 0) -> tuple[int, int]:
    """Backbone MACs per image of a whole beam search: with every candidate computed from the image on, and reusing.

    The options of a decision must cost the same, as dilations do. `first` is the first decision that is searched.
    """
    size = height_width(image_size)
    macs: list[int] = []  # of each segment
    places: dict[int, int] = {}  # of each decision: its segment
    for index, segment in enumerate(space.segments(space.uniform(0))):
        places |= dict.fromkeys(segment.decisions, index)
        macs.append(0)
        for block in segment.blocks:
            cost, size = block_cost(block, size)
            macs[index] += cost.macs
    recomputed = reused = done = 0
    kept = 1
    for decision, part in list(enumerate(space.decisions))[first:]:
        start, candidates = places[decision], kept * len(part.options)
        recomputed += candidates * sum(macs)
        reused += kept * sum(macs[done:start]) + candidates * sum(macs[start:])  # kept prefixes go one decision further
        done, kept = start, min(width, candidates)
    return recomputed, reused


@contextmanager
def clocked(module: nn.Module) -> Iterator[list[float]]:
    """A list that gets the wall-clock seconds of each forward pass of `module` while the context is open.

    Right on the CPU; on CUDA, where calls return before they are done, it is not.
    """
    started: list[float] = []
    seconds: list[float] = []
    starting = module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
    ending = module.register_forward_hook(lambda *_: seconds.append(time.perf_counter() - started.pop()))
    with starting, ending:
        yield seconds
