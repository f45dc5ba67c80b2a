"""Two processes with gloo: averaged gradients give what one process with the whole batch gives."""

from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from tests.training import test_fit_search
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.training.fit import fit
from workbench.training.parallel import synchronise_batch_norm
from workbench.training.recipe import Recipe

RECIPE = Recipe(steps=4, batch_size=4, lr=0.1, weight_decay=0.01)
SPACE = space_named("shuffle-tiny")


def test_two_processes_equal_one(tmp_path):
    """Plain training, and a search in which weights and alpha move in turn; this process is the first of the two."""
    threads = torch.get_num_threads()
    other = mp.spawn(_second, args=(str(tmp_path),), nprocs=1, join=False)
    first = _joined(0, tmp_path)
    assert other.join(60)
    trainings = zip(_trained(), first, torch.load(tmp_path / "second.pt", weights_only=True), strict=True)
    torch.set_num_threads(threads)
    for alone, first, second in trainings:
        assert all(torch.equal(first[name], second[name]) for name in first)
        for name, tensor in alone.items():
            torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-6)


def test_sync_batch_norm_is_for_cuda_with_several_processes():
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert synchronise_batch_norm(model, torch.device("cpu")) is model
    assert synchronise_batch_norm(model, torch.device("cuda")) is model


def _second(index, folder):
    torch.save(_joined(1, folder), f"{folder}/second.pt")


def _joined(rank, folder):
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        return _trained()
    finally:
        dist.destroy_process_group()


def _trained():
    """The weights after plain training, and weights and alpha after a search."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _Model()
    # Batch norm in eval mode: its batch statistics would differ between half and whole batches.

    def before_step(trained, turn, rng):
        trained.supernet.activate(SPACE.sample(rng))

    fit(model, _Task(), range(8), RECIPE, seed=0, before_step=before_step)
    searched = test_fit_search.new()
    searched.dropout = nn.Identity()  # each process would drop its own
    test_fit_search.run(searched)
    return model.state_dict(), searched.state_dict()


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.supernet = Supernet(SPACE)

    def forward(self, images, targets):
        self.supernet.eval()
        maps = self.supernet(torch.stack(images))
        return {"loss": (maps[-1].mean(dim=(1, 2, 3)) - torch.stack([t["y"] for t in targets])).pow(2).mean()}


class _Task:
    def batch(self, data, indices, device, augment=None, seed=None):
        generators = [torch.Generator().manual_seed(index) for index in indices]
        return [torch.rand(3, 32, 32, generator=g) for g in generators], [{"y": torch.tensor(i / 8)} for i in indices]
