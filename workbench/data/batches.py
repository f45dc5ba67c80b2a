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
    @property
    def labels(self) -> tuple[int, ...]: ...  # of every image, nothing is decoded
    def take(self, indices: Any) -> Self: ...


class TargetSet(Protocol):
    """Images with a target each, of any task: `[i] -> (uint8 (3, H, W), target)`."""

    name: str
    categories: tuple[str, ...]
    ids: tuple[int, ...]
    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Tensor, Target]: ...
    @property
    def sizes(self) -> list[tuple[int, int]]: ...  # (height, width) of every image, nothing is decoded
    def take(self, indices: Any) -> Self: ...


class DetectionSet(TargetSet, Protocol):
    """Targets have xyxy `boxes` in pixels and `labels` in 1..K."""

    def ground_truth(self) -> dict[str, Any]: ...


class SegmentationSet(TargetSet, Protocol):
    """Targets have `semantic`, int64 (H, W) with classes from 0; 255 is void."""

    def target(self, index: int) -> Target: ...  # alone, no picture is decoded


class PoseSet(TargetSet, Protocol):
    """One body in each image, `categories` are its joints; see `pose.PoseCrops`."""

    def ground_truth(self) -> dict[str, Any]: ...
    def to_image(self, index: int, points: Any) -> Any: ...


def stack_images(images: list[Tensor], device: torch.device) -> list[Tensor]:
    """uint8 (3, H, W) images as float in 0-1 on `device`; one transfer when all have the same size."""
    if len({image.shape for image in images}) == 1:
        return list(torch.stack(images).to(device, non_blocking=True).float().div_(255))
    return [image.to(device, non_blocking=True).float().div_(255) for image in images]


def augmentation(name: str, side: int) -> v2.Transform | None:
    """A named augmentation for uint8 images (and boxes); randomness is torch's global generator, seeded by the loop.

    `none`, `flip`, `crop` (photometric distortion, zoom-out, IoU-preserving crop, flip; for detection of
    photographs), `classify` (random resized crop to `side`, colour jitter, flip: DetNAS's pre-training), `scale` (flip,
    then one of FNA's six scales from 0.75 to 2 and a crop of `side`; for masks), `turn` (turned by up to 30 degrees,
    scaled by 0.7 to 1.3, flipped; for poses), `ssd` (photometric distortion, zoom-out up to 4, IoU-preserving crop of
    at least 0.3, flip: SSD's own).
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
    if name == "ssd":
        return v2.Compose(
            [
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill=110, side_range=(1.0, 4.0)),
                v2.RandomIoUCrop(min_scale=0.3),
                v2.RandomHorizontalFlip(0.5),
                v2.SanitizeBoundingBoxes(labels_getter=lambda inputs: inputs[1]["labels"]),
            ]
        )
    if name == "scale":
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(0.5),
                v2.RandomChoice([ScaleBy(factor) for factor in (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)]),
                v2.RandomCrop(side, pad_if_needed=True, fill={tv_tensors.Mask: 255, "others": 110}),
            ]
        )
    if name == "turn":
        return v2.Compose([v2.RandomAffine(30, scale=(0.7, 1.3), fill=110), v2.RandomHorizontalFlip(0.5)])
    raise ValueError(f"An augmentation is one of none, flip, crop, classify, ssd, scale, turn; got {name!r}.")


class ScaleBy(v2.Transform):
    """Resizes pictures and masks by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        size = [max(1, round(side * self.factor)) for side in inpt.shape[-2:]]
        return v2.functional.resize(inpt, size, antialias=True)


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


def augment_masks(image: Tensor, target: Target, augment: v2.Transform | None) -> tuple[Tensor, Target]:
    """Image and semantic map transformed together."""
    if augment is None:
        return image, {"semantic": target["semantic"]}
    image, changed = augment(tv_tensors.Image(image), tv_tensors.Mask(target["semantic"]))
    return image.as_subclass(Tensor), {"semantic": changed.as_subclass(Tensor)}


def augment_joints(
    image: Tensor, joints: Tensor, mirrored: tuple[int, ...], augment: v2.Transform | None
) -> tuple[Tensor, Tensor]:
    """Image and joints (K, 3: x, y, visibility) transformed together.

    A mirrored picture swaps left and right, whatever mirrored it: three more points carry the picture's orientation
    along. Joints that leave the picture count as not annotated.
    """
    if augment is None:
        return image, joints
    height, width = image.shape[-2:]
    frame = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) + torch.tensor([width / 2, height / 2])
    points = tv_tensors.KeyPoints(torch.cat([joints[:, :2], frame]), canvas_size=(height, width))
    image, moved = augment(tv_tensors.Image(image), points)
    image, places = image.as_subclass(Tensor), moved.as_subclass(Tensor)
    right, down = places[-2] - places[-3], places[-1] - places[-3]
    joints = torch.cat([places[:-3], joints[:, 2:]], dim=1)
    if right[0] * down[1] - right[1] * down[0] < 0:
        joints = joints[list(mirrored)]
    height, width = image.shape[-2:]
    inside = (joints[:, :2] >= 0).all(1) & (joints[:, 0] < width) & (joints[:, 1] < height)
    return image, torch.cat([joints[:, :2], torch.where(inside, joints[:, 2], 0.0)[:, None]], dim=1)
