"""Feature pyramids on top of any backbone."""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from workbench.tasks.task import AnyBackbone

# Further levels: pooled, or by convolutions of the last pyramid map (c5: of the backbone's last map, as in FNA).
Extra = Literal["none", "pool", "p6", "p6p7", "c5p6p7"]


class LastLevelP6(ExtraFPNBlock):
    """One more level: a stride-2 3x3 convolution of the coarsest pyramid map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*results, self.p6(results[-1])], [*names, "p6"]


class PyramidBackbone(nn.Module):
    """Backbone and feature pyramid in the form that torchvision's detectors read: a dict of maps and `out_channels`.

    `levels` takes that many of the backbone's last maps. `norm` puts batch norm behind the lateral and output
    convolutions, as DetNAS's published configuration does for Faster R-CNN.
    """

    def __init__(self, backbone: AnyBackbone, *, channels: int, levels: int, extra: Extra, norm: bool) -> None:
        super().__init__()
        self.body = backbone
        self.levels = levels
        self.out_channels = channels
        if levels > len(backbone.channels):
            raise ValueError(f"The pyramid asks for {levels} maps but the backbone has {len(backbone.channels)}.")
        widths, strides = list(backbone.channels[-levels:]), list(backbone.strides[-levels:])
        blocks: dict[str, ExtraFPNBlock | None] = {
            "none": None,
            "pool": LastLevelMaxPool(),
            "p6": LastLevelP6(channels),
            "p6p7": LastLevelP6P7(channels, channels),
        }
        if extra == "c5p6p7":  # not among the others: making it would draw weights, and all later ones would change
            blocks[extra] = LastLevelP6P7(widths[-1], channels)
        added = {"none": 0, "pool": 1, "p6": 1, "p6p7": 2, "c5p6p7": 2}[extra]
        self.strides = (*strides, *(strides[-1] * 2 ** (step + 1) for step in range(added)))
        self.fpn = FeaturePyramidNetwork(widths, channels, blocks[extra], nn.BatchNorm2d if norm else None)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body(images)[-self.levels :]
        return self.fpn(OrderedDict((str(level), features) for level, features in enumerate(maps)))
