"""Pose from a crop around one person: SimpleBaseline's heads on any backbone (Xiao et al. 2018; FNA, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from workbench.data.augmentation import augment_keypoints
from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.keypoints import PoseCrops, mirrored, sigmas
from workbench.tasks.pose_metrics import Pose as FoundPose
from workbench.tasks.pose_metrics import evaluate_poses
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """What stands on the backbone; the defaults are SimpleBaseline's, not confirmed for FNA++."""

    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD
    deconvolutions: int = 3
    channels: int = 256
    sigma: float = 2.0  # of the target's peak, in pixels of the heat map
    flip_test: bool = True  # average with the mirrored crop


class SimpleBaseline(nn.Module):
    """Backbone's last map -> deconvolutions (4x4, stride 2, batch norm, ReLU) -> 1x1 -> a heat map for each keypoint.

    Images have one size; targets are {"keypoints": (K, 3)}; in eval mode it returns {"keypoints": (K, 3) x, y in pixels
    of the crop and the height of the peak} for each.
    """

    def __init__(self, backbone: AnyBackbone, keypoints: Sequence[str], config: PoseConfig) -> None:
        super().__init__()
        self.backbone = backbone
        widths = [backbone.channels[-1], *[config.channels] * config.deconvolutions]
        self.deconvolve = nn.Sequential()
        for entering, leaving in pairwise(widths):
            self.deconvolve.append(nn.ConvTranspose2d(entering, leaving, 4, stride=2, padding=1, bias=False))
            self.deconvolve.extend([nn.BatchNorm2d(leaving), nn.ReLU(inplace=True)])
        self.keypoints = nn.Conv2d(widths[-1], len(keypoints), 1)
        for layer in (*self.deconvolve, self.keypoints):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.mirrored = mirrored(keypoints)
        self.stride = backbone.strides[-1] / 2**config.deconvolutions
        self.config = config
        self.normalise = v2.Normalize(list(config.image_mean), list(config.image_std))

    @property
    def head(self) -> nn.Sequential:
        return nn.Sequential(self.deconvolve, self.keypoints)

    def heat_maps(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) in 0-1 -> (N, K, H / stride, W / stride)."""
        return self.head(self.backbone(self.normalise(batch))[-1])

    def forward(self, images: Images, targets: Targets | None = None) -> dict[str, Tensor] | Targets:
        batch = torch.stack(images)
        maps = self.heat_maps(batch).float()
        if not self.training:
            if self.config.flip_test:
                flipped = self.heat_maps(batch.flip(-1)).float()
                maps = (maps + unmirror(flipped, batch.shape[-1], self.stride)[:, list(self.mirrored)]) / 2
            return [{"keypoints": peaks} for peaks in find_peaks(maps, self.stride)]
        if targets is None:
            raise ValueError("A pose network in training mode needs targets with keypoints for each crop.")
        keypoints = torch.stack([target["keypoints"] for target in targets])
        wanted, weights = peaks_of(keypoints, self.stride, maps.shape[-2:], self.config.sigma)
        # Squared error as a share of the peak's own energy (pi sigma^2): 1 is an empty map. SimpleBaseline divides by
        # the number of pixels instead, a constant.
        energy = torch.pi * self.config.sigma**2
        error = (maps - wanted).square().sum(dim=(2, 3)) / energy
        return {"heat_maps": (error * weights).sum() / weights.sum().clamp(min=1)}


@dataclass(frozen=True, kw_only=True)
class Pose(Task):
    """Finding the keypoints of a person whose box is given; its metric is AP over object keypoint similarity.

    Its categories are the keypoints.
    """

    config: PoseConfig = field(default_factory=PoseConfig)
    metric: str = "AP"

    def build(self, backbone: AnyBackbone) -> SimpleBaseline:
        return SimpleBaseline(backbone, self.categories, self.config)

    def prepare(self, image: Tensor, target: dict[str, Any], augment: v2.Transform | None) -> Sample:
        image, keypoints = augment_keypoints(image, target["keypoints"], mirrored(self.categories), augment)
        return image, {"keypoints": keypoints}

    def run_layers(self, model: nn.Module, images: Images) -> None:
        model.heat_maps(torch.stack(images))  # type: ignore[operator]

    def summarise(self, data: PoseCrops, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """AP with its error by resampling instances, AP50, AP75, AR and PCK; and each pose, in pixels of its image."""
        found: list[FoundPose] = []
        for index, _, output in outputs:
            points = output["keypoints"].double().cpu().numpy()
            points[:, :2] = data.to_image(index, points[:, :2])
            found.append({"image_id": data.ids[index], "keypoints": points, "score": float(points[:, 2].mean())})
        truth, tolerances = data.ground_truth(), sigmas(self.categories)
        return evaluate_poses(truth, found, tolerances, rng=rng, resamples=self.resamples(quick)), found


def unmirror(maps: Tensor, width: int, stride: float) -> Tensor:
    """Maps of a mirrored image of `width` pixels as those of the image, both with unit i on pixel i * stride.

    Pixel x became width - 1 - x, so unit i is read at (width - 1) / stride - i, between two units where that is no
    number of them; SimpleBaseline shifts by one unit instead.
    """
    units = (width - 1) / stride - torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    units = units.clamp(0, maps.shape[-1] - 1)
    low = units.floor().long()
    share = units - low
    high = (low + 1).clamp(max=maps.shape[-1] - 1)
    return maps[..., low] * (1 - share) + maps[..., high] * share


def peaks_of(keypoints: Tensor, stride: float, size: Sequence[int], sigma: float) -> tuple[Tensor, Tensor]:
    """Target maps (N, K, h, w) with a Gaussian of height 1 at each keypoint, and weights (N, K): 1 for labelled ones.

    Unit i of a map stands on pixel i * stride of the crop; `keypoints` are (N, K, 3) in pixels of the crop.
    """

    def bell(axis: int, units: int) -> Tensor:  # (N, K, units)
        places = torch.arange(units, device=keypoints.device, dtype=keypoints.dtype)
        return torch.exp(-((places - keypoints[..., axis, None] / stride) ** 2) / (2 * sigma**2))

    across, down = bell(0, size[1]), bell(1, size[0])
    return down[..., :, None] * across[..., None, :], (keypoints[..., 2] > 0).to(keypoints.dtype)


def find_peaks(maps: Tensor, stride: float) -> Tensor:
    """(N, K, 3): x, y in pixels of the crop, a quarter unit towards the higher neighbour, and the peak's height."""
    width = maps.shape[-1]
    peak, place = maps.flatten(2).max(dim=2)
    column, row = place % width, place // width
    padded = nn.functional.pad(maps, (1, 1, 1, 1), mode="replicate")

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        flat = (rows + 1) * (width + 2) + columns + 1
        return padded.flatten(2).gather(2, flat[..., None])[..., 0]

    # At the border there is no neighbour on the other side, and no shift (as in SimpleBaseline).
    right = (at(row, column + 1) - at(row, column - 1)).sign() / 4 * ((column > 0) & (column < width - 1))
    down = (at(row + 1, column) - at(row - 1, column)).sign() / 4 * ((row > 0) & (row < maps.shape[-2] - 1))
    return torch.stack([(column + right) * stride, (row + down) * stride, peak], dim=-1)
