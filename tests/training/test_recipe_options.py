"""Options that say how a step is computed: precision, a batch in parts, compiled layers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.training.test_parallel import _Task
from workbench.methods.experiment import as_plain
from workbench.tasks.classification import Classification
from workbench.training.fit import fit
from workbench.training.recipe import Recipe, amp_dtype, autocast

RECIPE = Recipe(steps=4, batch_size=4, lr=0.1)
CPU = torch.device("cpu")


class Plain(nn.Module):
    """A convolution without batch norm, which notes the type that its maps have and how many images it sees."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv2d(3, 4, 3, stride=2), []

    def forward(self, images, targets=None):
        maps = self.layer(torch.stack(images))
        self.seen.append((maps.dtype, len(images)))
        found = maps.sigmoid().mean(dim=(1, 2, 3))
        if not self.training:
            return [{"scores": maps.mean(dim=(1, 2))} for maps in self.layer(torch.stack(images)).unbind()]
        return {"loss": (found - torch.stack([target["y"] for target in targets])).pow(2).mean()}


def trained(**options):
    torch.manual_seed(0)
    model = Plain()
    history = fit(model, _Task(), range(8), replace(RECIPE, **options), seed=0)
    return model, history


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_trains_like_the_whole(parts):
    (whole, expected), (cut, history) = trained(), trained(accumulate=parts)
    assert cut.seen == [(torch.float32, 4 // parts)] * 4 * parts and history.images == expected.images == 16
    torch.testing.assert_close(history.losses, expected.losses)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], tensor)


def test_a_batch_that_cannot_be_cut_is_refused():
    for parts in (3, 0):
        with pytest.raises(ValueError, match=f"batch of 4 cannot be cut into {parts} parts for each of 1 processes"):
            trained(accumulate=parts)


def test_mixed_precision_on_the_processor_only_where_it_is_asked_for():
    assert amp_dtype(RECIPE, CPU) is None and amp_dtype(replace(RECIPE, amp=False, amp_dtype="float16"), CPU) is None
    assert trained()[0].seen[0][0] == torch.float32
    (single, expected), (mixed, history) = trained(), trained(amp_dtype="bfloat16")
    assert {kind for kind, _ in mixed.seen} == {torch.bfloat16}
    assert history.losses != expected.losses
    torch.testing.assert_close(history.losses, expected.losses, rtol=0.05, atol=1e-3)
    assert mixed.layer.weight.dtype == torch.float32 and not torch.equal(mixed.layer.weight, single.layer.weight)


def test_what_was_trained_in_low_precision_is_scored_so_and_its_scores_are_float32():
    task, model = Classification(categories=("a", "b", "c", "d")), Plain()
    data = [(torch.zeros(3, 8, 8, dtype=torch.uint8), 1)] * 3
    recipe = replace(RECIPE, amp_dtype="bfloat16")
    with autocast(recipe, CPU):
        _, scores = task.measure(model, data, CPU, rng=None)
    assert {kind for kind, _ in model.seen} == {torch.bfloat16} and scores[0].dtype == torch.float32


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_layers_learn_the_same(backend):
    (whole, expected), (compiled, history) = trained(), trained(compile=backend)
    assert history.losses == pytest.approx(expected.losses)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor)


def test_a_network_that_changes_its_path_is_not_compiled():
    with pytest.raises(ValueError, match="whose path stays the same can be compiled"):
        fit(Plain(), _Task(), range(8), replace(RECIPE, compile="eager"), seed=0, before_step=lambda *_: None)


def test_options_that_came_later_leave_old_identities_as_they_are():
    """Phases are kept by the digest of their recipe; a default that nobody changed is no part of it."""
    named = {"amp_dtype": "bfloat16", "accumulate": 2, "compile": "inductor"}
    assert not set(named) & set(as_plain(RECIPE))
    for name, value in named.items():
        assert as_plain(replace(RECIPE, **{name: value})) == {**as_plain(RECIPE), name: value}
