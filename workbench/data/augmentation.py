"""From samples to batches: augmentations of images with their targets, uint8 to float."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from workbench.data.images import IMAGE_MEAN
from workbench.data.sets import Target


def stack_images(images: list[Tensor], device: torch.device) -> list[Tensor]:
    """uint8 (3, H, W) images as float in 0-1 on `device`; one transfer when all have the same size."""
    if len({image.shape for image in images}) == 1:
        return list(torch.stack(images).to(device, non_blocking=True).float().div_(255))
    return [image.contiguous().to(device, non_blocking=True).float().div_(255) for image in images]


def augmentation(name: str, side: int) -> v2.Transform | None:
    """A named augmentation for uint8 images (and boxes); randomness is torch's own generator, seeded for each image.

    `none`, `flip`, `crop` (photometric distortion, zoom-out, IoU-preserving crop, flip; for detection of
    photographs), `classify` (a crop of 0.08 to 1 of the image resized to `side`, colour jitter, flip: DetNAS's
    pre-training), `scale` (flip, then one of FNA's six scales from 0.75 to 2 and a crop of `side`; for masks), `turn`
    (turned by up to 30 degrees, scaled by 0.7 to 1.3, flipped; for poses), `ssd` (photometric distortion, zoom-out up
    to 4 on the mean colour, IoU-preserving crop of at least 0.3, flip: SSD's own).
    """
    flip = v2.RandomHorizontalFlip(0.5)
    whole_boxes = v2.SanitizeBoundingBoxes(labels_getter=_labels)
    fill: Any = {tv_tensors.Mask: 255, "others": 110}
    mean = [round(255 * share) for share in IMAGE_MEAN]
    steps: dict[str, list[v2.Transform]] = {
        "none": [],
        "flip": [flip],
        "crop": [
            v2.RandomPhotometricDistort(p=0.5),
            v2.RandomZoomOut(fill=110, side_range=(1.0, 1.5), p=0.3),
            v2.RandomIoUCrop(min_scale=0.5, trials=20),
            flip,
            v2.RandomShortestSize(min_size=[side], max_size=side),
            whole_boxes,
        ],
        "classify": [v2.RandomResizedCrop(side), v2.ColorJitter(0.4, 0.4, 0.4), flip],
        # torchvision's defaults are SSD's
        "ssd": [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=mean), v2.RandomIoUCrop(), flip, whole_boxes],
        "scale": [
            flip,
            v2.RandomChoice([v2.Lambda(partial(_scaled, factor)) for factor in (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)]),
            v2.RandomCrop(side, pad_if_needed=True, fill=fill),
        ],
        "turn": [v2.RandomAffine(30, scale=(0.7, 1.3), fill=110), flip],
    }
    if name not in steps:
        raise ValueError(f"An augmentation is one of {', '.join(steps)}; got {name!r}.")
    return v2.Compose([*steps[name], v2.ToPureTensor()]) if steps[name] else None


def _labels(sample: Any) -> Tensor:
    """By name, because a lambda cannot be sent to another process."""
    labels: Tensor = sample[1]["labels"]
    return labels


def _scaled(factor: float, part: Tensor) -> Tensor:
    """An image or mask resized by a factor."""
    size = [max(1, round(side * factor)) for side in part.shape[-2:]]
    return v2.functional.resize(part, size, antialias=True)


def augment_detection(
    image: Tensor, target: Target, augment: v2.Transform | None, *, masks: bool = False
) -> tuple[Tensor, Target]:
    """Image, boxes and `masks` transformed together; only what can be learned (no crowds) stays in the target."""
    keep = target["iscrowd"] == 0
    learned = {name: target[name][keep] for name in ("boxes", "labels", *(("masks",) if masks else ()))}
    if augment is None:
        return image, learned
    learned["boxes"] = tv_tensors.BoundingBoxes(learned["boxes"], format="XYXY", canvas_size=tuple(image.shape[-2:]))
    if masks:
        learned["masks"] = tv_tensors.Mask(learned["masks"])
    image, target = augment(tv_tensors.Image(image), learned)
    return image, target


def augment_masks(image: Tensor, target: Target, augment: v2.Transform | None) -> tuple[Tensor, Target]:
    """Image and semantic map transformed together."""
    if augment is None:
        return image, {"semantic": target["semantic"]}
    image, semantic = augment(tv_tensors.Image(image), tv_tensors.Mask(target["semantic"]))
    return image, {"semantic": semantic}


def augment_keypoints(
    image: Tensor, keypoints: Tensor, mirrored: tuple[int, ...], augment: v2.Transform | None
) -> tuple[Tensor, Tensor]:
    """Image and keypoints (K, 3: x, y, visibility) transformed together.

    A mirrored image swaps left and right, whatever mirrored it: three more points carry the image's orientation along.
    Keypoints that leave the image count as not annotated.
    """
    if augment is None:
        return image, keypoints
    height, width = image.shape[-2:]
    frame = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) + torch.tensor([width / 2, height / 2])
    points = tv_tensors.KeyPoints(torch.cat([keypoints[:, :2], frame]), canvas_size=(height, width))
    image, places = augment(tv_tensors.Image(image), points)
    right, down = places[-2] - places[-3], places[-1] - places[-3]
    keypoints = torch.cat([places[:-3], keypoints[:, 2:]], dim=1)
    if right[0] * down[1] - right[1] * down[0] < 0:
        keypoints = keypoints[list(mirrored)]
    height, width = image.shape[-2:]
    inside = (keypoints[:, :2] >= 0).all(1) & (keypoints[:, 0] < width) & (keypoints[:, 1] < height)
    return image, torch.cat([keypoints[:, :2], torch.where(inside, keypoints[:, 2], 0.0)[:, None]], dim=1)
