"""Masks of single objects as COCO writes them: polygons, or run lengths for crowds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask
from PIL import Image
from torch import Tensor


def mask_flaws(rows: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """What is wrong with the `segmentation` of each annotation, a sentence for each."""
    flaws = []
    for row in rows:
        found = row.get("segmentation")
        polygons = isinstance(found, list) and found and all(_is_polygon(part) for part in found)
        if not polygons and not (isinstance(found, dict) and {"size", "counts"} <= found.keys()):
            flaws.append(f"{where}: annotation id {row['id']} has no mask (polygons or run lengths in segmentation).")
    return flaws


def draw_masks(segmentations: Sequence[Any], stored: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """uint8 (M, H, W) at `size` (width, height), of annotations that were made at the size `stored`."""
    masks = np.zeros((len(segmentations), size[1], size[0]), dtype=np.uint8)
    scale = np.array([size[0] / stored[0], size[1] / stored[1]])
    for place, segmentation in zip(masks, segmentations, strict=True):
        if isinstance(segmentation, list):  # drawn at the size as served, so that thin parts stay
            polygons = [(np.reshape(part, (-1, 2)) * scale).ravel().tolist() for part in segmentation]
            place[:] = mask.decode(mask.merge(mask.frPyObjects(polygons, size[1], size[0])))
        else:
            packed = isinstance(segmentation["counts"], str | bytes)
            runs = segmentation if packed else mask.frPyObjects(segmentation, *segmentation["size"])
            place[:] = np.array(Image.fromarray(mask.decode(runs)).resize(size, Image.Resampling.NEAREST))
    return torch.from_numpy(masks)


def _is_polygon(part: object) -> bool:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return False
    return all(isinstance(number, int | float) and abs(number) < 1e9 for number in part)
