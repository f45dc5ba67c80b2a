"""Two processes with gloo: averaged gradients give what one process with the whole batch gives."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.training.fit import fit
from workbench.training.parallel import synchronise_batch_norm
from workbench.training.recipe import Recipe

RECIPE = Recipe(steps=4, batch_size=4, lr=0.1, weight_decay=0.01)
SPACE = space_named("shuffle-tiny")


def test_two_processes_equal_one(tmp_path):
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    alone = _trained()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, tensor in alone.items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-6)


def test_sync_batch_norm_is_for_cuda_with_several_processes():
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert synchronise_batch_norm(model, torch.device("cpu")) is model
    assert synchronise_batch_norm(model, torch.device("cuda")) is model


def _worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(_trained(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _trained():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _Model()
    # Batch norm in eval mode: its batch statistics would differ between half and whole batches.

    def before_step(trained, turn, rng):
        trained.supernet.activate(SPACE.sample(rng))

    fit(model, _Task(), range(8), RECIPE, seed=0, before_step=before_step)
    return model.state_dict()


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.supernet = Supernet(SPACE)

    def forward(self, images, targets):
        self.supernet.eval()
        maps = self.supernet(torch.stack(images))
        return {"loss": (maps[-1].mean(dim=(1, 2, 3)) - torch.stack([t["y"] for t in targets])).pow(2).mean()}


class _Task:
    def batch(self, data, indices, device, augment=None):
        generators = [torch.Generator().manual_seed(index) for index in indices]
        return [torch.rand(3, 32, 32, generator=g) for g in generators], [{"y": torch.tensor(i / 8)} for i in indices]
