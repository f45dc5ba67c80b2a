"""Image classification: what backbones are pre-trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.augmentation import stack_images
from workbench.data.sets import ClassificationSet
from workbench.tasks.outputs import outputs

Images = list[Tensor]
Targets = list[dict[str, Tensor]]


class Classifier(nn.Module):
    """The backbone's last map -> 1x1 convolution, batch norm, ReLU -> dropout -> mean over the map -> linear layer.

    Follows torchvision's detection convention: images are a list of float (3, H, W) in 0-1, of one size; in training
    mode it takes targets ({"label": 0-d int64}) and returns a dict of losses, in eval mode a list of {"scores":
    (classes,)}.
    """

    def __init__(self, backbone: nn.Module, task: "Classification") -> None:
        super().__init__()
        self.backbone = backbone
        channels: int = backbone.channels[-1]  # type: ignore[index, assignment]
        self.embed = nn.Sequential(
            nn.Conv2d(channels, task.hidden, 1), nn.BatchNorm2d(task.hidden), nn.ReLU(inplace=True)
        )
        self.dropout = nn.Dropout2d(task.dropout)
        self.linear = nn.Linear(task.hidden, len(task.categories))
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
class Classification:
    """The task of telling `categories` apart; its metric is the share of correct first guesses."""

    categories: tuple[str, ...]
    hidden: int = 1024
    dropout: float = 0.2
    label_smoothing: float = 0.1
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    metric: str = "top1"

    def build(self, backbone: nn.Module) -> Classifier:
        return Classifier(backbone, self)

    def batch(
        self,
        data: ClassificationSet,
        indices: Sequence[int],
        device: torch.device,
        augment: v2.Transform | None = None,
    ) -> tuple[Images, Targets]:
        """Float images in 0-1 on `device`, and {"label"} for each."""
        samples = [data[index] for index in indices]
        images = [image if augment is None else augment(image) for image, _ in samples]
        labels = torch.tensor([label for _, label in samples], device=device)
        return stack_images(images, device), [{"label": label} for label in labels]

    def run_layers(self, model: nn.Module, images: Images) -> None:
        """Runs every layer that has batch statistics, nothing more."""
        model(images)

    def predict(
        self,
        model: nn.Module,
        data: ClassificationSet,
        device: torch.device,
        batch_size: int = 64,
        before_batch: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Class scores (images, classes) in eval mode; `before_batch` is called with the index of each batch."""
        found = outputs(model, data, device, batch_size, before_batch)
        return torch.stack([output["scores"] for _, output in found]).cpu()

    def evaluate(
        self,
        model: nn.Module,
        data: ClassificationSet,
        device: torch.device,
        batch_size: int = 64,
        before_batch: Callable[[int], None] | None = None,
    ) -> dict[str, float]:
        """`top1` in 0-1 and its binomial standard error."""
        scores = self.predict(model, data, device, batch_size, before_batch)
        labels = torch.tensor(data.labels)
        top1 = (scores.argmax(dim=1) == labels).double().mean().item()
        return {"top1": top1, "top1_error": (top1 * (1 - top1) / len(data)) ** 0.5}
