"""The plans of the lesson on receptive fields: how many stacks, images and training steps each preset measures with."""

from dataclasses import dataclass, replace

from workbench.data.loader import DataPlan
from workbench.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FieldPlan:
    """Everything that the lesson measures, as numbers."""

    data: DataPlan
    depths: tuple[int, ...]  # of the plain stacks
    shown_depths: tuple[int, ...]  # those whose fields are drawn
    runs: int  # draws of random weights that are averaged
    networks: tuple[str, ...]  # families whose predicted sigma is measured
    share: float  # of the signal through the residual branch
    backbone: str  # a small one: it is trained, and set against the sizes of the objects
    reallocated: tuple[int, ...]  # its blocks per stage moved to the deep end, at equal MACs
    dilations: tuple[int, ...]  # of the reallocated network, one for each block
    plate: int  # for the trained network, an odd multiple of its last stride
    images: int
    probes: int
    train: Recipe
    classifier_hidden: int = 128


TINY = FieldPlan(
    data=DataPlan(
        image_side=128,
        crop_side=64,
        train_images=400,
        search_images=16,
        test_images=64,
        crops=4000,
        species=("fish", "ray", "starfish", "eel"),
    ),
    depths=(2, 3, 5, 7, 10, 14, 20, 28, 40),
    shown_depths=(5, 10, 20, 40),
    runs=20,
    networks=("resnet50", "resnet101"),
    share=0.5,
    backbone="resnet-tiny",
    reallocated=(1, 3, 4),
    dilations=(1, 1, 2, 1, 2, 1, 3, 2),
    plate=240,
    images=16,
    probes=8,
    train=Recipe(
        steps=400,
        batch_size=32,
        lr=6e-3,
        optimizer="adamw",
        weight_decay=0.02,
        warmup=0.05,
        clip_norm=10.0,
        augment="flip",
    ),
)

SMOKE = replace(
    TINY,
    data=DataPlan(image_side=96, crop_side=32, train_images=24, search_images=8, test_images=8, crops=32),
    depths=(2, 5, 10),
    shown_depths=(5, 10),
    runs=2,
    networks=("resnet50",),
    plate=208,
    images=2,
    probes=2,
    train=replace(TINY.train, steps=3, batch_size=8),
)

SMALL = replace(
    TINY,
    data=DataPlan(image_side=256, crop_side=96, train_images=400, search_images=16, test_images=64, crops=3000),
    runs=50,
    backbone="resnet18-quarter",
    reallocated=(1, 1, 2, 4),
    dilations=(1, 1, 2, 1, 2, 1, 3, 2),  # those of CR-R18
    plate=416,
    images=50,
    train=replace(TINY.train, steps=1500, batch_size=64),
)

PRESETS: dict[str, FieldPlan] = {"smoke": SMOKE, "tiny": TINY, "small": SMALL}
