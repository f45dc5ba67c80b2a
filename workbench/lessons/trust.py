"""How far a search can be trusted: all networks of a small space trained alone, and what that table can tell."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import nn

from workbench.data.loader import Data, DataPlan, load_data
from workbench.evaluation import benchmark
from workbench.evaluation.benchmark import text_of
from workbench.evaluation.recalibration import batch_norms
from workbench.evaluation.scoring import Scorer
from workbench.insight.tables import DATA
from workbench.lessons.benchmark_table import EXHAUSTIVE, TablePlan, table_scenes, train_row, train_table
from workbench.methods import candidates, one_shot
from workbench.methods.crnas.presets import BeamPart
from workbench.methods.experiment import Experiment, new_model
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.paths import PathRule, path_wise, step_paths
from workbench.methods.plan import ScoringPart
from workbench.methods.presets import LADDER, PROBE
from workbench.networks.supernet import Supernet
from workbench.records.files import digest
from workbench.records.progress import Progress, reporter
from workbench.search.evolution import EvolutionConfig
from workbench.spaces.catalogue import space_named
from workbench.tasks.probe import ProbeConfig
from workbench.training.fit import fit
from workbench.training.recipe import Recipe
from workbench.training.timing import seconds_per_step


@dataclass(frozen=True, kw_only=True)
class SupernetRecipe:
    """How a supernet is trained path by path, and how its networks are scored."""

    aligned: bool = True
    paths: PathRule = "uniform"
    averaged: int = 0
    # What scored networks normalise by: the exact average over calibration images, or each scored batch's own.
    statistics: Literal["calibrated", "of the batch"] = "calibrated"


RECIPES: dict[str, SupernetRecipe] = {
    "uniform": SupernetRecipe(aligned=False),
    "aligned": SupernetRecipe(),
    "fair": SupernetRecipe(paths="fair"),
    "sandwich": SupernetRecipe(paths="sandwich"),
    "averaged": SupernetRecipe(averaged=10),
    "batch statistics": SupernetRecipe(statistics="of the batch"),
}


@dataclass(frozen=True, kw_only=True)
class TrustPlan:
    """Everything that a run does, as numbers."""

    table: TablePlan = EXHAUSTIVE
    stand_in: int = 0  # networks trained on the spot where the stored table has too few; 0: that is an error
    recipe: str = "aligned"  # one of RECIPES
    supernet: Recipe
    scoring: ScoringPart
    data: DataPlan  # for the supernet; of the test images only some are looked at
    head: ProbeConfig = field(default_factory=ProbeConfig)
    macs_at: int = 128
    evaluations: int = 30
    runs: int = 1000  # of each simulated search
    evolution: EvolutionConfig
    beam: BeamPart
    differences: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)

    @property
    def finetune(self) -> Recipe:
        """Scores are computed in the precision of the supernet's training."""
        return self.supernet


TINY = TrustPlan(
    data=DataPlan(image_side=128, crop_side=32, train_images=3200, search_images=300, test_images=6, scenes=LADDER),
    # After 800 steps this supernet has hardly begun to read the dots: its best network scores 0.56, chance is 0.5.
    supernet=replace(PROBE, steps=2000),
    scoring=ScoringPart(calibration_images=128, calibration_batch=32, batch=32),
    evolution=EvolutionConfig(population=10, parents=5, mutants=4, crossings=4, mutation_probability=0.5),
    beam=BeamPart(width=3, completions=4),
)
_FEW = replace(PROBE, steps=2, batch_size=4)
SMOKE = replace(
    TINY,
    table=replace(EXHAUSTIVE, recipe=_FEW, train_images=16, test_images=8),
    stand_in=12,
    supernet=_FEW,
    scoring=ScoringPart(calibration_images=8, calibration_batch=4, batch=4),
    data=replace(TINY.data, train_images=16, search_images=8),
    runs=20,
)
PRESETS: dict[str, TrustPlan] = {"smoke": SMOKE, "tiny": TINY}
LEAST = 8  # networks, for a table to be read


def benchmark_rows(plan: TrustPlan, folder: Path, seed: int, further: int) -> tuple[pd.DataFrame, str]:
    """The rows of the table in `folder`, and a sentence that says how many there are.

    `further` rows of `seed` are trained first, and kept there. ValueError when fewer than `LEAST` networks are known
    from two seeds, and when rows of a shortened training would come to those that the project keeps.
    """
    space = space_named(plan.table.space)
    if further and plan.table != EXHAUSTIVE and folder.resolve() == (DATA / "benchmark").resolve():
        raise ValueError(f"{folder} holds full trainings, and these are shorter; let `table` name another folder.")
    if further:
        name = f"{space.name}-seed{seed}"
        train_table(plan.table, folder / f"{name}.csv", seed, further, reporter(name))
    rows = benchmark.read_tables(folder, space)
    if (known := int((rows.groupby("choices")["seed"].nunique() > 1).sum())) >= LEAST:
        counts = rows.groupby("seed").size()
        seeds = ", ".join(f"{count} of seed {seed}" for seed, count in counts.items())
        networks = rows["choices"].nunique()
        return rows, f"{len(rows)} trainings of {networks} of the {space.size} networks of {space.name}: {seeds}."
    held = f"{folder} holds {known} networks of {space.name} from two seeds, and it takes {LEAST}"
    told = f"The table is not there yet: {held}."
    if not plan.stand_in:
        raise ValueError(f"{told} Train some with train_rows.")
    spread = np.linspace(0, space.size - 1, plan.stand_in).astype(int)
    archs = [arch for place, arch in enumerate(space.all()) if place in spread]
    drawn = {each: table_scenes(plan.table, each) for each in (0, 1)}
    rows = pd.DataFrame([train_row(plan.table, arch, each, *data) for each, data in drawn.items() for arch in archs])
    return rows, f"{told} Here are {len(archs)} networks after {plan.table.recipe.steps} steps: they say nothing."


