"""NATS (Peng et al., NeurIPS 2019): dilations by channel, searched by gradient on a pretrained backbone.

1. `seed_network`: a pretrained backbone, trained here or read from a file
2. `search`: mixtures of dilated copies of its kernels, weights and alpha trained in turn in the detector (section 3.2)
3. `derived`: per group of channels the heaviest dilation (equations 4 to 6)
4. `start`: the *pretrained* kernels cut into the found parts (section 3.4); fine-tuning is the comparison's
"""

import hashlib

from workbench.evaluation.scoring import Scorer
from workbench.methods import candidates, gradient_search
from workbench.methods.candidates import classification_task, detection_task
from workbench.methods.compare import Start
from workbench.methods.gradient_search import MixtureSearch, SeedNetwork, derived_score, finished, search_phase
from workbench.methods.mixture_choice import implementations
from workbench.methods.nats_presets import NATSPlan
from workbench.methods.phases import Study, forward_macs, new_model, train_phase
from workbench.methods.presets import Data, find_file, input_sizes
from workbench.networks.backbone import Backbone
from workbench.networks.dilation_mixture import use
from workbench.networks.pretrained import load_torchvision, read_state
from workbench.networks.supernet import Sharing, Supernet
from workbench.networks.weight_slicing import reuse_weights
from workbench.records.files import digest
from workbench.records.score import Score
from workbench.records.seeds import generator
from workbench.search.random import RandomSearch
from workbench.search.relaxation import Derived, derive
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    Reading,
    base_spec,
    channel_dilation_name,
    channel_order,
    layer_choices,
    logits,
    searched_layers,
)
from workbench.spaces.residual import check_dilations
from workbench.spaces.space import SearchSpace
from workbench.training.fit import place

MixedSearch = MixtureSearch[Supernet]


def space_of(study: Study, groups: str = "") -> SearchSpace:
    """The space of the plan, or that with another number of groups ("n1": one dilation for each layer)."""
    plan: NATSPlan = study.plan
    return space_named(channel_dilation_name(plan.backbone, groups or plan.groups, plan.genotypes))


