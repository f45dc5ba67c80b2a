"""From a folder of your own to a detector: the data, the search, and what its networks are worth by the clock."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from workbench.data.loader import Data, find_folder
from workbench.data.scenes.coco_folder import write_scenes
from workbench.data.scenes.tasks import Scenes
from workbench.evaluation.latency import latencies_ms
from workbench.evaluation.statistics import pareto_front
from workbench.insight.plots import PHASE_COLOURS
from workbench.insight.style import BLUE, GREEN, ORANGE, QUIET, RIGHT, new_axes
from workbench.methods import candidates, gradient
from workbench.methods.compare import Network, Result
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas.presets import PRESETS
from workbench.methods.experiment import Experiment
from workbench.methods.fna import method as fna
from workbench.methods.fna.paper import plan_named
from workbench.methods.plan import Plan, input_sizes, one_of
from workbench.networks.backbone import Backbone
from workbench.records.files import base_folder
from workbench.records.score import Score
from workbench.spaces.arch import Arch
from workbench.spaces.space import SearchSpace

RANDOM, LIGHT = "best-scored random", "lightest within one error"
CLOCK = ["ms", "ms low", "ms high"]  # median and quartiles


def plan_of(method: str, preset: str, pretrain_data: str) -> Any:
    """The plan of a search on a folder: DetNAS's one-shot search, or FNA's around ImageNet weights.

    Without `pretrain_data` DetNAS starts from random weights. ValueError for any other method or preset.
    """
    one_of("search", method, ("DetNAS", "FNA"))
    one_of("preset", preset, ("smoke", "tiny", "small"))
    plan: Any = PRESETS[preset] if method == "DetNAS" else plan_named(preset, "detection")
    if preset == "tiny":
        plan = replace(plan, data=replace(plan.data, train_images=800, test_images=200))
    if method == "FNA":  # alpha learns from the search split
        return replace(plan, data=replace(plan.data, search_share=0.4))
    return replace(plan, rerank=None, classifier=plan.classifier if pretrain_data else None)


def folder_of(data: str, plan: Plan, seed: int, runs: str) -> str:
    """The COCO-format folder `data`; for `scenes` one that is written below `runs/cache`, the first time."""
    if data != "scenes":
        return str(find_folder(data))
    config = replace(plan.data.scenes, image_size=plan.data.image_side)
    sizes = {"train": plan.data.train_images, "test": plan.data.test_images}
    train, test = (Scenes(config, seed, split, size) for split, size in sizes.items())
    return str(write_scenes(base_folder() / runs / "cache", train, test))


def class_table(data: Data) -> pd.DataFrame:
    """Each class: its boxes and images, and the sizes of its objects (root of the area, pixels) at the input."""
    truth = {"training": data.full_train.ground_truth(), "test": data.test.ground_truth()}
    columns = ["category_id", "image_id", "area"]
    boxes = {name: pd.DataFrame(content["annotations"], columns=columns) for name, content in truth.items()}
    rows = []
    for label, name in enumerate(data.train.categories, start=1):
        own = {part: frame[frame["category_id"] == label] for part, frame in boxes.items()}
        sides = np.sqrt(own["training"]["area"])
        counts = {f"{part} boxes": len(frame) for part, frame in own.items()}
        counts |= {"training images": own["training"]["image_id"].nunique()}
        rows.append({"class": name, **counts, "median side": sides.median(), "smallest tenth": sides.quantile(0.1)})
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search left, by either method: all scored networks, the found one, and how one is made ready to train."""

    method: str
    space: SearchSpace
    scores: Mapping[str, Sequence[Score]]  # of the search, then of as many random networks, by the same supernet
    found: Arch
    baseline: Network
    phases: Mapping[str, Sequence[str]]  # in the ledger: what found the found network, and the best random one
    network: Callable[[str, Arch], Network]


def detnas_search(experiment: Experiment) -> Searched:
    """DetNAS: a supernet trained path by path, an evolution under a limit on MACs; the baseline is 3x3 everywhere."""
    pretrained = detnas.pretrain_supernet(experiment) if experiment.plan.classifier else None
    scorer = candidates.scorer(experiment, detnas.finetune_supernet(experiment, pretrained), experiment.task)
    scores = {kind: detnas.search(experiment, scorer, phase=kind, kind=kind) for kind in ("evolution", "random")}
    trained = ("pretrain supernet", "finetune supernet") if pretrained else ("finetune supernet",)
    space = detnas.space_of(experiment)

    def network(name: str, arch: Arch) -> Network:
        return Network(name=name, spec=space.spec(arch), arch=arch)

    return Searched(
        method="DetNAS",
        space=space,
        scores=scores,
        found=candidates.best(scores["evolution"], experiment.plan.fitness).arch,
        baseline=network("all 3x3", space.uniform(0)),
        phases={"DetNAS": (*trained, "evolution"), RANDOM: (*trained, "random")},
        network=network,
    )


