"""A rehearsal computes what the paper's plan would, on images as large, and only less of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.experiments import experiment_on_scenes
from tests.methods.test_paper_plans import PAPERS, recipes
from workbench.batch import rehearsal
from workbench.data.loader import load_data
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes, StandIn
from workbench.evaluation.prefix_reuse import beam_macs
from workbench.methods.crnas import presets as crnas
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas.presets import PRESETS
from workbench.methods.plan import preset_named
from workbench.methods.rehearsal import rehearsed
from workbench.records.files import read_json
from workbench.records.ledger import Entry
from workbench.search.beam import BeamSearch
from workbench.spaces.catalogue import space_named
from workbench.training.recipe import AlternatingRecipe, Recipe


@pytest.mark.parametrize("name", PAPERS)
def test_only_what_says_how_much_is_cut(name: str) -> None:
    plan, cut = PAPERS[name], rehearsed(PAPERS[name])
    for field in ("head", "fitness", "macs_at", "deviations", "space", "backbone", "supernet_backbone", "depths"):
        assert getattr(plan, field, None) == getattr(cut, field, None)
    whole = recipes(plan)
    for where, recipe in recipes(cut).items():
        assert recipe.steps == 2 and recipe.batch_size <= 2
        assert recipe.lr / recipe.batch_size == pytest.approx(whole[where].lr / whole[where].batch_size)
        assert (recipe.optimizer, recipe.augment) == (whole[where].optimizer, whole[where].augment)
    task = getattr(plan, "task", "detection")
    data = load_data(cut.data, task, "scenes", "scenes" if plan.classifier else "", seed=0)
    if task != "pose":
        height, width = data.train.sizes[0]
        assert data.train[0][0].shape == (3, height, width) and len(data.train.categories) in (19, 80)
        short, long = getattr(plan.head, "image_size", plan.macs_at)
        assert (min(height, width), max(height, width)) == (short, 1088 if long == 1333 else long)


def test_any_preset_has_a_rehearsal_and_a_wrong_name_has_none() -> None:
    assert preset_named(PRESETS, "paper-retinanet-rehearsal") == rehearsed(PRESETS["paper-retinanet"])
    with pytest.raises(ValueError, match="Did you mean paper-retinanet"):
        preset_named(PRESETS, "paper-retinane-rehearsal")


def test_a_scene_is_enlarged_with_all_that_is_true_about_it() -> None:
    config = SceneConfig(image_size=64, extras=("masks", "keypoints", "semantic"))
    small, large = Scenes(config, 0, "train", 3), Scenes(config, 0, "train", 3, StandIn((96, 256), 80))
    assert small.digest != large.digest and large.sizes == [(96, 256)] * 3
    assert len(large.categories) == 80 and large.categories[: len(small.categories)] == small.categories
    (_, before), (image, after) = small[1], large[1]
    assert image.shape == (3, 96, 256) and after["semantic"].shape == (96, 256)
    torch.testing.assert_close(after["boxes"], before["boxes"] * torch.tensor([4, 1.5, 4, 1.5]))
    torch.testing.assert_close(after["keypoints"][..., :2], before["keypoints"][..., :2] * torch.tensor([4, 1.5]))
    for mask, (left, top, right, bottom) in zip(after["masks"], after["boxes"].tolist(), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert left <= columns.min() and columns.max() < right and int(top) <= rows.min() and rows.max() < bottom
    with pytest.raises(ValueError, match="keep their size"):
        _ = Scenes(SceneConfig(classes="ladder"), 0, "train", 1, StandIn((256, 256)))[0]


def test_a_beam_may_begin_with_a_later_decision() -> None:
    space = space_named("dilation-resnet-tiny")
    first = len(space.decisions) - 2
    search = BeamSearch(space, width=3, completions=2, seed=0, metric="AP", first=first)
    queries = search.ask(search.evaluations)
    assert search.evaluations == 3 + 9
    assert {query.arch.choices[:first] for query in queries} == {(0,) * first}
    recomputed, reused = beam_macs(space, 3, 128, first)
    whole = space.macs(space.uniform(0), 128)
    assert recomputed == 12 * whole and whole < reused < recomputed


def test_the_ledger_is_scaled_to_the_whole_training() -> None:
    """MACs as `train_phase` enters them: a step of the weights 3 times its price, one of alpha twice."""
    weights = Recipe(steps=100, batch_size=8, lr=0.1)
    search = AlternatingRecipe(weights=weights, alpha=replace(weights, batch_size=4), epochs=10, warm_epochs=5)
    price, alpha_price, batch = 1000, 7000, 2
    on_weights, on_alpha = 2 * batch * price, batch * alpha_price
    forward, backward = on_weights + on_alpha, 2 * on_weights + on_alpha
    entry = Entry(phase="search", seconds=1.0, images=3 * batch, forward_macs=forward, backward_macs=backward)
    moves = sum("alpha" in search.turns(step) for step in range(100))
    images, macs = rehearsal._trained(entry, search)
    assert (images, macs) == (800 + 4 * moves, 3 * price * 800 + 2 * alpha_price * 4 * moves)


def test_a_rehearsed_run_tells_what_the_whole_would_cost(tmp_path: Any) -> None:
    whole = PRESETS["smoke"]
    experiment = experiment_on_scenes(tmp_path, rehearsed(whole))
    experiment.run.params["preset"], experiment.run.notebook = "smoke-rehearsal", "10_detnas"
    trained = detnas.pretrain_supernet(experiment)
    (row,) = rehearsal.estimates(experiment.run)
    recipe = whole.supernet.pretrain
    assert row.images == recipe.steps * recipe.batch_size and row.file_bytes == rehearsal.IMAGENET_BYTES
    assert row.macs == pytest.approx(3 * trained.trained.entry.forward_macs / 2 * row.images)
    (path,) = tmp_path.rglob("phase.json")
    kept, weights = read_json(path)["activation_bytes"], path.with_name("weights.safetensors").stat().st_size
    assert kept > 4 * 3 * 96 * 96 / 2  # at least the image, and a map of half its sides
    assert row.memory == 4 * weights + kept * recipe.batch_size / rehearsal.GPUS  # with AdamW's two moments
    assert "| pretrain supernet |" in rehearsal.as_markdown(experiment.run)


def test_candidates_are_counted_as_the_real_search_has_them() -> None:
    plan = PRESETS["paper"]
    assert rehearsal._scored(plan, "evolution") == 1000 * (4000 + 5000)
    assert rehearsal._scored(plan, "without recalibration") == 50 * 5000
    plan = crnas.PRESETS["paper"]
    assert rehearsal._scored(plan, "beam") == (3 + 9 * 15) * (500 + 5000)


@pytest.mark.parametrize(
    ("notebook", "given", "sentence"),
    [
        ("10_detnas", {"preset": "tiny"}, "is for the papers' presets"),
        ("50_receptive_fields", {"preset": "paper"}, "is for the papers' presets"),
        ("20_nats", {"preset": "paper", "data": "coco"}, "draws its own images"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(
    notebook: str, given: dict[str, Any], sentence: str, tmp_path: Any
) -> None:
    with pytest.raises(ValueError, match=sentence):
        rehearsal.parameters(tmp_path / f"{notebook}.ipynb", given)


def test_published_seeds_are_random_in_a_rehearsal_unless_they_are_given(tmp_path: Any) -> None:
    notebook = tmp_path / "31_fna_detection.ipynb"
    given = {"preset": "paper"}
    assert rehearsal.parameters(notebook, given) == {"seed_weights": "random", "preset": "paper-rehearsal"}
    assert rehearsal.parameters(notebook, given | {"seed_weights": "a.pth"})["seed_weights"] == "a.pth"
