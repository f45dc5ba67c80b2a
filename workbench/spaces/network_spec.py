"""An architecture as a builder of networks sees it: block after block, plain values, no torch.

Everything that reads a network reads its `NetworkSpec`: the builder (`networks/`), the cost counter (`costs.py`),
receptive fields (`insight/`) and remapping. What a block is made of is said once, in `branches.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

BlockKind = Literal["stem", "conv", "pool", "shuffle", "xception", "basic", "bottleneck", "mbconv"]
Activation = Literal["relu", "relu6"]
Shortcut = Literal["projection", "pad"]
Dilation = tuple[int, int]  # (height, width)
Part = tuple[int, int, int]  # (output channels, dilation height, dilation width)
Padding = Literal["symmetric", "same"]


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One block: what it maps (channels, stride) and how (kind, kernel, expansion, dilations, groups)."""

    kind: BlockKind
    in_channels: int = 0  # 0: not said yet, `chained` fills it in
    out_channels: int
    stride: int = 1
    kernel: int = 3
    stage: int = 0  # 0 is the stem, stages count from 1
    expansion: float = 1.0  # inner channels: of a bottleneck as a share of its output, of an mbconv times its input
    groups: int = 1
    dilations: tuple[Part, ...] = ()  # of the block's searched convolution, side by side; () is undilated
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
        blocks = [(tap in self.expanded, self.blocks[tap]) for tap in self.taps]
        return tuple(round(b.in_channels * b.expansion) if inside else b.out_channels for inside, b in blocks)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of each tapped map, from high to low resolution."""
        strides, product = [], 1
        for index, block in enumerate(self.blocks):
            strides.append(product if index in self.expanded else product * block.stride)
            product *= block.stride
        return tuple(strides[tap] for tap in self.taps)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "NetworkSpec":
        """Rebuilds a spec; ValueError names the field that does not fit."""
        try:
            blocks = tuple(
                BlockSpec(**{**b, "in_channels": b["in_channels"], "dilations": tuple(map(tuple, b["dilations"]))})
                for b in value["blocks"]
            )
            taps, expanded = tuple(value["taps"]), tuple(value.get("expanded", ()))
            spec = NetworkSpec(name=value["name"], blocks=blocks, taps=taps, expanded=expanded)
        except (KeyError, TypeError) as error:
            message = f"A network specification needs name, blocks and taps as written by to_json: {error}."
            raise ValueError(message) from error
        if unknown := {block.kind for block in blocks} - set(get_args(BlockKind)):
            raise ValueError(f"A block kind is one of {', '.join(get_args(BlockKind))}; got {sorted(unknown)}.")
        if not all(0 <= tap < len(blocks) for tap in spec.taps):
            raise ValueError(f"Taps must be block indices below {len(blocks)}; got {list(spec.taps)}.")
        if not all(tap in spec.taps and blocks[tap].kind == "mbconv" for tap in expanded):
            raise ValueError(f"Only taps of mbconv blocks are read behind the expansion; got {list(expanded)}.")
        return spec


def chained(name: str, blocks: Sequence[BlockSpec], tapped: Sequence[int]) -> NetworkSpec:
    """These blocks one after the other on RGB images; taps are the last blocks of the stages `tapped`."""
    widths = (3, *(block.out_channels for block in blocks[:-1]))
    ends = {block.stage: index for index, block in enumerate(blocks)}
    fitted = (replace(block, in_channels=width) for block, width in zip(blocks, widths, strict=True))
    return NetworkSpec(name=name, blocks=tuple(fitted), taps=tuple(ends[stage] for stage in tapped))
