"""MACs and params of a task's whole model, by its parts."""

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from workbench.networks.count import count, evaluating
from workbench.spaces.costs import Cost, ImageSize, height_width

PROPOSALS = 1000  # that Faster R-CNN's box head is counted for, the usual convention


def model_costs(model: nn.Module, image_size: ImageSize, *, bias: bool = False) -> dict[str, Cost]:
    """Costs of `backbone`, `neck` (of detectors: feature pyramid, SSDLite's extra blocks) and `head`, for one image.

    `model` is what `task.build` makes of a backbone, on the meta device; `bias` as in `networks.count.count`.
    """
    below = model.get_submodule("backbone")
    backbone = getattr(below, "body", below)  # below a neck where the task has one
    images = torch.empty(1, 3, *height_width(image_size), device="meta")
    costs = {"backbone": count(backbone, images, bias=bias)}
    with torch.no_grad(), evaluating(below):
        maps = below(images)
    if below is not backbone:
        both = count(below, images, bias=bias)
        costs["neck"] = Cost(both.macs - costs["backbone"].macs, both.params - costs["backbone"].params)
        maps = list(maps.values())
    if not isinstance(model, FasterRCNN):
        head: nn.Module = model.head  # type: ignore[assignment]
        return {**costs, "head": count(head, maps if below is not backbone else maps[-1], bias=bias)}
    regions = torch.empty(PROPOSALS, model.backbone.out_channels, 7, 7, device="meta")
    proposals = count(model.rpn.head, maps, bias=bias)
    boxes = count(nn.Sequential(model.roi_heads.box_head, model.roi_heads.box_predictor), regions, bias=bias)
    return {**costs, "head": Cost(proposals.macs + boxes.macs, proposals.params + boxes.params)}
