"""Receptive fields as arithmetic on a specification, and how the size of a measured field is measured.

The theoretical field is the box of input pixels that can reach a unit at all. The effective field is the map of how
much each of them does (Luo et al. 2016); for constant kernels it is a sum of independent steps, so its variance is a
sum over layers and needs no network. Axes are (height, width) and lengths are pixels of the input everywhere.
"""

from dataclasses import replace
from math import ceil, gcd, lcm
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.optimize import minimize_scalar

from workbench.spaces.branches import Chain, Conv, branches, dilation_parts, searched_width
from workbench.spaces.network_spec import BlockSpec, NetworkSpec, Part

Pair = tuple[float, float]
Map = npt.NDArray[np.float64]

SHARE = 0.5  # of the signal that takes the convolutions of a residual block, not its shortcut
LUO = 1 - 0.9545  # Luo et al. count the pixels above this share of the peak


class Spread(NamedTuple):
    """What a chain adds along one axis: `extent` to the theoretical field (pixels), `variance` in square pixels."""

    extent: float
    variance: float


def chain_spread(chain: Chain, axis: int, step: int = 1) -> Spread:
    """The sum over the layers of a chain that reads a map of stride `step`; `axis` 0 is height, 1 width.

    A flat kernel of k taps at dilation d adds (k^2 - 1) / 12 (d J)^2 to the variance, J the product of the strides
    before it (Luo et al., section 2). Where channels differ in dilation d^2 is their mean, and the largest d
    bounds the extent. Max pooling counts as the average.
    """
    extent = variance = 0.0
    for layer in chain:
        largest, mean_square = 1.0, 1.0
        if isinstance(layer, Conv):
            largest = layer.largest_dilation[axis]
            mean_square = sum(part[0] * part[1 + axis] ** 2 for part in layer.parts) / layer.out_channels
        extent += (layer.kernel - 1) * largest * step
        variance += (layer.kernel**2 - 1) / 12 * mean_square * step**2
        step *= layer.stride
    return Spread(extent, variance)


def theoretical_field(spec: NetworkSpec) -> tuple[tuple[int, int], ...]:
    """Height and width of the theoretical field of each tapped map; of parallel chains the longer counts."""
    return tuple((round(1 + high.extent), round(1 + wide.extent)) for high, wide in _cumulated(spec, SHARE))


