"""The linear probe at object centres: what one backbone map knows about an object at the spot where it lies.

No feature pyramid and no convolution tower: those alone add about 12 x stride pixels of receptive field, and hide
what the backbone sees by itself. The positive controls of the project use this task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.augmentation import stack_images
from workbench.data.sets import DetectionSet
from workbench.networks.count import evaluating

Images = list[Tensor]
Targets = list[dict[str, Tensor]]


class CentreProbe(nn.Module):
    """Samples the backbone's map bilinearly at given pixel positions and classifies the feature vectors linearly."""

    def __init__(self, backbone: nn.Module, task: "Probe") -> None:
        super().__init__()
        self.backbone = backbone
        channels: tuple[int, ...] = backbone.channels  # type: ignore[assignment]
        strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
        self.level = task.level
        self.stride = strides[task.level]
        self.linear = nn.Linear(channels[task.level], len(task.categories))
        self.normalise = v2.Normalize([0.5] * 3, [0.25] * 3)

    def logits(self, images: Images, centres: list[Tensor]) -> Tensor:
        """(objects of all images, classes); `centres` are (M, 2) x, y in pixels for each image."""
        batch = self.normalise(torch.stack(images))
        features = self.backbone(batch)[self.level]
        size = torch.tensor([features.shape[-1], features.shape[-2]], device=batch.device)
        rows = []
        for feature, points in zip(features, centres, strict=True):
            # Strided 3x3 kernels centre unit i on pixel i * stride, not in the middle of a cell of stride pixels.
            units = (points - 0.5) / self.stride
            grid = (2 * (units + 0.5) / size - 1).view(1, -1, 1, 2)
            sampled = F.grid_sample(feature[None].float(), grid, align_corners=False)
            rows.append(sampled[0, :, :, 0].t())
        return self.linear(torch.cat(rows))

    def forward(self, images: Images, targets: Targets) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        logits = self.logits(images, [target["centres"] for target in targets])
        if not self.training:
            counts = [len(target["centres"]) for target in targets]
            return [{"scores": scores} for scores in logits.softmax(dim=1).split(counts)]
        labels = torch.cat([target["labels"] for target in targets]) - 1
        return {"classification": F.cross_entropy(logits, labels)}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Classify objects whose centres are given; `level` is the index of the backbone map that is read."""

    categories: tuple[str, ...]
    level: int = -1
    metric: str = "accuracy"

    def build(self, backbone: nn.Module) -> CentreProbe:
        return CentreProbe(backbone, self)

    def batch(
        self, data: DetectionSet, indices: Sequence[int], device: torch.device, augment: v2.Transform | None = None
    ) -> tuple[Images, Targets]:
        """Float images in 0-1 on `device`, and {"centres", "labels"}; the probe takes no augmentation."""
        if augment is not None:
            raise ValueError("The probe reads given centres; it takes no augmentation. Pass augment=None.")
        samples = [data[index] for index in indices]
        targets = [{name: target[name].to(device) for name in ("centres", "labels")} for _, target in samples]
        return stack_images([image for image, _ in samples], device), targets

    def run_layers(self, model: nn.Module, images: Images) -> None:
        """Runs every layer that has batch statistics, nothing more."""
        model.backbone(model.normalise(torch.stack(images)))  # type: ignore[operator]

    def evaluate(
        self,
        model: nn.Module,
        data: DetectionSet,
        device: torch.device,
        batch_size: int = 64,
        before_batch: Callable[[int], None] | None = None,
    ) -> dict[str, float]:
        """`accuracy` over all objects in 0-1 and its standard error; `before_batch` gets the index of each batch."""
        correct: list[Tensor] = []
        with evaluating(model), torch.inference_mode():
            for number, start in enumerate(range(0, len(data), batch_size)):
                images, targets = self.batch(data, range(start, min(start + batch_size, len(data))), device)
                if before_batch is not None:
                    before_batch(number)
                for row, target in zip(model(images, targets), targets, strict=True):
                    correct.append(row["scores"].argmax(dim=1) == target["labels"] - 1)
        hits = torch.cat(correct).double()
        accuracy = hits.mean().item()
        return {"accuracy": accuracy, "accuracy_error": (accuracy * (1 - accuracy) / len(hits)) ** 0.5}