def check_plan(plan: NATSPlan, data: Data, seed_weights: str = "") -> str:
    """ValueError before work starts: groups that do not fit, dilations larger than a map, weights that do not match.

    Maps are those of the median picture; how many pictures are too small for some dilation is told in the returned
    text, along with the space.
    """
    space, sizes = space_named(plan.space), input_sizes(plan, data)
    layers = searched_layers(space)
    usual = sorted(sizes, key=lambda size: (min(size), size))[len(sizes) // 2]
    beyond = set()
    for genotype in dict.fromkeys(pair for layer in layers for pair in layer.genotypes):
        choices = [
            layer.genotypes.index(genotype) if genotype in layer.genotypes else 0
            for layer in layers
            for _ in range(layer.groups)
        ]
        spec = space.spec(space.arch(choices))
        check_dilations(spec, usual)
        for size in set(sizes):
            try:
                check_dilations(spec, size)
            except ValueError:
                beyond.add(size)
    if seed_weights:
        _from_file(plan, seed_weights)
    told = (
        f"{space.name}: {len(layers)} searched convolutions, {len(space.decisions)} groups, {logits(space)} logits;"
        f" a usual picture enters with {usual[0]} x {usual[1]} px"
    )
    if count := sum(size in beyond for size in sizes):
        told += f"; in {count} of {len(sizes)} pictures some dilation reaches over a whole map and reads only padding"
    return told


def seed_network(study: Study, seed_weights: str = "") -> SeedNetwork:
    """The backbone that kernels are taken from: read from a file, or trained as a classifier on the crops.

    What is trained is kept in `runs/cache` by content, so that a sweep pays for it once.
    """
    plan: NATSPlan = study.plan
    if seed_weights:
        backbone, key = _from_file(plan, seed_weights)
        return SeedNetwork(backbone=backbone, origin={"weights": key})
    task = classification_task(study)
    spec = base_spec(space_of(study))
    model = new_model(lambda: task.build(Backbone(spec)), study.seed, "seed network")
    trained = train_phase(
        study,
        "pretrain seed network",
        model,
        task,
        study.data.crops,
        plan.pretrain,
        origin={"spec": spec.to_json()},
        shared=True,
        image_side=plan.data.crop_side,
    )
    body = model.get_submodule("backbone")
    assert isinstance(body, Backbone)
    rng = generator(study.seed, "bootstrap")
    metrics, _ = task.measure(model, study.data.crops_test, study.device, rng=rng)
    return SeedNetwork(backbone=body.cpu(), origin={"pretrained": trained.key}, top1=metrics["top1"])


def search(study: Study, pretrained: SeedNetwork, groups: str = "", phase: str = "") -> MixedSearch:
    """Step 2 in the plan's space or with other groups; `phase` is its name in the record.

    After every epoch the derived network is in the record: its entropy and margin, and once alpha moves its accuracy by
    the weights of the supernet, batch norm recalibrated. It is scored on the half of the data that alpha learns from.
    """
    plan: NATSPlan = study.plan
    space, task = space_of(study, groups), detection_task(study)
    phase = phase or f"search {groups or plan.groups}"
    weights: Sharing = "shared" if plan.kernels == "shared" else "separate"
    model = new_model(
        lambda: task.build(Supernet(space, weights, pretrained=pretrained.backbone)), study.seed, "mixture"
    )
    supernet = model.get_submodule("backbone.body")
    assert isinstance(supernet, Supernet)
    supernet.mix()
    use(supernet, "branches")  # what the method computes; the other way must not change its price
    per_image = forward_macs(model, task, study.data.train, study.device)
    place(model, plan.search.weights, study.device)  # measured in the memory format that is trained in
    chosen = implementations(study, supernet, phase)
    use(supernet, chosen)
    recorded = {score.step for score in study.run.scores(phase)}
    found = MixedSearch(model=model, supernet=supernet, phase=phase)
    scorer = candidates.detection_scorer(study, found)

    def after_epoch(epoch: int) -> None:
        if epoch not in recorded:
            study.run.append(_derived_score(study, scorer, supernet, phase, epoch))
        supernet.mix()

    searched = search_phase(
        study,
        phase,
        model,
        supernet.alphas(),
        task,
        study.data.train,
        study.data.search,
        plan.search,
        per_image=per_image,
        origin={
            "space": space.name,
            "seed": pretrained.origin,
            "kernels": plan.kernels,
            "implementations": list(chosen),
        },
        after_epoch=after_epoch,
    )
    return finished(study, found, searched, scorer)


def derived(search: MixedSearch, epoch: int = -1) -> Derived:
    """Step 3, of the last or another epoch."""
    return derive(search.space, search.alphas[epoch])


def start(pretrained: SeedNetwork, space: SearchSpace, arch: Arch, reading: Reading) -> Start:
    """Step 4: the network of `arch` with the seed network's weights."""
    weights = reuse_weights(space, arch, pretrained.backbone, reading)
    orders: list[list[int]] = []
    if reading == "index":
        pairs = zip(searched_layers(space), layer_choices(space, arch), strict=True)
        orders = [channel_order(layer, chosen) for layer, chosen in pairs]
    # Beside the specification only the order of the channels tells two networks apart: equal ones are trained once.
    moved = any(order != sorted(order) for order in orders)
    return Start(weights=weights, origin={**pretrained.origin, "order": digest(orders) if moved else "as pretrained"})


def random_search(study: Study, search: MixedSearch) -> list[Score]:
    """The control: random networks of the same space, as many as the search scored, by the weights of its supernet."""
    scorer = candidates.detection_scorer(study, search)
    evaluations = min(study.plan.search.epochs - study.plan.search.warm_epochs, search.space.size)
    try:
        return candidates.search(
            study,
            RandomSearch(search.space, seed=study.seed),
            scorer,
            phase=f"random on {search.phase}",
            evaluations=evaluations,
            generation=evaluations,
        )
    finally:
        search.supernet.mix()


def scored_epochs(study: Study, search: MixedSearch) -> list[Score]:
    """The derived networks of the epochs in which alpha moved, in order."""
    return gradient_search.scored_epochs(study, search.phase, study.plan.fitness)


def _derived_score(study: Study, scorer: Scorer, supernet: Supernet, phase: str, epoch: int) -> Score:
    found = derive(supernet.space, supernet.alpha_values())
    firmness = {"entropy": found.entropy, "margin": found.margin, "ties": float(found.ties)}
    return derived_score(study, scorer, found, firmness, phase, epoch)


def _from_file(plan: NATSPlan, seed_weights: str) -> tuple[Backbone, str]:
    """The backbone with the weights of a file, and a digest of them; ValueError when they do not match."""
    path = find_file(seed_weights)
    backbone = Backbone(base_spec(space_named(plan.space)))
    load_torchvision(backbone, read_state(path))
    return backbone, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