def predicted_sigma(spec: NetworkSpec, share: float = SHARE) -> tuple[Pair, ...]:
    """Standard deviation (height, width) of the effective field of each tapped map, for constant kernels.

    A block of two chains is a mixture: `share` of the signal takes `main`, the rest the shortcut. Exact for residual
    sums; in a ShuffleNetV2 block, which concatenates, the split of the channels stands for the share.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of the signal through the residual branch lies in 0-1; got {share}.")
    return tuple((high.variance**0.5, wide.variance**0.5) for high, wide in _cumulated(spec, share))


def patch_side(spec: NetworkSpec, level: int = -1, *, sigmas: float = 6.0, share: float = SHARE) -> int:
    """Side of a square input that shows the whole field of map `level`, its unit at most half a stride from the centre.

    The smallest odd multiple of the coarsest stride that holds `sigmas` standard deviations, or the theoretical field
    where that is smaller.
    """
    stride = spec.strides[-1]
    sigma, whole = max(predicted_sigma(spec, share)[level]), max(theoretical_field(spec)[level])
    wanted = min(sigmas * sigma, whole) + stride  # the centre unit may lie half a stride off the centre of the patch
    return stride * (ceil(wanted / stride) // 2 * 2 + 1)


def narrowed(spec: NetworkSpec) -> NetworkSpec:
    """`spec` with a handful of channels everywhere: the same constant-kernel field at a thousandth of the cost.

    With constant kernels all channels of a map are equal, or a mixture of a few dilations in fixed shares, so their
    number does not matter: four, or as many as the shares need. ValueError for ShuffleNetV2 blocks, whose field depends
    on how the channels are split.
    """
    shares = [_least_shares(block) for block in spec.blocks]
    basic = [width for block, (width, _) in zip(spec.blocks, shares, strict=True) if block.kind == "basic"]
    least = lcm(4, *basic)
    blocks: list[BlockSpec] = []
    for block, (width, parts) in zip(spec.blocks, shares, strict=True):
        if width_matters(block):
            raise ValueError(f"The field of a {block.kind} block depends on its channels; measure it at full width.")
        entering = blocks[-1].out_channels if blocks else block.in_channels
        # Blocks that change their width have another shortcut (or none), so widths must change where they did.
        leaving = entering if block.in_channels == block.out_channels else (2 * least if entering == least else least)
        plain = replace(block, in_channels=entering, out_channels=leaving, groups=1, dilations=())
        if parts and block.kind != "basic":  # the searched convolution gets just the channels that the shares need
            inner = width * ceil(4 / width)
            plain = replace(plain, expansion=inner / (leaving if block.kind == "bottleneck" else entering))
        factor = searched_width(plain) // width
        blocks.append(replace(plain, dilations=tuple((factor * n, high, wide) for n, high, wide in parts)))
    return replace(spec, blocks=tuple(blocks))


def width_matters(block: BlockSpec) -> bool:
    """Whether the constant-kernel field of a block depends on how its channels are split or padded."""
    return block.kind in ("shuffle", "xception") or block.shortcut == "pad"


def _least_shares(block: BlockSpec) -> tuple[int, list[Part]]:
    """The dilations of a block with their shares as the smallest whole numbers, and before them the sum of those."""
    parts = dilation_parts(block)
    divisor = gcd(*(channels for channels, _, _ in parts))
    shares = [(channels // divisor, height, width) for channels, height, width in parts]
    return max(1, sum(share for share, _, _ in shares)), shares


def _cumulated(spec: NetworkSpec, share: float) -> list[tuple[Spread, Spread]]:
    """Along height and width, what lies between the input and each tapped map."""
    found: list[list[Spread]] = [[], []]
    for axis, spreads in enumerate(found):
        extent, variance, step = 0.0, 0.0, 1
        for block in spec.blocks:
            main, *others = (chain_spread(chain, axis, step) for chain in branches(block).values())
            extent += max(spread.extent for spread in (main, *others))
            # Steps have mean zero, so the variance of a mixture is the mixture of the variances.
            variance += share * main.variance + (1 - share) * others[0].variance if others else main.variance
            step *= block.stride
            spreads.append(Spread(extent, variance))
    return [(found[0][tap], found[1][tap]) for tap in spec.taps]


class GaussianFit(NamedTuple):
    """a exp(-r^2 / 2 sigma^2) + b around a fixed centre, with R^2; a and b in units of the map's peak."""

    a: float
    sigma: float
    b: float
    r2: float


class FieldSizes(NamedTuple):
    """The sizes of one map, in pixels where nothing else is said, with their values for a Gaussian.

    They disagree on maps that are no Gaussian: report several.
    """

    side_05: float  # A(0.0455), Luo's size: 4.41 sigma
    side_10: float  # A(0.1): 3.80 sigma
    side_25: float  # A(0.25): 2.95 sigma
    side_50: float  # A(0.5): 2.09 sigma
    shape_index: float  # A(0.0455) / A(0.5): 2.11; larger is a peak with a heavy tail
    sigma_h: float  # second moments
    sigma_w: float
    fit_sigma: float
    fit_r2: float
    ratio_50: float  # area of the smallest centred square with half of the mass, as a share of the image's area
    trf_ratio: float  # A(0.0455) / side of the theoretical field; nan where that is not given


def field_sizes(values: Any, centre: Pair | None = None, *, theoretical: tuple[int, int] | None = None) -> FieldSizes:
    """All sizes of a map (H, W) around `centre` (default: its peak); ValueError for a map that is no field."""
    luo, tenth, quarter, middle = (area_side(values, threshold) for threshold in (LUO, 0.1, 0.25, 0.5))
    fit, half = gaussian_fit(values, centre), area_ratio(values, 0.5, centre)
    whole = float("nan") if theoretical is None else (theoretical[0] * theoretical[1]) ** 0.5
    sizes = (luo, tenth, quarter, middle, luo / middle, *moment_sigma(values), fit.sigma, fit.r2, half, luo / whole)
    return FieldSizes(*sizes)


def as_map(values: Any) -> Map:
    """A map as float64 array (H, W); ValueError unless it is finite, nowhere negative and somewhere positive."""
    field = np.asarray(values, dtype=np.float64)
    if field.ndim != 2 or not np.isfinite(field).all() or field.min() < 0 or field.max() <= 0:
        raise ValueError(
            f"A field is a map (H, W) of finite values >= 0, not all 0; got shape {field.shape}. A unit without any"
            " gradient (dead ReLUs) has no field: choose another unit or average over more images."
        )
    return field


