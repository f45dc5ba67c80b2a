"""What two-stage detectors do with regions: one box head or a cascade of them, masks, and Detectron's proposals."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import clip_boxes_to_image

from workbench.tasks.task import Targets

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the targets dx, dy, dw, dh; the n-th box head's are n times as large


class AgnosticPredictor(nn.Module):
    """Class logits (R, K) and one box for all classes, (R, 4 K), as a cascade's heads give them."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.cls_score(regions)
        return logits, self.bbox_pred(regions).repeat(1, logits.shape[1])


class StagedRoIHeads(RoIHeads):
    """torchvision's `RoIHeads` with the same names, and with these differences.

    Behind its own box head come `later` ones, each on the boxes of the one before and trained with a higher IoU; their
    losses weigh a half, a quarter and so on, and the class probabilities of all are averaged (Cascade R-CNN, Cai and
    Vasconcelos 2018, section 4). The mask head reads the first head's regions in training and the last boxes in
    evaluation. Smooth L1 of the boxes turns straight at `beta`.
    """

    def __init__(self, *arguments: Any, later: Sequence[RoIHeads] = (), beta: float = 1 / 9, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.later = nn.ModuleList(later)
        self.beta = beta

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each image (none in training) and losses (none in evaluation), as torchvision's."""
        losses: dict[str, Tensor] = {}
        likely: list[Tensor] = []
        first: tuple[list[Tensor], ...] = ()
        stages: list[Any] = [self, *self.later]
        for number, stage in enumerate(stages):
            if self.training:
                proposals, matched, labels, wanted = stage.select_training_samples(proposals, targets)
                first = first or (proposals, matched, labels)
            regions = self.box_roi_pool(features, proposals, image_shapes)
            logits, deltas = stage.box_predictor(stage.box_head(regions))
            if self.training:
                named = self.box_losses(logits, deltas, torch.cat(labels), torch.cat(wanted))
                tail = f"_{number + 1}" if number else ""
                losses |= {name + tail: loss * 0.5**number for name, loss in named.items()}
            likely.append(logits.softmax(-1))
            if number + 1 < len(stages):
                boxes = stage.box_coder.decode(deltas.detach(), proposals)[:, 0].split([len(p) for p in proposals])
                proposals = [clip_boxes_to_image(b, shape) for b, shape in zip(boxes, image_shapes, strict=True)]
        if self.training:
            if self.has_mask() and targets is not None:
                losses["loss_mask"] = self._mask_loss(features, image_shapes, targets, *first)
            return [], losses
        # Another softmax gives the mean of the probabilities back, because it sums to one.
        mean = logits if len(likely) == 1 else torch.stack(likely).mean(dim=0).log()
        rows = zip(*stages[-1].postprocess_detections(mean, deltas, proposals, image_shapes), strict=True)
        found = [dict(zip(("boxes", "scores", "labels"), row, strict=True)) for row in rows]
        if self.has_mask():
            masks = self._mask_logits(features, [row["boxes"] for row in found], image_shapes)
            for row, mask in zip(found, maskrcnn_inference(masks, [row["labels"] for row in found]), strict=True):
                row["masks"] = mask
        return found, losses

    def box_losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Of R regions: logits (R, K), deltas (R, 4 K), labels (R,) with 0 for background, wanted deltas (R, 4)."""
        objects = torch.where(labels > 0)[0]
        own = deltas.reshape(len(labels), -1, 4)[objects, labels[objects]]
        distance = F.smooth_l1_loss(own, wanted[objects], beta=self.beta, reduction="sum")
        return {"loss_classifier": F.cross_entropy(logits, labels), "loss_box_reg": distance / labels.numel()}

    def _mask_logits(self, features: dict[str, Tensor], regions: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        maps: Tensor = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, regions, shapes)))
        return maps

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        shapes: list[tuple[int, int]],
        targets: Targets,
        proposals: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
    ) -> Tensor:
        regions, objects = (
            [rows[row > 0] for rows, row in zip(part, labels, strict=True)] for part in (proposals, matched)
        )
        masks, classes = ([target[name] for target in targets] for name in ("masks", "labels"))
        loss: Tensor = maskrcnn_loss(self._mask_logits(features, regions, shapes), regions, masks, classes, objects)
        return loss


class DetectronProposals(RegionProposalNetwork):
    """torchvision's proposal network, trained as Detectron trains it, on which DetNAS's code is built.

    Anchors that cross the border of their image are not trained, and of a batch only as many proposals go on as
    torchvision keeps of every image.
    """

    def forward(self, images: Any, features: Any, targets: Targets | None = None) -> Any:
        self.image_sizes: list[tuple[int, int]] = images.image_sizes
        return super().forward(images, features, targets)

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, (height, width) in zip(labels, anchors, self.image_sizes, strict=True):
            left, top, right, bottom = anchor.unbind(1)
            label[(left < 0) | (top < 0) | (right > width) | (bottom > height)] = -1
        return labels, boxes

    def filter_proposals(self, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
        boxes, scores = super().filter_proposals(*arguments)
        if not self.training:
            return boxes, scores
        every, counts = torch.cat(scores), [len(row) for row in scores]
        kept = torch.zeros_like(every, dtype=torch.bool)
        kept[every.topk(min(self.post_nms_top_n(), len(every))).indices] = True
        pairs = [(b[k], s[k]) for b, s, k in zip(boxes, scores, kept.split(counts), strict=True)]
        return [b for b, _ in pairs], [s for _, s in pairs]
