"""Networks trained alike and compared alike: the found one, its baselines, and random controls.

Each is pre-trained or starts from given weights, is fine-tuned for the task, and is measured once on the test split.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import pandas as pd
from torch import nn

from workbench.evaluation.verdict import Comparison, Rival, Verdict, judge
from workbench.insight.plots import SIZES
from workbench.insight.tables import stored_seeds
from workbench.methods.experiment import Experiment, body_of, new_model
from workbench.methods.phases import Trained, train_phase
from workbench.networks.backbone import Backbone
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.costs import backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.training.recipe import autocast

# The columns of a comparison by its main metric.
SHOWN = {
    "mIoU": ("mIoU", "pixel accuracy"),
    "accuracy": ("accuracy",),
    "AP": ("top1", "AP", "AP50", "AP50 VOC07", "AP50 VOC10", "AP75", *SIZES, "AR", "mask AP", "mask AP50", "PCK"),
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """Pretrained weights that a network starts from, and in plain data where they come from."""

    weights: Backbone
    origin: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One row of a comparison; `group` gathers several that stand for one row (random networks).

    With a `start` it is not pre-trained but begins with those weights; without one in a plan that pre-trains nothing it
    begins with random ones.
    """

    name: str
    spec: NetworkSpec
    arch: Arch | None = None
    group: str = ""
    start: Start | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trained network with its metrics on the test split and what it found there (boxes, masks, poses)."""

    network: Network
    metrics: dict[str, float]
    model: nn.Module
    detections: Any
    losses: tuple[float, ...]
    macs: int  # backbone, at the image size of the comparison
    params: int  # backbone
    detector_params: int  # of the whole model
    seconds: float  # pre-training and fine-tuning


def train_all(
    experiment: Experiment,
    networks: Sequence[Network],
    *,
    steps: int = 0,
    initialise: Callable[[nn.Module], None] | None = None,
) -> list[Result]:
    """The same training for every network, of the plan's length or `steps`; each is measured once.

    The found network comes first, then what it must beat, then random controls. ValueError when two share a name.
    """
    names = [network.name for network in networks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Networks of one comparison have names of their own, but {twice} stand for several.")
    return [train_network(experiment, network, steps=steps, initialise=initialise) for network in networks]


def train_network(
    experiment: Experiment,
    network: Network,
    *,
    steps: int = 0,
    initialise: Callable[[nn.Module], None] | None = None,
) -> Result:
    """Equal training for everybody: the same recipes, the same data order, initial weights from the same seed.

    Models whose backbone was given its weights are kept in `runs/cache`: the same baseline serves many runs.
    """
    plan, data, task, label = experiment.plan, experiment.data, experiment.task, slug(network.name)
    origin: dict[str, Any] = {"spec": spec_identity(network.spec), "own initialisation": initialise is not None}
    seconds, accuracy = 0.0, dict[str, float]()
    weights: Backbone | None = None
    if network.start is not None:
        weights, origin["start"] = network.start.weights, dict(network.start.origin)
    elif plan.classifier is not None:
        weights, first, accuracy = train_classifier(
            experiment, network.spec, f"pretrain {label}", stream="network", origin=origin, initialise=initialise
        )
        origin["pretrained"], seconds = first.key, first.entry.seconds
    model = new_model(lambda: task.build(Backbone(network.spec)), experiment.seed, "detector head")
    if weights is not None:
        body_of(model).load_state_dict(weights.state_dict())
    elif initialise is not None:
        initialise(body_of(model))
    second = train_phase(
        experiment,
        f"finetune {label}",
        model,
        task,
        data.full_train,
        replace(plan.finetune, steps=steps or plan.finetune.steps),
        origin=origin,
        shared=network.start is not None,
        image_side=plan.data.image_side,
    )
    start = time.perf_counter()
    reset_peak_memory(experiment.device)
    metrics, found = test_metrics(experiment, model)
    cost = backbone_cost(network.spec, plan.macs_at)
    experiment.run.ledger.add(
        Entry(
            phase=f"measure {label}",
            seconds=time.perf_counter() - start,
            images=len(data.test),
            forward_macs=second.entry.forward_macs // max(1, second.entry.images) * len(data.test),
            peak_memory=peak_memory(experiment.device),
        )
    )
    return Result(
        network=network,
        metrics=metrics | accuracy,
        model=model,
        detections=found,
        losses=second.losses,
        macs=cost.macs,
        params=cost.params,
        detector_params=sum(parameter.numel() for parameter in model.parameters()),
        seconds=seconds + second.entry.seconds,
    )


def train_classifier(
    experiment: Experiment,
    spec: NetworkSpec,
    name: str,
    *,
    stream: str,
    origin: Mapping[str, Any],
    initialise: Callable[[nn.Module], None] | None = None,
) -> tuple[Backbone, Trained, dict[str, float]]:
    """A backbone trained as a classifier, and its accuracy on unseen images (`top1`); kept in `runs/cache`.

    `stream` names the draw of initial weights.
    """
    plan, data, task = experiment.plan, experiment.data, experiment.classification

    def build() -> nn.Module:
        model = task.build(Backbone(spec))
        if initialise is not None:
            initialise(model)
        return model

    model, recipe, side = new_model(build, experiment.seed, stream), plan.classifier.recipe, plan.data.crop_side
    trained = train_phase(
        experiment, name, model, task, data.crops, recipe, origin=origin, shared=True, image_side=side
    )
    rng = generator(experiment.seed, "bootstrap")
    with autocast(recipe, experiment.device):
        metrics, _ = task.measure(model, data.crops_test, experiment.device, rng=rng)
    body = model.get_submodule("backbone")
    assert isinstance(body, Backbone)
    return body, trained, {task.metric: metrics[task.metric]}


def slug(name: str) -> str:
    """The name of a network as it stands in the names of its phases."""
    return name.lower().replace(" ", "-").replace("/", "-")


def test_metrics(experiment: Experiment, model: nn.Module) -> tuple[dict[str, float], Any]:
    """The task's metrics on the test split with the error of the first, and what was found there."""
    rng, batch = generator(experiment.seed, "bootstrap"), experiment.plan.scoring.batch
    metrics: dict[str, float]
    device, test = experiment.device, experiment.data.test
    with autocast(experiment.plan.finetune, device):
        metrics, found = experiment.task.measure(model, test, device, rng=rng, batch_size=batch)
    return metrics, found


