"""The lesson on transfer: a found network in other detectors, on other data, in other tasks, without a new search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench.data.loader import Data, DataPlan, TaskName
from workbench.data.scenes.scene import SceneConfig
from workbench.insight.style import QUIET, RIGHT, SERIES, new_axes
from workbench.insight.tables import paper_table, stored_results
from workbench.methods import presets as common
from workbench.methods.compare import Network, Result, Start, spec_identity, train_all, train_classifier
from workbench.methods.crnas import presets as crnas
from workbench.methods.experiment import Experiment
from workbench.methods.plan import Plan, shortened
from workbench.methods.presets import FAST
from workbench.records.files import read_json
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import PREFIX, dilation_space_name
from workbench.spaces.published import CRNAS
from workbench.spaces.residual import labelled, residual_spec
from workbench.tasks.pose import PoseConfig
from workbench.tasks.segmentation import SegmenterConfig
from workbench.training.recipe import Recipe

NETWORKS = ("found", "baseline", "random")
PARTS = ("backbone", "neck", "head", "masks")  # of a whole model


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where the networks are moved to; `measures` are the metrics that are read there."""

    task: TaskName = "detection"
    data: DataPlan
    head: Any
    finetune: Recipe
    measures: tuple[str, ...] = ("AP",)


@dataclass(frozen=True, kw_only=True)
class TransferPlan(Plan):
    """The setting of the search, in the fields of every plan, and the others by name."""

    settings: Mapping[str, Setting]


_DATA = replace(common.TINY_DATA, test_images=200)
_FASTER = replace(common.TINY_DETECTOR, kind="faster_rcnn", pyramid_extra="pool", head_regions=64)
_SHORT = replace(FAST, steps=150, batch_size=8, lr=4e-3)
_POSE = replace(_DATA, scenes=SceneConfig(sizes="large"), train_images=600, test_images=100, pose_crop=(128, 128))


def _regions(**changes: Any) -> Setting:
    masks = changes.get("masks", False)
    measures = ("AP", "mask AP") if masks else ("AP",)
    head = replace(_FASTER, **changes)
    return Setting(data=replace(_DATA, masks=masks), head=head, finetune=_SHORT, measures=measures)


_CASCADE = (0.5, 0.6, 0.7)
_OTHERS = SceneConfig(species=("shark", "jellyfish", "turtle", "fish"), clutter=8)
TINY = TransferPlan(
    data=_DATA,
    head=common.TINY_DETECTOR,
    classifier=crnas.SPECIES.classifier,
    scoring=common.TINY_SCORING,
    finetune=replace(FAST, steps=250, lr=4e-3),
    macs_at=128,
    random_networks=1,
    settings={
        "faster_rcnn": _regions(),
        "mask_rcnn": _regions(masks=True),
        "cascade": _regions(box_iou=_CASCADE),
        "cascade_mask": _regions(box_iou=_CASCADE, masks=True),
        "nas_fpn": _regions(pyramid_cells=2),
        "other_data": Setting(
            data=replace(_DATA, scenes=_OTHERS),
            head=common.TINY_DETECTOR,
            finetune=replace(FAST, steps=250, lr=4e-3),
        ),
        "segmentation": Setting(
            task="segmentation",
            data=replace(_DATA, scenes=replace(_DATA.scenes, sizes="large")),
            head=SegmenterConfig(channels=64, rates=(1, 2, 3)),
            finetune=replace(FAST, steps=150, lr=4e-3),
            measures=("mIoU",),
        ),
        "pose": Setting(
            task="pose",
            data=_POSE,
            head=PoseConfig(deconvolutions=2, channels=64, flip_test=False),
            finetune=replace(FAST, steps=150, lr=4e-3, augment="none"),
        ),
    },
)


def _smoke(setting: Setting) -> Setting:
    data = replace(setting.data, image_side=96, crop_side=32, train_images=12, search_images=4, test_images=6, crops=32)
    return replace(setting, data=data, finetune=replace(setting.finetune, steps=2, batch_size=4))


