"""Parameter remapping: one network's weights brought into another of other depth, width and kernels (FNA).

Order: depth first, then width and kernel in one copy. Layer i of a stage reads the seed's layer min(i, its depth).
Where channels get fewer the first ones are kept; a larger kernel holds the seed's in its centre, a smaller one its
centre.
Blocks are matched by stage, kind and role of each convolution, never by parameter names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.networks.backbone import Backbone
from workbench.networks.remap_report import RemapReport
from workbench.spaces.branches import searched_width
from workbench.spaces.network_spec import BlockSpec, NetworkSpec

# Which of the seed's inner channels a narrower block keeps: the first, or the largest by the reference vector of the
# ablation (section 4.4); and where a larger kernel holds the seed's values.
Width = Literal["prefix", "bn", "l1", "std"]
Kernel = Literal["centre", "dilate"]


# For each channel of the target the seed's channel that it reads: those that the seed has, then from the first again.
Channels = tuple[int, ...]


def remap(
    seed: Backbone, spec: NetworkSpec, *, width: Width = "prefix", kernel: Kernel = "centre", independent: bool = False
) -> tuple[Backbone, RemapReport]:
    """A network of `spec` with the weights and batch statistics of `seed`, and what became of each tensor.

    Wider than the seed, new channels repeat the seed's and the layer behind reads zeros of them: the function stays,
    and both sides get gradients (zeros on both would stay zero for ever). `independent` ranks every tensor
    by itself, which sets channels against each other (section 4.4). ValueError says why two networks have no
    counterparts.
    """
    pairs = _matched(seed.spec, spec)
    target = Backbone(spec)
    rows: list[dict[str, Any]] = []
    entering, have = _prefix(3, 3), 3
    with torch.no_grad():
        for index, (block, (source, cloned)) in enumerate(zip(spec.blocks, pairs, strict=True)):
            own = seed.spec.blocks[source]
            if own.in_channels != have:  # a clone of a stage's only layer, which reads the width of the stage before
                entering = _prefix(own.in_channels, block.in_channels)
            leaving = _prefix(own.out_channels, block.out_channels)
            blocks = (seed.blocks[source], target.blocks[index])
            copier = _Copier(index, source, cloned, width, kernel, independent, rows)
            copier.copy(blocks, (own, block), entering, leaving)
            entering, have = leaving, own.out_channels
    return target.train(seed.training), RemapReport(seed=seed.spec.name, target=spec.name, tensors=pd.DataFrame(rows))


def _matched(seed: NetworkSpec, target: NetworkSpec) -> list[tuple[int, bool]]:
    """For each block the seed's block that it reads and whether that is cloned; ValueError where there is none."""
    by_stage: dict[int, list[int]] = {}
    for index, block in enumerate(seed.blocks):
        by_stage.setdefault(block.stage, []).append(index)
    place: dict[int, int] = {}
    found = []
    for index, block in enumerate(target.blocks):
        within = place[block.stage] = place.get(block.stage, -1) + 1
        stage = by_stage.get(block.stage, [])
        if not stage:
            raise ValueError(
                f"{target.name} has a stage {block.stage} that {seed.name} has not: nothing can be remapped into it."
                " Use a seed with as many stages."
            )
        source = stage[min(within, len(stage) - 1)]
        own = seed.blocks[source]
        if own.kind != block.kind or (own.groups != block.groups and block.kind != "mbconv"):
            theirs, ours = (
                f"{each.kind}{f' in {each.groups} groups' if own.kind == block.kind else ''}" for each in (own, block)
            )
            raise ValueError(
                f"Block {index} of {target.name} is of kind {ours}; its counterpart in {seed.name} (block {source}) is"
                f" of kind {theirs}, whose weights mean something else."
            )
        widths = [(each.in_channels, each.out_channels, searched_width(each)) for each in (own, block)]
        if block.groups > 1 and widths[0] != widths[1]:
            raise ValueError(
                f"Block {index} of {target.name} convolves in groups of another width than {seed.name}; grouped blocks"
                " are remapped between equal widths only."
            )
        if block.kind in ("shuffle", "xception") and own.out_channels != block.out_channels:
            raise ValueError(
                f"Block {index} of {target.name} is a {block.kind} of another width than in {seed.name}: its channels"
                " are split and shuffled, so a prefix of them means something else. Use a seed of equal widths."
            )
        found.append((source, within >= len(stage)))
    return found


