"""Parameter remapping: one network's weights brought into another of other depth, width and kernels (FNA, section 3).

Order: depth first, then width and kernel in one copy. Layer i of a stage reads the seed's layer min(i, its depth).
Where channels get fewer the first ones are kept; a larger kernel holds the seed's in its centre, a smaller one its
centre.
Blocks are matched by stage, kind and role of each convolution, never by parameter names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.networks.backbone import Backbone
from workbench.networks.blocks import ResidualUnit
from workbench.networks.remap_report import Origin, Remapped, RemapReport
from workbench.spaces.branches import searched_width
from workbench.spaces.network_spec import BlockSpec, NetworkSpec

# Which of the seed's inner channels a narrower block keeps: the first, or the largest by the reference vector of the
# ablation (section 3.5); and where a larger kernel holds the seed's values.
Width = Literal["prefix", "bn", "l1", "std"]
Kernel = Literal["centre", "dilate"]


@dataclass(frozen=True)
class _Channels:
    """For each channel of the target the seed's channel it reads, and whether that one was given away before."""

    source: tuple[int, ...]
    repeated: tuple[bool, ...]


def remap(
    seed: Backbone, spec: NetworkSpec, *, width: Width = "prefix", kernel: Kernel = "centre", independent: bool = False
) -> tuple[Backbone, RemapReport]:
    """A network of `spec` with the weights and batch statistics of `seed`, and what became of each tensor.

    Wider than the seed, new channels repeat the seed's and the layer behind reads zeros of them: the function stays,
    and both sides get gradients (zeros on both would stay zero for ever). `independent` ranks every tensor
    by itself, which sets channels against each other (section 3.5). ValueError says why two networks have no
    counterparts.
    """
    pairs = _matched(seed.spec, spec)
    target = Backbone(spec)
    rows: list[Remapped] = []
    entering, have = _prefix(3, 3), 3
    with torch.no_grad():
        for index, (block, source) in enumerate(zip(spec.blocks, pairs, strict=True)):
            own, theirs = seed.spec.blocks[source.index], block
            if own.in_channels != have:  # a clone of a stage's only layer, which reads the width of the stage before
                entering = _prefix(own.in_channels, theirs.in_channels)
            leaving = _prefix(own.out_channels, theirs.out_channels)
            blocks = (seed.blocks[source.index], target.blocks[index])
            copier = _Copier(index, source, width, kernel, independent, rows)
            copier.copy(blocks, (own, theirs), entering, leaving)
            entering, have = leaving, own.out_channels
    return target.train(seed.training), RemapReport(seed=seed.spec.name, target=spec.name, tensors=tuple(rows))


@dataclass(frozen=True)
class _Source:
    index: int
    cloned: bool


def _matched(seed: NetworkSpec, target: NetworkSpec) -> list[_Source]:
    """For each block of the target the seed's block that it reads; ValueError where there is none."""
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
        found.append(_Source(source, within >= len(stage)))
    return found


