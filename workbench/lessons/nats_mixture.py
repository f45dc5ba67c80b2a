"""One convolution taken apart: what its mixture of dilations must equal, and what its two implementations cost."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.methods.nats.implementation import step_ms
from workbench.networks.blocks import SplitConv2d
from workbench.networks.count import saved_bytes
from workbench.networks.dilation_mixture import IMPLEMENTATIONS, SIDES, DilationMixture, Implementation
from workbench.spaces.channel_dilation import channel_order
from workbench.spaces.network_spec import Dilation


def one_convolution(
    channels: int, groups: int, dilations: Sequence[Dilation], rng: np.random.Generator, *, learned: float = 0.0
) -> tuple[nn.Conv2d, DilationMixture]:
    """A random 3x3 convolution in double precision, and its mixture with random logits.

    The mixture's copies of the kernel differ from it by noise of the relative size `learned`.
    """
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.float64)
    scale = 1 / (9 * channels) ** 0.5
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(rng.normal(0, scale, tuple(conv.weight.shape))))
        mixture = DilationMixture(conv, dilations, groups).double()
        mixture.alpha.copy_(torch.from_numpy(rng.normal(0, 1, tuple(mixture.alpha.shape))))
        noise = rng.normal(0, learned * scale, tuple(mixture.weight.shape))
        mixture.weight.add_(torch.from_numpy(noise))
    return conv, mixture


def equalities(rng: np.random.Generator, channels: int = 16, groups: int = 4) -> pd.DataFrame:
    """What must be equal, and the largest difference on random numbers in double precision; outputs are near 1."""
    dilations = ((1, 1), (2, 2), (3, 3), (1, 3), (3, 1))
    features = torch.from_numpy(rng.standard_normal((2, channels, 14, 14)))
    rows = []
    _, mixture = one_convolution(channels, groups, dilations, rng, learned=0.5)
    results = [_with_gradients(mixture, features, name) for name in IMPLEMENTATIONS]
    names = ("output", "gradient of the input", "gradient of the kernels", "gradient of alpha")
    for name, first, second in zip(names, *results, strict=True):
        rows.append([f"branches and composite: {name}", _gap(first, second)])
    conv, plain = one_convolution(channels, groups, ((1, 1),), rng)
    rows.append(["the only dilation is 1x1: the pretrained convolution itself", _gap(plain(features), conv(features))])
    conv, mixture = one_convolution(channels, groups, dilations, rng)
    chosen = tuple(int(choice) for choice in rng.integers(len(dilations), size=groups))
    mixture.chosen = chosen
    decoded, order = decode(conv, mixture, chosen)
    back = torch.argsort(torch.tensor(order))
    gap = _gap(mixture(features), decoded(features)[:, back])
    rows.append(["one dilation per group, equal copies: the decoded convolution, channels put back", gap])
    _, single = one_convolution(channels, 1, dilations, rng, learned=0.5)
    outputs = [F.conv2d(features, single.kernel_of(i), None, 1, pair, pair) for i, pair in enumerate(dilations)]
    edge = torch.einsum("d,dnchw->nchw", single.alpha[0].softmax(dim=0), torch.stack(outputs))
    rows.append(["N = 1: one weighted sum of whole convolutions (an edge of DARTS)", _gap(single(features), edge)])
    _, mixture = one_convolution(channels, groups, dilations, rng, learned=0.5)
    before, choice = mixture(features), mixture.alpha.argmax(dim=1)
    with torch.no_grad():
        mixture.alpha.add_(torch.from_numpy(rng.standard_normal((groups, 1))))
    rows.append(["a constant added to the logits of a group changes nothing", _gap(mixture(features), before)])
    with torch.no_grad():
        mixture.alpha.mul_(2)
    rows.append(["doubled logits choose the same dilations", float((mixture.alpha.argmax(dim=1) != choice).sum())])
    return pd.DataFrame(rows, columns=["these are equal", "largest difference"])


def decode(conv: nn.Conv2d, mixture: DilationMixture, chosen: Sequence[int]) -> tuple[SplitConv2d, list[int]]:
    """One convolution per chosen dilation with the kernels of `conv`, and for each of its channels the one it was."""
    width = mixture.group_channels
    order = channel_order(chosen, width)
    split = SplitConv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False, dtype=conv.weight.dtype)
    split.parts = tuple((chosen.count(index) * width, *mixture.dilations[index]) for index in sorted(set(chosen)))
    with torch.no_grad():
        split.weight.copy_(conv.weight[order])
    return split, order


def implementation_table(
    sets: dict[str, Sequence[Dilation]], *, channels: int, groups: int, side: int, batch: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Milliseconds of a training step of one layer and MiB kept for its backward pass, in both implementations."""
    features = torch.from_numpy(rng.standard_normal((batch, channels, side, side))).float()
    features = features.contiguous(memory_format=torch.channels_last)
    rows: list[dict[str, float | str]] = []
    for name, dilations in sets.items():
        _, mixture = one_convolution(channels, groups, dilations, rng)
        mixture = mixture.float().to(memory_format=torch.channels_last)
        row: dict[str, float | str] = {"dilations": f"{name} (G = {len(dilations)})"}
        for implementation in IMPLEMENTATIONS:
            mixture.implementation = dict.fromkeys(SIDES, implementation)
            for learning in SIDES:
                row[f"{implementation}, {learning} learn: ms"] = step_ms(mixture, features, learning)
            row[f"{implementation}: MiB kept"] = saved_bytes(mixture, partial(mixture, features)) / 2**20
        rows.append(row)
    return pd.DataFrame(rows).set_index("dilations").T


def _with_gradients(mixture: DilationMixture, features: Tensor, name: Implementation) -> list[Tensor]:
    mixture.implementation = dict.fromkeys(SIDES, name)
    inputs = features.clone().requires_grad_()
    output = mixture(inputs)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    gradients = torch.autograd.grad((output * weights).sum(), [inputs, mixture.weight, mixture.alpha])
    return [output.detach(), *gradients]


def _gap(first: Tensor, second: Tensor) -> float:
    return float((first - second).detach().abs().max())
