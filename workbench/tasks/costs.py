"""MACs and params of a task's whole model, by its parts."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from workbench.networks.count import count, count_layers, evaluating
from workbench.spaces.costs import Cost, ImageSize, height_width


def model_costs(model: nn.Module, image_size: ImageSize, *, bias: bool = False) -> dict[str, Cost]:
    """Costs of `backbone`, `neck` (of detectors: feature pyramid, SSDLite's extra blocks) and `head`, for one image.

    `model` is what `task.build` makes of a backbone, on the meta device; `bias` as in `networks.count.count`. Box heads
    are counted for all proposals of an evaluation, a mask head, the part `masks`, for as many detections as are kept.
    """
    below: Any = model.get_submodule("backbone")
    backbone = getattr(below, "body", below)  # below a neck where the task has one
    images = torch.empty(1, 3, *height_width(image_size), device="meta")
    ran: list[Any] = []
    costs = {"backbone": count_layers(backbone, lambda: ran.append(backbone(images)), bias=bias)}
    maps = ran[0]
    if below is backbone:
        head: nn.Module = model.head  # type: ignore[assignment]
        return {**costs, "head": count(head, maps[-1], bias=bias)}
    neck = count_layers(below, lambda: ran.append(below.extend(maps)), bias=bias)
    costs["neck"] = Cost(neck.macs, neck.params - costs["backbone"].params)
    maps = list(ran[1].values())
    if not isinstance(model, FasterRCNN):
        return {**costs, "head": count(model.head, maps, bias=bias)}  # type: ignore[arg-type]
    heads: Any = model.roi_heads

    def regions(number: int, side: int) -> Tensor:
        return torch.empty(number, model.backbone.out_channels, side, side, device="meta")

    with evaluating(model.rpn):
        proposals = regions(model.rpn.post_nms_top_n(), 7)
    parts = [count(model.rpn.head, maps, bias=bias)]
    for stage in (heads, *heads.later):
        parts.append(count(nn.Sequential(stage.box_head, stage.box_predictor), proposals, bias=bias))
    costs["head"] = Cost(sum(part.macs for part in parts), sum(part.params for part in parts))
    if heads.has_mask():
        masked = nn.Sequential(heads.mask_head, heads.mask_predictor)
        costs["masks"] = count(masked, regions(heads.detections_per_img, 14), bias=bias)
    return costs
