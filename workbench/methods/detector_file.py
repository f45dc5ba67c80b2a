"""A found detector on disk, and its use on images: `weights.safetensors` next to `arch.json` in the run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from workbench.data.images import read_image, to_tensor
from workbench.insight.plots import plot_detections
from workbench.methods.phases import load_weights
from workbench.networks.backbone import Backbone
from workbench.records.files import read_json, write_bytes, write_json
from workbench.spaces.arch import Arch
from workbench.spaces.network_spec import NetworkSpec
from workbench.tasks.detection import Detection, DetectorConfig


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
    if not (folder / "arch.json").is_file():
        raise ValueError(f"{folder} holds no detector (arch.json is missing); give the folder of a finished run.")
    record = read_json(folder / "arch.json")
    try:
        task = Detection(categories=tuple(record["categories"]), config=_config(record["detector"]))
        model = task.build(Backbone(NetworkSpec.from_json(record["spec"])))
        image_side = int(record["image_side"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'arch.json'} does not describe a detector ({error!r}).") from error
    load_weights(model, folder / "weights.safetensors")
    model.to(memory_format=torch.channels_last)  # as it was trained
    return model.eval(), task, image_side


def predict_images(run: Path, images: Sequence[Path], out: Path, *, threshold: float = 0.3) -> list[dict[str, Any]]:
    """Draws the run's detections on each image and saves them as PNG below `out`; all images are read first.

    Returns a JSON record for each image: its path, that of the drawing, and the detections of at least `threshold`,
    each with its class, score and box (left, top, right, bottom) in pixels of the image.
    """
    model, task, image_side = load_detector(run)
    opened = [open_image(path) for path in images]
    out.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = []
    written: list[Path] = []
    for path, image in zip(images, opened, strict=True):
        found = detect(model, image, image_side)
        figure = Figure(figsize=(6, 6 * image.height / image.width), layout="constrained")
        plot_detections(to_tensor(image), found, task.categories, threshold=threshold, ax=figure.subplots())
        names = {other.name for other in written}
        numbered = (f"{path.stem}_detections{suffix}.png" for suffix in ("", *(f"_{n}" for n in range(2, 10_000))))
        written.append(out / next(name for name in numbered if name not in names))
        figure.savefig(written[-1], dpi=150)
        rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
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
        seen = image.resize((round(image.width * factor), round(image.height * factor)))
    with torch.inference_mode():
        found = model([to_tensor(seen).float() / 255])[0]
    scale = torch.tensor([image.width / seen.width, image.height / seen.height] * 2)
    return {**found, "boxes": found["boxes"] * scale}


def open_image(path: Path) -> Image.Image:
    """The image as upright RGB; ValueError when it is none."""
    try:
        return read_image(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); give PNG or JPEG files.") from error


def _config(plain: Mapping[str, Any]) -> DetectorConfig:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return DetectorConfig(**values)
