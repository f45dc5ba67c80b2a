"""RetinaNet's head with its losses over the whole batch at once, and the knobs that small data sets want."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

BoxLoss = Literal["l1", "smooth_l1", "giou"]


class BatchRetinaHead(RetinaNetHead):
    """torchvision's `RetinaNetHead` (same layers, same state dict names), with these differences.

    Output k stands for label k + 1. Losses are computed for all images together, which is faster on small images, and
    are divided by the foreground anchors of the whole batch, so that an image without objects weighs as much as it
    has anchors and no more. `convs` of the 4 tower convolutions are kept, each followed by group norm if `norm`;
    `box_loss` picks the regression loss (smooth L1 turns straight at `box_beta`).
    """

    def __init__(
        self,
        channels: int,
        anchors: int,
        classes: int,
        *,
        convs: int = 4,
        norm: bool = False,
        box_loss: BoxLoss = "l1",
        box_loss_weight: float = 1.0,
        box_beta: float = 1 / 9,
    ) -> None:
        super().__init__(channels, anchors, classes, norm_layer=partial(nn.GroupNorm, 8) if norm else None)
        self.classification_head.conv = self.classification_head.conv[:convs]
        self.regression_head.conv = self.regression_head.conv[:convs]
        if norm:  # the towers start at sd 0.01, meant for deep pretrained nets; with a norm the scale does not matter
            for layer in (*self.classification_head.conv.modules(), *self.regression_head.conv.modules()):
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.box_loss = box_loss
        self.box_loss_weight = box_loss_weight
        self.box_beta = box_beta

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """`matched_idxs` (A,) for each image: index of the matched box, -1 background, -2 between the thresholds."""
        # (N, A, K) and (N, A, 4); in full precision, because half precision rounds coordinates to half a pixel
        logits, deltas = head_outputs["cls_logits"].float(), head_outputs["bbox_regression"].float()
        matched = torch.stack(matched_idxs)
        foreground = matched >= 0
        count = foreground.sum().clamp(min=1)

        image_index, anchor_index = torch.where(foreground)
        starts = torch.tensor([0, *[len(target["boxes"]) for target in targets]], device=matched.device).cumsum(0)
        box_index = starts[image_index] + matched[image_index, anchor_index]
        labels = torch.cat([target["labels"] for target in targets])[box_index]
        boxes = torch.cat([target["boxes"] for target in targets])[box_index]

        wanted = torch.zeros_like(logits)
        wanted[image_index, anchor_index, labels - 1] = 1.0
        focal = sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2.0)
        classification = (focal.sum(dim=2) * (matched != -2)).sum() / count

        coder = self.regression_head.box_coder
        picked = torch.stack(anchors)[image_index, anchor_index]
        if self.box_loss == "giou":
            loss = generalized_box_iou_loss(coder.decode_single(deltas[foreground], picked), boxes, reduction="sum")
        else:
            encoded = coder.encode_single(boxes, picked)
            beta = self.box_beta if self.box_loss == "smooth_l1" else 0.0  # beta 0 is plain L1
            loss = F.smooth_l1_loss(deltas[foreground], encoded, reduction="sum", beta=beta)
        return {"classification": classification, "bbox_regression": self.box_loss_weight * loss / count}
