"""What a network is for: one protocol of all tasks, so that any search, training and comparison runs on any of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.augmentation import stack_images
from workbench.data.prefetch import Job, one_thread, parts, prefetched, rows, workers_for
from workbench.networks.count import evaluating

AnyBackbone = Any  # a module with `channels` and `strides`: a Backbone, a Supernet, one of your own
Images = list[Tensor]  # float (3, H, W) in 0-1
Targets = list[dict[str, Tensor]]
Sample = tuple[Tensor, dict[str, Tensor]]  # image and target
Output = tuple[int, Any, dict[str, Tensor]]  # index, target as the data set has it, the model's output
Outputs = Iterable[Output]
Measured = tuple[dict[str, float], list[Any]]  # metrics, and what was found in each image


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A head, a loss and a metric for any backbone that has `channels` and `strides`.

    Models follow torchvision's detection convention: `model(images, targets)` returns a dict of losses in training
    mode, `model(images)` a list with one dict of tensors for each image in eval mode. A new task writes the four
    abstract methods; it then has `batch`, which training and recalibration call, and `measure`, which every scorer and
    every comparison calls. Tasks are plain values: equal ones build equal models, and they are part of the identity of
    what was trained.
    """

    categories: tuple[str, ...]
    metric: str  # the name of the metric that is searched for; higher is better
    given: ClassVar[tuple[str, ...]] = ()  # parts of a target that the model may read in eval mode, too
    logits: ClassVar[str] = ""  # the layer of the model that gives class logits (N, K) for one softmax; "": none does

    @abstractmethod
    def build(self, backbone: AnyBackbone) -> nn.Module:
        """The model that is trained, with random weights in its head; the backbone is its submodule `backbone`."""

    @abstractmethod
    def prepare(self, image: Tensor, target: Any, augment: v2.Transform | None) -> Sample:
        """One sample, uint8 (3, H, W), after the augmentation: the image and the tensors that the loss reads."""

    @abstractmethod
    def run_layers(self, model: nn.Module, images: Images) -> None:
        """Runs every layer that has batch statistics, and as little else as possible."""

    @abstractmethod
    def summarise(self, data: Any, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """What `measure` returns, from the outputs for all of `data`, in order."""

    def batch(
        self,
        data: Any,
        indices: Sequence[int],
        device: torch.device,
        augment: v2.Transform | None = None,
        seed: int | None = None,
    ) -> tuple[Images, Targets]:
        """Images and targets on `device`.

        With a `seed` torch's generator is seeded for each image by its index: what `augment` draws for it depends on
        nothing else, neither on the images before it nor on the process that makes it.
        """
        with one_thread():
            samples = [self.sample(data, augment, index, None if seed is None else seed + index) for index in indices]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in samples]
        return stack_images([image for image, _ in samples], device), targets

    def sample(self, data: Any, augment: v2.Transform | None, index: int, seed: int | None) -> Sample:
        """One image and target of a batch, on the CPU."""
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        read = data.__getitem__ if augment is None else getattr(data, "uncropped", data.__getitem__)
        image, target = read(index)
        return self.prepare(image, target, augment)

    def batches(
        self,
        data: Any,
        jobs: Iterable[Sequence[Job]],
        device: torch.device,
        augment: v2.Transform | None = None,
        *,
        workers: int,
    ) -> Generator[tuple[Images, Targets], None, None]:
        """What `batch` gives for each of these lists of jobs, made ahead by so many processes; close it to end them."""
        read, pinned = partial(self.sample, data, augment), device.type == "cuda"
        with closing(prefetched(read, data, jobs, workers=workers, pinned=pinned)) as made:
            for images, targets in made:
                yield stack_images(parts(images, device), device), rows(targets, device)

    def measure(
        self,
        model: nn.Module,
        data: Any,
        device: torch.device,
        *,
        rng: np.random.Generator,
        quick: bool = False,
        batch_size: int = 64,
        before_batch: Callable[[int], None] | None = None,
    ) -> Measured:
        """Metrics of `model` on `data`, and what it said about each image (of masks: the first ones).

        Metrics are shares in 0-1; `<metric>_error` is the standard error of the main one, by resampling the images with
        `rng` where there is no formula for it. `quick` is for candidates of a search: fewer resamples, no metrics by
        size. `before_batch` is called with the index of each batch; it may switch the path of a supernet.
        """
        with closing(self.outputs(model, data, device, batch_size, before_batch)) as outputs:
            return self.summarise(data, outputs, rng, quick)

    @staticmethod
    def resamples(quick: bool) -> int:
        """How often the images are drawn anew for a standard error."""
        return 20 if quick else 100

    def outputs(
        self,
        model: nn.Module,
        data: Any,
        device: torch.device,
        batch_size: int,
        before_batch: Callable[[int], None] | None = None,
    ) -> Generator[Output, None, None]:
        """What the model says about every image of `data`, in order, in eval mode, on the model's device.

        Images that do not lie in memory are read ahead. Low precision ends here: what is said is float32.
        """
        chunks = [range(start, min(start + batch_size, len(data))) for start in range(0, len(data), batch_size)]
        with closing(_whole(data, chunks, device)) as read, evaluating(model), torch.inference_mode():
            for number, (chunk, (images, targets)) in enumerate(zip(chunks, read, strict=True)):
                if before_batch is not None:
                    before_batch(number)
                arguments: list[Any] = [stack_images(images, device)]
                if self.given:
                    arguments.append([{name: target[name].to(device) for name in self.given} for target in targets])
                said = [{name: _single(value) for name, value in output.items()} for output in model(*arguments)]
                yield from zip(chunk, targets, said, strict=True)


def _whole(
    data: Any, chunks: Sequence[Sequence[int]], device: torch.device
) -> Generator[tuple[Images, list[Any]], None, None]:
    """The images and targets of each chunk as the data set has them; images that were read ahead are on `device`."""
    if (workers := workers_for(data)) is None:
        for chunk in chunks:
            images, targets = zip(*(data[index] for index in chunk), strict=True)
            yield list(images), list(targets)
        return
    jobs = ([(index, None) for index in chunk] for chunk in chunks)
    pinned = device.type == "cuda"
    with closing(prefetched(partial(_stored, data), data, jobs, workers=workers, pinned=pinned)) as made:
        for batch in made:
            yield parts(batch.images, device), rows(batch.targets)


def _stored(data: Any, index: int, seed: int | None) -> Any:
    return data[index]


def _single(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def resampled_error(
    measure: Callable[[NDArray[np.int64]], NDArray[np.float64]], images: int, resamples: int, rng: np.random.Generator
) -> float:
    """The standard error of a metric when as many images are drawn anew, with repetition, `resamples` times.

    `measure` gives the metric (R,) for R resamples (R, images), rows of how often each image was drawn. Where it is not
    finite nothing could be measured, and the resample is left out; ValueError when fewer than two are left.
    """
    if resamples < 2:
        raise ValueError(f"A standard error needs at least 2 resamples, but got {resamples}; 100 is usual.")
    values = measure(rng.multinomial(images, np.full(images, 1 / images), size=resamples))
    values = values[np.isfinite(values)]
    if len(values) < 2:
        raise ValueError("Too few resamples held anything to measure; use more images or more resamples.")
    return float(values.std(ddof=1))


def share_correct(metric: str, hits: Tensor) -> dict[str, float]:
    """The share of `hits` (N,) that are true, and its binomial standard error."""
    share = hits.double().mean().item()
    return {metric: share, f"{metric}_error": (share * (1 - share) / len(hits)) ** 0.5}
