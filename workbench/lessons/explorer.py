"""The lesson that trains nothing: networks to probe, and finished runs whose supernets can be asked."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from torch import nn

from workbench.data.loader import load_data
from workbench.data.scenes.tasks import Scenes
from workbench.insight.widgets.field_probe import Probed, structural
from workbench.lessons import receptive_fields
from workbench.methods import candidates
from workbench.methods.crnas import method as crnas
from workbench.methods.crnas import presets as crnas_presets
from workbench.methods.detector_file import load_detector
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas import presets as detnas_presets
from workbench.methods.experiment import Experiment, as_plain, pick_device
from workbench.methods.fna.method import seed_network
from workbench.methods.fna.paper import plan_named
from workbench.methods.plan import preset_named, shortened
from workbench.methods.presets import LITE_INPUT, TINY_DETECTOR
from workbench.networks.backbone import Backbone
from workbench.networks.supernet import Supernet
from workbench.records.files import base_folder
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.residual import residual_spec
from workbench.tasks.detection import Detection

DETNAS, CRNAS = "10_detnas", "40_crnas"
UNITS = {"smoke": 3, "tiny": 5}  # along each side of a map whose fields a page without a kernel holds, by preset


def networks_to_probe() -> dict[str, Probed]:
    """Three small residual networks by their structure, and EfficientNet-Lite0 with its ImageNet weights as it is."""
    plan = receptive_fields.TINY
    depths, rates = plan.reallocated, plan.dilations
    seed = seed_network(plan_named("tiny", "detection")).backbone.eval()
    return {
        f"{plan.backbone} (structure)": structural(residual_spec(plan.backbone)),
        "its blocks moved deeper": structural(residual_spec(plan.backbone, depths)),
        "moved and dilated": structural(residual_spec(plan.backbone, depths, rates)),
        "EfficientNet-Lite0 (trained)": Probed(spec=seed.spec, module=seed, channel_rule="sum_abs", **LITE_INPUT),
    }


def finished_experiment(run: str, notebook: str) -> Experiment:
    """A run of `10_detnas` or `40_crnas` with the plan and the data that it had.

    ValueError for the folder of another notebook, or of a version of the workbench whose plan or data were others.
    """
    folder = _folder(run)
    if folder.notebook != notebook:
        raise ValueError(f"{run} is a run of {folder.notebook}; give the folder of a run of {notebook}.")
    older = f"{run} was recorded by another version of the workbench; run {notebook} again and give the new folder."
    given = folder.params
    if missing := {"preset", "max_steps", "data", "pretrain_data", "bad_boxes", "plan"} - given.keys():
        raise ValueError(f"{older} (It has no {min(missing)}.)")
    presets = detnas_presets.PRESETS if notebook == DETNAS else crnas_presets.PRESETS
    plan = shortened(preset_named(presets, given["preset"]), given["max_steps"])
    if notebook == CRNAS:
        plan = crnas_presets.with_budget(plan, given.get("budget", 0.0))
    options = {"seed": folder.seed, "bad_boxes": given["bad_boxes"]}
    data = load_data(plan.data, "detection", given["data"], given["pretrain_data"], **options)
    if as_plain(plan) != given["plan"] or data.digest != folder.data_digest:
        raise ValueError(older)
    return Experiment(run=folder, plan=plan, data=data, seed=folder.seed, device=pick_device("auto"))


def asked_of(run: str, notebook: str) -> Callable[[Arch], Score] | None:
    """A function that scores an architecture by the supernet of a finished run, read when first asked; None without.

    It raises ValueError where the run does not hold what is needed.
    """

    @cache
    def score() -> Callable[[Arch], Score]:
        experiment = finished_experiment(run, notebook)
        if notebook == DETNAS:
            return candidates.kept_score(experiment, lambda: Supernet(detnas.space_of(experiment)), "finetune supernet")
        return candidates.kept_score(
            experiment,
            lambda: Supernet(crnas.stage_space(experiment), experiment.plan.branches),
            "finetune stage supernet",
        )

    return (lambda arch: score()(arch)) if run else None


def scores_of(run: str, phase: str) -> list[Score]:
    """The scores that a run recorded in that phase; none without a run."""
    return _folder(run).scores(phase) if run else []


def _folder(run: str) -> RunFolder:
    path = Path(run).expanduser()
    return RunFolder(path if path.is_dir() else base_folder() / path)


def newest_detector(runs: Path, scenes: Scenes) -> tuple[nn.Module, Detection]:
    """The detector of the newest run below `runs` that knows the classes of `scenes`; else one that learned nothing."""
    for path in sorted(runs.glob("*/*/arch.json"), key=lambda path: -path.stat().st_mtime):
        with suppress(ValueError):  # damaged, or not a detector
            model, task, _ = load_detector(path.parent)
            if task.categories == scenes.categories:
                return model, task
    space, task = space_named("shuffle-tiny"), Detection(categories=scenes.categories, config=TINY_DETECTOR)
    return task.build(Backbone(space.spec(space.uniform(0)))).eval(), task
