"""A found detector on disk, and its use on images: `weights.safetensors` next to `arch.json` in the run folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from workbench.data.images import opened, read_image, to_tensor
from workbench.insight.plots import plot_detections
from workbench.methods.phases import fitting_weights
from workbench.networks.backbone import Backbone
from workbench.records.files import compiled, fields, fields_of, read_json, write_bytes, write_json
from workbench.records.run_folder import png_of
from workbench.spaces.arch import Arch
from workbench.spaces.network_spec import NetworkSpec
from workbench.tasks.detection import Detection, DetectorConfig

DETECTOR = compiled(
    fields(
        {
            # Bounds, so that nothing is built that no machine could hold.
            "spec": fields_of(NetworkSpec, 16_384, length=512, kernel=31, stride=8, expansion=64, stage=64),
            "detector": fields_of(DetectorConfig, 4096, length=64),
            "categories": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 16_384},
            "image_side": {"type": "integer", "minimum": 0, "maximum": 8192},
        },
        {"arch": {"type": ["object", "null"]}},
    ),
    "detector",
)
LARGEST = 2048  # pixels of the long side: larger images are shrunk while they are read, as they are shown smaller


def save_detector(
    folder: Path, model: nn.Module, task: Detection, spec: NetworkSpec, *, image_side: int, arch: Arch | None = None
) -> None:
    """Writes `arch.json` (architecture, specification, detector, classes, image side) and `weights.safetensors`."""
    write_bytes(folder / "weights.safetensors", save({k: v.contiguous().cpu() for k, v in model.state_dict().items()}))
    record = {
        "arch": arch.to_json() if arch else None,
        "spec": spec.to_json(),
        "detector": asdict(task.config),
        "categories": list(task.categories),
        "image_side": image_side,
    }
    write_json(folder / "arch.json", record)


def load_detector(folder: str | Path) -> tuple[nn.Module, Detection, int]:
    """The detector of a finished run in eval mode, its task, and the side its images had.

    ValueError when there is none.
    """
    folder = Path(folder)
    path = folder / "arch.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no detector (arch.json is missing); give the folder of a finished run.")
    spec, record = read_json(path, spec_of), read_json(path)
    task = Detection(categories=tuple(record["categories"]), config=_config(record["detector"]))
    try:
        with torch.device("meta"):  # without memory, until it is known to be what the weights are of
            sketch = task.build(Backbone(spec))
    except Exception as error:  # layers refuse what does not go together in many ways
        raise ValueError(f"{path} does not describe a detector ({error!r:.300}); run the notebook again.") from error
    tensors = fitting_weights(sketch, folder / "weights.safetensors")
    model = task.build(Backbone(spec))
    model.load_state_dict(tensors)
    model.to(memory_format=torch.channels_last)  # as it was trained
    return model.eval(), task, record["image_side"]


def spec_of(record: object) -> NetworkSpec:
    """The specification in the content of an `arch.json`; ValueError when it is anything else."""
    return NetworkSpec.from_json(DETECTOR(record)["spec"])


def predict_images(run: Path, images: Sequence[Path], out: Path, *, threshold: float = 0.3) -> list[dict[str, Any]]:
    """Draws the run's detections on each image and saves them as PNG below `out`; all images are read first.

    Returns a JSON record for each image: its path, that of the drawing, and the detections of at least `threshold`,
    each with its class, score and box (left, top, right, bottom) in pixels of the image. ValueError names an image that
    cannot be read, or that the detector cannot take.
    """
    model, task, image_side = load_detector(run)
    read = [read_image(path, largest=max(LARGEST, image_side)) for path in images]
    out.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    written: list[Path] = []
    for path, image in zip(images, read, strict=True):
        try:
            found = detect(model, image, image_side)
        except RuntimeError as error:
            size = f"{image.width}x{image.height}"
            raise ValueError(
                f"{path} cannot be examined at {size} pixels ({error!r:.300}); cut it to another shape."
            ) from error
        figure = Figure(figsize=(6, min(max(6 * image.height / image.width, 0.5), 12)), layout="constrained")
        plot_detections(to_tensor(image), found, task.categories, threshold=threshold, ax=figure.subplots())
        names = {other.name for other in written}
        stem = os.fsdecode(os.fsencode(path.stem)[:200])  # a name has at most 255 bytes
        numbered = (f"{stem}_detections{suffix}.png" for suffix in ("", *(f"_{n}" for n in range(2, 10_000))))
        written.append(out / next(name for name in numbered if name not in names))
        write_bytes(written[-1], png_of(figure))
        with opened(path) as stored:  # of the file, where the image was shrunk
            scale = max(stored.size) / max(image.size)
        rows = zip(found["labels"].tolist(), found["scores"].tolist(), (scale * found["boxes"]).tolist(), strict=True)
        boxes = [
            {"class": task.categories[label - 1], "score": round(score, 4), "box": [round(side, 1) for side in box]}
            for label, score, box in rows
            if score >= threshold
        ]
        told.append({"image": str(path), "drawing": str(written[-1]), "detections": boxes})
    return told


def detect(model: nn.Module, image: Image.Image, image_side: int) -> dict[str, Tensor]:
    """Detections on one image, boxes in its own pixels; the network sees it with its long side at `image_side`."""
    seen = image.copy()
    if image_side:
        factor = image_side / max(image.size)
        seen = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    with torch.inference_mode():
        found = model([to_tensor(seen).float() / 255])[0]
    scale = torch.tensor([image.width / seen.width, image.height / seen.height] * 2)
    return {**found, "boxes": found["boxes"] * scale}


def _config(plain: Mapping[str, Any]) -> DetectorConfig:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return DetectorConfig(**values)
