"""What the papers print of their networks, and what is counted here on the meta device; and where their plans deviate.

A printed number is met when the counted one is within 1 % of it or rounds to its digits; where it is not, a note says
why. MACs follow the project's rule (`spaces/costs.py`) unless the note says that a paper has another one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from workbench.lessons import transfer
from workbench.methods.crnas import presets as crnas
from workbench.methods.detnas import presets as detnas
from workbench.methods.fna import paper as fna
from workbench.methods.nats import presets as nats
from workbench.networks.backbone import Backbone
from workbench.networks.count import count_backbone
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import channel_dilation_name, equal_split
from workbench.spaces.costs import Cost, ImageSize, backbone_cost, classifier_cost
from workbench.spaces.layers import ssd_form, with_output_stride
from workbench.spaces.mbconv import fna_spec
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.published import CRNAS, DETNAS, channel_dilation_stand_in
from workbench.spaces.residual import residual_spec
from workbench.tasks.costs import model_costs
from workbench.tasks.detection import DetectorConfig, build_detector
from workbench.tasks.segmentation import DeepLabV3, SegmenterConfig

LARGE = (800, 1088)  # height and width at which the papers count their detectors
_UNITS = {"M": 1e6, "G": 1e9, "B": 1e9}


class Row(NamedTuple):
    """A network: what of it is counted, at which image size, what is printed (empty: nothing) and what was counted."""

    network: str
    counted: str
    image_size: ImageSize
    printed_macs: str
    printed_params: str
    cost: Cost
    source: str
    note: str = ""

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Printed and counted, of MACs and of params."""
        return [(self.printed_macs, self.cost.macs), (self.printed_params, self.cost.params)]


def difference(printed: str, counted: int) -> float:
    """The counted number as a share of the printed one, less 1."""
    return counted / _value(printed)[0] - 1


def is_met(printed: str, counted: int) -> bool:
    """Whether the counted number is within 1 % of the printed one, or rounds to it."""
    value, half = _value(printed)
    return abs(counted - value) <= max(0.01 * value, half)


def _value(printed: str) -> tuple[float, float]:
    """The number, and half a unit of its last digit."""
    match = re.fullmatch(r"\d+(?:\.(\d+))?([MGB])", printed)
    if match is None:
        raise ValueError(f"Expected a printed number such as 192.5G, got {printed!r}; correct it.")
    unit = _UNITS[match[2]]
    return float(printed[:-1]) * unit, unit / 2 / 10 ** len(match[1] or "")


def rows() -> Iterator[Row]:
    """All of them, paper by paper, in about ten seconds."""
    yield from _detnas()
    yield from _fna()
    yield from _crnas()
    yield from _dilated_by_channel()


def _detnas() -> Iterator[Row]:
    limited = ", ".join(
        f"{backbone_cost(net.spec, 224).macs / 1e6:.1f}M" for net in DETNAS if net.printed_macs == "300M"
    )
    notes = {
        "DetNASNet (3.8)": "3.8G is neither the backbone (3.94G) nor the whole. The printed params fit a last"
        " convolution of 1024 channels, which is counted here; that of the released weights has 1728 (31.4M).",
        "SPOS (ImageNet)": "3.5M without scale and shift of batch norm.",
    }
    for net in DETNAS:
        backbone, head = backbone_cost(net.spec, 224), classifier_cost(net.spec, 224)
        if net.printed_macs == "300M":
            notes[net.name] = f"300M is the search's limit on the backbone alone, which has {limited}; not so for VOC."
        cost = Cost(backbone.macs + head.macs, backbone.params + head.params)
        printed = (net.printed_macs, net.printed_params)
        yield Row(net.name, "ImageNet network", 224, *printed, cost, net.source, notes.get(net.name, ""))
    whole = _detector(DETNAS[0].spec, detnas.paper_plan(space="shuffle-40").head, (800, 1200))
    note = "Quoted with 1,000 proposals; what else that paper counts it does not say."
    yield Row("DetNASNet", "Faster R-CNN, 4conv1fc", (800, 1200), "254.1G", "28.45M", whole, "Hit-Detector", note)


