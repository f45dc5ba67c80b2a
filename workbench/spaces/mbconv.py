"""Networks of inverted residuals (MBConv) whose layers differ in kernel and expansion: seeds and found nets of FNA."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from workbench.spaces.network_spec import BlockSpec, NetworkSpec, Padding, chained

MBStage = tuple[int, int, str]  # output channels, stride of the first layer, layers in the notation of `layers_of`


def mbconv_spec(
    name: str,
    stages: Sequence[MBStage],
    taps: Sequence[int],
    *,
    stem: int = 32,
    last: int = 0,
    padding: Padding = "symmetric",
    bn_eps: float = 1e-5,
) -> NetworkSpec:
    """Stem, stages numbered from 1, and with `last` a 1x1 convolution to that many channels as one stage more.

    `taps` are the numbers of the stages whose last map is returned.
    """
    first = BlockSpec(kind="conv", out_channels=stem, stride=2, activation="relu6", padding=padding, bn_eps=bn_eps)
    blocks = [first]
    for number, (channels, stride, text) in enumerate(stages, start=1):
        layer = replace(first, kind="mbconv", out_channels=channels, stage=number)
        for index, (kernel, expansion) in enumerate(layers_of(text)):
            step = 1 if index else stride
            blocks.append(replace(layer, stride=step, kernel=kernel, expansion=float(expansion)))
    if last:
        blocks.append(replace(first, out_channels=last, stride=1, kernel=1, stage=len(stages) + 1))
    return chained(name, blocks, taps)


def layers_of(text: str) -> tuple[tuple[int, int], ...]:
    """ "k3e6 k7e3" as ((3, 6), (7, 3)), the notation of FNA; ValueError for anything else."""
    found = [re.fullmatch(r"k(\d)e(\d)", word) for word in text.split()]
    if not found or not all(found):
        raise ValueError(f"Layers are written like 'k3e6 k7e3' (kernel and expansion); got {text!r}.")
    return tuple((int(match[1]), int(match[2])) for match in found if match)


# Output channels and strides of MobileNetV2's stages behind the stem (Sandler et al. 2018, table 2).
_MOBILENET_V2 = ((16, 1), (24, 2), (32, 2), (64, 2), (96, 1), (160, 2), (320, 1))
# Layers of blocks 2 to 7; block 1 is k3e1 in all of them.
FNA_LAYERS: Mapping[str, tuple[str, ...]] = {
    "MobileNetV2": ("k3e6 k3e6", "k3e6 k3e6 k3e6", "k3e6 k3e6 k3e6 k3e6", "k3e6 k3e6 k3e6", "k3e6 k3e6 k3e6", "k3e6"),
    "FNA RetinaNet": ("k3e6 k3e6", "k7e6 k5e6", "k3e6 k5e6 k7e6 k3e6", "k5e6 k7e6", "k7e6 k7e6 k7e3 k7e6", "k7e6"),
    "FNA SSDLite": ("k5e6", "k5e6 k5e6 k3e6 k5e6", "k5e6 k7e6 k3e6", "k7e6 k7e6 k7e6 k7e6", "k5e6 k7e6 k7e6", "k7e6"),
    "FNA DeepLabv3": ("k3e6 k3e6", "k7e6 k3e6 k3e6 k3e6", "k7e6 k7e6 k5e6 k7e6 k7e6 k5e6",
                      "k7e6 k7e6 k7e6 k7e6", "k7e6 k5e6", "k7e3"),
}  # fmt: skip


def fna_spec(name: str, *, last: int = 0, padding: Padding = "symmetric", bn_eps: float = 1e-5) -> NetworkSpec:
    """A network of FNA's table, or its seed MobileNetV2; taps are the maps that its RetinaNet reads.

    `last` adds the 1x1 convolution that the classifier reads; padding and eps are those that weights were trained with.
    """
    if name not in FNA_LAYERS:
        raise ValueError(f"A network of FNA is one of {', '.join(FNA_LAYERS)}; got {name!r}.")
    layers = ("k3e1", *FNA_LAYERS[name])
    stages = [(*shape, text) for shape, text in zip(_MOBILENET_V2, layers, strict=True)]
    return mbconv_spec(name, stages, (2, 3, 5, 8 if last else 7), last=last, padding=padding, bn_eps=bn_eps)


def efficientnet_lite0_spec(stages: int = 8) -> NetworkSpec:
    """EfficientNet-Lite0, a searched network: kernels 3 and 5, no squeeze-excitation, TensorFlow's padding.

    With fewer `stages` what is left out is the end: 7 leaves out the 1x1 convolution that the classifier reads, 5 ends
    at stride 16.
    """
    rows = ((16, 1, "k3e1"), (24, 2, "k3e6 k3e6"), (40, 2, "k5e6 k5e6"), (80, 2, "k3e6 k3e6 k3e6"),
            (112, 1, "k5e6 k5e6 k5e6"), (192, 2, "k5e6 k5e6 k5e6 k5e6"), (320, 1, "k3e6"))  # fmt: skip
    taps = (2, 3, 5) if stages == 5 else (2, 3, 5, stages)
    last = 1280 if stages == 8 else 0
    return mbconv_spec("EfficientNet-Lite0", rows[:stages], taps, last=last, padding="same", bn_eps=1e-3)
