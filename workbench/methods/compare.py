"""Networks trained alike and compared alike.

Each is pre-trained or starts from given weights, is fine-tuned for the task, and is measured once on the test split.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from workbench.methods.phases import Study, Trained, new_model, train_phase
from workbench.networks.backbone import Backbone
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.costs import ImageSize, backbone_cost
from workbench.spaces.network_spec import NetworkSpec
from workbench.tasks.classification import Classification
from workbench.tasks.detection import Detection
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Start:
    """Pretrained weights that a network starts from, and in plain data where they come from."""

    weights: Backbone
    origin: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A network that takes part in a comparison; `group` gathers several that stand for one row (random networks).

    With a `start` it is not pre-trained but begins with those weights.
    """

    name: str
    spec: NetworkSpec
    arch: Arch | None = None
    group: str = ""
    start: Start | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A trained contender with its metrics on the test split and its detections (masks, poses) there."""

    contender: Contender
    metrics: dict[str, float]
    model: nn.Module
    detections: Any
    losses: tuple[float, ...]
    macs: int  # backbone, at the image size of the comparison
    params: int  # backbone
    detector_params: int  # of the whole model
    seconds: float  # pre-training and fine-tuning


def train_contender(
    study: Study,
    contender: Contender,
    *,
    task: Any,
    finetune: Recipe,
    macs_at: ImageSize,
    classification: Classification | None = None,
    pretrain: Recipe | None = None,
    initialise: Callable[[nn.Module], None] | None = None,
) -> Result:
    """Equal training for everybody: the same recipes, the same data order, initial weights from the same seed.

    `task` is what is fine-tuned for and measured; `classification` and `pretrain` are for those without a start.
    Models whose backbone was given its weights are kept in `runs/cache`: the same baseline serves many runs.
    """
    label = slug(contender.name)
    origin: dict[str, Any] = {"spec": spec_identity(contender.spec), "own initialisation": initialise is not None}
    seconds = 0.0
    accuracy: dict[str, float] = {}
    if contender.start is None:
        if classification is None or pretrain is None:
            raise ValueError(f"{contender.name} starts from no weights, and nothing says how to pre-train it.")
        model, first = _pretrained(study, contender, label, classification, pretrain, initialise, origin)
        weights, origin["pretrained"], seconds = model.get_submodule("backbone"), first.key, first.entry.seconds
        rng = generator(study.seed, "bootstrap")
        accuracy, _ = classification.measure(model, study.data.crops_test, study.device, rng=rng)
    else:
        weights, origin["start"] = contender.start.weights, dict(contender.start.origin)
    model = new_model(lambda: task.build(Backbone(contender.spec)), study.seed, "detector head")
    body_of(model).load_state_dict(weights.state_dict())
    second = train_phase(
        study,
        f"finetune {label}",
        model,
        task,
        study.data.full_train,
        finetune,
        origin=origin,
        shared=contender.start is not None,
        image_side=study.plan.data.image_side,
    )
    reset_peak_memory(study.device)
    start = time.perf_counter()
    metrics, found = test_metrics(study, model, task)
    metrics |= accuracy
    cost = backbone_cost(contender.spec, macs_at)
    study.run.ledger.add(
        Entry(
            phase=f"test {label}",
            seconds=time.perf_counter() - start,
            images=len(study.data.test),
            forward_macs=second.entry.forward_macs // max(1, second.entry.images) * len(study.data.test),
            peak_memory=peak_memory(study.device),
        )
    )
    return Result(
        contender=contender,
        metrics=metrics,
        model=model,
        detections=found,
        losses=second.losses,
        macs=cost.macs,
        params=cost.params,
        detector_params=sum(parameter.numel() for parameter in model.parameters()),
        seconds=seconds + second.entry.seconds,
    )


def _pretrained(
    study: Study,
    contender: Contender,
    label: str,
    classification: Classification,
    pretrain: Recipe,
    initialise: Callable[[nn.Module], None] | None,
    origin: Mapping[str, Any],
) -> tuple[nn.Module, Trained]:
    """The contender as a classifier trained on the crops."""

    def build() -> nn.Module:
        model = classification.build(Backbone(contender.spec))
        if initialise is not None:
            initialise(model)
        return model

    model = new_model(build, study.seed, "contender")
    trained = train_phase(
        study,
        f"pretrain {label}",
        model,
        classification,
        study.data.crops,
        pretrain,
        origin=origin,
        shared=True,
        image_side=study.data.crops[0][0].shape[-1],
    )
    return model, trained


def slug(name: str) -> str:
    """The name of a contender as it stands in the names of its phases."""
    return name.lower().replace(" ", "-").replace("/", "-")


def body_of(model: nn.Module) -> nn.Module:
    """The backbone inside a trained model: below a pyramid where the task has one."""
    backbone = model.get_submodule("backbone")
    return getattr(backbone, "body", backbone)


def test_metrics(study: Study, model: nn.Module, task: Any) -> tuple[dict[str, float], Any]:
    """The task's metrics on the test split with the error of the first, and what was found there."""
    metrics: dict[str, float]
    rng = generator(study.seed, "bootstrap")
    metrics, found = task.measure(model, study.data.test, study.device, rng=rng, batch_size=study.plan.scoring_batch)
    return metrics, found


