"""The positive control: where the cue lies far away, gradients move alpha towards the dilations that reach it."""

import numpy as np
import pytest
import torch

from workbench.data.scenes.tasks import Scenes
from workbench.lessons.field_controls import Interleaved, dot_task
from workbench.networks.backbone import Backbone
from workbench.networks.dilation_mixture import use
from workbench.networks.supernet import Supernet
from workbench.search.relaxation import softmax
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import base_spec, searched_layers
from workbench.tasks.probe import Probe
from workbench.training.fit import AlphaSide, fit
from workbench.training.recipe import AlternatingRecipe, Recipe

SPACE = space_named("channel-dilation-resnet-bottleneck-tiny-2.2.2-n4-B")  # dilations 1, 2, 3
STEPS = Recipe(steps=110, batch_size=32, lr=4e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05)
ALPHA = Recipe(steps=1, batch_size=32, lr=0.05, optimizer="adam", weight_decay=1e-5, schedule="constant", warmup=0.0)
UNIFORM = (1 + 4 + 9) / 3


def search(distance, training_distances):
    """Mean squared dilation over all groups, weighted by alpha, and test accuracy of the mixture."""
    torch.manual_seed(0)
    train = Interleaved(tuple(Scenes(dot_task(near), 0, "train", 400) for near in training_distances))
    task = Probe(categories=train.categories)
    model = task.build(Supernet(SPACE, pretrained=Backbone(base_spec(SPACE))))
    supernet = model.get_submodule("backbone")
    supernet.mix()
    use(supernet, "composite")
    recipe = AlternatingRecipe(weights=STEPS, alpha=ALPHA, epochs=5, warm_epochs=2)
    side = AlphaSide(parameters=supernet.alphas(), data=Scenes(dot_task(distance), 0, "search", 400))
    fit(model, task, train, recipe, seed=0, search=side)
    squares = [
        softmax(alpha) @ np.array([height**2 for height, _ in layer.dilations])
        for layer, alpha in zip(searched_layers(SPACE), supernet.alpha_values(), strict=True)
    ]
    test = Scenes(dot_task(distance), 0, "test", 200)
    metrics, _ = task.measure(model, test, torch.device("cpu"), rng=np.random.default_rng(0))
    return float(np.mean(squares)), metrics["accuracy"]


@pytest.fixture(scope="module")
def far():
    return search(48, (16, 32, 48))


def test_a_far_cue_is_learned_and_draws_alpha_to_large_dilations(far):
    """An undilated network of these blocks stays at chance at 48 pixels (`tests/lessons/test_field_controls.py`)."""
    squared, accuracy = far
    assert accuracy > 0.85
    assert squared > 1.1 * UNIFORM


def test_a_near_cue_does_not(far):
    squared, accuracy = search(16, (16,))
    assert accuracy > 0.85
    assert squared < UNIFORM and squared < far[0] - 1