def _fna() -> Iterator[Row]:
    bias = "Counted by FNA's rule: biases are multiply-accumulates, too."
    retina, ssd = fna.paper_plan().head, fna.paper_plan(ssdlite=True).head
    source = "FNA's README"
    for name, macs, params in (("MobileNetV2", "133.05B", "11.49M"), ("FNA RetinaNet", "133.03B", "11.73M")):
        cost = _detector(fna_spec(name), retina, LARGE, bias=True)
        yield Row(name, "RetinaNet", LARGE, macs, params, cost, source, bias)
    for name, macs, params in (("MobileNetV2", "0.8B", "4.3M"), ("FNA SSDLite", "0.9B", "4.6M")):
        cost = _detector(ssd_form(fna_spec(name, last=1280)), ssd, 320, bias=True)
        yield Row(name, "SSDLite", 320, macs, params, cost, source, bias)
    for name, macs, params in (("MobileNetV2", "24.52B", "2.57M"), ("FNA DeepLabv3", "24.17B", "2.47M")):
        with torch.device("meta"):
            model = DeepLabV3(Backbone(with_output_stride(fna_spec(name), 16)), 19, SegmenterConfig())
            cost = _sum(model_costs(model, (1024, 2048), bias=True))
        yield Row(name, "DeepLabv3, output stride 16", (1024, 2048), macs, params, cost, source, bias)
    small = space_named("shuffle-20")
    quoted = {
        "ShuffleNetV2-20": (small.spec(small.uniform(0)), "132.76B", "13.19M"),
        "COCO-RetinaNet-300M": (DETNAS[3].spec, "133.26B", "13.41M"),
    }
    for name, (spec, macs, params) in quoted.items():
        note = f"{bias} The printed params are not those of the released architectures with this pyramid and head; FNA"
        note += " probably quotes other ones of an early version of DetNAS."
        yield Row(name, "RetinaNet", LARGE, macs, params, _detector(spec, retina, LARGE, bias=True), source, note)


def _crnas() -> Iterator[Row]:
    """Each backbone as published and as found, in Faster R-CNN and where the paper has it in Mask R-CNN."""
    published: Any = crnas.paper_plan().head
    head = replace(published, masks=True)
    masked = {
        "MobileNetV2": "189.5G", "CR-MobileNetV2": "189.8G", "R50": "261.2G", "CR-R50": "261.0G",
        "R101": "325.9G", "CR-R101": "325.8G",
    }  # fmt: skip
    note = "The paper does not describe the box head; its FLOPs fit two linear layers on 2,000 proposals."
    sign = f"{note} In convolutions found and published cost the same, whatever the signs of the printed differences."
    for net in CRNAS:
        base = residual_spec(net.backbone)
        name = net.name.removeprefix("SCR-").removeprefix("CR-")
        source = "CR-NAS, table 1" if net.dilations else "CR-NAS, figure 5"
        for label, spec, printed in ((name, base, net.baseline_macs), (net.name, net.spec, net.printed_macs)):
            parts = _parts(spec, head, LARGE)
            masks = parts.pop("masks")
            whole = _sum(parts)
            told = sign if net.printed_macs != net.baseline_macs else note
            yield Row(label, "Faster R-CNN", LARGE, f"{printed}G", "", whole, source, told)
            if label in masked:
                both = Cost(whole.macs + masks.macs, whole.params + masks.params)
                yield Row(label, "Mask R-CNN", LARGE, masked[label], "", both, "CR-NAS, table 3", _TRANSPOSED)


# Of 100 detections, a kernel of 2 x 2 at stride 2: it meets each of the 28 x 28 output pixels once, not four times.
MISCOUNTED = 3 * 100 * (28 * 28 * 256 * 256)
_TRANSPOSED = (
    "The paper's counter seems to take the transposed convolution of the mask head for one at its output size; with"
    f" these {MISCOUNTED / 1e9:.1f}G more all six are within 0.5 %."
)


