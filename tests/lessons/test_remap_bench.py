"""The bench says of every weight where it comes from; what it says is what remapping did."""

import numpy as np
import pytest
import torch

from workbench.lessons.fna_remap import changed
from workbench.lessons.fna_remap_plots import depthwise
from workbench.lessons.remap_bench import origins, remap_bench, stage_alone
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.spaces.layers import seed_spec


@pytest.fixture(scope="module")
def seed() -> Backbone:
    torch.manual_seed(0)
    return Backbone(seed_spec("mobilenetv2")).eval()


@pytest.mark.parametrize("rules", [{}, {"width": "l1"}, {"kernel": "dilate"}])
@pytest.mark.parametrize("change", [{"kernel": 7, "expansion": 8.0}, {"expansion": 3.0, "deeper": 2}, {"deeper": -1}])
def test_origins_lead_to_the_same_weights(seed: Backbone, change: dict, rules: dict) -> None:
    part, _ = stage_alone(seed, 3, torch.rand(1, 3, 32, 32))
    spec = changed(part.spec, **change)
    network, _ = remap(part, spec, **rules)
    known = [depthwise(block).weight.detach()[:, 0].numpy() for block in part.blocks]
    assert len(network.blocks) == len(part.blocks) + change.get("deeper", 0)
    for block, places in zip(network.blocks, origins(part, spec, **rules), strict=True):
        weights = depthwise(block).weight.detach()[:, 0].numpy()
        found = np.zeros_like(weights)
        for place in zip(*np.nonzero(places[..., 0] >= 0), strict=True):
            layer, channel, row, column = places[place]
            found[place] = known[layer][channel, row, column]
        assert np.array_equal(found, weights)


def test_the_bench_follows_its_sliders(seed: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    row, message, image, _ = remap_bench(seed, torch.rand(1, 3, 32, 32)).children[0].children
    controls = {control.description: control for control in row.children}
    own = len(stage_alone(seed, controls["stage"].value, torch.rand(1, 3, 32, 32))[0].blocks)
    controls["layers"].value, controls["expansion"].value = own, 6
    for kernel in (3, 7):  # the same function, with zeros around it
        controls["kernel"].value = kernel
        assert "change by 0.0%" in image.value and ("zero, the rim" in image.value) == (kernel == 7)
    controls["kernel"].value, controls["expansion"].value = 3, 10
    controls["first channel"].value = 1500
    assert "duplicated" in image.value and message.value == ""
    controls["layers"].value = 1
    assert "Layer 1 of stage" in image.value and "change by 0.0%" not in image.value


def test_a_seed_without_inverted_residuals_is_refused() -> None:
    with pytest.raises(ValueError, match="inverted residuals apart"):
        remap_bench(Backbone(seed_spec("resnet18")), torch.rand(1, 3, 32, 32))
