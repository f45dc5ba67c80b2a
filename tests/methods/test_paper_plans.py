"""What all plans of the papers have in common, where their recipes went astray before."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torchvision import tv_tensors

from workbench.data.augmentation import augmentation
from workbench.data.images import IMAGE_MEAN
from workbench.data.splits import SPLITS
from workbench.methods.crnas import presets as crnas
from workbench.methods.detnas import presets as detnas
from workbench.methods.fna import paper as fna
from workbench.methods.nats import presets as nats
from workbench.training.recipe import Recipe

PLANS: dict[str, Any] = {
    f"{method} {name}": plan
    for method, presets in (("detnas", detnas.PRESETS), ("nats", nats.PRESETS), ("crnas", crnas.PRESETS))
    for name, plan in presets.items()
} | {f"fna {name} {task}": plan for name, tasks in fna.PRESETS.items() for task, plan in tasks.items()}
PAPERS = {name: plan for name, plan in PLANS.items() if " paper" in name}


def recipes(part: Any, path: str = "") -> dict[str, Recipe]:
    """All recipes inside a plan, by the names of the fields that lead to them."""
    found = {}
    for field in fields(part):
        value, where = getattr(part, field.name), f"{path}.{field.name}"
        if isinstance(value, Recipe):
            found[where] = value
        elif is_dataclass(value):
            found |= recipes(value, where)
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_the_originals_train_in_full_precision(name: str) -> None:
    assert [where for where, recipe in recipes(PAPERS[name]).items() if recipe.amp] == []


@pytest.mark.parametrize("name", PAPERS)
def test_weight_decay_spares_what_the_papers_spare(name: str) -> None:
    """DetNAS: nothing but weights on ImageNet, no biases in the detector; the others name no exception."""
    for where, recipe in recipes(PAPERS[name]).items():
        if "alpha" in where or recipe.weight_decay == 0:
            continue
        spared = (recipe.decay_norm, recipe.decay_bias)
        if name.startswith("detnas"):
            assert spared == ((False, False) if recipe.augment == "classify" else (True, False)), where
        else:
            assert spared == (True, True), where


def test_every_paper_plan_names_its_split_and_no_other_plan_does() -> None:
    assert {name for name, plan in PLANS.items() if plan.data.split} == set(PAPERS)
    assert {plan.data.split for plan in PAPERS.values()} == set(SPLITS)
    assert all(plan.data.crops_whole for plan in PAPERS.values() if plan.classifier)


def test_detnas_detectors_are_those_of_its_code() -> None:
    retina, faster = detnas.paper_plan(detector="retinanet").head, detnas.paper_plan().head
    assert (retina.box_loss_weight, retina.box_scale, retina.box_beta) == (1 / 4, (10.0, 10.0, 5.0, 5.0), 0.11)
    assert (faster.box_beta, faster.detectron_proposals, faster.score_threshold) == (1.0, True, 0.05)


def test_ssds_zoom_out_fills_the_mean_colour() -> None:
    """The image may only shrink on a canvas of ImageNet's mean colour: what is no image has that colour."""
    transform = augmentation("ssd", 0)
    assert transform is not None
    zoom = transform.transforms[1]
    torch.manual_seed(0)
    zoom.p = 1.0
    boxes = tv_tensors.BoundingBoxes([[0, 0, 8, 8]], format="XYXY", canvas_size=(8, 8))
    image = tv_tensors.Image(torch.zeros(3, 8, 8, dtype=torch.uint8))
    canvas, _ = zoom(image, {"boxes": boxes, "labels": torch.tensor([1])})
    colours = {tuple(colour.tolist()) for colour in canvas.flatten(1).T}
    assert colours == {(0, 0, 0), tuple(round(255 * share) for share in IMAGE_MEAN)}


def test_the_beam_draws_a_completion_for_every_mini_batch() -> None:
    plan = crnas.paper_plan()
    assert plan.beam.completions == 1250 == 5000 // plan.scoring.batch
    assert plan.scoring.calibration_images // plan.scoring.calibration_batch < plan.beam.completions