def paper_plan() -> TransferPlan:
    """CR-R50 where its paper moves it (section 4 and appendix A.4): other detectors on COCO, and Pascal VOC."""
    plan = crnas.paper_plan()
    published: Any = plan.head

    def coco(epochs: int, drops: tuple[int, ...], **changes: Any) -> Setting:
        steps, masks = epochs * common.COCO_TRAINABLE // 16, bool(changes.get("masks"))
        finetune = replace(plan.finetune, steps=steps, milestones=tuple(drop / epochs for drop in drops))
        return Setting(
            data=replace(plan.data, masks=masks),
            head=replace(published, **changes),
            finetune=replace(finetune, warmup=500 / steps),
            measures=("AP", "mask AP") if masks else ("AP",),
        )

    pascal = replace(coco(13, (8, 11)).finetune, steps=18 * 16_551 // 16, milestones=(15 / 18, 17 / 18))
    nas_fpn = {"pyramid_cells": 7, "pyramid_channels": 384, "pyramid_levels": 3, "head_linears": 2}
    return TransferPlan(
        **{field.name: getattr(plan, field.name) for field in fields(Plan) if field.name != "deviations"},
        settings={
            "mask_rcnn": coco(13, (8, 11), masks=True),
            "cascade_mask": coco(20, (16, 19), masks=True, box_iou=_CASCADE),
            "nas_fpn": coco(13, (8, 11), **nas_fpn),
            "other_data": Setting(
                data=replace(plan.data, split="detnas-voc"),
                head=replace(published, image_size=(600, 1000)),
                finetune=replace(pascal, warmup=500 / pascal.steps),
                measures=("AP50 VOC07",),
            ),
        },
        deviations=(
            "Detectors on Pascal VOC start from ImageNet weights; the paper's 84.1 suggests detectors trained on COCO.",
            "Not stated: batches of 16 for Cascade Mask R-CNN, whose mask head reads the first head's regions; the box"
            " head on NAS-FPN, 1,536 wide.",
        ),
    )


PRESETS = {
    "smoke": replace(
        TINY,
        data=common.SMOKE_DATA,
        classifier=common.SMOKE_CLASSIFIER,
        scoring=common.SMOKE_SCORING,
        finetune=replace(FAST, steps=2, batch_size=4),
        settings={name: _smoke(setting) for name, setting in TINY.settings.items()},
    ),
    "tiny": TINY,
    "paper": paper_plan(),
}


def chosen(plan: TransferPlan, settings: Sequence[str], max_steps: int) -> TransferPlan:
    """The plan with these settings only, cut short where asked; ValueError lists the settings there are."""
    if unknown := [name for name in settings if name not in plan.settings]:
        raise ValueError(f"settings are some of {', '.join(plan.settings)}; got {unknown[0]!r}.")
    kept = {name: shortened(plan.settings[name], max_steps) for name in settings}
    return replace(shortened(plan, max_steps), settings=kept)


def moved_networks(run: str, preset: str, seed: int) -> tuple[list[Network], str]:
    """The found network, the published one that it was made from, and a random one; and where the first comes from.

    `run` is a finished run of notebook 10, 20 or 40; without one it is the paper's CR-R50, or of our own stored results
    the network that CR-NAS found from that seed. The random one has the same space, so that it costs what it does.
    """
    if run:
        record, told = read_json(Path(run) / "arch.json", missing={}).get("arch"), f"the network of {run}"
        if record is None:
            raise ValueError(
                f"Expected a finished run of notebook 10, 20 or 40 at {run}, with its arch.json; got none."
            )
        arch = Arch.from_json(record)
    elif preset == "paper":
        net, told = CRNAS[1], "CR-R50 of the paper"
        arch = Arch(dilation_space_name(net.backbone, net.depths), tuple(rate - 1 for rate in net.dilations))
    else:
        frame, _ = stored_results("crnas_networks", ["network"])
        rows = frame[frame["network"] == "CR-NAS"].set_index("seed")
        stored = seed if seed in rows.index else rows.index[0]
        row, told = rows.loc[stored], f"stored, CR-NAS's of seed {stored}"
        depths = tuple(map(int, row["blocks"].split(".")))
        arch = Arch(dilation_space_name(row["backbone"], depths), tuple(int(d) - 1 for d in row["dilations"]))
    space = space_named(arch.space)
    baseline, drawn = space.spec(space.uniform(0)), space.sample(generator(seed, "random network"))
    if space.name.startswith(PREFIX):  # of CR-NAS, which also moved the blocks
        baseline = residual_spec(labelled(space.name.removeprefix(PREFIX), space.name)[0])
    specs = (space.spec(arch), baseline, space.spec(drawn))
    return [Network(name=name, spec=spec) for name, spec in zip(NETWORKS, specs, strict=True)], told


def pretrained(experiment: Experiment, networks: Sequence[Network]) -> list[Network]:
    """The networks with the weights of one pre-training each, which all settings start from."""
    started = []
    for network in networks:
        origin, name = {"spec": spec_identity(network.spec)}, f"pretrain {network.name}"
        weights, trained, _ = train_classifier(experiment, network.spec, name, stream="network", origin=origin)
        started.append(replace(network, start=Start(weights=weights.cpu(), origin={"pretrained": trained.key})))
    return started


def moved(experiment: Experiment, name: str, data: Data) -> Experiment:
    """The experiment in one setting; `search` is that of the search."""
    plan: TransferPlan = experiment.plan
    if name in plan.settings:
        setting = plan.settings[name]
        fitness: Any = "AP50" if setting.measures[0].startswith("AP50") else "AP"
        plan = replace(plan, data=setting.data, head=setting.head, finetune=setting.finetune, fitness=fitness)
    return replace(experiment, plan=plan, data=data)


def train_setting(experiment: Experiment, name: str, data: Data, networks: Sequence[Network]) -> list[Result]:
    """The networks fine-tuned and measured in one setting."""
    named = [replace(network, name=f"{network.name} in {name}") for network in networks]
    return train_all(moved(experiment, name, data), named)


def transfer_table(plan: TransferPlan, results: Mapping[str, Sequence[Result]]) -> pd.DataFrame:
    """One row for each setting, measure and network: value, and its gain over the baseline with a standard error.

    The error is that of resampled test images, one training each; masks have none.
    """
    rows = []
    for name, found in results.items():
        for measure in plan.settings[name].measures if name in plan.settings else ("AP",):
            values = [(r.metrics[measure], r.metrics.get(f"{measure}_error", float("nan"))) for r in found]
            for network, result, (value, error) in zip(NETWORKS, found, values, strict=True):
                base = values[NETWORKS.index("baseline")]
                rows.append({
                    "setting": name, "measure": measure, "network": network, "value": value, "error": error,
                    "gain": value - base[0], "gain error": float(np.hypot(error, base[1])),
                    "MACs": result.macs, "params": result.params,
                })  # fmt: skip
    return pd.DataFrame(rows)


def paper_gains() -> pd.DataFrame:
    """What the papers print of moved networks: the gain in AP (of Pascal VOC in AP50) over the published backbone."""
    natss = paper_table("nats_detectors").assign(paper="NATS", measure="box").rename(columns={"detector": "setting"})
    natss["backbone"] = natss["backbone"].replace("NATS", "NATS-R50")
    natss["setting"] = "COCO, " + natss["setting"].str.removesuffix(" (box)")
    frame = pd.concat([paper_table("crnas_transfer").assign(paper="CR-NAS"), natss], ignore_index=True)
    frame["value"] = frame["AP50"].where(frame["setting"].str.contains("VOC"), frame["AP"]).astype(float)
    frame["base"] = frame["backbone"].str.replace(r"^(CR|NATS)-", "", regex=True)
    keys = ["paper", "setting", "measure", "base"]
    plain = frame[frame["base"] == frame["backbone"]].set_index(keys)["value"]
    found = frame[frame["base"] != frame["backbone"]].join(plain.rename("baseline"), on=keys)
    return found.assign(gain=found["value"] - found["baseline"])[
        ["paper", "setting", "measure", "backbone", "baseline", "value", "gain"]
    ].reset_index(drop=True)


def plot_gains(table: pd.DataFrame, series: str, ax: Axes | None = None) -> Axes:
    """Gains by setting and measure; a colour for each value of the column `series`, bars of two errors if there are."""
    labels = table["setting"] + ", " + table["measure"]
    rows = list(dict.fromkeys(labels))
    ax = ax or new_axes(7.0, 1.2 + 0.4 * len(rows))
    for number, (name, part) in enumerate(table.groupby(series, sort=False)):
        places = [rows.index(label) + 0.24 * number - 0.12 for label in labels[part.index]]
        errors = 2 * part["gain error"].fillna(0) if "gain error" in part else 0
        ax.errorbar(part["gain"], places, xerr=errors, fmt="o", capsize=3, label=name, color=SERIES[number])
    ax.axvline(0, color=QUIET, lw=1)
    ax.set(yticks=range(len(rows)), yticklabels=rows, xlabel="gain over the baseline (0-1)")
    ax.invert_yaxis()
    ax.legend(**RIGHT)
    return ax


def gain_sentences(table: pd.DataFrame, network: str) -> list[str]:
    """How a network's gains came out, in words: a sentence for each setting and measure."""
    said = []
    for row in table[table["network"] == network].itertuples():
        error = float(row[table.columns.get_loc("gain error") + 1])
        decided = abs(row.gain) > 2 * error
        result = "won" if decided and row.gain > 0 else "lost" if decided else "tied"
        known = f"standard error {error:.3f}: {result}" if np.isfinite(error) else "without an error"
        said.append(f"{network} in {row.setting}, {row.measure}: {row.gain:+.3f} to the baseline ({known}).")
    return said
