"""The estimate before a phase runs what the phase runs, on a copy, and says the mean of steps that differ in cost."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.methods.conftest import STEP
from tests.training import checkpoints
from workbench.methods import one_shot, phases
from workbench.methods.experiment import body_of, new_model
from workbench.methods.gradient import gradient_search
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
from workbench.training import timing
from workbench.training.recipe import AlternatingRecipe

SPACE = space_named("allocation-resnet-tiny")
LONG = replace(STEP, steps=100)  # estimated from five steps after the first


class PhaseBegins(Exception):
    """Raised instead of training."""


@pytest.fixture
def estimated(monkeypatch):
    """Of every step of the trial its turn and the option of each choice, None in the mixture; the phase never runs."""
    steps, trials, fit = [], [], phases.fit

    def spy(model, *arguments, before_step, **options):
        if trials:
            (twin, weights) = trials[0]
            assert model is not twin and model.state_dict().keys() == weights.keys()
            assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
            raise PhaseBegins
        trials.append((model, {name: tensor.clone() for name, tensor in model.state_dict().items()}))

        def watched(trained, turn, rng):
            for forward in before_step(trained, turn, rng) or (trained,):
                steps.append((turn, *(choice.chosen for choice in body_of(trained).choices())))
                yield forward

        return fit(model, *arguments, before_step=watched, **options)

    for module in (timing, phases):
        monkeypatch.setattr(module, "fit", spy)
    return steps


def test_path_wise_training_is_estimated_on_the_paths_that_it_draws(experiment, estimated):
    """An allocation's first options are its shallowest network, which takes a quarter of a mean path's MACs."""
    drawn = []

    def sample(rng):
        drawn.append(SPACE.sample(rng))
        return drawn[-1]

    with pytest.raises(PhaseBegins):
        one_shot.train_supernet(
            experiment, "estimated", lambda: Supernet(SPACE), experiment.task, experiment.data.train, LONG,
            stream="estimate", origin={}, aligned=True, sample=sample,
        )  # fmt: skip
    paths = [tuple(option for (option,) in chosen) for _, *chosen in estimated]
    trial = drawn[:6]
    assert paths == [arch.choices for arch in trial] and len(set(paths)) == 6
    assert "estimated" not in {entry.phase for entry in experiment.run.ledger.entries}


def test_a_gradient_search_is_estimated_with_both_of_its_sides(experiment, estimated):
    """The phase begins with warm epochs of weights alone; the dearer steps after them must be in the estimate."""
    recipe = AlternatingRecipe(weights=LONG, alpha=replace(STEP, batch_size=2), epochs=4, warm_epochs=2)
    with pytest.raises(PhaseBegins):
        gradient_search(
            experiment, lambda: Supernet(SPACE), recipe, phase="estimated search", stream="estimate", origin={},
            weights_on="paths",
        )  # fmt: skip
    assert [turn for turn, *_ in estimated] == ["weights", "alpha"] * 6
    assert all((None in chosen) == (turn == "alpha") for turn, *chosen in estimated)
    assert experiment.run.scores("estimated search") == []  # nothing is recorded before the phase


def test_what_another_run_is_computing_in_the_cache_is_waited_for(tmp_path, capsys):
    """Two runs that need one pre-training: the second says so, waits, and finds it computed."""
    key = {"what": "pre-training"}
    experiment = SimpleNamespace(
        run=SimpleNamespace(path=tmp_path / "lesson" / "k-1"), seed=0, device=torch.device("cpu")
    )
    with phases.phase_folder(experiment, "pretrain", key, shared=True) as (_, folder):
        assert folder.parent == tmp_path / "cache"
    assert capsys.readouterr().out == ""
    command = (
        "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True)"
    )
    command += "; time.sleep(1.5); open(sys.argv[1] + '.done', 'w').close()"
    with subprocess.Popen([sys.executable, "-c", command, str(folder / ".lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with phases.phase_folder(experiment, "pretrain", key, shared=True):
            assert (folder / ".lock.done").exists()
    assert f"pretrain: another run computes this and keeps it in {folder}; waiting" in capsys.readouterr().out


def trained(experiment, name, steps=3, **options):
    """A short training of a small network, kept in the cache or in the run."""
    task, origin = experiment.task, {"what": name, "steps": steps}
    spec = space_named("shuffle-tiny").spec(space_named("shuffle-tiny").uniform(0))
    model = new_model(lambda: task.build(Backbone(spec)), 0, "phases")
    recipe = replace(STEP, steps=steps)
    found = phases.train_phase(experiment, name, model, task, experiment.data.train, recipe, origin=origin, **options)
    return found, model.state_dict()


def place(experiment, key, shared):
    return experiment.run.path / "phases" / key if not shared else experiment.run.path.parent.parent / "cache" / key


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 0x10
    path.write_bytes(data)


def poison(path):
    tensors = load_file(path)
    next(tensor for tensor in tensors.values() if tensor.is_floating_point()).fill_(float("nan"))
    save_file(tensors, path)


def write(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


DAMAGE = {
    "phase.json cut": ("phase.json", cut),
    "phase.json of another kind": ("phase.json", lambda path: path.write_text("[1, 2]")),
    "phase.json of another phase": ("phase.json", write('"seed": 0', '"seed": 1')),
    "losses that are none": ("phase.json", write('"losses": [', '"losses": [null, ')),
    "weights cut": ("weights.safetensors", cut),
    "one bit of the weights": ("weights.safetensors", flip),
    "weights that are not finite": ("weights.safetensors", poison),
    "no weights": ("weights.safetensors", Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_phase_is_named_and_in_the_cache_computed_again(experiment, damage, capsys):
    name, harm = DAMAGE[damage]
    for shared in (False, True):
        found, weights = trained(experiment, f"{damage} {shared}", shared=shared)
        folder = place(experiment, found.key, shared)
        harm(folder / name)
        capsys.readouterr()
        if not shared:
            with pytest.raises(ValueError, match=f"{folder.name}.*(delete it|restore it|train the network again)"):
                trained(experiment, f"{damage} {shared}", shared=shared)
            continue
        again, same = trained(experiment, f"{damage} {shared}", shared=shared)
        assert f"{damage} True: it is computed again, because it is damaged in the cache: " in capsys.readouterr().out
        assert again.losses == found.losses and all(torch.equal(same[name], weights[name]) for name in weights)
        assert trained(experiment, f"{damage} {shared}", shared=shared)[0].entry == again.entry
        assert capsys.readouterr().out == ""


def test_a_continued_phase_says_how_many_steps_are_left(experiment, monkeypatch, capsys):
    _, whole = trained(experiment, "uninterrupted", steps=5)
    checkpoints.every(2, monkeypatch)
    fit = phases.fit

    def killed(*arguments, progress, **options):
        def stop(done, total, text):
            if total == 5 and done == 4:
                raise KeyboardInterrupt
            progress(done, total, text)

        return fit(*arguments, progress=stop, **options)

    monkeypatch.setattr(phases, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(experiment, "interrupted", steps=5)
    monkeypatch.setattr(phases, "fit", fit)
    capsys.readouterr()
    _, continued = trained(experiment, "interrupted", steps=5)
    assert "interrupted: the last 3 of 5 steps of 4 images, " in capsys.readouterr().out
    assert all(torch.equal(continued[name], whole[name]) for name in whole)


def test_checkpoints_that_are_damaged_are_named(experiment, monkeypatch):
    monkeypatch.setattr(phases, "keep_phase", lambda *_: pytest.fail("stop"))
    with pytest.raises(pytest.fail.Exception):
        trained(experiment, "checkpointed")
    (path,) = [path for path in (experiment.run.path / "phases").glob("*/checkpoint.pt") if path.stat().st_mtime]
    state = torch.load(path, weights_only=True)
    first = next(tensor for tensor in state["model"].values() if tensor.is_floating_point())
    damaged = [{**state, "path": {}}, {**state, "model": {}}, {"model": state["model"]}, [1]]
    for content in (*damaged, "poison"):
        if content == "poison":
            first.fill_(float("inf"))
        torch.save(state if content == "poison" else content, path)
        with pytest.raises(ValueError, match=r"checkpoint\.pt .*; ?delete it"):
            trained(experiment, "checkpointed")
