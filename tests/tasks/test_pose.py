"""Heat maps there and back, object keypoint similarity, keypoints that change sides in a mirror."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from workbench.data.augmentation import augment_keypoints, augmentation
from workbench.data.keypoints import PoseCrops, mirrored, sigmas
from workbench.data.scenes.creatures import KEYPOINTS
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.networks.backbone import Backbone
from workbench.records.seeds import generator
from workbench.spaces.layers import seed_spec
from workbench.spaces.mbconv import fna_spec
from workbench.tasks.costs import model_costs
from workbench.tasks.pose import Pose, PoseConfig, SimpleBaseline, find_peaks, peaks_of, unmirror
from workbench.tasks.pose_metrics import correct_keypoints, evaluate_poses

COCO = ("nose", *(f"{side}_{part}" for part in
    ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")))  # fmt: skip


@pytest.fixture(scope="module")
def instances():
    config = SceneConfig(species=("fish", "turtle"), sizes="large", extras=("keypoints",))
    return PoseCrops(Scenes(config, 0, "train", 8), (64, 48))


def perfect(truth, shift=0.0):
    poses = []
    for row in truth["annotations"]:
        keypoints = np.array(row["keypoints"], dtype=float).reshape(-1, 3)
        keypoints[:, 0] += shift
        keypoints[:, 2] = 1.0
        poses.append({"image_id": row["image_id"], "keypoints": keypoints, "score": 1.0})
    return poses


def test_peaks_are_found_where_they_were_put():
    torch.manual_seed(0)
    keypoints = torch.cat([torch.rand(4, 5, 2) * torch.tensor([90.0, 120.0]) + 4, torch.full((4, 5, 1), 2.0)], dim=2)
    maps, weights = peaks_of(keypoints, 4.0, (32, 24), 2.0)
    assert maps.shape == (4, 5, 32, 24) and weights.tolist() == [[1.0] * 5] * 4
    found = find_peaks(maps, 4.0)
    assert (found[..., :2] - keypoints[..., :2]).abs().max() <= 1.0 + 1e-4  # a quarter unit of four pixels
    assert (found[..., 2] > 0.9).all()
    unlabelled = keypoints.clone()
    unlabelled[0, 1, 2] = 0
    assert peaks_of(unlabelled, 4.0, (32, 24), 2.0)[1][0].tolist() == [1, 0, 1, 1, 1]


def test_a_peak_at_the_border_stays_inside():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 0, 0] = maps[0, 1, 3, 3] = 1
    found = find_peaks(maps, 2.0)[0]
    assert found[:, :2].tolist() == [[0, 0], [6, 6]]


def test_left_and_right_change_places_in_a_mirror():
    assert mirrored(COCO) == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert mirrored(KEYPOINTS) == (0, 1, 3, 2, 4)
    assert sigmas(COCO)[0] == 0.026 and sigmas(KEYPOINTS) == (0.05,) * 5
    image = torch.zeros(3, 10, 20, dtype=torch.uint8)
    keypoints = torch.tensor([[4.0, 5.0, 2.0], [6.0, 5.0, 2.0], [30.0, 5.0, 2.0]])
    flipped = augment_keypoints(image, keypoints, (1, 0, 2), v2.RandomHorizontalFlip(1.0))[1]
    assert flipped[:2].tolist() == [[13.0, 5.0, 2.0], [15.0, 5.0, 2.0]]  # what was on the right is now the left one
    turned = augment_keypoints(image, keypoints, (1, 0, 2), v2.RandomRotation((180, 180)))[1]
    assert turned[0, 0] > turned[1, 0]  # a turn mirrors nothing
    assert flipped[2, 2] == 0  # outside


@pytest.mark.parametrize("name", ["flip", "turn"])
def test_augmented_keypoints_stay_on_what_they_mark(name):
    """A bright spot under a keypoint is under that keypoint afterwards."""
    torch.manual_seed(3)
    checked = 0
    for _ in range(8):
        image = torch.zeros(3, 64, 64, dtype=torch.uint8)
        keypoints = torch.tensor([[20.0, 40.0, 2.0], [45.0, 22.0, 2.0]])
        image[:, 39:42, 19:22] = 255
        moved, places = augment_keypoints(image, keypoints, (0, 1), augmentation(name, 64))
        if places[0, 2] > 0 and 2 <= places[0, 0] <= 61 and 2 <= places[0, 1] <= 61:
            x, y = places[0, :2].round().int().tolist()
            assert moved[0, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].max() > 200
            checked += 1
    assert checked >= 4


def test_oks_and_pck_of_known_answers(instances):
    truth = instances.ground_truth()
    tolerances = sigmas(instances.categories)
    best = evaluate_poses(truth, perfect(truth), tolerances, rng=generator(0, "b"))
    assert best["AP"] == best["AR"] == best["PCK"] == 1 and best["AP_error"] == 0
    far = evaluate_poses(truth, perfect(truth, 1000.0), tolerances, rng=generator(0, "b"))
    assert far["AP"] == far["PCK"] == 0
    for row in truth["annotations"]:  # within a tenth of the long side, and just beyond
        side = max(row["bbox"][2:])
        one = {**truth, "annotations": [row]}
        assert correct_keypoints(one, perfect(one, 0.099 * side)) == 1
        assert correct_keypoints(one, perfect(one, 0.101 * side)) == 0
    with pytest.raises(ValueError, match="is not finite"):
        evaluate_poses(truth, perfect(truth, float("nan")), tolerances, rng=generator(0, "b"))


def test_similarity_at_a_known_distance(instances):
    """OKS = exp(-d^2 / (2 area k^2)) with k = 2 sigma; at 0.76 AP50 to AP75 hold, from 0.80 on nothing does."""
    truth = instances.ground_truth()
    row = truth["annotations"][0]
    one = {**truth, "annotations": [row], "images": [i for i in truth["images"] if i["id"] == row["image_id"]]}
    distance = np.sqrt(-2 * np.log(0.76) * row["area"]) * 2 * 0.05
    found = evaluate_poses(one, perfect(one, distance), (0.05,) * 5, rng=generator(0, "b"))
    assert (found["AP50"], found["AP75"]) == pytest.approx((1.0, 1.0))
    assert found["AP"] == pytest.approx(0.6)


def test_the_error_resamples_what_pycocotools_matched(instances):
    truth = instances.ground_truth()
    poses = perfect(truth)
    for pose in poses[::2]:
        pose["keypoints"][:, 0] += 1000
    found = evaluate_poses(truth, poses, sigmas(instances.categories), rng=generator(0, "b"))
    assert 0.2 < found["AP"] < 0.8 and found["AP_error"] > 0.02


def test_the_network_learns_and_answers_in_pixels_of_the_image(instances):
    torch.manual_seed(0)
    config = PoseConfig(deconvolutions=1, channels=16)
    task = Pose(categories=instances.categories, config=config)
    model = task.build(Backbone(seed_spec("resnet20-cifar")))  # stride 4, heat maps of stride 2
    images, targets = task.batch(instances, range(4), torch.device("cpu"))
    loss = model(images, targets)["heat_maps"]
    assert loss.item() == pytest.approx(1.0, abs=0.1)  # nearly empty maps miss all of the energy
    nobody = [{"keypoints": target["keypoints"] * torch.tensor([1.0, 1.0, 0.0])} for target in targets]
    assert model(images, nobody)["heat_maps"].item() == 0
    metrics, found = task.measure(model, instances, torch.device("cpu"), rng=generator(0, "b"), quick=True)
    assert {"AP", "AP_error", "PCK"} <= set(metrics) and len(found) == len(instances)
    for index in (0, 3):
        width, height = instances.source.sizes[0]
        crop = instances.to_crop(index, found[index]["keypoints"][:, :2])
        assert crop.min() >= -1 and crop[:, 0].max() <= 48 and crop[:, 1].max() <= 64
        assert np.allclose(instances.to_image(index, crop), found[index]["keypoints"][:, :2])
        assert width == height == 128
    with pytest.raises(ValueError, match="needs targets"):
        model.train()(images)


def test_the_flip_test_averages_maps_of_the_same_keypoints_at_the_same_pixels():
    torch.manual_seed(0)
    config = PoseConfig(deconvolutions=1, channels=8, flip_test=True)
    model = SimpleBaseline(Backbone(seed_spec("resnet20-cifar")), COCO, config).eval()
    image = torch.rand(3, 32, 32)
    with torch.inference_mode():
        found = model([image])[0]["keypoints"]
        straight, flipped = model.heat_maps(image[None]), model.heat_maps(image.flip(-1)[None])
    both = (straight + unmirror(flipped, 32, 2.0)[:, list(mirrored(COCO))]) / 2
    torch.testing.assert_close(found, find_peaks(both, 2.0)[0])


@pytest.mark.parametrize(("width", "stride", "units"), [(192, 4.0, 48), (144, 4.0, 40), (32, 2.0, 16)])
def test_maps_of_a_mirrored_image_come_back_to_their_pixels(width, stride, units):
    """Also where the backbone rounds its map up: 144 pixels at stride 32 give 40 units of 4 pixels, not 36."""
    place = 0.4 * width
    keypoints = torch.tensor([[[place, 8.0, 2.0]]])
    flipped = torch.tensor([[[width - 1 - place, 8.0, 2.0]]])
    maps, mirrored = (peaks_of(points, stride, (8, units), 2.0)[0] for points in (keypoints, flipped))
    torch.testing.assert_close(unmirror(mirrored, width, stride), maps, rtol=0, atol=0.05)
    found = find_peaks((maps + unmirror(mirrored, width, stride)) / 2, stride)[0, 0]
    assert abs(found[0] - place) <= stride / 2


def test_costs_of_simple_baseline():
    with torch.device("meta"):
        model = SimpleBaseline(Backbone(fna_spec("MobileNetV2")), COCO, PoseConfig())
        parts = model_costs(model, (256, 192))
    assert parts["backbone"].params == 1_811_712
    deconvolutions = 16 * (320 * 256 + 2 * 256 * 256) + 3 * 2 * 256
    assert parts["head"].params == deconvolutions + 257 * 17
