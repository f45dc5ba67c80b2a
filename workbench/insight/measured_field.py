"""Effective receptive fields measured by back-propagation: how much each input pixel moves one unit of a map."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torchvision.ops import FrozenBatchNorm2d

from workbench.insight.receptive_field import (
    SHARE,
    FieldSizes,
    field_sizes,
    moment_sigma,
    narrowed,
    patch_side,
    smoothed,
    width_matters,
)
from workbench.networks.backbone import Backbone
from workbench.networks.blocks import ResidualUnit
from workbench.networks.count import evaluating
from workbench.spaces.costs import ImageSize, height_width
from workbench.spaces.network_spec import NetworkSpec

Mode = Literal["trained", "linearised", "structure"]
ChannelRule = Literal["probes", "sum_abs", "relu"]
BATCH = 8  # images in one pass
RECTIFIERS = ("relu", "relu_", "relu6", "hardtanh", "hardtanh_")


@dataclass(frozen=True, kw_only=True)
class Field:
    """A measured field and everything that was chosen to measure it."""

    map: Tensor  # (H, W) float64 on the CPU, not negative, in units of the gradient
    centre: tuple[float, float]  # row and column of the unit on the input patch, in pixels
    unit: tuple[int, int]  # row and column of the unit in its feature map
    level: int
    stride: int
    patch: tuple[int, int]  # height and width of the input
    mode: Mode
    channel_rule: ChannelRule
    probes: int  # backward passes per image; 1 where the rule is not probes
    images: int  # 0 where the field does not depend on the input
    share: float | None  # of the residual branch; None where the network's own weights were kept
    truncated: bool  # the input patch is too small: sizes are too small, too

    def sizes(self, *, smooth: int = 1, theoretical: tuple[int, int] | None = None) -> FieldSizes:
        """All sizes around the unit; `smooth` is the side of the box that a lattice is averaged over first."""
        return field_sizes(smoothed(self.map, smooth), self.centre, theoretical=theoretical)

    @property
    def caption(self) -> str:
        """The choices in one line, for figures."""
        weights = {
            "trained": f"network as it is, {self.images} images",
            "linearised": "linearised, own weights",
            "structure": f"constant kernels, share {self.share}",
        }[self.mode]
        rule = f"{self.probes} probes" if self.channel_rule == "probes" else self.channel_rule.replace("_", " then ")
        cut = ", truncated by the patch" if self.truncated else ""
        return f"unit {self.unit} at stride {self.stride}, patch {self.patch[0]} px, {weights}, {rule}{cut}"


def measure_field(
    module: nn.Module,
    *,
    level: int = -1,
    patch: ImageSize,
    images: Tensor | None = None,
    mode: Mode = "trained",
    channel_rule: ChannelRule | None = None,
    unit: tuple[int, int] | None = None,
    probes: int = 8,
    share: float = SHARE,
    rng: np.random.Generator | None = None,
) -> Field:
    """The field of one unit of map `level` of `module`, which returns a list, a dict or one map; it stays as it was.

    `patch` is the size of the input in pixels. Modes: `trained` takes the network as it is, on `images` (N, 3, H, W),
    normalised, or on eight noise images; `linearised` keeps the weights and replaces ReLU by the identity and max by
    average pooling, so that the input does not matter (NATS, section 4.4); `structure` also makes every kernel constant
    and gives `share` of each residual block to its convolutions, which is what `predicted_sigma` predicts.

    Channel rules: `probes` estimates the root of the sum of squared gradients over
    output and input channels from random signs, without cancellation; `sum_abs` sums the output channels first; `relu`
    keeps positive outputs and positive gradients (RepLKNet). Default: `probes`, and `sum_abs` for `structure`, where
    nothing can cancel. `unit` is a row and column of the map, by default the middle one. Batch norm always runs in eval
    mode. Warns when the patch cuts the field off; ValueError for arguments that do not fit the module.
    """
    rule = channel_rule or ("sum_abs" if mode == "structure" else "probes")
    size = height_width(patch)
    _check(mode, rule, probes, size, module)
    inputs = _inputs(module, size, images if mode == "trained" else None, mode, rng)
    working = constant_copy(module, share) if mode == "structure" else module
    count = probes if rule == "probes" else 1
    if rule == "probes" and rng is None:
        raise ValueError("Probes are random signs: pass rng, a numpy generator.")
    total = torch.zeros(size, dtype=torch.float64)
    with evaluating(working), torch.enable_grad():
        for chunk in inputs.split(BATCH):
            chunk = chunk.clone().requires_grad_()
            with nullcontext() if mode == "trained" else Linearised():
                features = map_at(working(chunk), level)
            height, width = features.shape[-2:]
            row, column = unit or ((height - 1) // 2, (width - 1) // 2)
            if not (0 <= row < height and 0 <= column < width):
                raise ValueError(f"The map has {height} x {width} units; {(row, column)} is none of them.")
            for gradient in _gradients(features[:, :, row, column], chunk, rule, count, rng):
                total += gradient
    values = total / (len(inputs) * count)
    values = values.sqrt() if rule == "probes" else values
    strides = getattr(module, "strides", None)
    stride = strides[level] if strides else int(2 ** round(float(np.log2(size[0] / height))))
    centre = (float(row * stride), float(column * stride))
    return Field(
        map=values, centre=centre, unit=(row, column), level=level, stride=stride, patch=size, mode=mode,
        channel_rule=rule, probes=count, images=len(inputs) if mode == "trained" else 0,
        share=share if mode == "structure" else None, truncated=_warn_if_cut(values, centre),
    )  # fmt: skip


def structure_field(
    spec: NetworkSpec, level: int = -1, *, share: float = SHARE, sigmas: float = 8.0, patch: int = 0
) -> Field:
    """The constant-kernel field of map `level`, on an input patch that holds it (0) or a given one."""
    patch = patch or patch_side(spec, level, sigmas=sigmas, share=share)
    small = spec if any(width_matters(block) for block in spec.blocks) else narrowed(spec)
    return measure_field(Backbone(small), level=level, patch=patch, mode="structure", share=share)


def constant_copy(module: nn.Module, share: float = SHARE) -> nn.Module:
    """A copy with constant kernels of gain 1, batch norm as the identity, and residual sums weighted by `share`.

    What is left is the structure: kernels, strides, dilations, shortcuts. Other sums, such as a pyramid's, keep both
    terms at equal weight.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of the signal through the residual branch lies in 0-1; got {share}.")
    twin = copy.deepcopy(module)
    for layer in twin.modules():
        values: dict[str, float] = {}
        if isinstance(layer, nn.Conv2d):
            values = {"weight": 1 / layer.weight[0].numel(), "bias": 0.0}
        elif isinstance(layer, _BatchNorm | FrozenBatchNorm2d):
            values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - layer.eps}
        elif isinstance(layer, ResidualUnit):
            layer.main.register_forward_hook(lambda _layer, _inputs, features: share * features)
            layer.shortcut.register_forward_hook(lambda _layer, _inputs, features: (1 - share) * features)
        for name, value in values.items():
            if (tensor := getattr(layer, name)) is not None:
                nn.init.constant_(tensor, value)
    return twin


