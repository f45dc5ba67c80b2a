"""Supernets whose decisions govern stages or dilations: paths, sharing, extraction, frozen siblings, frequencies."""

import numpy as np
import pytest
import torch

from workbench.networks.backbone import Backbone
from workbench.networks.supernet import NestedStage, SharedDilation, Supernet, align_options
from workbench.spaces.allocation import allocation, eligible
from workbench.spaces.catalogue import space_named

STAGES = space_named("allocation-resnet-tiny")
DILATIONS = space_named("dilation-resnet-bottleneck-tiny-1.2.1")
MOBILE = space_named("allocation-mobilenetv2-tiny")
CASES = [(space, sharing) for space in (STAGES, DILATIONS, MOBILE) for sharing in ("separate", "shared")]
every_kind = pytest.mark.parametrize(("space", "sharing"), CASES, ids=[f"{space.name}-{how}" for space, how in CASES])


def randomise(module):
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module


@every_kind
def test_an_active_path_computes_what_the_extracted_network_computes(space, sharing):
    torch.manual_seed(0)
    supernet = randomise(Supernet(space, sharing)).eval()
    images = torch.randn(2, 3, 64, 48)
    rng = np.random.default_rng(0)
    for _ in range(3):
        arch = space.sample(rng)
        supernet.activate(arch)
        alone = supernet.extract(arch)
        assert isinstance(alone, Backbone) and alone.spec == space.spec(arch)
        assert len(supernet.active_blocks()) == len(alone.blocks)
        with torch.no_grad():
            for ours, theirs in zip(supernet(images), alone(images), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@every_kind
def test_a_step_leaves_what_it_did_not_run_untouched(space, sharing):
    torch.manual_seed(0)
    supernet = Supernet(space, sharing).train()
    first, second = space.uniform(0), space.uniform(1)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for arch in (second, first):  # the second option has momentum when the first runs
        supernet.activate(arch)
        running = {parameter for block in supernet.active_blocks() for parameter in block.parameters()}
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        optimizer.zero_grad()
        sum(features.square().mean() for features in supernet(torch.randn(2, 3, 32, 32))).backward()
        optimizer.step()
    idle = [name for name, parameter in supernet.named_parameters() if parameter not in running]
    assert bool(idle) == (sharing == "separate" or space is not DILATIONS)  # a shared kernel always runs
    assert all(torch.equal(before[name], supernet.state_dict()[name]) for name in idle)


def test_nested_stages_hold_one_chain_and_shared_dilations_one_kernel():
    separate, nested = Supernet(STAGES), Supernet(STAGES, "shared")
    blocks = 3 * sum(range(1, 7))
    assert (
        sum(len(separate.choice(index).options[o]) for index in separate.decision_of_block for o in range(6)) == blocks
    )
    assert all(isinstance(nested.choice(index), NestedStage) for index in nested.decision_of_block)
    nested.activate(allocation(STAGES, (2, 3, 3)))
    assert nested.choice(1).blocks_of(1) == list(nested.choice(1).blocks)[:2]
    shared = Supernet(DILATIONS, "shared")
    assert all(isinstance(shared.choice(index), SharedDilation) for index in shared.decision_of_block)
    params = sum(parameter.numel() for parameter in shared.parameters())
    assert params == DILATIONS.params(DILATIONS.uniform(0))


def test_aligned_branches_start_as_prefixes_of_the_deepest():
    torch.manual_seed(0)
    supernet = Supernet(STAGES)
    align_options(supernet)
    stage = supernet.choice(2)
    for option in range(5):
        for block, deepest in zip(stage.blocks_of(option), stage.blocks_of(5), strict=False):
            for ours, theirs in zip(block.parameters(), deepest.parameters(), strict=True):
                assert torch.equal(ours, theirs) and ours is not theirs


def test_branches_are_drawn_uniformly():
    """Acceptance test A7: chi-squared of 6,000 draws of each stage's six branches stays below its 99.9 % quantile."""
    rng = np.random.default_rng(0)
    draws = np.array([STAGES.sample(rng).choices for _ in range(6000)])
    for stage in range(3):
        counts = np.bincount(draws[:, stage], minlength=6)
        assert ((counts - 1000) ** 2 / 1000).sum() < 20.5
    independent = np.histogram2d(draws[:, 0], draws[:, 1], bins=6)[0]
    assert ((independent - 6000 / 36) ** 2 / (6000 / 36)).sum() < 66.6  # 35 degrees of freedom


def test_one_supernet_serves_every_budget():
    supernet = Supernet(STAGES).eval()
    images = torch.randn(1, 3, 32, 32)
    for budget in (3, 8, 18):
        supernet.activate(eligible(STAGES, budget)[0])
        with torch.no_grad():
            assert [tuple(maps.shape[1:]) for maps in supernet(images)] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]


def test_a_dilated_path_sees_farther_with_the_same_shared_kernel():
    """The field of the shared block really moves: a distant pixel matters only when the block is dilated."""
    torch.manual_seed(0)
    supernet = Supernet(DILATIONS, "shared").double().eval()
    images = torch.randn(1, 3, 128, 128, dtype=torch.double)
    reach = {}
    for option in (0, 2):
        supernet.activate(DILATIONS.uniform(option))
        moved = images.clone().requires_grad_()
        supernet(moved)[-1][0, :, 4, 4].sum().backward()
        rows = moved.grad.abs().sum((0, 1, 3)).nonzero()
        reach[option] = int(rows.max() - rows.min()) + 1
    assert reach[2] > 1.5 * reach[0]
