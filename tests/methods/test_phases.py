"""The estimate before a phase runs what the phase runs, on a copy, and says the mean of steps that differ in cost."""

from dataclasses import replace

import pytest
import torch

from tests.methods.conftest import STEP
from workbench.methods import one_shot, phases
from workbench.methods.experiment import body_of
from workbench.methods.gradient import gradient_search
from workbench.networks.supernet import Supernet
from workbench.spaces.catalogue import space_named
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

    monkeypatch.setattr(phases, "fit", spy)
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


def test_several_steps_are_averaged(monkeypatch):
    """The first step only warms up: it is slow, whatever the path."""
    now = [0.0]
    monkeypatch.setattr(phases.time, "perf_counter", lambda: now[0])

    def trial(steps, progress):
        for step, seconds in enumerate([50.0, 1.0, 2.0, 3.0, 4.0, 5.0][:steps]):
            now[0] += seconds
            progress(step + 1, steps, "")

    assert phases.seconds_per_step(trial, 10) == 1.0  # one step stands for ten
    assert phases.seconds_per_step(trial, 100) == 3.0
