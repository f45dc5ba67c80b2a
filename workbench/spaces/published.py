"""Architectures printed in the papers, with the costs printed beside them.

Printed costs are kept as printed; what we count ourselves stands beside them in the notebooks and tests.
"""

from dataclasses import dataclass

from workbench.spaces.arch import Arch


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published network: its architecture, and its printed cost where the source prints one."""

    method: str
    name: str
    arch: Arch
    printed_macs: str  # as printed, with the source's own rounding
    printed_params: str
    source: str


def _shuffle(name: str, space: str, operations: str, macs: str, params: str, source: str) -> Published:
    arch = Arch(space, tuple(int(digit) for digit in operations if digit.isdigit()))
    return Published(method="DetNAS", name=name, arch=arch, printed_macs=macs, printed_params=params, source=source)


_DETNASNET = "00312102 03123320 2113202221310333 13333333"
_CODE = "DetNAS and ShuffleNet-Series code"

# Op ids by stage (DetNAS specification, section 2.4). Printed costs are of the whole ImageNet network.
DETNAS: tuple[Published, ...] = (
    _shuffle("DetNASNet", "shuffle-40", _DETNASNET, "1.3G", "10.4M", _CODE),
    _shuffle("DetNASNet (3.8)", "shuffle-40-wide", _DETNASNET, "3.8G", "29.5M", _CODE),
    _shuffle("COCO-FPN-300M", "shuffle-20", "2120 2112 33130031 3132", "300M", "3.5M", _CODE),
    _shuffle("COCO-RetinaNet-300M", "shuffle-20", "2311 3213 31113320 3333", "300M", "3.7M", _CODE),
    _shuffle("VOC-FPN-300M", "shuffle-20", "2103 1303 20113333 3331", "300M", "3.7M", _CODE),
    _shuffle("VOC-RetinaNet-300M", "shuffle-20", "1300 2333 23333220 2311", "300M", "3.5M", _CODE),
    _shuffle(
        "COCO-FPN-300M (re-search)", "shuffle-20", "0001 2033 12223331 3232", "", "", "comment in the DetNAS code"
    ),
    _shuffle("SPOS (ImageNet)", "shuffle-20", "2101 2020 20230000 3233", "323M", "3.5M", "SinglePathOneShot README"),
    _shuffle("mmrazor's own search", "shuffle-20", "1000 3032 22330213 2221", "", "", "mmrazor configuration"),
)