def smoothed(values: Any, side: int) -> Map:
    """Mean over boxes of an odd `side`, the period of the lattice that dilated or strided kernels leave.

    The lattice is no extent; a smaller box leaves ripples.
    """
    if side < 1 or side % 2 == 0:
        raise ValueError(f"A box has an odd side, so that the field stays where it is; got {side}.")
    # The filter's running sums can end a rounding error below 0.
    return np.clip(uniform_filter(as_map(values), side, mode="constant"), 0, None)


def area_side(values: Any, threshold: float) -> float:
    """A(t): the side of the square with as many pixels as exceed `threshold` times the peak."""
    field = as_map(values)
    return float((field > threshold * field.max()).sum()) ** 0.5


def moment_sigma(values: Any, *, border: bool = False) -> Pair:
    """Standard deviation along height and width about the centroid, after the mean of the border is subtracted.

    The size most sensitive to the tail, and to an input patch that cuts it off, above all with the `border` left in.
    """
    field = as_map(values)
    if not border:
        edge = np.concatenate([field[0], field[-1], field[1:-1, 0], field[1:-1, -1]])
        above = np.clip(field - edge.mean(), 0, None)
        field = above if above.max() > 0 else field
    variances = []
    for axis in (1, 0):
        mass = field.sum(axis=axis) / field.sum()
        place = np.arange(len(mass))
        variances.append((place - mass @ place) ** 2 @ mass)
    return float(variances[0] ** 0.5), float(variances[1] ** 0.5)


def gaussian_fit(values: Any, centre: Pair | None = None) -> GaussianFit:
    """Least squares of a Gaussian on a constant, around `centre` (row, column; default: the peak).

    For a given sigma, a and b are linear, so only sigma is searched for.
    """
    field = as_map(values)
    field = field / field.max()
    row, column = peak(field) if centre is None else centre
    down = np.square(np.arange(field.shape[0]) - row)
    across = np.square(np.arange(field.shape[1]) - column)
    total, mean = float(np.square(field - field.mean()).sum()), float(field.mean())

    def solve(log_sigma: float) -> tuple[float, float, float]:
        """a, b and the remaining squares; sums over a separable Gaussian are products of sums."""
        factor = -0.5 / np.exp(2 * log_sigma)
        tall, wide = np.exp(factor * down), np.exp(factor * across)
        average = tall.sum() * wide.sum() / field.size
        square = np.square(tall).sum() * np.square(wide).sum() - field.size * average**2
        mixed = float(tall @ field @ wide) - field.size * average * mean
        a = mixed / square if square > 1e-12 else 0.0
        return a, mean - a * average, total - a * mixed

    log_sides = np.log(np.geomspace(0.3, 2 * max(field.shape), 40))
    start = int(np.argmin([solve(value)[2] for value in log_sides]))
    low, high = log_sides[max(0, start - 1)], log_sides[min(len(log_sides) - 1, start + 1)]
    best = minimize_scalar(lambda value: solve(value)[2], bounds=(low, high), method="bounded")
    a, b, rest = solve(float(best.x))
    return GaussianFit(a, float(np.exp(best.x)), b, float(1 - rest / total) if total > 0 else 0.0)


def box_share(values: Any, side: float, centre: Pair | None = None) -> float:
    """Share of the mass within a square of `side` pixels around `centre` (default: the peak).

    Pixels that the edge cuts count in part. For a Gaussian erf(side / (2 sqrt(2) sigma))^2.
    """
    field = as_map(values)
    row, column = peak(field) if centre is None else centre
    down = np.clip(side / 2 + 0.5 - np.abs(np.arange(field.shape[0]) - row), 0, 1)
    across = np.clip(side / 2 + 0.5 - np.abs(np.arange(field.shape[1]) - column), 0, 1)
    return float(down @ field @ across / field.sum())


def area_ratio(values: Any, share: float, centre: Pair | None = None) -> float:
    """r(t): area of the smallest centred square that holds `share` of the mass, over the area of the map.

    After RepLKNet, but of the mass itself; its scripts take the logarithm first, so its numbers are others.
    """
    field = as_map(values)
    low, high = 0.0, 2.0 * max(field.shape)
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if box_share(field, middle, centre) < share else (low, middle)
    return high**2 / field.size


def peak(values: Any) -> Pair:
    """Row and column of the largest value (its mean place where several are equal)."""
    field = as_map(values)
    rows, columns = np.nonzero(field == field.max())
    return float(rows.mean()), float(columns.mean())
