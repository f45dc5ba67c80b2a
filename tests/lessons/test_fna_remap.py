"""The experiments of the lesson on remapping: what each change keeps, the grid, the rules, and what is refused."""

import pytest
import torch

from tests.experiments import fna_experiment
from workbench.lessons import fna_remap as lesson
from workbench.methods.fna import method as fna
from workbench.methods.fna.paper import plan_named
from workbench.networks.backbone import Backbone
from workbench.networks.remap import remap
from workbench.spaces.catalogue import space_named
from workbench.spaces.layers import seed_spec


def test_the_grid_and_the_rules_of_the_remapping_lesson(tmp_path):
    experiment = fna_experiment(tmp_path, "segmentation")
    seed = fna.seed_network(experiment.plan)
    searches, cells = lesson.grid(experiment, seed)
    grid = lesson.grid_table(experiment, cells)
    assert grid[["supernet", "target"]].to_numpy().tolist() == [
        ["random", "random"], ["random", "remap"], ["remap", "random"], ["remap", "remap"]
    ]  # fmt: skip
    for (where, search), pair in zip(searches.items(), (cells[:2], cells[2:]), strict=True):
        found = search.space.spec(search.derived().arch)
        own = remap(seed.backbone, found)[0].state_dict()
        for cell in pair:
            assert cell.network.spec == found and cell.network.name.startswith(where)
            same = [torch.equal(own[name], t) for name, t in cell.network.start.weights.state_dict().items()]
            assert all(same) == cell.network.name.endswith("remap target")
    spec = lesson.variant_spec(fna.space_of(experiment))
    compared = [fna.network(experiment, seed, name, spec, **how) for name, how in lesson.VARIANTS.items()]
    starts = [torch.cat([p.flatten() for p in network.start.weights.parameters()]) for network in compared]
    for first in range(len(starts)):
        for second in range(first):
            assert not torch.equal(starts[first], starts[second])  # every rule is another start


def test_images_through_remapped_networks():
    plan = plan_named("smoke", "segmentation")
    seed = fna.seed_network(plan)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    space = space_named(plan.space)
    front = remap(seed.backbone, fna.seed_spec(plan.seed_network))[0].eval()
    table = lesson.kept_function(front, images).set_index("change")["largest change"]
    for name in ("nothing", "all kernels 7x7", "expansion 8 instead of 6 (new channels repeat old ones)"):
        assert table[name] < 1e-4, name
    for name in ("one more layer in every stage (a clone)", "all kernels 3x3 (the centre of larger ones)"):
        assert table[name] > 1e-2, name
    gaps = lesson.supernet_gaps(space, front, images)
    assert gaps["seed's batch norm kept"] < 1e-4 < 1e-2 < gaps["plain batch norm (paper)"]
    outcome = lesson.other_pairs().set_index("pair")["what happens"]
    assert outcome["CR-NAS: ResNet-50 into depths 1.3.5.7"].startswith("remapped")
    assert outcome["DetNAS: 3x3 blocks into 7x7"].startswith("remapped")
    assert (outcome[-4:].str.startswith("refused: ")).sum() == 4


@pytest.mark.parametrize("form", ["", "os16"])
@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenetv2"])
def test_the_lesson_takes_every_mobile_seed_apart(name, form):
    torch.manual_seed(0)
    seed = Backbone(seed_spec(name, form)).eval()
    with torch.no_grad():  # the random weights of so many layers would die out
        for layer in seed.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.fill_(0.1)
    table = lesson.kept_function(seed, torch.rand(1, 3, 32, 32)).set_index("change")
    assert table["largest change"]["all kernels 7x7"] < 1e-4
    assert table["largest change"]["expansion 8 instead of 6 (new channels repeat old ones)"] < 1e-4
    assert len(table) == 8


def test_a_seed_without_inverted_residuals_is_refused():
    with pytest.raises(ValueError, match="takes inverted residuals apart"):
        lesson.check_seed(seed_spec("resnet18"))
