"""A found detector's backbone and neck for programs without this package: as `torch.export` and as ONNX.

Both files take images as the backbone does, (N, 3, H, W) in RGB, normalised with the mean and the deviation that
`arch.json` names, and return the maps of the neck from high to low resolution. N is free; so are H and W, in multiples
of the detector's `stride_padding` (SSDLite: its one size).
"""

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from workbench.methods.detector_file import load_detector
from workbench.records.files import write_bytes
from workbench.tasks.detection import DetectorConfig

TOLERANCE = 1e-4  # largest difference of a map from the network's own, as a share of the map's largest value
EXTRA = ("onnx", "onnxscript", "onnxruntime")  # the packages that ONNX needs

Maps = Callable[[Tensor], Sequence[Tensor]]


class Exported(NamedTuple):
    """A network in one form: how it is called here, its file, and how far its maps are from the network's own."""

    form: str
    maps: Maps | None = None  # None: not written, see `note`
    path: Path | None = None
    difference: float = 0.0  # see `TOLERANCE`
    note: str = ""


def export_detector(folder: Path) -> list[Exported]:
    """The detector saved in `folder` itself, and its backbone and neck as `backbone_neck.pt2` and `backbone_neck.onnx`.

    Each file is compared with the network on images of another number and size than those that were traced. Without the
    extra `export` there is no ONNX, and the row says why. ValueError where there is no detector; RuntimeError, and no
    file, where a map differs by more than `TOLERANCE`.
    """
    model, task, _ = load_detector(folder)
    network = model.get_submodule("backbone").to(memory_format=torch.contiguous_format)

    def own(images: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            return list(network(images).values())

    traced, tried, free = _images(task.config)
    program = torch.export.export(network, (traced,), dynamic_shapes=(free,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    forms = [Exported("PyTorch", own, folder / "weights.safetensors")]
    forms.append(_kept("torch.export", folder / "backbone_neck.pt2", buffer.getvalue(), _exported_maps, own, tried))
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        note = f"{', '.join(missing)} not installed: pip install -e '.[export]' brings them"
        return [*forms, Exported("ONNX", note=note)]
    return [
        *forms,
        _kept("ONNX", folder / "backbone_neck.onnx", _onnx(program, len(own(traced))), _onnx_maps, own, tried),
    ]


def _images(config: DetectorConfig) -> tuple[Tensor, Tensor, dict[int, Any]]:
    """Images to trace, others to try, and the sides of a batch that may change."""
    generator, step = torch.Generator().manual_seed(0), config.stride_padding
    sizes, free = ((2, 8 * step, 10 * step), (1, 4 * step, 3 * step)), {0: Dim("images")}
    if config.kind == "ssdlite" and config.image_size is not None:
        sizes = tuple((number, *config.image_size) for number, *_ in sizes)  # type: ignore[assignment]
    else:
        free |= {2: step * Dim("rows"), 3: step * Dim("columns")}
    traced, tried = (torch.randn(number, 3, *sides, generator=generator) for number, *sides in sizes)
    return traced, tried, free


def _kept(form: str, path: Path, data: bytes, read: Callable[[bytes], Maps], own: Maps, tried: Tensor) -> Exported:
    maps = read(data)
    pairs = zip(own(tried), maps(tried), strict=True)
    difference = float(torch.stack([(theirs - ours).abs().max() / ours.abs().max() for ours, theirs in pairs]).max())
    if not difference <= TOLERANCE:  # nor may it be nan
        raise RuntimeError(f"{form} gives other maps than the network: they differ by {difference:.1g} of their size.")
    write_bytes(path, data)
    return Exported(form, maps, path, difference)


def _exported_maps(data: bytes) -> Maps:
    program = torch.export.load(io.BytesIO(data)).module()

    def maps(images: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            return list(program(images).values())

    return maps


def _onnx(program: ExportedProgram, count: int) -> bytes:
    names = [f"map{number}" for number in range(count)]
    written = torch.onnx.export(program, (), input_names=["images"], output_names=names, verbose=False)
    data: bytes = written.model_proto.SerializeToString()  # type: ignore[union-attr]
    return data


def _onnx_maps(data: bytes) -> Maps:
    import onnxruntime  # an extra: nothing else needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(found) for found in session.run(None, {"images": images.numpy()})]
