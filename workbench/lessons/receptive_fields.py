"""The lesson on receptive fields: what each preset measures, and experiments on stacks, pyramids and networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms import v2

from workbench.data.loader import DataPlan, DetectionSet
from workbench.evaluation.statistics import Interval, mean_interval, rank_correlation
from workbench.insight.measured_field import Field, measure_field, structure_field
from workbench.insight.plots import SIZES
from workbench.insight.receptive_field import SHARE, narrowed, predicted_sigma, theoretical_field
from workbench.insight.tables import paper_table, stored_results
from workbench.methods.detector_file import spec_of
from workbench.methods.presets import FAST, SMALL_DATA, SMOKE_DATA, TINY_DATA
from workbench.networks.backbone import Backbone
from workbench.networks.blocks import build_chain
from workbench.records.files import base_folder, read_json
from workbench.records.run_folder import read_table
from workbench.spaces.branches import Chain, Conv
from workbench.spaces.network_spec import NetworkSpec
from workbench.tasks.necks import PyramidBackbone
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FieldPlan:
    """Everything that the lesson measures, as numbers."""

    data: DataPlan
    depths: tuple[int, ...]  # of the plain stacks
    shown_depths: tuple[int, ...]  # those whose fields are drawn
    runs: int  # draws of random weights that are averaged
    networks: tuple[str, ...]  # families whose predicted sigma is measured
    share: float  # of the signal through the residual branch
    backbone: str  # a small one: it is trained, and set against the sizes of the objects
    reallocated: tuple[int, ...]  # its blocks per stage moved to the deep end, at equal MACs
    dilations: tuple[int, ...]  # of the reallocated network, one for each block
    patch: int  # for the trained network, an odd multiple of its last stride
    images: int
    probes: int
    train: Recipe
    classifier_hidden: int = 128


_TRAIN = replace(FAST, steps=400, batch_size=32, lr=6e-3)
_FEW: dict[str, Any] = {"train_images": 400, "search_images": 16, "test_images": 64}

TINY = FieldPlan(
    data=replace(TINY_DATA, **_FEW),
    depths=(2, 3, 5, 7, 10, 14, 20, 28, 40), shown_depths=(5, 10, 20, 40), runs=20,
    networks=("resnet50", "resnet101"), share=0.5,
    backbone="resnet-tiny", reallocated=(1, 3, 4), dilations=(1, 1, 2, 1, 2, 1, 3, 2),
    patch=240, images=16, probes=8, train=_TRAIN,
)  # fmt: skip

SMOKE = replace(
    TINY,
    data=SMOKE_DATA,
    depths=(2, 5, 10), shown_depths=(5, 10), runs=2, networks=("resnet50",),
    patch=208, images=2, probes=2, train=replace(_TRAIN, steps=3, batch_size=8),
)  # fmt: skip

SMALL = replace(
    TINY,
    data=replace(SMALL_DATA, **_FEW),
    backbone="resnet18-quarter", reallocated=(1, 1, 2, 4),  # with the dilations of CR-R18
    runs=50, patch=416, images=50, train=replace(_TRAIN, steps=1500, batch_size=64),
)  # fmt: skip

PRESETS: dict[str, FieldPlan] = {"smoke": SMOKE, "tiny": TINY, "small": SMALL}

Kernels = Literal["flat", "random", "random + ReLU"]


def plain_chain(
    depth: int,
    *,
    channels: int = 8,
    kernel: int = 3,
    strides: Mapping[int, int] | None = None,
    dilations: Mapping[int, int] | None = None,
    activation: Literal["none", "relu"] = "none",
) -> Chain:
    """A stack of `depth` equal convolutions without shortcut or batch norm, for `networks.blocks.build_chain`.

    `strides` and `dilations` name the layers (from 0) that have another one than 1.
    """
    return tuple(
        Conv(
            in_channels=3 if layer == 0 else channels,
            out_channels=channels,
            kernel=kernel,
            stride=(strides or {}).get(layer, 1),
            dilations=((channels, rate, rate),) if (rate := (dilations or {}).get(layer, 1)) > 1 else (),
            norm=False,
            activation=activation,
        )
        for layer in range(depth)
    )


def stack_field(
    depth: int,
    kernels: Kernels,
    *,
    patch: int,
    runs: int = 1,
    rng: np.random.Generator,
    strides: Mapping[int, int] | None = None,
    dilations: Mapping[int, int] | None = None,
) -> Field:
    """The field in the middle of a plain stack of 3x3 convolutions, averaged over `runs` draws of its weights.

    Flat kernels need one run. Random ones have mean zero, so their average gradient is zero: what is averaged is its
    square. With ReLU each run sees one noise image of its own.
    """
    activation: Literal["none", "relu"] = "relu" if kernels == "random + ReLU" else "none"
    stack = build_chain(plain_chain(depth, strides=strides, dilations=dilations, activation=activation), bn_eps=0.0)
    if kernels == "flat":
        return measure_field(stack, patch=patch, mode="structure")
    if activation == "relu":
        stack = stack[:-1]  # read before its own ReLU: a narrow map is dead in all channels at one place now and then
    measured = []
    for _ in range(runs):
        for weight in stack.parameters():
            deviation = (2 / weight[0].numel()) ** 0.5  # keeps the size of the gradient through ReLUs (He)
            weight.data.copy_(torch.from_numpy(rng.normal(0, deviation, tuple(weight.shape))))
        noise = torch.from_numpy(rng.standard_normal((1, 3, patch, patch)))
        measured.append(measure_field(stack, patch=patch, images=noise, probes=4, rng=rng))
    return mean_field(measured)


def mean_field(measured: Sequence[Field]) -> Field:
    """Root mean square of the maps of several networks (random initialisations), each first scaled to unit mass.

    Without the scaling the network with the largest gradients would decide alone.
    """
    if len({(field.patch, field.unit, field.level) for field in measured}) != 1:
        raise ValueError("Fields are averaged when there are some and patch, unit and level agree; measure them alike.")
    maps = torch.stack([field.map / field.map.sum() for field in measured])
    return replace(
        measured[0],
        map=maps.square().mean(dim=0).sqrt(),
        images=sum(field.images for field in measured),
        truncated=any(field.truncated for field in measured),
    )


def log_slope(sizes: Mapping[int, float], least: int = 5) -> float:
    """Exponent of a power law size ~ depth^slope by least squares over depths of at least `least`."""
    depths = [depth for depth in sizes if depth >= least]
    if len(depths) < 2:
        raise ValueError(f"A slope needs sizes at two depths of at least {least}; got depths {sorted(sizes)}.")
    return float(np.polyfit(np.log(depths), np.log([sizes[depth] for depth in depths]), 1)[0])


def pyramid_fields(spec: NetworkSpec, *, patch: int, levels: int = 3, share: float = SHARE) -> list[Field]:
    """Constant-kernel fields of the levels of a feature pyramid on a residual network, from high to low resolution.

    Lateral and top-down maps are added at equal weight, so a fine level holds the fields of all coarser ones.
    """
    pyramid = PyramidBackbone(Backbone(narrowed(spec)), channels=4, levels=levels, extra="none", norm=False)
    return [measure_field(pyramid, level=level, patch=patch, mode="structure", share=share) for level in range(levels)]


def sigma_table(specs: Mapping[str, NetworkSpec], share: float = SHARE) -> pd.DataFrame:
    """One row for each tapped map: theoretical side, predicted and measured sigma (height), A(0.0455), shape index.

    The last two after a box of 5 pixels, which closes the lattice that strides and dilations leave.
    """
    rows: list[dict[str, Any]] = []
    for name, spec in specs.items():
        arithmetic = zip(theoretical_field(spec), predicted_sigma(spec, share), strict=True)
        for level, ((whole, _), (predicted, _)) in enumerate(arithmetic):
            field = structure_field(spec, level, share=share)
            sizes = field.sizes(smooth=5)
            row = {"network": name, "stride": field.stride, "theoretical": whole, "predicted sigma": predicted}
            row |= {"measured sigma": field.sizes().sigma_h, "A(0.0455)": sizes.side_05}
            rows.append(row | {"shape index": sizes.shape_index, "truncated": field.truncated})
    return pd.DataFrame(rows)


def centre_crops(data: DetectionSet, count: int, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The middles of the first `count` images as a normalised batch (count, 3, side, side), at their own scale.

    Smaller images go on as their mirror image: enlarging them would measure another kind of image.
    """
    batch = []
    for index in range(min(count, len(data))):
        image = data[index][0].numpy()
        margins = [max(0, side - length) for length in image.shape[1:]]
        around = [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins)]
        batch.append(v2.functional.center_crop(torch.from_numpy(np.pad(image, around, mode="reflect")), [side, side]))
    return v2.functional.normalize(torch.stack(batch).float() / 255, list(mean), list(std))