class Linearised(TorchFunctionMode):
    """While it is active ReLU and ReLU6 are the identity and max pooling is average pooling.

    The calls are intercepted, not the modules, because torchvision's pyramids call F.relu without one.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in RECTIFIERS:
            return args[0]
        options = dict(kwargs or {})
        if name == "max_pool2d":
            func = F.avg_pool2d
            for of_max_only in ("dilation", "return_indices"):
                options.pop(of_max_only, None)
        return func(*args, **options)


def map_at(output: Any, level: int) -> Tensor:
    """The feature map of that level out of what a network returns: a list, a dict, or a single map."""
    maps = list(output.values()) if isinstance(output, Mapping) else output
    maps = [maps] if isinstance(maps, Tensor) else list(maps)
    if not -len(maps) <= level < len(maps):
        raise ValueError(f"The network returns {len(maps)} maps; level {level} is none of them.")
    features = maps[level]
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise ValueError("A field is measured on feature maps (N, C, H, W); this network returns something else.")
    return features


def _check(mode: str, rule: str, probes: int, size: tuple[int, int], module: nn.Module) -> None:
    least = max(getattr(module, "strides", (1,)))
    if not all(isinstance(side, int) and side >= least for side in size):
        raise ValueError(
            f"An input patch is at least one stride of the coarsest map wide ({least} pixels); got {size}."
        )
    for name, value, allowed in (("mode", mode, get_args(Mode)), ("channel_rule", rule, get_args(ChannelRule))):
        if value not in allowed:
            raise ValueError(f"The {name} is one of {', '.join(allowed)}; got {value!r}.")
    if probes < 1:
        raise ValueError(f"At least one probe is needed; got {probes}.")


def _inputs(
    module: nn.Module, size: tuple[int, int], images: Tensor | None, mode: str, rng: np.random.Generator | None
) -> Tensor:
    """What is fed to the network, on its device; a linear network does not care."""
    weight = next(module.parameters())
    if mode != "trained":
        return torch.ones(1, 3, *size, device=weight.device, dtype=weight.dtype)
    if images is None:
        if rng is None:
            raise ValueError("A network with its ReLUs needs inputs: pass images, or rng to draw noise.")
        images = torch.from_numpy(rng.standard_normal((8, 3, *size)))
    if images.ndim != 4 or tuple(images.shape[-2:]) != size or not len(images):
        raise ValueError(
            f"Images must be (N, 3, {size[0]}, {size[1]}) to fill the input patch; got {tuple(images.shape)}."
        )
    return images.to(weight.device, weight.dtype)


def _gradients(
    outputs: Tensor, inputs: Tensor, rule: str, count: int, rng: np.random.Generator | None
) -> Iterator[Tensor]:
    """How much each pixel moves one unit's `outputs` (N, C), summed over images and input channels, `count` times.

    Images do not touch each other, so one backward pass serves all of them.
    """
    for turn in range(count):
        score = F.relu(outputs) if rule == "relu" else outputs
        if rng is not None and rule == "probes":
            score = outputs * torch.from_numpy(rng.integers(0, 2, size=tuple(outputs.shape)) * 2.0 - 1).to(outputs)
        (gradient,) = torch.autograd.grad(score.sum(), inputs, retain_graph=turn + 1 < count)
        squashed = {"probes": Tensor.square, "sum_abs": Tensor.abs, "relu": Tensor.relu}[rule](gradient)
        yield squashed.sum(dim=(0, 1)).double().cpu()


def _warn_if_cut(values: Tensor, centre: tuple[float, float]) -> bool:
    """Whether six sigma are more than the input patch has around the unit."""
    if not float(values.max()) > 0:
        raise ValueError(
            "The unit has no gradient at all (dead ReLUs, or channels that cancel): choose another unit, more images or"
            " the rule probes."
        )
    for side, place, sigma, name in zip(
        values.shape, centre, moment_sigma(values, border=True), ("height", "width"), strict=True
    ):
        room = 2 * min(place + 0.5, side - place - 0.5)
        if 6 * sigma > room:
            warnings.warn(
                f"The input patch is smaller than the field: around the unit it has {room:.0f} px of {name}, but sigma"
                f" is at least {sigma:.0f} px, so at least {6 * sigma:.0f} px are needed; use a larger patch or report"
                " the sizes as truncated.",
                stacklevel=3,
            )
            return True
    return False