def frozen_random_backbone(study: Study, spec: NetworkSpec, *, detection: Detection, finetune: Recipe) -> float:
    """Test AP50 of the same detector when its backbone keeps random weights: what the head alone can learn."""
    model = new_model(lambda: detection.build(Backbone(spec)), study.seed, "detector head")
    for parameter in model.get_submodule("backbone.body").parameters():
        parameter.requires_grad = False
    train_phase(
        study,
        "finetune frozen random backbone",
        model,
        detection,
        study.data.full_train,
        finetune,
        origin={"spec": spec_identity(spec), "frozen": True},
        image_side=study.plan.data.image_side,
    )
    return test_metrics(study, model, detection)[0]["AP50"]


def spec_identity(spec: NetworkSpec) -> dict[str, Any]:
    """What a network computes, without its name: equal networks found by two searches are trained once."""
    plain = spec.to_json()
    return {"blocks": plain["blocks"], "taps": plain["taps"], "expanded": plain["expanded"]}


def comparison_table(results: Sequence[Result]) -> pd.DataFrame:
    """One row for each contender: costs beside every accuracy.

    A group of networks becomes one row of means with the standard deviation of AP (mIoU) over its networks.
    """
    main = "mIoU" if "mIoU" in results[0].metrics else "AP"
    columns = COLUMNS if main == "AP" else MASK_COLUMNS
    rows = []
    for result in results:
        metrics = result.metrics
        rows.append(
            {
                "network": result.contender.group or result.contender.name,
                "MACs": result.macs,
                "params": result.params,
                "detector params": result.detector_params,
                **{name: metrics.get(name, float("nan")) for name in columns},
                f"{main} error": metrics[f"{main}_error"],
                "training seconds": round(result.seconds, 1),
            }
        )
    frame = pd.DataFrame(rows)
    sizes = frame.groupby("network", sort=False).size()
    means = frame.groupby("network", sort=False).mean().reset_index()
    spread = frame.groupby("network", sort=False)[main].std()  # empty for a single network
    costs = ["MACs", "params", "detector params"]
    means[costs] = means[costs].round().astype(int)
    means.insert(list(means).index(main) + 1, f"{main} sd", spread.to_numpy())
    # What nobody has: accuracy where everybody started from given weights, sizes of objects in poses.
    optional = [name for name in ("top1", "PCK", *SIZE_COLUMNS) if name in means and means[name].isna().all()]
    means = means.drop(columns=optional)
    means["network"] = [f"{name} (mean of {sizes[name]})" if sizes[name] > 1 else name for name in means["network"]]
    return means


SIZE_COLUMNS = ("AP_rel_s", "AP_rel_m", "AP_rel_l")
COLUMNS = ("top1", "AP", "AP50", "AP75", *SIZE_COLUMNS, "AR", "PCK")
MASK_COLUMNS = ("mIoU", "pixel accuracy")
