"""An architecture as the network builder sees it (the phenotype): plain values, no torch.

Everything that reads a network reads its `NetworkSpec`: the builder (`networks/`), the cost counter (`costs.py`), and
later remapping and receptive fields. So a block is described once, by `branches`: the chains of convolutions it is
made of. The builder turns each `Conv` into layers and the counter turns it into multiply-accumulates; they cannot
disagree.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

BlockKind = Literal["stem", "shuffle", "xception"]


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution with what follows it. Padding keeps the size: dilation * (kernel // 2) on each side."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    bias: bool = False
    norm: bool = True
    activation: bool = True


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One block: what it maps (channels, stride) and how (kind, kernel, expansion, dilations, groups)."""

    kind: BlockKind
    in_channels: int
    out_channels: int
    stride: int = 1
    kernel: int = 3
    stage: int = 0  # 0 is the stem, searched stages count from 1
    expansion: float = 1.0
    groups: int = 1
    dilations: tuple[tuple[int, int, int], ...] = ()  # (output channels, dilation_h, dilation_w); () is undilated
    padding: str = "symmetric"
    bn_eps: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A backbone: its blocks in order, and the blocks after which a feature map is tapped."""

    name: str
    blocks: tuple[BlockSpec, ...]
    taps: tuple[int, ...]  # indices into blocks, from high to low resolution

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the tapped maps, from high to low resolution."""
        return tuple(self.blocks[tap].out_channels for tap in self.taps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each tapped map, from high to low resolution."""
        strides, product = [], 1
        for block in self.blocks:
            product *= block.stride
            strides.append(product)
        return tuple(strides[tap] for tap in self.taps)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "NetworkSpec":
        """Rebuilds a spec; ValueError names the field that does not fit."""
        try:
            blocks = tuple(
                BlockSpec(**{**block, "dilations": tuple(tuple(d) for d in block["dilations"])})
                for block in value["blocks"]
            )
            spec = NetworkSpec(name=value["name"], blocks=blocks, taps=tuple(value["taps"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"A network specification needs name, blocks and taps as written by to_json: {error}."
            ) from error
        if not all(0 <= tap < len(blocks) for tap in spec.taps):
            raise ValueError(f"Taps must be block indices below {len(blocks)}; got {list(spec.taps)}.")
        return spec


def branches(block: BlockSpec) -> dict[str, tuple[Conv, ...]]:
    """The block's chains of convolutions by name.

    `stem`: {main}. ShuffleNetV2 blocks (DetNAS, section 2.2 of its specification): `main`, and at stride 2 also
    `projection`; at stride 1 `main` reads half of the input channels and the other half passes untouched.
    """
    if block.kind == "stem":
        stem = Conv(
            in_channels=block.in_channels,
            out_channels=block.out_channels,
            kernel=block.kernel,
            stride=block.stride,
            bias=True,  # DetNAS keeps a bias here although batch norm follows
        )
        return {"main": (stem,)}
    if block.kind in ("shuffle", "xception"):
        return _shuffle_branches(block)
    raise ValueError(f"A block kind is one of stem, shuffle, xception; got {block.kind!r}.")


def _shuffle_branches(block: BlockSpec) -> dict[str, tuple[Conv, ...]]:
    middle = block.out_channels // 2
    if block.stride == 1:
        entering, leaving = block.in_channels // 2, block.out_channels - block.in_channels // 2
    else:
        entering, leaving = block.in_channels, block.out_channels - block.in_channels
    main: tuple[Conv, ...]
    if block.kind == "shuffle":
        main = (
            Conv(in_channels=entering, out_channels=middle),
            _depthwise(middle, block.kernel, block.stride),
            Conv(in_channels=middle, out_channels=leaving),
        )
    else:  # three separable 3x3; the first depthwise acts on the input width and carries the stride
        main = (
            _depthwise(entering, 3, block.stride),
            Conv(in_channels=entering, out_channels=middle),
            _depthwise(middle, 3, 1),
            Conv(in_channels=middle, out_channels=middle),
            _depthwise(middle, 3, 1),
            Conv(in_channels=middle, out_channels=leaving),
        )
    if block.stride == 1:
        return {"main": main}
    # The shortcut takes the kernel of the chosen operation (3 for Xception), so the choice changes it too.
    projection = (
        _depthwise(block.in_channels, block.kernel, block.stride),
        Conv(in_channels=block.in_channels, out_channels=block.in_channels),
    )
    return {"main": main, "projection": projection}


def _depthwise(channels: int, kernel: int, stride: int) -> Conv:
    return Conv(
        in_channels=channels, out_channels=channels, kernel=kernel, stride=stride, groups=channels, activation=False
    )