@dataclass(frozen=True)
class _Copier:
    """Copies one block's layers and writes down what it did."""

    index: int
    source: _Source
    width: Width
    kernel: Kernel
    independent: bool
    rows: list[Remapped]

    def copy(
        self,
        blocks: tuple[nn.Module, nn.Module],
        specs: tuple[BlockSpec, BlockSpec],
        entering: _Channels,
        leaving: _Channels,
    ) -> None:
        chains = [_chains(block) for block in blocks]
        for name, layers in chains[1].items():
            own = _by_role(chains[0].get(name, []), specs[0])
            inputs: _Channels | None = entering
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

    def _inner(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, count: int) -> _Channels:
        """The channels that a narrower layer keeps, in ascending order; of a wider one all, then the first again."""
        have = conv.out_channels
        if count >= have or self.width == "prefix" or norm is None:
            return _prefix(have, count)
        rows = conv.weight.flatten(1)
        reference = {"bn": norm.weight.abs(), "l1": rows.abs().sum(dim=1), "std": rows.std(dim=1)}[self.width]
        kept = reference.argsort(descending=True, stable=True)[:count].sort().values
        return _Channels(tuple(kept.tolist()), (False,) * count)

    def _conv(self, name: str, conv: nn.Conv2d, seed: nn.Conv2d, inputs: _Channels, outputs: _Channels) -> None:
        values = seed.weight[list(outputs.source)]
        if conv.weight.shape[1] > 1 or seed.weight.shape[1] > 1:
            columns = torch.tensor(inputs.source) if conv.groups == 1 else torch.arange(conv.weight.shape[1])
            values = values[:, columns]
            if conv.groups == 1:
                values[:, torch.tensor(inputs.repeated)] = 0  # what is there twice is read once
        placed, origin = _placed(values, conv.kernel_size[0], self.kernel)
        conv.weight.copy_(placed)
        taps = min(conv.kernel_size[0], seed.kernel_size[0]) ** 2
        fresh = sum(not again for again in inputs.repeated) if conv.groups == 1 else conv.weight.shape[1]
        new = sum(outputs.repeated)
        self._note(f"{name}.weight", origin, conv.weight.numel(), (len(outputs.source) - new, new, fresh * taps))
        if conv.bias is not None and seed.bias is not None:
            conv.bias.copy_(seed.bias[list(outputs.source)])
            self._note(f"{name}.bias", "copied", conv.bias.numel(), (conv.bias.numel() - new, new, 1))

    def _norm(self, name: str, norm: nn.BatchNorm2d, seed: nn.BatchNorm2d, outputs: _Channels) -> None:
        new = sum(outputs.repeated)
        for part, tensor in norm.state_dict().items():
            given = seed.state_dict()[part]
            tensor.copy_(given[list(outputs.source)] if tensor.ndim else given)
            counts = (tensor.numel() - new, new, 1) if tensor.ndim else (1, 0, 1)
            self._note(f"{name}.norm.{part}", "copied", tensor.numel(), counts)

    def _keep(self, name: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        """A layer without counterpart: its own initialisation stays."""
        parts = {f"{name}.{part}": tensor for part, tensor in conv.state_dict().items()}
        if norm is not None:
            parts |= {f"{name}.norm.{part}": tensor for part, tensor in norm.state_dict().items()}
        for part, tensor in parts.items():
            self.rows.append(
                Remapped(
                    name=part,
                    block=self.index,
                    seed_block=None,
                    cloned=False,
                    origin="own",
                    copied=0,
                    duplicated=0,
                    zero=0,
                    own=tensor.numel(),
                )
            )

    def _note(self, name: str, origin: Origin, size: int, counts: tuple[int, int, int]) -> None:
        rows, repeated, each = counts
        self.rows.append(
            Remapped(
                name=name,
                block=self.index,
                seed_block=self.source.index,
                cloned=self.source.cloned,
                origin=origin,
                copied=rows * each,
                duplicated=repeated * each,
                zero=size - (rows + repeated) * each,
                own=0,
            )
        )


def _placed(values: Tensor, side: int, kernel: Kernel) -> tuple[Tensor, Origin]:
    """The seed's kernels on a grid of `side`: centred, cropped, or spread as a dilated kernel (section 3.5)."""
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


def _prefix(have: int, count: int) -> _Channels:
    """The first `count` channels; beyond those that there are, from the first again."""
    return _Channels(tuple(channel % have for channel in range(count)), tuple(c >= have for c in range(count)))


Layer = tuple[str, nn.Conv2d, nn.BatchNorm2d | None]


def _chains(block: nn.Module) -> dict[str, list[Layer]]:
    """The convolutions of a block by chain, each with its batch norm."""
    chains = {"main": block.main, "shortcut": block.shortcut} if isinstance(block, ResidualUnit) else {"main": block}
    if not isinstance(block, ResidualUnit) and not isinstance(block, nn.Sequential):
        chains = {name: chain for name, chain in block.named_children() if isinstance(chain, nn.Sequential)}
    found: dict[str, list[Layer]] = {}
    for name, chain in chains.items():
        assert isinstance(chain, nn.Sequential)
        layers = list(chain)
        found[name] = []
        for position, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                behind = layers[position + 1] if position + 1 < len(layers) else None
                norm = behind if isinstance(behind, nn.BatchNorm2d) else None
                found[name].append((f"{name}.{position}", layer, norm))
    return found


def _by_role(layers: Sequence[Layer], spec: BlockSpec) -> dict[str, Layer]:
    """The layers of a chain by what they do. An mbconv without expansion begins with its depthwise convolution."""
    roles = [f"convolution {number}" for number in range(1, len(layers) + 1)]
    if spec.kind == "mbconv" and len(layers) in (2, 3):
        roles = ["expand", "depthwise", "project"][-len(layers) :]
    return dict(zip(roles, layers, strict=True))