def trust_data(plan: TrustPlan, rows: pd.DataFrame, seed: int) -> Data:
    """Scenes for the supernet; the digest is that of the table as well, because every number depends on it."""
    data = load_data(plan.data, "detection", "scenes", seed=seed)
    return replace(data, digest=digest([data.digest, rows.to_csv(index=False)]))


def train_supernet(experiment: Experiment, name: str, recipe: SupernetRecipe, steps: int = 0) -> TrainedSupernet:
    """The supernet of all networks on the ladder, kept in `runs/cache`; `steps` other than the plan's if given."""
    plan: TrustPlan = experiment.plan
    space, task, data = space_named(plan.table.space), experiment.task, experiment.data.train
    training = replace(plan.supernet, steps=steps or plan.supernet.steps)
    how: dict[str, Any] = {"aligned": recipe.aligned, "paths": recipe.paths, "averaged": recipe.averaged}
    options: dict[str, Any] = {"stream": "probe supernet", "origin": {}, "shared": True, **how}
    return one_shot.train_supernet(
        experiment, f"train supernet ({name})", lambda: Supernet(space), task, data, training, **options
    )


def score_networks(
    experiment: Experiment, name: str, recipe: SupernetRecipe, supernet: TrainedSupernet
) -> dict[str, float]:
    """Accuracy of every network of the space on the search split, by the weights of the supernet; by choices."""
    judge = candidates.scorer(experiment, supernet, experiment.task)
    if recipe.statistics == "of the batch":
        judge = _by_batch(judge)
    scores = candidates.score_all(experiment, supernet.supernet.space.all(), judge, f"search supernet ({name})")
    return {text_of(score.arch): score.metrics["accuracy"] for score in scores if score.error is None}


def _by_batch(judge: Scorer) -> Scorer:
    """The scorer without recalibration: batch norms normalise every scored batch by itself."""

    def measure(model: nn.Module, before_batch: Callable[[int], None]) -> dict[str, float]:
        def prepare(index: int) -> None:
            before_batch(index)
            for norm in batch_norms(model):
                norm.train()

        return judge.measure(model, prepare)

    return replace(judge, measure=measure, recalibrated=False)


def seconds_of(experiment: Experiment, name: str) -> float:
    """What training the supernet of that name and scoring all networks with it took, cached or not."""
    phases = {f"{verb} supernet ({name})" for verb in ("train", "search")}
    return sum(entry.seconds for entry in experiment.run.ledger.entries if entry.phase in phases)


def updates_table(supernet: TrainedSupernet) -> pd.DataFrame:
    """How many passes of the training updated each option of each decision."""
    decisions = supernet.supernet.space.decisions
    rows = [dict(zip(d.options, counts, strict=True)) for d, counts in zip(decisions, supernet.updates, strict=True)]
    return pd.DataFrame(rows, index=pd.Index([decision.name for decision in decisions], name="decision")).reset_index()


def recipe_table(experiment: Experiment, scores: pd.DataFrame) -> pd.DataFrame:
    """Every recipe of `RECIPES` at equal seconds of training: tau with the table, overall and in its top quarter."""
    means = scores.mean(axis=1)
    steps = steps_of_equal_seconds(experiment)
    rows = []
    for name, recipe in RECIPES.items():
        label = f"{name}, equal seconds"
        supernet = train_supernet(experiment, label, recipe, steps[recipe.paths])
        found = score_networks(experiment, label, recipe, supernet)
        (row,) = benchmark.predictor_table({name: found}, means).to_dict("records")
        training, seconds = supernet.trained.entry.seconds, seconds_of(experiment, label)
        cost = {"steps": steps[recipe.paths], "training s": training, "scoring s": seconds - training}
        named = {"recipe": row.pop("predictor"), **cost, **row}
        rows.append(named | {"tau per minute": row["tau"] / (seconds / 60)})
    return pd.DataFrame(rows)


def steps_of_equal_seconds(experiment: Experiment) -> dict[str, int]:
    """How many steps of each path rule take as long as the plan's of uniform paths; measured once for each run.

    All scenes are drawn before: the recipe that is trained first must not pay for the others.
    """
    plan, data, task = experiment.plan, experiment.data.train, experiment.task
    for index in range(len(data)):
        data[index]
    name, key, steps = "steps of equal seconds", digest(vars(plan.supernet)), plan.supernet.steps
    if (kept := experiment.run.load(name, key)) is not None:
        return kept
    space = space_named(plan.table.space)
    seconds: dict[str, float] = {}
    rules: tuple[PathRule, ...] = ("uniform", "fair", "sandwich")
    for rule in rules:
        model = new_model(lambda: task.build(Supernet(space)), experiment.seed, "timing")
        before = path_wise(step_paths(space, rule), rule, task)

        def trial(count: int, progress: Progress, model: nn.Module = model, before: Any = before) -> None:
            short = replace(plan.supernet, steps=count)
            fit(model, task, data, short, seed=0, device=experiment.device, before_step=before, progress=progress)

        seconds[rule] = seconds_per_step(trial, steps)
    found: dict[str, int] = {rule: max(1, round(steps * seconds["uniform"] / seconds[rule])) for rule in rules}
    experiment.run.store(name, key, found)
    return found
