"""A toy experiment that any search can run on: a few generated scenes, a one-stage detector of few channels."""

from dataclasses import replace

import pytest
import torch

from workbench.data.loader import Data, DataPlan
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.methods.experiment import Experiment
from workbench.methods.plan import Plan, ScoringPart
from workbench.methods.presets import TINY_DETECTOR
from workbench.records.run_folder import RunFolder
from workbench.training.recipe import Recipe

STEP = Recipe(steps=2, batch_size=4, lr=1e-3, optimizer="adamw")
COUNTS = {"train": 8, "search": 4, "test": 4}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Eight generated scenes to train on, four to search and four to test on; a one-stage detector of few channels."""
    root = tmp_path_factory.mktemp("matrix")
    parts = {name: Scenes(SceneConfig(image_size=64), 0, name, count) for name, count in COUNTS.items()}
    data = Data(**parts, full_train=parts["train"], crops=None, crops_search=None, crops_test=None,
                digest="toy", description="toy")  # fmt: skip
    plan = Plan(
        data=DataPlan(image_side=64, crop_side=32),
        head=replace(TINY_DETECTOR, pyramid_channels=16, stride_padding=32),
        scoring=ScoringPart(calibration_images=4, calibration_batch=4, batch=4),
        finetune=STEP,
        macs_at=64,
        random_networks=0,
    )
    run = RunFolder.open(root, "matrix", {}, seed=0, data_digest="toy")
    return Experiment(run=run, plan=plan, data=data, seed=0, device=torch.device("cpu"))
