"""Object detection on any backbone: torchvision's RetinaNet, Faster, Mask and Cascade R-CNN, and SSDLite."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from workbench.data.augmentation import augment_detection
from workbench.data.images import IMAGE_MEAN, IMAGE_STD
from workbench.data.loader import DetectionSet
from workbench.records.files import LATER
from workbench.tasks.box_metrics import evaluate_boxes
from workbench.tasks.mask_metrics import encoded, evaluate_masks
from workbench.tasks.necks import Extra, PyramidBackbone, make_pointwise
from workbench.tasks.retina_head import BatchRetinaHead, BoxLoss
from workbench.tasks.roi_heads import BOX_WEIGHTS, AgnosticPredictor, DetectronProposals, StagedRoIHeads
from workbench.tasks.ssdlite import SSDLiteBackbone, default_boxes, ssdlite_head
from workbench.tasks.task import AnyBackbone, Images, Measured, Outputs, Sample, Targets, Task
from workbench.tasks.voc_metrics import voc_metrics


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
    pyramid_cells: int = 0  # blocks of NAS-FPN in the pyramid's place (7 at 384 channels are published); 0: none
    anchor_scale: float = 4.0  # anchor side = scale x stride of its level (8 for Faster R-CNN: 32 at stride 4)
    anchor_octaves: int = 3
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    match_iou: tuple[float, float] = (0.5, 0.4)  # RetinaNet: foreground from the first on, background below the second
    head_convs: int = 4  # of RetinaNet's towers, of each box head
    head_linears: int = 1  # of each box head, behind its convolutions; 2 without any is the usual 2fc
    head_regions: int = 512  # of an image that train a box head, a quarter of them objects
    head_norm: bool = False
    # 1x1 in place of 3x3 in RetinaNet's towers and in the pyramid: only the backbone compares one place with another.
    # The group norm of `head_norm` still averages over the whole map, so every place knows what the image has of a cue.
    pointwise: bool = field(default=False, metadata=LATER)
    box_loss: BoxLoss = "l1"  # of RetinaNet, as are its weight and what the targets are scaled by
    box_loss_weight: float = 1.0
    box_scale: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    box_beta: float = 1 / 9  # where smooth L1 of boxes turns straight
    # The overlap from which a region is an object; there is a box head for each, and several are a cascade.
    box_iou: tuple[float, ...] = (0.5,)
    masks: bool = False  # Mask R-CNN; targets then have masks
    detectron_proposals: bool = False  # see `DetectronProposals`
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
    if config.kind != "faster_rcnn" and (config.masks or len(config.box_iou) > 1):
        raise ValueError(f"Masks and cascades of box heads stand on faster_rcnn; got the detector {config.kind}.")
    if config.kind == "ssdlite":
        if size is None or size[0] != size[1]:
            raise ValueError(f"SSDLite takes square images, such as image_size (320, 320); got {size}.")
        maps = SSDLiteBackbone(backbone)
        head = ssdlite_head(maps.out_channels, classes + 1)
        matching = {"iou_thresh": foreground, "topk_candidates": config.candidates}
        return SSD(maps, default_boxes(size[0]), size, classes + 1, mean, std, head, **limits, **matching)
    width, levels = config.pyramid_channels, config.pyramid_levels
    pyramid = PyramidBackbone(
        backbone,
        channels=width,
        levels=levels,
        extra=config.pyramid_extra,
        norm=config.pyramid_norm,
        cells=config.pyramid_cells,
    )
    octaves = [2 ** (step / config.anchor_octaves) for step in range(config.anchor_octaves)]
    sizes = tuple(tuple(config.anchor_scale * stride * octave for octave in octaves) for stride in pyramid.strides)
    anchors = AnchorGenerator(sizes, (config.anchor_ratios,) * len(sizes))
    detector: FasterRCNN | RetinaNet
    if config.kind == "retinanet":
        towers = BatchRetinaHead(
            width,
            anchors.num_anchors_per_location()[0],
            classes,
            convs=config.head_convs,
            norm=config.head_norm,
            box_loss=config.box_loss,
            box_loss_weight=config.box_loss_weight,
            box_beta=config.box_beta,
        )
        detector = LabelledRetinaNet(
            pyramid,
            classes,
            anchor_generator=anchors,
            head=towers,
            fg_iou_thresh=foreground,
            bg_iou_thresh=background,
            topk_candidates=config.candidates,
            **limits,
        )
        detector.box_coder = towers.regression_head.box_coder = BoxCoder(config.box_scale)
        if config.pointwise:
            make_pointwise(pyramid.fpn)
            make_pointwise(towers)
    else:
        detector = _region_detector(pyramid, classes, config, anchors, limits)
    transform = KeepSize if size is None else GeneralizedRCNNTransform
    detector.transform = transform(*(size or (1, 1)), mean, std, size_divisible=config.stride_padding)
    return detector


def _region_detector(
    pyramid: PyramidBackbone, classes: int, config: DetectorConfig, anchors: AnchorGenerator, limits: dict[str, Any]
) -> FasterRCNN:
    """Faster R-CNN, with DetNAS's box head 4conv1fc unless the configuration says otherwise; a cascade; masks."""
    width = config.pyramid_channels
    levels = [str(level) for level in range(config.pyramid_levels)]
    predictor = FastRCNNPredictor if len(config.box_iou) == 1 else AgnosticPredictor

    def box_head() -> tuple[nn.Module, nn.Module]:
        convs, linears = [width] * config.head_convs, [4 * width] * config.head_linears
        head = FastRCNNConvFCHead((width, 7, 7), convs, linears, norm_layer=nn.BatchNorm2d)
        return head, predictor(4 * width, classes + 1)

    pool, first = MultiScaleRoIAlign(levels, 7, sampling_ratio=2), box_head()
    detector = FasterRCNN(
        pyramid,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=first[0],
        box_predictor=first[1],
        rpn_pre_nms_top_n_test=config.candidates,
        rpn_post_nms_top_n_test=config.candidates,
    )
    if config.detectron_proposals:
        rpn = detector.rpn
        counts = (rpn._pre_nms_top_n, rpn._post_nms_top_n)
        detector.rpn = DetectronProposals(anchors, rpn.head, 0.7, 0.3, 256, 0.5, *counts, rpn.nms_thresh)
    stages = [
        (
            pool,
            *(box_head() if number else first),
            iou,
            iou,
            config.head_regions,
            0.25,
            tuple((number + 1) * w for w in BOX_WEIGHTS),
        )
        for number, iou in enumerate(config.box_iou)
    ]
    masks: dict[str, Any] = {}
    if config.masks:
        masks = {
            "mask_roi_pool": MultiScaleRoIAlign(levels, 14, sampling_ratio=2),
            "mask_head": MaskRCNNHeads(width, [width] * 4, 1),
            "mask_predictor": MaskRCNNPredictor(width, width, classes + 1),
        }
    later = [RoIHeads(*stage, **limits) for stage in stages[1:]]
    detector.roi_heads = StagedRoIHeads(*stages[0], **limits, **masks, later=later, beta=config.box_beta)
    return detector


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """The task of finding `categories` with boxes; its metric is COCO's AP over IoU 0.50:0.95."""

    config: DetectorConfig = field(default_factory=DetectorConfig)
    metric: str = "AP"

    def build(self, backbone: AnyBackbone) -> nn.Module:
        return build_detector(backbone, len(self.categories), self.config)

    def prepare(self, image: Tensor, target: dict[str, Any], augment: v2.Transform | None) -> Sample:
        """Targets are {"boxes", "labels"}, and with masks {"masks"}; crowds are not trained on."""
        if self.config.masks and "masks" not in target:
            raise ValueError("Mask R-CNN learns from masks, but these data have none; load them with masks=True.")
        return augment_detection(image, target, augment, masks=self.config.masks)

    def run_layers(self, model: nn.Module, images: Images) -> None:
        """Leaves out the slow search for boxes where it can."""
        if isinstance(model, RetinaNet | SSD):
            batch, _ = model.transform(images)
            model.head(list(model.backbone(batch.tensors).values()))
        else:
            model(images)

    def summarise(self, data: DetectionSet, outputs: Outputs, rng: np.random.Generator, quick: bool) -> Measured:
        """COCO box metrics, on the ladder also by distance, AP_error by resampling images, and the detections.

        They are on the CPU: image_id, boxes (M, 4) xyxy in pixels, scores (M,), labels (M,) in 1..K, and with masks
        their run lengths, of which there are metrics, too. Where AP50 is the main metric there are VOC's own.
        """
        found: list[dict[str, Any]] = []
        masks: list[dict[str, Any]] = []
        for index, target, output in outputs:
            row: dict[str, Any] = {name: value.cpu() for name, value in output.items() if name != "masks"}
            if self.config.masks:
                row["masks"] = encoded(output["masks"][:, 0])
                masks += encoded(target["masks"])
            found.append({"image_id": data.ids[index], **row})
        truth, resamples = data.ground_truth(), self.resamples(quick)
        metrics = evaluate_boxes(truth, found, grouped=not quick, rng=rng, resamples=resamples)
        if self.metric == "AP50":
            metrics |= voc_metrics(truth, found, rng, resamples)
        if self.config.masks:
            metrics |= evaluate_masks(truth, masks, found)
        return metrics, found
