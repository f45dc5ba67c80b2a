"""CR-NAS on tasks whose answer is known: positive controls with the linear probe at object centres.

*Dot*: the class of a fish is the colour of a dot r pixels away. A network whose effective field hardly reaches r stays
at chance, so a search that works must find the larger field, and finds nothing to do where r is small.
*Eels*: the species is the colour of the head, half a length from the centre. Large animals ask for depth at low
resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.scoring import Scorer
from workbench.evaluation.statistics import rank_correlation
from workbench.methods import candidates, one_shot
from workbench.methods.crnas.presets import BeamPart
from workbench.methods.experiment import Experiment, new_model
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.phases import train_phase
from workbench.methods.plan import ScoringPart
from workbench.networks.backbone import Backbone
from workbench.networks.choices import Sharing
from workbench.networks.supernet import Supernet
from workbench.records.files import digest
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.exhaustive import ExhaustiveSearch
from workbench.spaces.allocation import PREFIX
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SearchSpace
from workbench.tasks.probe import Probe
from workbench.training.recipe import Recipe

EELS = {name: SceneConfig(classes="eel", sizes=name) for name in ("small", "large")}


@dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """Everything that a run of the controls does, as numbers."""

    backbone: str = "resnet-bottleneck-tiny"  # one 3x3 in each block: its field is easy to say
    depths: tuple[int, ...] = (2, 2, 2)  # of the dot task: an undilated unit reaches 43 pixels to each side
    distances: tuple[int, ...] = (16, 48)
    mixed_distances: tuple[int, ...] = (16, 32, 48)  # what the dot supernet is trained on
    budget: float = 8  # blocks, of the eel task
    layouts: tuple[tuple[int, ...], ...] = ((6, 1, 1), (3, 3, 2), (1, 1, 6))  # eels: trained on their own
    starts: int = 3  # initialisations of each network of the dot task, the best counts
    train_images: int = 1600
    search_images: int = 192
    test_images: int = 400
    recipe: Recipe  # of a network on the dot task
    supernet: Recipe  # of all dilations on the dot task
    eel_recipe: Recipe
    eel_supernet: Recipe  # of all allocations
    kernels: Sharing = "shared"  # of the dilations; separate ones did not learn r = 48 in 400 steps
    branches: Sharing = "separate"  # of the depths
    scoring: ScoringPart
    beam: BeamPart
    macs_at: int = 128


_STEPS = Recipe(steps=100, batch_size=32, lr=4e-3, optimizer="adamw", weight_decay=0.02, warmup=0.05)

_FEW = replace(_STEPS, steps=2, batch_size=4)

TINY = ProbePlan(
    recipe=_STEPS,
    supernet=replace(_STEPS, steps=700),  # 400 leave one seed of three at 0.66 even for near dots
    eel_recipe=replace(_STEPS, steps=200),
    eel_supernet=replace(_STEPS, steps=400),
    scoring=ScoringPart(calibration_images=128, calibration_batch=32, batch=48),
    beam=BeamPart(width=3, completions=4),
)
SMOKE = replace(
    TINY,
    train_images=32, search_images=8, test_images=8, distances=(48,), budget=5, layouts=((1, 1, 3), (3, 1, 1)),
    starts=1, recipe=_FEW, supernet=_FEW, eel_recipe=_FEW, eel_supernet=_FEW,
    scoring=ScoringPart(calibration_images=8, calibration_batch=4, batch=4), beam=BeamPart(width=2, completions=2),
)  # fmt: skip
PRESETS: dict[str, ProbePlan] = {"smoke": SMOKE, "tiny": TINY}


@dataclass(frozen=True)
class Interleaved:
    """Scenes of several tasks with the same classes, taken in turn: a task learned along with easier ones."""

    parts: tuple[Scenes, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return self.parts[0].categories

    @property
    def digest(self) -> str:
        return digest([part.digest for part in self.parts])

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [size for part in self.parts for size in part.sizes]

    def __getitem__(self, index: int) -> Any:
        return self.parts[index % len(self.parts)][index // len(self.parts)]


@dataclass(frozen=True, kw_only=True)
class ProbeData:
    """Scenes of one task; `test` is seen once."""

    train: Scenes | Interleaved
    search: Scenes
    test: Scenes
    digest: str


def dot_task(distance: int) -> SceneConfig:
    """Fish whose class is the colour of a dot `distance` pixels away."""
    return SceneConfig(classes="dot", context_distance=distance, objects=(1, 2), clutter=0)


def probe_data(plan: Any, config: SceneConfig, seed: int) -> ProbeData:
    """Scenes for a plan with `train_images`, `search_images` and `test_images`."""
    counts = (("train", plan.train_images), ("search", plan.search_images), ("test", plan.test_images))
    train, search, test = (Scenes(config, seed, split, count) for split, count in counts)
    return ProbeData(train=train, search=search, test=test, digest=digest([train.digest, search.digest, test.digest]))


def with_easier_distances(experiment: Experiment) -> Experiment:
    """The same run with training scenes of all of the plan's distances in turn; search and test scenes stay.

    From dots 48 pixels away alone a supernet often learned nothing in 800 steps (two of four runs): many of its random
    paths cannot see them. With near dots it knows what to look for after 100.
    """
    plan: ProbePlan = experiment.plan
    count = plan.train_images // len(plan.mixed_distances)
    parts = tuple(Scenes(dot_task(distance), experiment.seed, "train", count) for distance in plan.mixed_distances)
    return replace(experiment, data=replace(experiment.data, train=Interleaved(parts)))


def on_task(experiment: Experiment, config: SceneConfig) -> Experiment:
    """The same run on the scenes of another task."""
    return replace(experiment, data=probe_data(experiment.plan, config, experiment.seed))


def probe_task(experiment: Experiment) -> Probe:
    return Probe(categories=experiment.data.train.categories)


def train_network(experiment: Experiment, name: str, spec: NetworkSpec, recipe: Recipe, start: int = 0) -> float:
    """Test accuracy (0-1) of one network; chance is 1 / classes. `start` chooses the initial weights."""
    task = probe_task(experiment)
    model = new_model(lambda: task.build(Backbone(spec)), experiment.seed, f"probe {start}")
    origin = {"spec": spec.to_json(), "start": start}
    train_phase(experiment, name, model, task, experiment.data.train, recipe, origin=origin)
    rng = generator(experiment.seed, "bootstrap")
    return task.measure(model, experiment.data.test, experiment.device, rng=rng)[0]["accuracy"]


def best_of_starts(experiment: Experiment, name: str, spec: NetworkSpec) -> float:
    """Test accuracy of the best of as many initialisations as the plan says.

    Far cues are learned within 50 steps or, from some initial weights, not in a few hundred; whether a network *can*
    learn to see shows in its best start. A start above 0.9 is good enough.
    """
    best, recipe = 0.0, experiment.plan.recipe
    for start in range(experiment.plan.starts):
        if best < 0.9:
            best = max(best, train_network(experiment, f"{name}, start {start + 1}", spec, recipe, start))
    return best


def train_supernet(experiment: Experiment, name: str, space: SearchSpace, recipe: Recipe) -> TrainedSupernet:
    """A supernet trained on the probe task itself; branches start with equal weights, as in the tiny plan of CR-NAS."""
    sharing: Sharing = experiment.plan.branches if space.name.startswith(PREFIX) else experiment.plan.kernels
    task, data = probe_task(experiment), experiment.data.train
    options: dict[str, Any] = {"stream": "probe supernet", "origin": {"sharing": sharing}, "aligned": True}
    return one_shot.train_supernet(experiment, name, lambda: Supernet(space, sharing), task, data, recipe, **options)


def probe_scorer(experiment: Experiment, supernet: TrainedSupernet) -> Scorer:
    """Scores by accuracy at the object centres of the search split."""
    return candidates.scorer(experiment, supernet, probe_task(experiment))


def ablated(experiment: Experiment, scorer: Scorer, winner: Score, phase: str) -> dict[str, float]:
    """Accuracy by the supernet of a found code, undilated, and with only its late or only its early dilations left.

    Early are those of the first stage.
    """
    space = scorer.supernet.space
    late = np.array([decision.stage > space.decisions[0].stage for decision in space.decisions])
    found = np.array(winner.arch.choices)
    codes = {"found": found, "undilated": 0 * found, "late only": found * late, "early only": found * ~late}
    archs = {name: space.arch(code.tolist()) for name, code in codes.items()}
    distinct = list(dict.fromkeys(archs.values()))
    options: dict[str, Any] = {"phase": phase, "evaluations": len(distinct), "generation": len(distinct)}
    scores = candidates.search(experiment, ExhaustiveSearch(distinct), scorer, **options)
    values = dict(zip(distinct, (score.metrics["accuracy"] for score in scores), strict=True))
    return {name: values[arch] for name, arch in archs.items()}


def depth_preference(rankings: dict[str, pd.DataFrame], alone: dict[str, dict[tuple[int, ...], float]]) -> pd.DataFrame:
    """One row for each size of animals, from the tables of `ranking_table`.

    `tau` is the rank correlation of accuracy with the centre of mass over all allocations: positive prefers deep ones.
    Then the best allocation's centre of mass, and the accuracy of the layouts trained alone.
    """
    rows: list[dict[str, Any]] = []
    for size, frame in rankings.items():
        centres = frame["centre of mass"]
        row = {"eels": size, "tau with depth": rank_correlation(centres, frame["accuracy"]).value}
        row |= {"centre of mass, best five": float(np.mean(centres[:5]))}
        row |= {"centre of mass, all": float(np.mean(centres))}
        rows.append(row | {f"alone {list(depths)}": accuracy for depths, accuracy in alone[size].items()})
    return pd.DataFrame(rows)


def mean_stage(rates: Sequence[int], stages: Sequence[int]) -> float:
    """The mean stage of what is dilated, each block weighted by its dilation beyond 1; nan when nothing is."""
    weights = np.asarray(rates) - 1
    return float((weights * np.asarray(stages)).sum() / weights.sum()) if weights.sum() else float("nan")
