"""Architectures printed in the papers, with the costs printed next to them.

Printed costs are kept as printed; what we count ourselves stands next to them in the notebooks and tests.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from workbench.spaces.allocation import allocation, allocation_space
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import channel_dilation_name, channel_dilation_space, searched_layers
from workbench.spaces.dilation import RATES, dilation_space_name
from workbench.spaces.layers import PREFIX as LAYERS
from workbench.spaces.mbconv import FNA_LAYERS, efficientnet_lite0_spec, fna_spec
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.residual import layout_named, residual_spec
from workbench.spaces.space import SKIP, SearchSpace


class Published(NamedTuple):
    """A published network: its architecture, and its printed cost where the source prints one."""

    name: str
    arch: Arch
    printed_macs: str  # of the whole ImageNet network, as printed, with the source's own rounding
    printed_params: str
    source: str

    @property
    def spec(self) -> NetworkSpec:
        return space_named(self.arch.space).spec(self.arch)


def _shuffle(name: str, space: str, operations: str, *printed: str) -> Published:
    return Published(name, Arch(space, _digits(operations)), *printed)


def _digits(code: str) -> tuple[int, ...]:
    return tuple(int(digit) for digit in code if digit.isdigit())


_DETNASNET = "00312102 03123320 2113202221310333 13333333"
_CODE = "DetNAS and ShuffleNet-Series code"
_COMMENT = "comment in the DetNAS code"

# Op ids by stage (the released code).
DETNAS: tuple[Published, ...] = (
    _shuffle("DetNASNet", "shuffle-40", _DETNASNET, "1.3G", "10.4M", _CODE),
    _shuffle("DetNASNet (3.8)", "shuffle-40-wide", _DETNASNET, "3.8G", "29.5M", _CODE),
    _shuffle("COCO-FPN-300M", "shuffle-20", "2120 2112 33130031 3132", "300M", "3.5M", _CODE),
    _shuffle("COCO-RetinaNet-300M", "shuffle-20", "2311 3213 31113320 3333", "300M", "3.7M", _CODE),
    _shuffle("VOC-FPN-300M", "shuffle-20", "2103 1303 20113333 3331", "300M", "3.7M", _CODE),
    _shuffle("VOC-RetinaNet-300M", "shuffle-20", "1300 2333 23333220 2311", "300M", "3.5M", _CODE),
    _shuffle("COCO-FPN-300M (re-search)", "shuffle-20", "0001 2033 12223331 3232", "", "", _COMMENT),
    _shuffle("SPOS (ImageNet)", "shuffle-20", "2101 2020 20230000 3233", "323M", "3.5M", "SinglePathOneShot README"),
    _shuffle("mmrazor's own search", "shuffle-20", "1000 3032 22330213 2221", "", "", "mmrazor configuration"),
)


@dataclass(frozen=True)
class PublishedAllocation:
    """A network of CR-NAS: blocks per searched stage, and a dilation per residual block () where none is printed."""

    name: str
    backbone: str  # a name of `residual.LAYOUTS`
    depths: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    printed_macs: str = ""  # of the whole Faster R-CNN at 800x1088
    baseline_macs: str = ""  # the same detector on the backbone as published

    @property
    def spec(self) -> NetworkSpec:
        return residual_spec(self.backbone, self.depths, self.dilations)

    @property
    def off_grid(self) -> str:
        """Why the search space does not hold this allocation; empty when it does."""
        try:
            allocation(allocation_space(self.backbone), self.depths)
        except ValueError as error:
            return str(error)
        return ""


# Operation codes of CR-NAS (its tables 5 and 6), one digit for each block. MobileNetV2's code has 20 entries: its first
# and its last two belong to slots that hold no bottleneck (stem, 1x1 convolution, pooling) and are 0.
OPERATION_CODES: dict[str, str] = {
    "CR-R18": "0 0 10 1021",
    "CR-R50": "0 010 00120 0102112",
    "CR-R101": "00 000 01010002000101010 11001012011",
    "CR-MobileNetV2": "0 1 01 02 011 0011 0110 2 0 0",
}


def _searched(name: str, backbone: str, depths: tuple[int, ...], *printed: str) -> PublishedAllocation:
    code = tuple(digit + 1 for digit in _digits(OPERATION_CODES[name]))  # 0, 1, 2 stand for dilation 1, 2, 3
    rates = code[1:-2] if backbone == "mobilenetv2" else code
    return PublishedAllocation(name, backbone, depths, rates, *printed)


CRNAS: tuple[PublishedAllocation, ...] = (
    _searched("CR-R18", "resnet18", (1, 1, 2, 4), "147.6", "147.7"),
    _searched("CR-R50", "resnet50", (1, 3, 5, 7), "192.7", "192.5"),
    _searched("CR-R101", "resnet101", (2, 3, 17, 11), "257.5", "257.3"),
    _searched("CR-MobileNetV2", "mobilenetv2", (2, 2, 3, 4, 4), "121.4", "121.1"),
    PublishedAllocation("SCR-X50-32x4d", "resnext50", (2, 2, 6, 6), (), "195.4", "195.4"),  # figure 5
    PublishedAllocation("SCR-X101-32x4d", "resnext101", (3, 4, 15, 11), (), "260.7", "260.7"),
)


# NATS prints no architecture. What exists of the same kind is IC-Conv (CVPR 2021): shares of the channels of its
# ResNet-50 that stay undilated, are dilated alike both ways, and one way more than the other, by stage (its stages 3 to
# 5 are our 2 to 4).
IC_CONV_SHARES: dict[int, tuple[float, float, float]] = {
    2: (0.523, 0.129, 0.348),
    3: (0.374, 0.138, 0.488),
    4: (0.314, 0.129, 0.557),
}


def channel_dilation_stand_in(backbone: str) -> NetworkSpec:
    """`backbone` with dilations by channel as far as they are published for a relative of NATS: a stand-in, not NATS.

    Of 16 groups in each layer as many stay undilated as in IC-Conv's ResNet-50; the rest share the other dilations of
    set C equally.
    """
    space = channel_dilation_space(channel_dilation_name(backbone, "n16", "C"))
    choices: list[int] = []
    for layer in searched_layers(space):
        plain = round(IC_CONV_SHARES[layer.stage][0] * layer.groups)
        others = len(layer.dilations) - 1
        choices += [0] * plain + [1 + group % others for group in range(layer.groups - plain)]
    spec = space.spec(space.arch(choices))
    return replace(spec, name=f"{spec.name} with mixed dilations")


def published_in(space: SearchSpace) -> dict[str, Arch]:
    """The published networks that `space` holds, by name: DetNAS's, CR-NAS's and their starts, FNA's and its seeds."""
    found = {net.name: net.arch for net in DETNAS if net.arch.space == space.name}
    for net in CRNAS:
        if allocation_space(net.backbone).name == space.name:
            found[f"{net.backbone} as published"] = allocation(space, layout_named(net.backbone).depths)
            if not net.off_grid:
                found[net.name] = allocation(space, net.depths)
        if net.dilations and dilation_space_name(net.backbone, net.depths) == space.name:
            found[net.name] = space.arch([RATES.index(rate) for rate in net.dilations])
    specs: list[NetworkSpec] = []
    if space.name.startswith(f"{LAYERS}mobilenetv2"):
        specs = [fna_spec(name) for name in FNA_LAYERS]
    elif space.name.startswith(f"{LAYERS}efficientnet-lite0"):
        specs = [efficientnet_lite0_spec(5 if "-front" in space.name else 7)]
    layers = {spec.name: _in_layers(space, spec) for spec in specs}
    return found | {name: arch for name, arch in layers.items() if arch is not None}


def _in_layers(space: SearchSpace, spec: NetworkSpec) -> Arch | None:
    """A network of inverted residuals as one of a space of layers; None where it has other layers or more of them."""
    left: dict[int, list[str]] = {decision.stage: [] for decision in space.decisions}
    for block in spec.blocks:
        if block.stage in left:
            left[block.stage].append(f"k{block.kernel}e{block.expansion:g}")
    options = [left[decision.stage].pop(0) if left[decision.stage] else SKIP for decision in space.decisions]
    if any(left.values()) or any(o not in d.options for d, o in zip(space.decisions, options, strict=True)):
        return None
    return space.arch([d.options.index(o) for d, o in zip(space.decisions, options, strict=True)])
