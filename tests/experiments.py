"""Experiments on generated scenes, on the CPU, for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.data.loader import TaskName, load_data
from workbench.methods.experiment import Experiment, start_experiment
from workbench.methods.fna.paper import plan_named


def experiment_on_scenes(
    root: Path, plan: Any, *, task: TaskName = "detection", pretrain_data: str = "scenes", seed: int = 0
) -> Experiment:
    data = load_data(plan.data, task, "scenes", pretrain_data, seed=seed)
    named = {"task": task, "seed": seed}
    return start_experiment("test", named, plan=plan, data=data, seed=seed, device="cpu", runs=str(root), fresh=False)


def fna_experiment(root: Path, task: TaskName, **changes: Any) -> Experiment:
    """In smoke, and half as large: 64 pixels."""
    plan = plan_named("smoke", task)
    plan = replace(plan, data=replace(plan.data, image_side=64, pose_crop=(64, 64)), **changes)
    return experiment_on_scenes(root, plan, task=task, pretrain_data="")
