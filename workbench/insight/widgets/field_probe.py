"""Field probe: click a unit on an image and see what moves it, in two networks side by side, next to predictions."""

import base64
import io
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Widget
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.transforms.v2.functional import normalize

from workbench.data.images import IMAGE_MEAN, IMAGE_STD, image_flaw, read_image, served_size, to_tensor
from workbench.insight.measured_field import ChannelRule, Mode, constant_copy, measure_field
from workbench.insight.receptive_field import SHARE, Map, box_share, moment_sigma, narrowed, predicted_sigma
from workbench.insight.style import without_frame
from workbench.insight.widgets.frame import State
from workbench.insight.widgets.touch import explorable
from workbench.networks.backbone import Backbone
from workbench.records.files import compiled, fields
from workbench.records.progress import headless
from workbench.spaces.branches import Conv, branches, searched_place, with_dilation
from workbench.spaces.network_spec import BlockSpec, NetworkSpec
from workbench.spaces.residual import DILATABLE

SIDE = 256  # pixels of the long side of an image of the reader's own
CELL = 4  # pixels of a side that are averaged into one number of a drawn field
CHOICES = {"kernel": (0, 3, 5, 7), "dilation": (0, 1, 2, 3), "stride": (0, 1, 2, 4)}  # 0: as it was built


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A network to probe: its layers, how its fields are measured, and the colours that it was trained with."""

    spec: NetworkSpec
    module: nn.Module
    mode: Mode = "trained"
    channel_rule: ChannelRule = "probes"
    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD


def structural(spec: NetworkSpec) -> Probed:
    """A residual network with constant kernels: what structure alone makes of a field; it needs no weights."""
    module = constant_copy(Backbone(narrowed(spec)))  # once: mode "structure" would copy it for every unit
    return Probed(spec=spec, module=module, mode="linearised", channel_rule="sum_abs")


def widget(
    image: Tensor | Path, networks: Mapping[str, Probed], *, anchor: float = 4.0, grid: int = 5, probes: int = 2
) -> Axes | Widget:
    """The probe of an image, uint8 (3, H, W) or a file; its first two networks side by side, on their last maps.

    Anchors are squares of `anchor` times the stride of a map. `probes` is that of `measure_field`. Headless: the unit
    in the middle, and on the page that needs no kernel the fields of `grid` x `grid` units of every map.
    ValueError for a file that is no image.
    """
    given = opened(image) if isinstance(image, Path) else image

    @cache
    def image_of(path: str) -> Tensor:
        return opened(Path(path)) if path else given

    @cache
    def record(path: str, name: str, level: int, row: int, column: int) -> dict[str, Any]:
        found = networks[name]
        side = anchor * found.spec.strides[level]
        return {"of": f"{name}|{level}"} | field_record(found, image_of(path), level, (row, column), side, probes)

    def records(state: State) -> list[dict[str, Any]]:
        size = image_of(state["image"]).shape[1:]
        strides = [networks[pane["network"]].spec.strides[pane["level"]] for pane in state["panes"]]
        units = [nearest_unit(state["unit"], stride, size) for stride in strides]
        return [
            record(state["image"], p["network"], p["level"], *u) for p, u in zip(state["panes"], units, strict=True)
        ]

    def precomputed() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for name, network in networks.items():
            for level, stride in enumerate(network.spec.strides):
                sides = (_spread_out(-(-side // stride), grid) for side in given.shape[1:])
                stored = found[f"{name}|{level}"] = []
                for row, column in product(*sides):
                    with suppress(ValueError):  # a unit whose ReLUs are all dead has no field
                        stored.append(record("", name, level, row, column))
        return found

    def respond(state: State) -> dict[str, Any]:
        shown = image_of(state["image"])
        own = {"image": data_url(shown), "size": list(shown.shape[1:])} if state["image"] else {}
        return {"fields": records(state), **own}

    names = [*networks][:2] if len(networks) > 1 else [*networks] * 2
    state = {
        "image": "",
        "unit": [side // 2 for side in given.shape[1:]],
        "panes": [{"network": name, "level": len(networks[name].spec.taps) - 1} for name in names],
        "change": {**dict.fromkeys(CHOICES, 0), "shortcut": 1 - SHARE},
    }
    data: dict[str, Any] = {"image": data_url(given), "size": list(given.shape[1:]), "choices": CHOICES}
    data["networks"] = {name: network_data(network.spec, anchor) for name, network in networks.items()}
    data["fields"] = precomputed() if headless() else {}
    return explorable(
        "field_probe",
        data,
        state,
        label="Field probe",
        twin=lambda shown: plot_probe(given, networks, shown, records(shown), anchor),
        checked=lambda pasted: checked(networks, image_of, pasted),
        respond=respond,
        alone=True,
    )


def opened(path: Path) -> Tensor:
    """An image file as uint8 (3, H, W), its long side at most `SIDE`; ValueError for a file that is no image."""
    if flaw := image_flaw(path):
        raise ValueError(f"{path} {flaw}; give a PNG or JPEG file.")
    image = read_image(path)
    return to_tensor(image, served_size(image.size, SIDE))


def data_url(image: Tensor) -> str:
    """The image as JPEG that a page holds in itself."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def nearest_unit(place: Any, stride: int, size: Any) -> tuple[int, int]:
    """Row and column of the unit of a map nearest to a pixel (row, column) of an image of that (height, width)."""
    pairs = zip(place, size, strict=True)
    row, column = (min(int(pixel / stride + 0.5), -(-side // stride) - 1) for pixel, side in pairs)
    return row, column


def field_record(
    network: Probed, image: Tensor, level: int, unit: tuple[int, int], anchor: float, probes: int
) -> dict[str, Any]:
    """The field of a unit as JSON: its pixel, sigma and whether the image cuts it off, the share within the anchor.

    The map is the root of each cell's share of the peak, one byte for each.
    """
    images = normalize(image[None].float() / 255, list(network.image_mean), list(network.image_std))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the image cuts the field is said in the record
        field = measure_field(
            network.module, level=level, patch=(image.shape[1], image.shape[2]), images=images, mode=network.mode,
            channel_rule=network.channel_rule, unit=unit, probes=probes, rng=np.random.default_rng(0),
        )  # fmt: skip
    cells = (-(-field.patch[0] // CELL), -(-field.patch[1] // CELL))
    pooled = adaptive_avg_pool2d(field.map[None, None], cells)[0, 0]
    return {
        "unit": list(field.centre),
        "sigma": list(moment_sigma(field.map)),
        "cut": field.truncated,
        "inside": box_share(field.map, anchor, field.centre),
        "shape": list(cells),
        "map": quantised((pooled / pooled.max()).numpy()),
    }


def quantised(shares: Map) -> str:
    """Shares of the peak (0-1) as their roots in base64 bytes; `unquantised` undoes it to half a step."""
    return base64.b64encode(np.round(255 * np.sqrt(shares)).astype(np.uint8).tobytes()).decode()


def unquantised(text: str) -> Map:
    return np.square(np.frombuffer(base64.b64decode(text), np.uint8) / 255)


def _spread_out(count: int, wanted: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, wanted).tolist()})


def changed(spec: NetworkSpec, level: int, kernel: int = 0, dilation: int = 0, stride: int = 0) -> NetworkSpec:
    """`spec` with another kernel in all residual blocks, another dilation in those of the map's stage, another first
    stride; 0 leaves each as it is.
    """
    stage = spec.blocks[spec.taps[level]].stage
    blocks = list(spec.blocks)
    for index, block in enumerate(blocks):
        if block.kind in DILATABLE:
            block = replace(block, kernel=kernel or block.kernel)
            blocks[index] = with_dilation(block, dilation, dilation) if dilation and block.stage == stage else block
    blocks[0] = replace(blocks[0], stride=stride or blocks[0].stride)
    return replace(spec, blocks=tuple(blocks))


def network_data(spec: NetworkSpec, anchor: float) -> dict[str, Any]:
    """What the browser needs to predict sigma: of every block its stage, stride and chains of layers.

    A layer is [kernel, mean square dilation along height and width, stride, 1 for the convolution that is changed].
    """
    levels = [{"stride": stride, "anchor": anchor * stride} for stride in spec.strides]
    blocks = [{"stage": block.stage, "stride": block.stride, "chains": _chains(block)} for block in spec.blocks]
    return {"levels": levels, "taps": list(spec.taps), "blocks": blocks}


def _chains(block: BlockSpec) -> list[list[list[float]]]:
    place = searched_place(block) if block.kind in DILATABLE else -1
    found: list[list[list[float]]] = []
    for name, chain in branches(block).items():
        found.append([])
        for index, layer in enumerate(chain):
            squares = [1.0, 1.0]
            if isinstance(layer, Conv):
                squares = [sum(p[0] * p[axis] ** 2 for p in layer.parts) / layer.out_channels for axis in (1, 2)]
            found[-1].append([layer.kernel, *squares, layer.stride, int(name == "main" and index == place)])
    return found


def checked(networks: Mapping[str, Probed], image_of: Any, state: State) -> dict[str, Any]:
    """The state where image, unit, networks, maps and changes exist; ValueError says what does not."""
    pane = fields({"network": {"enum": [*networks]}, "level": {"type": "integer", "minimum": 0}})
    pairs = {"unit": {"type": "number", "minimum": 0}, "panes": pane}
    parts: dict[str, Any] = {n: {"type": "array", "items": i, "minItems": 2, "maxItems": 2} for n, i in pairs.items()}
    changes: dict[str, Any] = {name: {"enum": list(values)} for name, values in CHOICES.items()}
    changes["shortcut"] = {"type": "number", "minimum": 0, "maximum": 1}
    found: dict[str, Any] = compiled(fields({"image": "string", **parts, "change": fields(changes)}), "state")(state)
    for given in found["panes"]:
        if given["level"] >= (levels := len(networks[given["network"]].spec.taps)):
            raise ValueError(f"{given['network']} has the levels 0 to {levels - 1}; got {given['level']}.")
    sides = image_of(found["image"]).shape[1:]
    return found | {"unit": [min(pixel, side - 1) for pixel, side in zip(found["unit"], sides, strict=True)]}


def plot_probe(
    image: Tensor, networks: Mapping[str, Probed], state: State, records: list[dict[str, Any]], anchor: float
) -> Axes:
    """Each network's field over the image, its anchor (square) and two predicted sigma (circle) around the unit."""
    _, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    for ax, pane, record in zip(axes, state["panes"], records, strict=True):
        spec, level = networks[pane["network"]].spec, pane["level"]
        side, sigma = anchor * spec.strides[level], predicted_sigma(spec)[level][0]
        (row, column), height, width = record["unit"], *image.shape[1:]
        field = unquantised(record["map"]).reshape(record["shape"]) ** 0.5
        ax.set_facecolor("black")  # as in the browser the image is dark, so that field and lines stand out
        ax.imshow(image.permute(1, 2, 0).numpy(), alpha=0.6)
        ax.imshow(field, cmap="viridis", alpha=field, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        ax.add_patch(Rectangle((column - side / 2, row - side / 2), side, side, fill=False, edgecolor="white"))
        ax.add_patch(Circle((column, row), 2 * sigma, fill=False, edgecolor="white", linestyle="--"))
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        measured = f"sigma {record['sigma'][0]:.0f} px{' (cut by the image)' if record['cut'] else ''}"
        ax.set_title(
            f"{pane['network']}, stride {spec.strides[level]}\n{measured}, predicted {sigma:.0f} px", fontsize=9
        )
        without_frame(ax)
    return axes[0]
