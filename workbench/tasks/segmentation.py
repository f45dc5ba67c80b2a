"""Semantic segmentation: DeepLabv3 with separable convolutions on any backbone, as in FNA."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import Conv2dNormActivation
from torchvision.transforms import v2

from workbench.data.augmentation import augment_masks
from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import SegmentationSet
from workbench.data.masks import VOID
from workbench.tasks.detection import KeepSize
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task, resampled_error

KEPT_MAPS = 64  # of a data set, to be looked at; all those of Cityscapes would fill a gigabyte for each network


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """What stands on the backbone; the defaults are FNA's."""

    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD
    channels: int = 256
    rates: tuple[int, ...] = (6, 12, 18)  # of the pyramid's dilated convolutions, at output stride 16
    dropout: float = 0.1
    stride_padding: int = 16


class SeparablePyramid(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, depthwise-separable 3x3 at several rates, and the mean over the image.

    (N, C, H, W) -> (N, channels, H, W), with dropout behind.
    """

    def __init__(self, entering: int, output_stride: int, config: SegmenterConfig) -> None:
        super().__init__()
        width = config.channels
        self.square = Conv2dNormActivation(entering, width, 1)
        self.separable = nn.ModuleList(
            nn.Sequential(
                Conv2dNormActivation(entering, entering, 3, dilation=rate * 16 // output_stride, groups=entering),
                Conv2dNormActivation(entering, width, 1),
            )
            for rate in config.rates
        )
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv2dNormActivation(entering, width, 1))
        self.project = Conv2dNormActivation((len(config.rates) + 2) * width, width, 1)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features).expand(-1, -1, *features.shape[2:])
        parts = [self.square(features), *(branch(features) for branch in self.separable), mean]
        return self.dropout(self.project(torch.cat(parts, dim=1)))


class DeepLabV3(nn.Module):
    """Backbone's last map -> pyramid -> class scores, enlarged to the image; no decoder.

    Targets are {"semantic": int64 (H, W), 255 is void}; in eval mode it returns {"semantic": uint8 (H, W)} for each.
    """

    def __init__(self, backbone: AnyBackbone, classes: int, config: SegmenterConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = backbone.strides[-1]
        self.pyramid = SeparablePyramid(backbone.channels[-1], self.stride, config)
        self.classify = nn.Conv2d(config.channels, classes, 1)
        mean, std = list(config.image_mean), list(config.image_std)
        self.transform = KeepSize(1, 1, mean, std, size_divisible=config.stride_padding)

    @property
    def head(self) -> nn.Sequential:
        return nn.Sequential(self.pyramid, self.classify)

    def scores(self, images: Images) -> tuple[Tensor, ImageList]:
        """(N, classes, ceil(H / stride), ceil(W / stride)) of the padded batch, and the batch."""
        batch, _ = self.transform(images)
        return self.head(self.backbone(batch.tensors)[-1]), batch

    def forward(self, images: Images, targets: Targets | None = None) -> dict[str, Tensor] | Targets:
        scores, batch = self.scores(images)
        full = enlarge(scores.float(), self.stride, batch.tensors.shape[-2:])
        if not self.training:
            rows = zip(full.argmax(dim=1).to(torch.uint8), batch.image_sizes, strict=True)
            return [{"semantic": classes[:height, :width]} for classes, (height, width) in rows]
        if targets is None:
            raise ValueError("A segmenter in training mode needs targets with a semantic map for each image.")
        wanted = torch.full(full.shape[:1] + full.shape[2:], VOID, dtype=torch.int64, device=full.device)
        for row, target in zip(wanted, targets, strict=True):
            height, width = target["semantic"].shape
            row[:height, :width] = target["semantic"]
        # The mean over labelled pixels; a batch without any has no loss, not NaN.
        total = F.cross_entropy(full, wanted, ignore_index=VOID, reduction="sum")
        return {"segmentation": total / (wanted != VOID).sum().clamp(min=1)}


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """The task of naming every pixel; its metric is the mean over classes of intersection over union."""

    config: SegmenterConfig = field(default_factory=SegmenterConfig)
    metric: str = "mIoU"

    def build(self, backbone: AnyBackbone) -> DeepLabV3:
        return DeepLabV3(backbone, len(self.categories), self.config)

    def prepare(self, image: Tensor, target: dict[str, Any], augment: v2.Transform | None) -> Sample:
        return augment_masks(image, target, augment)

    def run_layers(self, model: nn.Module, images: Images) -> None:
        model.scores(images)  # type: ignore[operator]

    def summarise(self, data: SegmentationSet, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """mIoU with its error by resampling images, pixel accuracy and the IoU of each class; and the first maps.

        Maps are uint8 (H, W) on the CPU.
        """
        kept: list[Tensor] = []
        per_image = []
        for _, target, output in outputs:
            found = output["semantic"].cpu()
            per_image.append(confusion(target["semantic"].numpy(), found.numpy(), len(self.categories)))
            if len(kept) < KEPT_MAPS:
                kept.append(found)
        counts = np.stack(per_image)

        def resampled(draws: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            return np.array([mean_iou(np.tensordot(draw, counts, axes=1)) for draw in draws])

        total = counts.sum(axis=0)
        by_class = zip(self.categories, class_iou(total), strict=True)
        metrics = {"mIoU": mean_iou(total), "pixel accuracy": float(total.trace() / max(1, total.sum()))}
        metrics |= {f"IoU {name}": float(iou) for name, iou in by_class if np.isfinite(iou)}
        return {**metrics, "mIoU_error": resampled_error(resampled, len(data), self.resamples(quick), rng)}, kept


def enlarge(scores: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Bilinear, (N, K, h, w) -> (N, K, *size): unit i stands on pixel i * stride, where its kernels are centred.

    On images of a multiple of the stride and one pixel more that is `align_corners`, as the authors crop (321, 769); on
    others the last pixels repeat the last unit. Stretching over the whole image instead would move scores by up to a
    stride.
    """
    inner = [(side - 1) * stride + 1 for side in scores.shape[-2:]]
    full = F.interpolate(scores, size=inner, mode="bilinear", align_corners=True)
    missing = [max(0, wanted - side) for wanted, side in zip(size, inner, strict=True)]
    full = F.pad(full, (0, missing[1], 0, missing[0]), mode="replicate")
    return full[..., : size[0], : size[1]]


def confusion(truth: npt.NDArray[Any], found: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """(classes, classes) pixels of true class (row) and found class (column); void pixels count nowhere."""
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * classes + found[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Intersection over union of each class; NaN for one that is neither there nor found."""
    both = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - both
    return np.divide(both, union, out=np.full(len(counts), np.nan), where=union > 0)


def mean_iou(counts: npt.NDArray[np.int64]) -> float:
    """Mean over the classes that occur in the truth (as Cityscapes does), in 0-1."""
    present = counts.sum(axis=1) > 0
    return float(class_iou(counts)[present].mean()) if present.any() else float("nan")
