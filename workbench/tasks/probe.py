"""The linear probe at object centres: what one backbone map knows about an object at the spot where it lies.

No feature pyramid and no convolution tower: those alone add about 12 x stride pixels of receptive field, and hide
what the backbone sees by itself. The positive controls of the project use this task.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.loader import DetectionSet
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task, share_correct


class CentreProbe(nn.Module):
    """Samples the backbone's map bilinearly at given pixel positions and classifies the feature vectors linearly."""

    def __init__(self, backbone: AnyBackbone, task: "Probe") -> None:
        super().__init__()
        self.backbone = backbone
        self.level = task.config.level
        self.stride = backbone.strides[self.level]
        width = backbone.channels[self.level]
        self.linear = nn.Linear(width, len(task.categories))
        self.further = nn.ModuleDict({name: nn.Linear(width, count) for name, count in task.config.questions})
        self.normalise = v2.Normalize([0.5] * 3, [0.25] * 3)

    def at_centres(self, images: Images, centres: list[Tensor]) -> Tensor:
        """Features (objects of all images, C); `centres` are (M, 2) x, y in pixels for each image."""
        features = self.backbone(self.normalise(torch.stack(images)))[self.level]
        size = torch.tensor([features.shape[-1], features.shape[-2]], device=features.device)
        rows = []
        for feature, points in zip(features, centres, strict=True):
            # Strided 3x3 kernels centre unit i on pixel i * stride, not in the middle of a cell of stride pixels.
            units = (points - 0.5) / self.stride
            grid = (2 * (units + 0.5) / size - 1).view(1, -1, 1, 2)
            sampled = F.grid_sample(feature[None].float(), grid, align_corners=False)
            rows.append(sampled[0, :, :, 0].t())
        return torch.cat(rows)

    def logits(self, images: Images, centres: list[Tensor]) -> dict[str, Tensor]:
        """For the class (`labels`) and each further question (objects of all images, answers)."""
        features = self.at_centres(images, centres)
        return {"labels": self.linear(features)} | {name: head(features) for name, head in self.further.items()}

    def forward(self, images: Images, targets: Targets) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        logits = self.logits(images, [target["centres"] for target in targets])
        if not self.training:
            counts = [len(target["centres"]) for target in targets]
            parts = {name: answers.softmax(dim=1).split(counts) for name, answers in logits.items()}
            return [
                {"scores" if name == "labels" else name: part[index] for name, part in parts.items()}
                for index in range(len(targets))
            ]
        return {
            name: F.cross_entropy(answers, torch.cat([target[name] for target in targets]) - 1)
            for name, answers in logits.items()
        }


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Which map the probe reads (`level`, its index), and what it asks of the same features besides the class.

    `questions` are names of further labels in the targets (from 1 on) and their numbers of answers; each has a linear
    layer of its own, and all are learned together.
    """

    level: int = -1
    questions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Probe(Task):
    """Classify objects whose centres are given, from one map of the backbone."""

    config: ProbeConfig = field(default_factory=ProbeConfig)
    metric: str = "accuracy"
    given: ClassVar[tuple[str, ...]] = ("centres",)
    logits: ClassVar[str] = "linear"

    def build(self, backbone: AnyBackbone) -> CentreProbe:
        return CentreProbe(backbone, self)

    def prepare(self, image: Tensor, target: dict[str, Any], augment: v2.Transform | None) -> Sample:
        if augment is not None:
            raise ValueError("The probe reads given centres; it takes no augmentation. Pass augment=None.")
        return image, {name: target[name] for name in ("centres", "labels", *dict(self.config.questions))}

    def run_layers(self, model: nn.Module, images: Images) -> None:
        model.backbone(model.normalise(torch.stack(images)))  # type: ignore[operator]

    def summarise(self, data: DetectionSet, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """`accuracy` over all objects with its binomial error, and class scores (objects, classes) of each image.

        Also the accuracy of every further question, and of the class at every distance of its cue where targets have
        one: `accuracy at 20 px`.
        """
        rows = [(target, {name: part.cpu() for name, part in output.items()}) for _, target, output in outputs]

        def hits(question: str, answers: str) -> Tensor:
            return torch.cat([output[answers].argmax(dim=1) == target[question] - 1 for target, output in rows])

        of_class = hits("labels", "scores")
        metrics = share_correct(self.metric, of_class)
        for name, _ in self.config.questions:
            metrics[f"{name} accuracy"] = hits(name, name).double().mean().item()
        if rows and "distance" in rows[0][0]:
            away = torch.cat([target["distance"] for target, _ in rows])
            for distance in away.unique().tolist():
                metrics[f"accuracy at {distance} px"] = of_class[away == distance].double().mean().item()
        return metrics, [output["scores"] for _, output in rows]