def _dilated_by_channel() -> Iterator[Row]:
    """NATS and two relatives, of which no cost is printed: dilations by channel are free."""
    space = space_named(channel_dilation_name("resnet50", "n16", "C"))
    networks = {
        "R50": ("NATS", residual_spec("resnet50")),
        "R50, 16 groups, dilations split equally": ("NATS, section 3.4", space.spec(equal_split(space))),
        "R101": ("NATS", residual_spec("resnet101")),
        "X101-32x4d": ("NATS", residual_spec("resnext101")),
        "R50, dilated as IC-Conv": ("IC-Conv", channel_dilation_stand_in("resnet50")),
    }
    note = "Nothing is printed: parts of a convolution cost what it costs, so all rows of a backbone are equal."
    for name, (source, spec) in networks.items():
        cost = count_backbone(lambda spec=spec: Backbone(spec), LARGE)  # type: ignore[misc]
        yield Row(name, "backbone", LARGE, "", "", cost, source, note)

    def searched() -> Supernet:
        supernet = Supernet(space_named("dilation-resnet50"), "shared")
        supernet.mix()
        return supernet

    cost = count_backbone(searched, LARGE)
    note = "In the search every 3x3 convolution runs at three dilations with one kernel; afterwards it costs one."
    yield Row("R50 as RF-Next searches it", "backbone", LARGE, "", "", cost, "RF-Next", note)


def _detector(spec: NetworkSpec, head: Any, size: ImageSize, *, bias: bool = False) -> Cost:
    return _sum(_parts(spec, head, size, bias=bias))


def _parts(spec: NetworkSpec, head: DetectorConfig, size: ImageSize, *, bias: bool = False) -> dict[str, Cost]:
    """Of a detector for the 80 classes of COCO."""
    with torch.device("meta"):
        return model_costs(build_detector(Backbone(spec), 80, head), size, bias=bias)


def _sum(parts: Mapping[str, Cost]) -> Cost:
    return Cost(sum(part.macs for part in parts.values()), sum(part.params for part in parts.values()))


def deviations() -> dict[str, tuple[str, ...]]:
    """By the names of the plans that share them."""
    presets: dict[str, Any] = {"DetNAS": detnas.PRESETS, "NATS": nats.PRESETS, "CR-NAS": crnas.PRESETS}
    plans: dict[str, Any] = {f"{of}: {name}": plan for of, named in presets.items() for name, plan in named.items()}
    plans |= {"65 Transfer: paper": transfer.PRESETS["paper"]}
    plans |= {f"FNA: {name} ({task})": plan for name, tasks in fna.PRESETS.items() for task, plan in tasks.items()}
    lists: dict[tuple[str, ...], list[str]] = {}
    for name, plan in plans.items():
        if ": paper" in name:
            lists.setdefault(plan.deviations, []).append(name)
    return {", ".join(names): listed for listed, names in lists.items()}


def as_json() -> dict[str, Any]:
    """Everything that `as_markdown` shows."""
    return {"rows": [row._asdict() | {"cost": row.cost._asdict()} for row in rows()], "deviations": deviations()}


def as_markdown() -> str:
    """A table with its notes, how many printed numbers are met, and the deviations of the plans."""
    found = list(rows())
    notes = list(dict.fromkeys(row.note for row in found if row.note))
    lines = [
        "<!-- Written by `python -m workbench published`; run it again instead of editing. -->",
        "",
        "# Costs that the papers print, counted",
        "",
        "| network | counted | pixels | printed MACs | counted MACs | difference | printed params | counted params"
        " | difference | source | note |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in found:
        size = row.image_size if isinstance(row.image_size, int) else "x".join(map(str, row.image_size))
        cells = [row.network, row.counted, size]
        for printed, number in row.pairs:
            cells += [printed, _shown(printed, number), f"{difference(printed, number):+.1%}" if printed else ""]
        note = f"[{notes.index(row.note) + 1}]" if row.note else ""
        lines.append(f"| {' | '.join(map(str, [*cells, row.source, note]))} |")
    pairs = [pair for row in found for pair in row.pairs if pair[0]]
    met = (
        f"{len(found)} rows; {sum(is_met(*pair) for pair in pairs)} of {len(pairs)} printed numbers are met (to 1 % or"
    )
    met += " to their last digit), the notes say why the others are not."
    listed = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    lines += ["", met, "", *listed, "", "# Where the plans of the papers deviate from them"]
    for names, sentences in deviations().items():
        lines += ["", f"## {names}", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _shown(printed: str, number: int) -> str:
    """In the unit that is printed, else in millions or billions; to a digit more than printed."""
    unit = printed[-1] if printed else "G" if number >= 1e9 else "M"
    digits = len(printed.partition(".")[2]) if printed else 2
    return f"{number / _UNITS[unit]:.{max(1, digits)}f}{unit}"
