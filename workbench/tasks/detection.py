"""Object detection: torchvision's RetinaNet and Faster R-CNN with a feature pyramid on any backbone, and SSDLite."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from workbench.data.augmentation import augment_detection
from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import DetectionSet
from workbench.tasks.box_metrics import evaluate_boxes
from workbench.tasks.necks import Extra, PyramidBackbone
from workbench.tasks.retina_head import BatchRetinaHead, BoxLoss
from workbench.tasks.ssdlite import SSDLiteBackbone, default_boxes, ssdlite_head
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What stands on the backbone.

    Defaults are RetinaNet as published; `image_size` None leaves images as they come. SSDLite squeezes images to the
    square of `image_size` (both numbers equal), and has no use for what is said of pyramids, anchors and towers.
    """

    kind: Literal["retinanet", "faster_rcnn", "ssdlite"] = "retinanet"
    image_size: tuple[int, int] | None = None  # short side, longest long side
    image_mean: tuple[float, ...] = IMAGE_MEAN
    image_std: tuple[float, ...] = IMAGE_STD
    pyramid_channels: int = 256
    pyramid_levels: int = 3  # how many of the backbone's last maps it reads
    pyramid_extra: Extra = "p6p7"
    pyramid_norm: bool = False
    anchor_scale: float = 4.0  # anchor side = scale x stride of its level (8 for Faster R-CNN: 32 at stride 4)
    anchor_octaves: int = 3
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    match_iou: tuple[float, float] = (0.5, 0.4)  # RetinaNet: foreground from the first on, background below the second
    head_convs: int = 4
    head_norm: bool = False
    box_loss: BoxLoss = "l1"
    box_loss_weight: float = 1.0
    score_threshold: float = 0.01  # low: average precision wants the tail
    nms_threshold: float = 0.5
    detections: int = 100
    candidates: int = 1000  # per level, before non-maximum suppression
    stride_padding: int = 32  # batches are padded to a multiple of this many pixels

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that enter the backbone for an image of that size: resized, then padded."""
        short, long = self.image_size or (min(height, width), max(height, width))
        if self.kind == "ssdlite":
            return self.image_size or (height, width)
        scale = min(short / min(height, width), long / max(height, width))
        step = self.stride_padding
        return tuple(-(-int(side * scale) // step) * step for side in (height, width))  # type: ignore[return-value]


class KeepSize(GeneralizedRCNNTransform):
    """torchvision's normalising and batching without resizing: images were brought to size when they were loaded."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class LabelledRetinaNet(RetinaNet):
    """RetinaNet whose K outputs are the labels 1..K. torchvision's own has one more, 0, that is never right."""

    def postprocess_detections(self, head_outputs: Any, anchors: Any, image_shapes: Any) -> Targets:
        found = super().postprocess_detections(head_outputs, anchors, image_shapes)
        return [{**row, "labels": row["labels"] + 1} for row in found]


def build_detector(backbone: AnyBackbone, classes: int, config: DetectorConfig) -> nn.Module:
    """A torchvision detector for labels 1..classes on `backbone`; its calling convention is torchvision's own."""
    limits: dict[str, Any] = {
        "score_thresh": config.score_threshold,
        "nms_thresh": config.nms_threshold,
        "detections_per_img": config.detections,
    }
    mean, std, size = list(config.image_mean), list(config.image_std), config.image_size
    foreground, background = config.match_iou
    if config.kind == "ssdlite":
        if size is None or size[0] != size[1]:
            raise ValueError(f"SSDLite takes square images, such as image_size (320, 320); got {size}.")
        maps = SSDLiteBackbone(backbone)
        head = ssdlite_head(maps.out_channels, classes + 1)
        matching = {"iou_thresh": foreground, "topk_candidates": config.candidates}
        return SSD(maps, default_boxes(size[0]), size, classes + 1, mean, std, head, **limits, **matching)
    width, levels = config.pyramid_channels, config.pyramid_levels
    pyramid = PyramidBackbone(
        backbone, channels=width, levels=levels, extra=config.pyramid_extra, norm=config.pyramid_norm
    )
    octaves = [2 ** (step / config.anchor_octaves) for step in range(config.anchor_octaves)]
    sizes = tuple(tuple(config.anchor_scale * stride * octave for octave in octaves) for stride in pyramid.strides)
    anchors = AnchorGenerator(sizes, (config.anchor_ratios,) * len(sizes))
    detector: FasterRCNN | RetinaNet
    if config.kind == "retinanet":
        detector = LabelledRetinaNet(
            pyramid,
            classes,
            anchor_generator=anchors,
            head=BatchRetinaHead(
                width,
                anchors.num_anchors_per_location()[0],
                classes,
                convs=config.head_convs,
                norm=config.head_norm,
                box_loss=config.box_loss,
                box_loss_weight=config.box_loss_weight,
            ),
            fg_iou_thresh=foreground,
            bg_iou_thresh=background,
            topk_candidates=config.candidates,
            **limits,
        )
    else:
        detector = FasterRCNN(
            pyramid,
            rpn_anchor_generator=anchors,
            # DetNAS's box head 4conv1fc: RoIAlign 7x7, four convolutions, one linear layer.
            box_roi_pool=MultiScaleRoIAlign([str(level) for level in range(levels)], 7, sampling_ratio=2),
            box_head=FastRCNNConvFCHead(
                (width, 7, 7), [width] * config.head_convs, [4 * width], norm_layer=nn.BatchNorm2d
            ),
            box_predictor=FastRCNNPredictor(4 * width, classes + 1),
            rpn_pre_nms_top_n_test=config.candidates,
            rpn_post_nms_top_n_test=config.candidates,
            **{f"box_{name}": limit for name, limit in limits.items()},
        )
    transform = KeepSize if size is None else GeneralizedRCNNTransform
    detector.transform = transform(*(size or (1, 1)), mean, std, size_divisible=config.stride_padding)
    return detector


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """The task of finding `categories` with boxes; its metric is COCO's AP over IoU 0.50:0.95."""

    config: DetectorConfig = field(default_factory=DetectorConfig)
    metric: str = "AP"

    def build(self, backbone: AnyBackbone) -> nn.Module:
        return build_detector(backbone, len(self.categories), self.config)

    def prepare(self, image: Tensor, target: dict[str, Any], augment: v2.Transform | None) -> Sample:
        """Targets are {"boxes", "labels"}; crowd boxes are not trained on."""
        return augment_detection(image, target, augment)

    def run_layers(self, model: nn.Module, images: Images) -> None:
        """Leaves out the slow search for boxes where it can."""
        if isinstance(model, RetinaNet | SSD):
            batch, _ = model.transform(images)
            model.head(list(model.backbone(batch.tensors).values()))
        else:
            model(images)

    def summarise(self, data: DetectionSet, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """COCO box metrics, on the ladder also by distance, AP_error by resampling images, and the detections.

        They are on the CPU: image_id, boxes (M, 4) xyxy in pixels, scores (M,), labels (M,) in 1..K.
        """
        found: list[dict[str, Any]] = []
        for index, _, output in outputs:
            found.append({"image_id": data.ids[index], **{name: value.cpu() for name, value in output.items()}})
        truth = data.ground_truth()
        return evaluate_boxes(truth, found, grouped=not quick, rng=rng, resamples=self.resamples(quick)), found
