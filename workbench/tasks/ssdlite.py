"""SSDLite as in FNA's published code: torchvision's SSD on two maps of a backbone and four more.

Anchors are those of a 300-pixel image although images have 320, as there; kept, so that numbers compare.
"""

import math
from collections import OrderedDict
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.ops import Conv2dNormActivation

from workbench.tasks.task import AnyBackbone

EXTRA_CHANNELS = (512, 256, 256, 128)
STRIDES = (16, 32, 64, 107, 160, 320)  # pixels between anchors, at 320 x 320
RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
# Sides of the square anchors at 300 pixels, smallest first: one tenth, then 0.2 to 0.92 in equal steps, and beyond.
SIDES = (30, 60, 114, 168, 222, 276, 330)
BN_EPS = 1e-3


class SSDLiteBackbone(nn.Module):
    """A backbone with two maps (strides 16 and 32) and four stride-2 extra blocks: a dict of six maps."""

    def __init__(self, backbone: AnyBackbone) -> None:
        super().__init__()
        if (maps := len(backbone.channels)) != 2:
            raise ValueError(f"SSDLite reads two maps of its backbone, not {maps}; use a space or seed of form ssd.")
        self.body = backbone
        norm = partial(nn.BatchNorm2d, eps=BN_EPS)
        widths = [backbone.channels[-1], *EXTRA_CHANNELS]
        self.extra = nn.ModuleList(_extra_block(entering, leaving, norm) for entering, leaving in pairwise(widths))
        normal_init(self.extra)
        self.out_channels = [*backbone.channels, *EXTRA_CHANNELS]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.extend(self.body(images))

    def extend(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The backbone's maps, and those of the extra blocks."""
        maps = list(maps)
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(level), features) for level, features in enumerate(maps))


def ssdlite_head(channels: list[int], classes: int) -> SSDLiteHead:
    """Depthwise 3x3 and 1x1 for classes (0 is background) and boxes of every map, with batch norm behind the 1x1.

    torchvision's has a bias there instead.
    """
    norm = partial(nn.BatchNorm2d, eps=BN_EPS)
    head = SSDLiteHead(channels, default_boxes(320).num_anchors_per_location(), classes, norm)
    for part in (head.classification_head, head.regression_head):
        for block in part.module_list:
            entering, leaving = block[-1].in_channels, block[-1].out_channels
            block[-1] = Conv2dNormActivation(entering, leaving, 1, norm_layer=norm, activation_layer=None)
        normal_init(part)
    return head


def default_boxes(side: int) -> DefaultBoxGenerator:
    """Anchors of an image of `side` x `side` pixels, six or four for each place."""
    scale = 1 / 320
    steps = [math.ceil(stride * side * scale) for stride in STRIDES]
    return DefaultBoxGenerator(RATIOS, scales=[size * scale for size in SIDES], steps=steps, clip=False)


def normal_init(module: nn.Module) -> None:
    """Convolutions N(0, 0.03), as both published versions do."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
