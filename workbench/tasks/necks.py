"""Feature pyramids on top of any backbone."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
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
    convolutions, as DetNAS's published configuration does for Faster R-CNN. With `cells` it is NAS-FPN instead.
    """

    def __init__(
        self, backbone: AnyBackbone, *, channels: int, levels: int, extra: Extra, norm: bool, cells: int = 0
    ) -> None:
        super().__init__()
        self.body = backbone
        self.levels = levels
        self.out_channels = channels
        if levels > len(backbone.channels):
            raise ValueError(f"The pyramid asks for {levels} maps but the backbone has {len(backbone.channels)}.")
        widths, strides = list(backbone.channels[-levels:]), list(backbone.strides[-levels:])
        self.fpn: nn.Module
        if cells:
            self.strides = (*strides, 2 * strides[-1], 4 * strides[-1])
            self.fpn = NasFpn(widths, channels, cells)
            return
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
        return self.extend(self.body(images))

    def extend(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The pyramid on the backbone's maps."""
        named = OrderedDict((str(level), features) for level, features in enumerate(maps[-self.levels :]))
        pyramid: dict[str, Tensor] = self.fpn(named)
        return pyramid


class NasFpn(nn.Module):
    """NAS-FPN's searched pyramid (Ghiasi et al. 2019, figure 6), `cells` times one after the other: 7@384 is published.

    Three maps of a backbone and two pooled ones are merged seven times in a block, each time into one level: two
    features are summed, or one is added as far as the mean of the other lets it through; then ReLU, 3x3, batch norm.
    """

    def __init__(self, widths: Sequence[int], channels: int, cells: int) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(
                f"NAS-FPN reads the last 3 maps of a backbone; got {len(widths)}. Set pyramid_levels to 3."
            )

        def normed(entering: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(entering, channels, kernel, padding=kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(channels)]

        self.lateral = nn.ModuleList(nn.Sequential(*normed(width, 1)) for width in widths)
        pool = nn.MaxPool2d(2, ceil_mode=True)
        self.coarser = nn.ModuleList(nn.Sequential(*normed(channels, 1), pool) for _ in range(2))
        blocks = [[nn.Sequential(nn.ReLU(), *normed(channels, 3)) for _ in range(7)] for _ in range(cells)]
        self.blocks = nn.ModuleList(nn.ModuleList(merges) for merges in blocks)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = [convolve(features) for convolve, features in zip(self.lateral, maps.values(), strict=True)]
        for pooled in self.coarser:
            levels.append(pooled(levels[-1]))
        p3, p4, p5, p6, p7 = levels
        for block in self.blocks:
            merges: list[nn.Module] = list(block.children())
            middle = merges[0](_attended(p6, p4, p4))
            middle = merges[1](middle + p4)
            p3 = merges[2](_resized(middle, p3) + p3)
            p4 = merges[3](_resized(p3, p4) + middle)
            p5 = merges[4](p5 + _attended(p4, p3, p5))
            p7 = merges[5](p7 + _attended(p5, middle, p7))
            p6 = merges[6](_attended(p7, p5, p6))
        return OrderedDict((str(level), features) for level, features in enumerate((p3, p4, p5, p6, p7)))


def _attended(gated: Tensor, gate: Tensor, like: Tensor) -> Tensor:
    """`gate`, and of `gated` the share that the mean of `gate` lets through, both in the size of `like`."""
    gated, gate = _resized(gated, like), _resized(gate, like)
    return gate + gate.mean(dim=(2, 3), keepdim=True).sigmoid() * gated


def _resized(features: Tensor, like: Tensor) -> Tensor:
    """Larger by repeating pixels, smaller by the maximum."""
    size = like.shape[-2:]
    if features.shape[-1] > size[-1]:
        return F.adaptive_max_pool2d(features, size)
    return features if features.shape[-2:] == size else F.interpolate(features, size=size)


def make_pointwise(part: nn.Module) -> None:
    """In place: 3x3 convolutions of stride 1 in `part` keep the centre of their kernel alone, and see no further."""
    for module in list(part.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.stride == (1, 1):
                centre = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None)
                centre.load_state_dict({**conv.state_dict(), "weight": conv.weight.detach()[:, :, 1:2, 1:2].clone()})
                setattr(module, name, centre)