def fna_search(experiment: Experiment) -> Searched:
    """FNA: kernels, widths and depths by gradient, from ImageNet weights; the baseline is the pretrained network."""
    seed = fna.seed_network(experiment.plan)
    search = fna.search(experiment, seed)
    found, space = search.derived().arch, search.space
    drawn = fna.random_search(experiment, search, found)
    return Searched(
        method="FNA",
        space=space,
        scores={"search": gradient.scored_epochs(experiment, search), "random": drawn},
        found=found,
        baseline=fna.network(experiment, seed, "seed network", fna.seed_form(experiment)),
        phases={"FNA": ("search", "score search"), RANDOM: ("search", "random on search")},
        network=lambda name, arch: fna.network(experiment, seed, name, space.spec(arch), arch),
    )


def clock_table(experiment: Experiment, searched: Searched, repeats: int) -> pd.DataFrame:
    """Every network that was scored, best first: `arch`, its score with error, costs, and milliseconds of one image.

    The clock measures backbone and neck, with random weights: `CLOCK` are the median and the quartiles.
    """
    metric = experiment.task.metric
    rows = []
    for kind, scores in searched.scores.items():
        for score in scores:
            if score.error is None:
                text = ", ".join(option for _, option in searched.space.describe(score.arch))
                values = [score.metrics[metric], score.metrics[f"{metric}_error"], score.macs, score.params]
                rows.append([kind, score.arch, text, *values])
    columns = ["scored by", "arch", "network", metric, f"{metric} error", "MACs", "params"]
    frame = pd.DataFrame(rows, columns=columns).drop_duplicates("arch", keep="last")
    models = [experiment.task.build(Backbone(searched.space.spec(arch))) for arch in frame["arch"]]
    image = one_image(experiment)
    layout: Any = {"device": experiment.device, "memory_format": torch.channels_last}
    calls = [(model.get_submodule("backbone").to(**layout), image) for model in models]
    frame[CLOCK] = [found[:3] for found in latencies_ms(calls, repeats=repeats)]
    return frame.sort_values([metric, "MACs"], ascending=[False, True], ignore_index=True)


def one_image(experiment: Experiment) -> Tensor:
    """Noise of the size that most images of the data have at the input, (1, 3, H, W), to be timed on."""
    height, width = Counter(input_sizes(experiment.plan, experiment.data)).most_common(1)[0][0]
    image = torch.rand(1, 3, height, width, device=experiment.device)
    return image.contiguous(memory_format=torch.channels_last)


def lightest(frame: pd.DataFrame, metric: str) -> Arch:
    """Of a `clock_table` the network with the fewest MACs whose score is within one standard error of the best.

    By MACs and not by the clock: the same seed must give the same network on a busy day.
    """
    best = frame.loc[frame[metric].idxmax()]
    within = frame[frame[metric] >= best[metric] - best[f"{metric} error"]]
    arch: Arch = within.sort_values(["MACs", "params"], kind="stable")["arch"].iloc[0]
    return arch


def networks_to_train(searched: Searched, frame: pd.DataFrame, metric: str) -> list[Network]:
    """The found network, the baseline, the best-scored random one, and the lightest of the best if it is another."""
    chosen = {searched.method: searched.found, RANDOM: candidates.best(searched.scores["random"], metric).arch}
    chosen |= {LIGHT: light} if (light := lightest(frame, metric)) not in chosen.values() else {}
    found, *others = (searched.network(name, arch) for name, arch in chosen.items())
    return [found, searched.baseline, *others]


def detector_clock(experiment: Experiment, results: Sequence[Result], repeats: int) -> pd.DataFrame:
    """Milliseconds (`CLOCK`) of whole trained detectors on one test image, in the order of `results`."""
    image = experiment.data.test[0][0].to(experiment.device).float() / 255
    calls = [(result.model, [image]) for result in results]
    return pd.DataFrame([found[:3] for found in latencies_ms(calls, repeats=repeats)], columns=CLOCK)


def plot_front(frame: pd.DataFrame, metric: str, group: str, ylabel: str) -> Axes:
    """A metric with its standard error over milliseconds with their quartiles; a line through what nothing else beats.

    `group` is the column that colours stand for.
    """
    ax = new_axes(7.4, 4.0)
    spare = iter((QUIET, GREEN, BLUE, ORANGE))
    for marker, (name, rows) in zip("o^sDvP", frame.groupby(group, sort=False), strict=False):
        colour = PHASE_COLOURS.get(str(name)) or next(spare)
        sideways = rows[["ms low", "ms high"]].sub(rows["ms"], axis=0).abs().T.to_numpy()
        ax.errorbar(rows["ms"], rows[metric], rows[f"{metric} error"], sideways, marker, color=colour, label=name,
                    markersize=6, elinewidth=0.7, alpha=0.8)  # fmt: skip
    front = frame.iloc[pareto_front(frame["ms"].tolist(), frame[metric].tolist())]
    ax.step(front["ms"], front[metric], where="post", color=QUIET, linewidth=1.2, label="front", zorder=0)
    ax.set(xlabel="milliseconds for one image (median; bars: quartiles)", ylabel=f"{ylabel} (0-1)")
    ax.legend(**RIGHT)
    return ax
