"""Image classification: what backbones are pre-trained on."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import ClassificationSet
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task, share_correct


class Classifier(nn.Module):
    """The backbone's last map -> 1x1 convolution, batch norm, ReLU -> dropout -> mean over the map -> linear layer.

    With `hidden` 0 there is nothing before the dropout, as in the classifier of a ResNet.
    Images have one size; targets are {"label": 0-d int64}; in eval mode it returns {"scores": (classes,)} for each.
    """

    def __init__(self, backbone: AnyBackbone, task: "Classification") -> None:
        super().__init__()
        self.backbone = backbone
        width, self.embed = backbone.channels[-1], nn.Sequential()
        if task.hidden:
            convolution, width = nn.Conv2d(width, task.hidden, 1), task.hidden
            self.embed = nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(task.dropout)
        self.linear = nn.Linear(width, len(task.categories))
        self.label_smoothing = task.label_smoothing
        self.normalise = v2.Normalize(list(task.image_mean), list(task.image_std))

    def logits(self, images: Images) -> Tensor:
        """(N, classes)"""
        maps = self.backbone(self.normalise(torch.stack(images)))
        return self.linear(self.dropout(self.embed(maps[-1])).mean(dim=(2, 3)))

    def forward(self, images: Images, targets: Targets | None = None) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        logits = self.logits(images)
        if not self.training:
            return [{"scores": scores} for scores in logits.softmax(dim=1)]
        if targets is None:
            raise ValueError("A classifier in training mode needs targets with a label for each image.")
        labels = torch.stack([target["label"] for target in targets])
        return {"classification": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Each image has one of `categories`; the metric is the share of correct first guesses."""

    hidden: int = 1024
    dropout: float = 0.2
    label_smoothing: float = 0.1
    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD
    metric: str = "top1"
    logits: ClassVar[str] = "linear"

    def build(self, backbone: AnyBackbone) -> Classifier:
        return Classifier(backbone, self)

    def prepare(self, image: Tensor, target: int, augment: v2.Transform | None) -> Sample:
        return image if augment is None else augment(image), {"label": torch.tensor(target)}

    def run_layers(self, model: nn.Module, images: Images) -> None:
        model(images)

    def summarise(self, data: ClassificationSet, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """`top1` with its binomial error, and the class scores (classes,) of every image."""
        labels, scores = zip(*((label, output["scores"]) for _, label, output in outputs), strict=True)
        table = torch.stack(scores).cpu()
        return share_correct(self.metric, table.argmax(dim=1) == torch.tensor(labels)), list(table)