def frozen_random_backbone(experiment: Experiment, spec: NetworkSpec) -> float:
    """Test AP50 of the same detector when its backbone keeps random weights: what the head alone can learn."""
    task = experiment.task
    model = new_model(lambda: task.build(Backbone(spec)), experiment.seed, "detector head")
    for parameter in body_of(model).parameters():
        parameter.requires_grad = False
    train_phase(
        experiment,
        "finetune frozen random backbone",
        model,
        task,
        experiment.data.full_train,
        experiment.plan.finetune,
        origin={"spec": spec_identity(spec), "frozen": True},
        image_side=experiment.plan.data.image_side,
    )
    return test_metrics(experiment, model)[0]["AP50"]


def spec_identity(spec: NetworkSpec) -> dict[str, Any]:
    """What a network computes, without its name: equal networks found by two searches are trained once."""
    plain = spec.to_json()
    return {"blocks": plain["blocks"], "taps": plain["taps"], "expanded": plain["expanded"]}


def comparison_table(results: Sequence[Result]) -> pd.DataFrame:
    """One row for each network: costs and every accuracy, on the ladder also those at each distance.

    A group of networks becomes one row of means with the standard deviation of the main metric over its networks.
    """
    main = next(metric for metric in SHOWN if metric in results[0].metrics)
    shown = [*SHOWN[main], *(name for name in results[0].metrics if name.endswith(" px"))]
    frame = pd.DataFrame(
        {
            "network": result.network.group or result.network.name,
            "MACs": result.macs,
            "params": result.params,
            "detector params": result.detector_params,
            **{name: result.metrics.get(name) for name in shown},
            # AP50 has an error where it is what was searched for (Pascal VOC).
            **{f"{n} error": result.metrics[f"{n}_error"] for n in (main, "AP50") if f"{n}_error" in result.metrics},
            "training seconds": round(result.seconds, 1),
        }
        for result in results
    )
    groups = frame.astype({name: float for name in frame if name != "network"}).groupby("network", sort=False)
    means, sizes = groups.mean().reset_index(), groups.size()
    costs = ["MACs", "params", "detector params"]
    means[costs] = means[costs].round().astype(int)
    means.insert(list(means).index(main) + 1, f"{main} sd", groups[main].std().to_numpy())  # empty for one network
    # What nobody has: accuracy where everybody started from given weights, sizes of objects in poses, VOC's metrics.
    optional = [name for name in shown if means[name].isna().all()]
    means["network"] = [f"{name} (mean of {sizes[name]})" if sizes[name] > 1 else name for name in means["network"]]
    return means.drop(columns=optional)


def verdict(
    experiment: Experiment,
    table: pd.DataFrame,
    *,
    found: str,
    baseline: str,
    random: str = "",
    searches: Mapping[str, Sequence[str]] | None = None,
    why: str = "",
    stored: str = "",
) -> Verdict:
    """The verdict on the row `found` of a comparison table (`network`, `MACs`, the task's metric and its `error`).

    `baseline` and `random` (empty: no control) name other rows. `searches` are the phases in the ledger that led to a
    row, `why` is what the search had to go by. Seeds stored as `data/results/<stored>.csv` (empty: the notebook's name)
    are told beside it. The run keeps the verdict under the name of the found row; it may have several, of several
    methods. ValueError for a row or a phase that is not there.
    """
    metric, run = experiment.task.metric, experiment.run
    entries = {entry.phase: entry for entry in run.ledger.entries}
    wanted = dict(searches or {})
    if missing := sorted({found, *wanted} - {*table["network"]}) or sorted({*chain(*wanted.values())} - {*entries}):
        raise ValueError(f"The verdict on {found} names {missing[0]!r}, neither a row nor a phase of this run.")

    def rival(row: Mapping[str, Any]) -> Rival:
        costs = [entries[phase] for phase in wanted.get(row["network"], ())]
        return Rival(
            name=row["network"],
            value=float(row[metric]),
            error=float(row[f"{metric} error"]),
            macs=int(row["MACs"]),
            seconds=sum(entry.seconds for entry in costs),
            forward_macs=sum(entry.forward_macs for entry in costs),
        )

    rivals = {row["network"]: rival(row) for row in table.to_dict("records")}
    comparison = Comparison(
        method=found,
        metric=metric,
        found=rivals.pop(found),
        others=tuple(rivals.values()),
        baseline=baseline,
        random=random,
        why=why,
    )
    told = judge([comparison], stored_seeds(stored or run.notebook, metric))
    run.save_verdict(asdict(comparison) | {"sentence": told.sentence})
    return told