def object_sides(data: DetectionSet) -> npt.NDArray[np.float64]:
    """Root of the area of every object, in pixels of the images as they are fed to networks."""
    return np.sqrt([float(row["area"]) for row in data.ground_truth()["annotations"]])


def size_correlations(
    frame: pd.DataFrame, size: str, metrics: Sequence[str], rng: np.random.Generator
) -> dict[str, Interval]:
    """Kendall's tau of a field size with each metric over searched networks.

    Networks of one run (column `run`) share their data, so ranks are compared within runs only: of several runs the
    mean tau with its t interval, of one run the tau with a bootstrap interval over networks. A correlate, not a cause:
    networks with larger fields differ in more than their fields.
    """
    parts = [part for _, part in frame.groupby("run")] if "run" in frame else [frame]
    taus = {metric: [rank_correlation(part[size], part[metric], rng) for part in parts] for metric in metrics}
    found = {}
    for metric, row in taus.items():
        mean = row[0] if len(row) == 1 else mean_interval([tau.value for tau in row])
        found[metric] = Interval(mean.value, max(mean.low, -1.0), min(mean.high, 1.0), mean.n)
    return found


def searched_networks(run: str) -> tuple[pd.DataFrame, str]:
    """The networks that a finished CR-NAS run trained, with predicted sigma and AP by size, and where they come from.

    An empty `run` reads the stored table of several seeds (`report --csv`). ValueError when there is no such table.
    """
    if not run:
        frame, source = stored_results("crnas_networks", ["network"])
        return frame, f"stored experiment: {source}"
    advice = "crnas_run names the folder of a finished 40_crnas run, like runs/40_crnas/<run>"
    path = _file_of(run, "tables/architectures.json", advice)
    frame = pd.DataFrame(read_table(path.parent.parent, path.stem)["rows"])
    if missing := [name for name in ("network", "sigma", *SIZES) if name not in frame]:
        raise ValueError(f"{path} has no columns {', '.join(missing)}; run 40_crnas again with this version.")
    return frame, f"run {Path(run).name}"


def printed_area_sides() -> dict[str, dict[float, float]]:
    """A(t) by threshold of the four panels of NATS's figure 4, read off the pixels of the paper."""
    frame = paper_table("nats_fields").set_index("panel")
    columns = {name: float(name[2:-1]) for name in frame if name.startswith("A(")}
    return {panel: {t: float(row[name]) for name, t in columns.items()} for panel, row in frame.iterrows()}


def found_network(run: str) -> NetworkSpec:
    """The network that a finished run found, from the `arch.json` of its folder; ValueError when there is none."""
    path = _file_of(run, "arch.json", "name the folder of a finished run, like runs/20_nats/<run>")
    return read_json(path, spec_of)


def _file_of(run: str, name: str, advice: str) -> Path:
    path = Path(run).expanduser() / name
    path = path if path.is_file() else base_folder() / path
    if not path.is_file():
        raise ValueError(f"{run!r} holds no {name}; {advice}.")
    return path
