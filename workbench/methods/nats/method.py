"""NATS (Peng et al., NeurIPS 2019): dilations by channel, searched by gradient on a pretrained backbone.

1. `seed_network`: a pretrained backbone, trained here or read from a file
2. `search`: every 3x3 convolution becomes a mixture of dilated replicas of its kernel, a mixture for each group of
   output channels (section 3.2, equations 2 and 3); weights and alpha are trained in turn in the detector
3. `GradientSearch.derived`: per group of channels the heaviest dilation (section 3.3, equation 4)
4. `start`: the *pretrained* kernels cut into the found parts (section 3.4, equations 5 and 6); nothing is trained anew,
   params and MACs stay what they were; fine-tuning is the comparison's
"""

from workbench.data.loader import Data
from workbench.methods.compare import Network, Start, train_classifier
from workbench.methods.experiment import Experiment
from workbench.methods.gradient import GradientSearch, SeedNetwork, gradient_search, random_control, read_seed
from workbench.methods.nats.implementation import implementations
from workbench.methods.nats.presets import NATSPlan
from workbench.methods.plan import input_sizes
from workbench.networks.choices import Sharing
from workbench.networks.dilation_mixture import use
from workbench.networks.supernet import Supernet
from workbench.networks.weight_slicing import reuse_weights
from workbench.records.files import digest
from workbench.records.score import Score
from workbench.search.random import RandomSearch
from workbench.spaces.arch import Arch
from workbench.spaces.catalogue import space_named
from workbench.spaces.channel_dilation import (
    Slicing,
    base_spec,
    channel_dilation_name,
    channel_order,
    decoded,
    layer_choices,
    logits,
    searched_layers,
)
from workbench.spaces.residual import check_dilations
from workbench.spaces.space import SearchSpace


def space_of(experiment: Experiment, groups: str = "") -> SearchSpace:
    """The space of the plan, or that with another number of groups ("n1": one dilation for each layer)."""
    plan: NATSPlan = experiment.plan
    return space_named(channel_dilation_name(plan.backbone, groups or plan.groups, plan.dilations))


def check_plan(plan: NATSPlan, data: Data, seed_weights: str = "") -> str:
    """ValueError before work starts: groups that do not fit, dilations larger than a map, weights that do not match.

    Maps are those of the median image; the returned text says how many images are too small for some dilation, along
    with the space.
    """
    space, sizes = space_named(plan.space), input_sizes(plan, data)
    layers = searched_layers(space)
    usual = sorted(sizes, key=lambda size: (min(size), size))[len(sizes) // 2]
    beyond = set()
    for dilation in dict.fromkeys(pair for layer in layers for pair in layer.dilations):
        choices = [
            layer.dilations.index(dilation) if dilation in layer.dilations else 0
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
        read_seed(base_spec(space), seed_weights, plan.backbone)
    text = (
        f"{space.name}: {len(layers)} searched convolutions, {len(space.decisions)} groups, {logits(space)} logits;"
        f" a usual image enters with {usual[0]} x {usual[1]} px"
    )
    if count := sum(size in beyond for size in sizes):
        text += f"; in {count} of {len(sizes)} images some dilation reaches over a whole map and reads only padding"
    return text


def seed_network(experiment: Experiment, seed_weights: str = "") -> SeedNetwork:
    """Step 1. The backbone that kernels are taken from: read from a file, or trained as a classifier on the crops.

    What is trained is kept in `runs/cache` by content, so that a sweep pays for it once.
    """
    plan: NATSPlan = experiment.plan
    if seed_weights:
        return read_seed(base_spec(space_named(plan.space)), seed_weights, plan.backbone)
    spec, name = base_spec(space_of(experiment)), "seed network"
    backbone, trained, accuracy = train_classifier(
        experiment, spec, f"pretrain {name}", stream=name, origin={"spec": spec.to_json()}
    )
    return SeedNetwork(backbone=backbone.cpu(), origin={"pretrained": trained.key}, top1=accuracy["top1"])


def search(experiment: Experiment, pretrained: SeedNetwork, groups: str = "", phase: str = "") -> GradientSearch:
    """Step 2 in the plan's space or with other groups; `phase` is its name in the record.

    Both sides run the mixture of all dilations: w learns from one half of the data, alpha from the other (section 3.2).
    """
    plan: NATSPlan = experiment.plan
    space = space_of(experiment, groups)
    phase = phase or f"search {groups or plan.groups}"
    weights: Sharing = "shared" if plan.kernels == "shared" else "separate"
    first = Supernet(space, weights, pretrained=pretrained.backbone)
    ways = implementations(experiment, first, phase)

    def build() -> Supernet:
        supernet = Supernet(space, weights, pretrained=pretrained.backbone)
        use(supernet, ways)
        return supernet

    return gradient_search(
        experiment,
        build,
        plan.search,
        phase=phase,
        stream="mixture",
        origin={"seed": pretrained.origin, "kernels": plan.kernels, "implementations": list(ways)},
        weights_on="mixture",
    )


def start(pretrained: SeedNetwork, space: SearchSpace, arch: Arch, slicing: Slicing) -> Start:
    """Step 4: the network of `arch` with the seed network's weights."""
    weights = reuse_weights(space, arch, pretrained.backbone, slicing)
    orders: list[list[int]] = []
    if slicing == "index":
        pairs = zip(searched_layers(space), layer_choices(space, arch), strict=True)
        orders = [channel_order(chosen, layer.group_channels) for layer, chosen in pairs]
    # Besides the specification only the order of the channels tells two networks apart: equal ones are trained once.
    moved = any(order != sorted(order) for order in orders)
    return Start(weights=weights, origin={**pretrained.origin, "order": digest(orders) if moved else "as pretrained"})


def network(
    experiment: Experiment,
    pretrained: SeedNetwork,
    name: str,
    space: SearchSpace,
    arch: Arch,
    slicing: Slicing | None = None,
    group: str = "",
) -> Network:
    """The network of `arch` with the seed's kernels, cut as the plan says or as asked for."""
    way: Slicing = slicing or experiment.plan.slicing
    given = start(pretrained, space, arch, way)
    return Network(name=name, spec=decoded(space, arch, way), arch=arch, group=group, start=given)


def random_search(experiment: Experiment, searched: GradientSearch) -> list[Score]:
    """The control: random networks of the same space, as many as the search scored, by the weights of its supernet."""
    return random_control(experiment, searched, RandomSearch(searched.space, seed=experiment.seed))
