"""How the papers cut what may be trained on into two parts, and where their data sets come from.

Each function gives two views, the images for weights and those for the search. The search part is cut at random with
the run's seed, in the paper's proportion: on the official data set that gives the paper's counts, on any other its
share. Images without an object that can be trained are left out of training, as in the papers' code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from workbench.data.sets import split_train
from workbench.records.files import read_json

SplitName = Literal["detnas", "detnas-voc", "crnas", "nats", "fna", "fna-cityscapes"]
TRAIN2017, MINIVAL, VALMINUSMINIVAL, VOC_TRAINVAL = 118_287, 5_000, 35_504, 16_551
TRAINABLE = 117_266  # images of train2017 that have an object besides crowds

Parts = tuple[Any, Any]


def held_out(data: Any, root: Path, seed: int) -> Parts:
    """DetNAS and CR-NAS on COCO: 113,287 to train on, less those without objects, and 5,000 for the search.

    CR-NAS speaks of 135,000 images, which no set of COCO has: trainval35k is train2017.
    """
    train, search = split_train(data, MINIVAL / TRAIN2017, seed)
    return train.with_objects(), search


def held_out_of_voc(data: Any, root: Path, seed: int) -> Parts:
    """DetNAS on Pascal VOC 07+12 trainval: 11,551 and 5,000."""
    train, search = split_train(data, 5_000 / VOC_TRAINVAL, seed)
    return train.with_objects(), search


def by_origin(data: Any, root: Path, seed: int) -> Parts:
    """NATS (section 4.1): 82,783 images of train2014 for weights, 35,504 of val2014 without minival for alpha.

    Which image comes from where only the annotations of 2014 know; ValueError when they are not there.
    """
    path = root / "annotations" / "instances_train2014.json"
    if not path.is_file():
        raise ValueError(
            "NATS trains weights on the images of train2014 and alpha on the rest of train2017; to tell them apart"
            f" {path} is needed, from annotations_trainval2014.zip (https://cocodataset.org/#download)."
        )
    older = {image["id"] for image in read_json(path)["images"]}
    parts = [[n for n, number in enumerate(data.ids) if (number in older) == first] for first in (True, False)]
    if not all(parts):
        raise ValueError(f"All images of {data.name} are on one side of {path}; give the annotations of COCO 2014.")
    weights, alpha = (data.take(part).with_objects() for part in parts)
    return weights, alpha


def halves(data: Any, root: Path, seed: int) -> Parts:
    """FNA on COCO: 59,144 images for weights, 59,143 for alpha, less those without objects."""
    weights, alpha = split_train(data, (TRAIN2017 // 2) / TRAIN2017, seed)
    return weights.with_objects(), alpha.with_objects()


def four_fifths(data: Any, root: Path, seed: int) -> Parts:
    """FNA on Cityscapes: 2,380 images for weights, 595 for alpha."""
    return split_train(data, 0.2, seed)


class Split(NamedTuple):
    """A cut, and what it is made for: layout and official address, as the end of a sentence."""

    cut: Callable[[Any, Path, int], Parts]
    made_for: str


_COCO = (
    "COCO 2017: train2017.zip, val2017.zip and annotations_trainval2017.zip of https://cocodataset.org/#download,"
    " unpacked into one folder"
)
_VOC = (
    "Pascal VOC 2007 and 2012: the archives trainval of both and test of 2007 of"
    " http://host.robots.ox.ac.uk/pascal/VOC/, unpacked, and VOCdevkit converted by workbench.data.voc"
)
_CITYSCAPES = (
    "Cityscapes: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com,"
    " unpacked into one folder"
)
IMAGENET = (
    "ImageNet: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of https://image-net.org/download.php, each class a"
    " folder in train/ and val/"
)
SPLITS: dict[SplitName, Split] = {
    "detnas": Split(held_out, _COCO),
    "detnas-voc": Split(held_out_of_voc, _VOC),
    "crnas": Split(held_out, _COCO),
    "nats": Split(by_origin, f"{_COCO}, with instances_train2014.json of 2014"),
    "fna": Split(halves, _COCO),
    "fna-cityscapes": Split(four_fifths, _CITYSCAPES),
}
