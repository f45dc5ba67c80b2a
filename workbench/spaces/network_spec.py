"""An architecture as a builder of networks sees it: block after block, plain values, no torch.

Everything that reads a network reads its `NetworkSpec`: the builder (`networks/`), the cost counter (`costs.py`),
receptive fields (`insight/`), and later remapping. What a block is made of is said once, in `branches.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

BlockKind = Literal["stem", "conv", "pool", "shuffle", "xception", "basic", "bottleneck", "mbconv"]
Activation = Literal["relu", "relu6"]
Shortcut = Literal["projection", "pad"]
Padding = Literal["symmetric", "same"]


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One block: what it maps (channels, stride) and how (kind, kernel, expansion, dilations, groups)."""

    kind: BlockKind
    in_channels: int
    out_channels: int
    stride: int = 1
    kernel: int = 3
    stage: int = 0  # 0 is the stem, stages count from 1
    expansion: float = 1.0  # inner channels: of a bottleneck as a share of its output, of an mbconv times its input
    groups: int = 1
    # Of the block's searched convolution, its output channels side by side: (channels, dilation_h, dilation_w); ()
    # is undilated.
    dilations: tuple[tuple[int, int, int], ...] = ()
    shortcut: Shortcut = "projection"  # where a residual block changes its size: a 1x1 convolution, or none ("pad")
    padding: Padding = "symmetric"  # same: as TensorFlow pads a strided convolution, more behind than in front
    bn_eps: float = 1e-5
    activation: Activation = "relu"


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A backbone: its blocks in order, and the blocks after which a feature map is tapped."""

    name: str
    blocks: tuple[BlockSpec, ...]
    taps: tuple[int, ...]  # indices into blocks, from high to low resolution
    # Those taps that read inside an mbconv, behind its expansion and before its depthwise convolution (SSDLite).
    expanded: tuple[int, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the tapped maps, from high to low resolution."""
        return tuple(self._tapped_channels(tap) for tap in self.taps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each tapped map, from high to low resolution."""
        strides, product = [], 1
        for index, block in enumerate(self.blocks):
            strides.append(product if index in self.expanded else product * block.stride)
            product *= block.stride
        return tuple(strides[tap] for tap in self.taps)

    def _tapped_channels(self, tap: int) -> int:
        block = self.blocks[tap]
        return round(block.in_channels * block.expansion) if tap in self.expanded else block.out_channels

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
            taps, expanded = tuple(value["taps"]), tuple(value.get("expanded", ()))
            spec = NetworkSpec(name=value["name"], blocks=blocks, taps=taps, expanded=expanded)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"A network specification needs name, blocks and taps as written by to_json: {error}."
            ) from error
        if unknown := {block.kind for block in blocks} - set(get_args(BlockKind)):
            raise ValueError(f"A block kind is one of {', '.join(get_args(BlockKind))}; got {sorted(unknown)}.")
        if not all(0 <= tap < len(blocks) for tap in spec.taps):
            raise ValueError(f"Taps must be block indices below {len(blocks)}; got {list(spec.taps)}.")
        if not all(tap in spec.taps and blocks[tap].kind == "mbconv" for tap in expanded):
            raise ValueError(f"Only taps of mbconv blocks are read behind the expansion; got {list(expanded)}.")
        return spec