@dataclass(frozen=True)
class _Copier:
    """Copies one block's layers and writes down what it did."""

    index: int
    source: int
    cloned: bool
    width: Width
    kernel: Kernel
    independent: bool
    rows: list[dict[str, Any]]

    def copy(
        self,
        blocks: tuple[nn.Module, nn.Module],
        specs: tuple[BlockSpec, BlockSpec],
        entering: Channels,
        leaving: Channels,
    ) -> None:
        chains = [_chains(block) for block in blocks]
        for name, layers in chains[1].items():
            own = _by_role(chains[0].get(name, []), specs[0])
            inputs: Channels | None = entering
            for position, (role, (prefix, conv, norm)) in enumerate(_by_role(layers, specs[1]).items()):
                last = position == len(layers) - 1
                if role not in own:
                    self._keep(prefix, conv, norm)
                    inputs = None
                    continue
                _, theirs, their_norm = own[role]
                depthwise = conv.groups > 1 and conv.groups == conv.in_channels
                if inputs is None or specs[1].kind in ("shuffle", "xception"):  # the latter: of equal widths
                    inputs = _prefix(theirs.in_channels, conv.in_channels)
                    outputs = _prefix(theirs.out_channels, conv.out_channels)
                elif depthwise and not self.independent:
                    outputs = inputs
                else:
                    outputs = leaving if last else self._inner(theirs, their_norm, conv.out_channels)
                self._conv(prefix, conv, theirs, inputs, outputs)
                if norm is not None and their_norm is not None:
                    self._norm(prefix, norm, their_norm, outputs)
                inputs = outputs

    def _inner(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, count: int) -> Channels:
        """The channels that a narrower layer keeps, in ascending order; of a wider one all, then the first again."""
        have = conv.out_channels
        if count >= have or self.width == "prefix" or norm is None:
            return _prefix(have, count)
        rows = conv.weight.flatten(1)
        reference = {"bn": norm.weight.abs(), "l1": rows.abs().sum(dim=1), "std": rows.std(dim=1)}[self.width]
        kept = reference.argsort(descending=True, stable=True)[:count].sort().values
        return tuple(kept.tolist())

    def _conv(self, name: str, conv: nn.Conv2d, seed: nn.Conv2d, inputs: Channels, outputs: Channels) -> None:
        values = seed.weight[list(outputs)]
        fresh = conv.weight.shape[1]
        if conv.groups == 1:
            fresh, values = len(set(inputs)), values[:, list(inputs)]
            values[:, fresh:] = 0  # what is there twice is read once
        placed, origin = _placed(values, conv.kernel_size[0], self.kernel)
        conv.weight.copy_(placed)
        taps = min(conv.kernel_size[0], seed.kernel_size[0]) ** 2
        self._note(f"{name}.weight", origin, conv.weight.numel(), outputs, fresh * taps)
        if conv.bias is not None and seed.bias is not None:
            conv.bias.copy_(seed.bias[list(outputs)])
            self._note(f"{name}.bias", "copied", conv.bias.numel(), outputs)

    def _norm(self, name: str, norm: nn.BatchNorm2d, seed: nn.BatchNorm2d, outputs: Channels) -> None:
        for part, tensor in norm.state_dict().items():
            given = seed.state_dict()[part]
            tensor.copy_(given[list(outputs)] if tensor.ndim else given)
            self._note(f"{name}.norm.{part}", "copied", tensor.numel(), outputs if tensor.ndim else (0,))

    def _keep(self, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        """A layer without counterpart: its own initialisation stays."""
        parts = conv.state_dict(prefix=f"{name}.") | (norm.state_dict(prefix=f"{name}.norm.") if norm else {})
        for part, tensor in parts.items():
            self._row(part, "own", None, False, (0, 0, 0, tensor.numel()))

    def _note(self, name: str, origin: str, size: int, outputs: Channels, each: int = 1) -> None:
        """`each` of the numbers of an output channel come from the seed, the others are zero."""
        copied, have = each * len(set(outputs)), each * len(outputs)
        self._row(name, origin, self.source, self.cloned, (copied, have - copied, size - have, 0))

    def _row(self, name: str, origin: str, seed_block: int | None, cloned: bool, numbers: tuple[int, ...]) -> None:
        row = {"name": name, "block": self.index, "seed_block": seed_block, "cloned": cloned, "origin": origin}
        counts = zip(("copied", "duplicated", "zero", "own"), numbers, strict=True)
        self.rows.append({**row, **dict(counts), "size": sum(numbers)})


def _placed(values: Tensor, side: int, kernel: Kernel) -> tuple[Tensor, str]:
    """The seed's kernels on a grid of `side`: centred, cropped, or spread as a dilated kernel (section 4.4)."""
    have = values.shape[-1]
    if side == have:
        return values, "copied"
    if side < have:
        margin = (have - side) // 2
        return values[..., margin : margin + side, margin : margin + side], "cropped"
    placed = values.new_zeros(*values.shape[:2], side, side)
    step = (side - 1) // (have - 1) if kernel == "dilate" and have > 1 else 1
    margin = (side - 1 - step * (have - 1)) // 2
    stop = margin + step * (have - 1) + 1
    placed[..., margin:stop:step, margin:stop:step] = values
    return placed, "spread" if step > 1 else "centred"


def _prefix(have: int, count: int) -> Channels:
    """The first `count` channels; beyond those that there are, from the first again."""
    return tuple(channel % have for channel in range(count))


Layer = tuple[str, nn.Conv2d, nn.BatchNorm2d | None]


def _chains(block: nn.Module) -> dict[str, list[Layer]]:
    """The convolutions of a block by chain, each with its batch norm."""
    named = [("main", block)] if isinstance(block, nn.Sequential) else block.named_children()
    chains = {name: list(chain) for name, chain in named if isinstance(chain, nn.Sequential)}
    return {
        name: [
            (f"{name}.{position}", layer, behind if isinstance(behind, nn.BatchNorm2d) else None)
            for position, (layer, behind) in enumerate(zip_longest(layers, layers[1:]))
            if isinstance(layer, nn.Conv2d)
        ]
        for name, layers in chains.items()
    }


def _by_role(layers: Sequence[Layer], spec: BlockSpec) -> dict[str, Layer]:
    """The layers of a chain by what they do. An mbconv without expansion begins with its depthwise convolution."""
    roles = [f"convolution {number}" for number in range(1, len(layers) + 1)]
    if spec.kind == "mbconv" and len(layers) in (2, 3):
        roles = ["expand", "depthwise", "project"][-len(layers) :]
    return dict(zip(roles, layers, strict=True))
