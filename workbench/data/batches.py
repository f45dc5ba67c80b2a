"""From samples to batches: the shape of a data set, augmentations, uint8 to float."""

from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

Target = dict[str, Any]


class ClassificationSet(Protocol):
    """Images with one label each: `[i] -> (uint8 (3, H, W), label in 0..K-1)`."""

    name: str
    categories: tuple[str, ...]
    ids: tuple[int, ...]
    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...
    def take(self, indices: Any) -> Self: ...


class DetectionSet(Protocol):
    """Images with boxes: `[i] -> (uint8 (3, H, W), target)` with xyxy `boxes` in pixels and `labels` in 1..K."""

    name: str
    categories: tuple[str, ...]
    ids: tuple[int, ...]
    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, Target]: ...
    @property
    def sizes(self) -> list[tuple[int, int]]: ...  # (height, width) of every image, nothing is decoded
    def take(self, indices: Any) -> Self: ...
    def ground_truth(self) -> dict[str, Any]: ...


def stack_images(images: list[Tensor], device: torch.device) -> list[Tensor]:
    """uint8 (3, H, W) images as float in 0-1 on `device`; one transfer when all have the same size."""
    if len({image.shape for image in images}) == 1:
        return list(torch.stack(images).to(device, non_blocking=True).float().div_(255))
    return [image.to(device, non_blocking=True).float().div_(255) for image in images]


def augmentation(name: str, side: int) -> v2.Transform | None:
    """A named augmentation for uint8 images (and boxes); randomness is torch's global generator, seeded by the loop.

    `none`, `flip`, `crop` (photometric distortion, zoom-out, IoU-preserving crop, flip; for detection of
    photographs), `classify` (random resized crop to `side`, colour jitter, flip: DetNAS's pre-training).
    """
    if name == "none":
        return None
    if name == "flip":
        return v2.RandomHorizontalFlip(0.5)
    if name == "crop":
        return v2.Compose(
            [
                v2.RandomPhotometricDistort(p=0.5),
                v2.RandomZoomOut(fill=110, side_range=(1.0, 1.5), p=0.3),
                v2.RandomIoUCrop(min_scale=0.5, trials=20),
                v2.RandomHorizontalFlip(0.5),
                v2.RandomShortestSize(min_size=[side], max_size=side),
                v2.SanitizeBoundingBoxes(labels_getter=lambda inputs: inputs[1]["labels"]),
            ]
        )
    if name == "classify":
        return v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.25, 1.0), antialias=True),
                v2.ColorJitter(0.4, 0.4, 0.4),
                v2.RandomHorizontalFlip(0.5),
            ]
        )
    raise ValueError(f"An augmentation is one of none, flip, crop, classify; got {name!r}.")


def augment_detection(image: Tensor, target: Target, augment: v2.Transform | None) -> tuple[Tensor, Target]:
    """Image and boxes transformed together; only boxes that can be learned (no crowds) stay in the target."""
    keep = target["iscrowd"] == 0
    boxes, labels = target["boxes"][keep], target["labels"][keep]
    if augment is None:
        return image, {"boxes": boxes, "labels": labels}
    size = (image.shape[-2], image.shape[-1])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    image, changed = augment(tv_tensors.Image(image), {"boxes": wrapped, "labels": labels})
    return image.as_subclass(Tensor), {"boxes": changed["boxes"].as_subclass(Tensor), "labels": changed["labels"]}
