import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.networks.backbone import Backbone
from workbench.networks.blocks import alternating_shuffle_order, grouped_shuffle_order
from workbench.networks.count import count_backbone
from workbench.networks.latency import latency_table
from workbench.networks.supernet import Supernet, align_options
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named, space_names
from workbench.spaces.published import DETNAS
from workbench.tasks.classification import Classification
from workbench.training.loop import train
from workbench.training.recipe import Recipe

TINY = space_named("shuffle-tiny")


@pytest.mark.parametrize("name", space_names())
def test_space_costs_equal_the_built_network(name):
    """The specification's arithmetic and the flop counter know nothing of each other."""
    space = space_named(name)
    arch = space.sample(np.random.default_rng(0))
    counted = count_backbone(lambda: Backbone(space.spec(arch)), (96, 128))
    assert counted == (space.macs(arch, (96, 128)), space.params(arch))


def test_counting_with_bias_adds_the_outputs_of_biased_layers():
    spec = TINY.spec(TINY.uniform(0))  # only the stem has a bias
    plain = count_backbone(lambda: Backbone(spec), 64)
    biased = count_backbone(lambda: Backbone(spec), 64, bias=True)
    assert biased.macs - plain.macs == 16 * 32 * 32 and biased.params == plain.params


def test_every_option_fits_and_maps_have_the_promised_shape():
    for option in range(4):
        backbone = Backbone(TINY.spec(TINY.uniform(option)))
        maps = backbone(torch.rand(2, 3, 64, 96))
        assert [tuple(m.shape) for m in maps] == [
            (2, channels, 64 // stride, 96 // stride)
            for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
        ]
    assert len(maps) == 3


def test_published_op_list_builds_on_meta():
    with torch.device("meta"):
        backbone = Backbone(space_named("shuffle-40").spec(DETNAS[0].arch))
        assert backbone(torch.empty(1, 3, 224, 224))[-1].shape == (1, 960, 7, 7)


def test_extracted_network_gives_equal_outputs():
    supernet = Supernet(TINY)
    images = torch.rand(4, 3, 64, 64)
    rng = np.random.default_rng(3)
    for _ in range(3):  # move the statistics away from their defaults
        supernet.activate(TINY.sample(rng))
        supernet(images)
    arch = TINY.sample(rng)
    supernet.activate(arch)
    for mode in (True, False):
        supernet.train(mode)
        alone = supernet.extract(arch)
        for ours, theirs in zip(supernet(images), alone(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_active_path_differs_from_other_paths():
    supernet = Supernet(TINY).eval()
    images = torch.rand(1, 3, 64, 64)
    outputs = []
    for option in range(4):
        supernet.activate(TINY.uniform(option))
        outputs.append(supernet(images)[-1])
    assert all(not torch.equal(outputs[0], other) for other in outputs[1:])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_unsampled_options_are_bit_identical_after_steps_with_momentum_and_decay(optimizer):
    """Pitfall P2: zeroed instead of absent gradients would let momentum and weight decay move every option."""
    torch.manual_seed(0)
    task = Classification(categories=("a", "b"), hidden=16, dropout=0.0)
    model = task.build(Supernet(TINY))
    supernet = model.backbone
    data = _Noise(8)
    recipe = Recipe(steps=2, batch_size=4, lr=0.1, optimizer=optimizer, weight_decay=0.1, warmup=0.0)
    first, second = TINY.uniform(0), TINY.uniform(2)
    supernet.activate(first)
    train(model, task, data, recipe, seed=0)  # gives option 0 momentum
    before = copy.deepcopy(supernet.state_dict())
    supernet.activate(second)
    train(model, task, data, replace(recipe, decay_norm=True, decay_bias=True), seed=1)
    after = supernet.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".options.2." in name for name in moved)
    assert not {name for name in moved if ".options." in name and ".options.2." not in name}


def test_only_sampled_options_move_when_the_path_changes_at_every_step():
    torch.manual_seed(0)
    task = Classification(categories=("a", "b"), hidden=16, dropout=0.0)
    model = task.build(Supernet(TINY))
    paths = iter([Arch("shuffle-tiny", (0, 1) * 4), Arch("shuffle-tiny", (1, 0) * 4), Arch("shuffle-tiny", (0, 1) * 4)])
    snapshots = []

    def activate(_rng):
        snapshots.append(copy.deepcopy(model.backbone.state_dict()))
        model.backbone.activate(next(paths))

    train(model, task, _Noise(8), Recipe(steps=3, batch_size=4, lr=0.1), seed=0, before_step=activate)
    between, last = snapshots[1:3]
    # In step 2 options 1, 0, 1, 0 ... ran: options 0, 1, 0, 1 ... have momentum from step 1 and must not move.
    for index in range(8):
        idle = f"blocks.{index + 1}.options.{index % 2}."
        assert all(torch.equal(between[name], last[name]) for name in between if name.startswith(idle))


def test_aligned_options_compute_one_function_until_they_are_trained():
    torch.manual_seed(0)
    supernet = Supernet(TINY)
    align_options(supernet)
    for position in (1, 2):  # a stride-2 and a stride-1 block
        options = [supernet.choice(position).blocks_of(o)[0] for o in range(4)]
        features = torch.randn(8, TINY.spec(TINY.uniform(0)).blocks[position].in_channels, 16, 16)
        plain, five, seven, xception = (option(features) for option in options)
        torch.testing.assert_close(plain, five, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plain, seven, rtol=1e-4, atol=1e-4)
    changed = plain.shape[1] // 2  # the half that goes through the block
    pair = torch.stack([plain[:, changed:].flatten(), xception[:, changed:].flatten()])
    assert 0.7 < torch.corrcoef(pair)[0, 1] < 0.95  # Xception has one more ReLU


def test_both_shuffle_orders_of_the_original_code():
    assert alternating_shuffle_order(8).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert grouped_shuffle_order(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    channels = torch.arange(8.0).view(1, 8, 1, 1)
    block = Backbone(TINY.spec(TINY.uniform(0))).blocks[2]
    block.main = torch.nn.Identity()
    assert block(channels).flatten().tolist() == alternating_shuffle_order(8).tolist()


class _Noise:
    """Random pictures with two classes."""

    def __init__(self, size):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index % 2


def test_latency_table_adds_up_measured_blocks():
    latency = latency_table(TINY, 64, torch.device("cpu"))
    plain, xception = TINY.uniform(0), TINY.uniform(3)
    mixed = TINY.arch((3,) + (0,) * 7)
    assert latency(plain) > 0 and latency(xception) > 0
    first = latency(mixed) - latency(plain)  # what Xception costs in the first block alone
    assert latency(TINY.arch((3,) + (3,) * 7)) - latency(TINY.arch((0,) + (3,) * 7)) == pytest.approx(first)
