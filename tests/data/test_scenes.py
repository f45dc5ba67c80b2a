"""The generated aquarium: the same bytes everywhere, and a truth that agrees with its pixels."""

import contextlib
import hashlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from workbench.data.scenes.creatures import SPECIES
from workbench.data.scenes.scene import CUES, DOT_RADIUS, EXTRAS, Scene, SceneConfig, draw_crop, draw_scene, draw_sizes
from workbench.data.scenes.tasks import SceneCrops, Scenes

CONFIGS = {
    "species": SceneConfig(),
    "species_marking": SceneConfig(classes="species_marking"),
    "eel": SceneConfig(classes="eel"),
    "dot": SceneConfig(classes="dot", context_distance=40),
    "ladder": SceneConfig(classes="ladder", colours=4, texture=True, distances=(20,), dot_radius=4.0),
}
GOLDEN = {
    "species": "f7b93671b8863f5e",
    "species_marking": "08fe6c148cbefba1",
    "eel": "d987748836a0b826",
    "dot": "ed6b103f244ece97",
    "ladder": "bc6728400d616959",
    "crops": "e78133e91d884d34",
}


def many(config: SceneConfig, count: int = 60) -> list[Scene]:
    return [draw_scene(config, 3, index) for index in range(count)]


def hashed(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize("name", CONFIGS)
def test_same_seed_and_index_give_the_same_bytes_on_every_machine(name: str) -> None:
    scenes = [draw_scene(CONFIGS[name], seed, index) for seed, index in ((0, 0), (0, 7), (5, 20_000_001))]
    found = hashed([array for s in scenes for array in (s.image, s.boxes, s.labels, s.masks, s.keypoints, s.semantic)])
    assert found == GOLDEN[name]


def test_crops_have_the_same_bytes_on_every_machine() -> None:
    assert hashed([draw_crop(CONFIGS["species"], 0, index, index + 1, 64) for index in range(7)]) == GOLDEN["crops"]


def test_order_of_drawing_does_not_matter() -> None:
    config = CONFIGS["species"]
    forwards = [draw_scene(config, 1, index).image for index in range(4)]
    backwards = [draw_scene(config, 1, index).image for index in reversed(range(4))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not np.array_equal(forwards[0], forwards[1])
    assert not np.array_equal(forwards[0], draw_scene(config, 2, 0).image)


@pytest.mark.parametrize("name", CONFIGS)
def test_boxes_are_tight_to_masks_and_keypoints_inside_boxes(name: str) -> None:
    config = CONFIGS[name]
    for scene in many(config, 30):
        assert (scene.masks.sum(axis=0) <= 1).all(), "a pixel belongs to one animal"
        for box, mask, area, keypoints in zip(scene.boxes, scene.masks, scene.areas, scene.keypoints, strict=True):
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert area == len(xs)
            visible = keypoints[keypoints[:, 2] == 2, :2]
            assert (visible >= box[:2]).all() and (visible <= box[2:]).all()
            assert (keypoints[keypoints[:, 2] == 0] == 0).all()


def test_an_animal_alone_shows_all_its_keypoints_and_fills_its_box() -> None:
    config = SceneConfig(objects=(1, 1), sizes=(20.0, 60.0), clutter=0)
    inside = 0
    for scene in many(config):
        whole = (scene.boxes[:, :2] > 0).all() and (scene.boxes[:, 2:] < config.image_size).all()
        if not whole:
            continue
        inside += 1
        assert (scene.keypoints[0, :, 2] == 2).all()
        middle = (scene.boxes[0, :2] + scene.boxes[0, 2:]) / 2
        assert np.abs(middle - scene.centres[0]).max() <= 1.5
        longest = (scene.boxes[0, 2:] - scene.boxes[0, :2]).max()
        assert 0.6 * scene.sizes[0] < longest < 1.2 * scene.sizes[0] + 2
    assert inside >= 20


def test_semantic_map_names_water_sand_and_the_species_of_every_animal() -> None:
    config = SceneConfig(species=("turtle", "ray"), objects=(1, 4))
    assert config.semantic_categories == ("water", "sand", "turtle", "ray")
    seen = set()
    for scene in many(config, 20):
        seen |= set(np.unique(scene.semantic).tolist())
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            assert (scene.semantic[mask == 1] == label + 1).all()
    assert seen == {0, 1, 2, 3}


def test_hardly_visible_animals_are_no_objects() -> None:
    crowd = SceneConfig(objects=(14, 14), sizes="large", occlusion=1.0)
    scenes = many(crowd, 10)
    assert sum(len(scene.labels) for scene in scenes) < 140
    # What is painted but no object still belongs to its species in the semantic map.
    leftovers = [((scene.semantic >= 2) & ~scene.masks.any(axis=0)).sum() for scene in scenes]
    assert sum(leftovers) > 500
    assert max(leftovers) < 0.3 * 128 * 128
    assert all((scene.semantic[scene.masks.any(axis=0)] >= 2).all() for scene in scenes)


def test_occlusion_zero_keeps_whole_small_animals_apart() -> None:
    apart = SceneConfig(objects=(5, 5), sizes=(8.0, 16.0), occlusion=0.0, clutter=0)
    for scene in many(apart, 20):
        assert len(scene.labels) == 5
        for i in range(5):
            for j in range(i):
                low, high = (
                    np.maximum(scene.boxes[i, :2], scene.boxes[j, :2]),
                    np.minimum(scene.boxes[i, 2:], scene.boxes[j, 2:]),
                )
                assert (high - low).min() <= 1


def test_ground_truth_scored_as_detections_is_perfect() -> None:
    truth = Scenes(SceneConfig(classes="species_marking"), 0, "test", 60).ground_truth()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        found = [
            {key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
            for row in truth["annotations"]
        ]
        evaluator = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert evaluator.stats[0] == pytest.approx(1.0)
    assert [row["id"] for row in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))


@pytest.mark.parametrize("name", ["species", "eel", "dot", "ladder"])
def test_classes_are_balanced(name: str) -> None:
    labels = np.concatenate([scene.labels for scene in many(CONFIGS[name], 250)])
    counts = np.bincount(labels, minlength=len(CONFIGS[name].categories) + 1)[1:]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("preset", ["small", "mixed", "large"])
@pytest.mark.parametrize("classes", ["species", "eel"])
def test_requested_sizes_are_log_uniform(classes: str, preset: str) -> None:
    config = SceneConfig(classes=classes, sizes=preset)
    low, high = config.size_range
    octaves = np.log2(draw_sizes(config, np.random.default_rng(0), 2000))
    span = math.log2(high) - math.log2(low)
    assert stats.kstest(octaves, stats.uniform(math.log2(low), span).cdf).statistic < 0.05


def test_sizes_of_the_objects_in_the_truth_stay_near_log_uniform() -> None:
    sizes = np.concatenate([scene.sizes for scene in many(CONFIGS["species"], 200)])
    assert stats.kstest(np.log2(sizes), stats.uniform(3, math.log2(90 / 8)).cdf).statistic < 0.08


def test_eels_show_their_head_colour_half_a_body_from_the_centre() -> None:
    for scene in many(CONFIGS["eel"], 40):
        for label, size, centre, keypoints in zip(
            scene.labels, scene.sizes, scene.centres, scene.keypoints, strict=True
        ):
            assert (keypoints[0, 2], keypoints[4, 2]) == (2, 2), "the head is never hidden"
            x, y = keypoints[0, :2]
            assert 0.35 * size < math.dist((x, y), centre) < 0.6 * size
            patch = scene.image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3).astype(int)
            reddest = patch[(patch[:, 0] - patch[:, 2]).argmax()]
            assert (reddest[1] < 120) == (label == 1), (reddest, label)


@pytest.mark.parametrize("distance", [16, 40, 48])
def test_dot_lies_exactly_the_context_distance_from_the_centre(distance: int) -> None:
    config = SceneConfig(classes="dot", context_distance=distance, objects=(1, 1), clutter=0)
    tried = 0
    for scene in many(config, 30):
        if len(scene.labels) == 0:
            continue
        tried += 1
        colour = np.array(list(CUES.values())[scene.labels[0] - 1])
        near = np.abs(scene.image.astype(float) - colour).max(axis=2) < 2
        ys, xs = np.nonzero(near)
        assert len(xs) > 0.5 * math.pi * DOT_RADIUS**2, "the dot is whole"
        dot = xs.mean() + 0.5, ys.mean() + 0.5
        assert abs(math.dist(dot, scene.centres[0]) - distance) < 0.4
        assert not scene.masks[0][near].any(), "the dot does not touch the fish"
    assert tried >= 25


def test_every_fish_is_nearest_to_a_dot_of_its_own() -> None:
    config = SceneConfig(classes="dot", context_distance=24, objects=(3, 3), sizes="small", clutter=0)
    for scene in many(config, 20):
        for label, centre in zip(scene.labels, scene.centres, strict=True):
            distances = []
            for colour in CUES.values():
                ys, xs = np.nonzero(np.abs(scene.image.astype(float) - np.array(colour)).max(axis=2) < 2)
                distances.append(
                    min((math.dist((x + 0.5, y + 0.5), centre) for x, y in zip(xs, ys, strict=True)), default=999)
                )
            assert int(np.argmin(distances)) == label - 1
            assert abs(min(distances) - (24 - DOT_RADIUS)) < 2


LADDER = SceneConfig(classes="ladder", colours=4, objects=(2, 3), texture=True, dot_radius=5.0, clutter=0)


def test_on_the_ladder_every_dot_is_as_far_away_as_its_target_says() -> None:
    seen = []
    for scene in many(LADDER, 60):
        for label, distance, centre in zip(scene.labels, scene.distances, scene.centres, strict=True):
            colour = np.array(list(CUES.values())[label - 1])
            ys, xs = np.nonzero(np.abs(scene.image.astype(float) - colour).max(axis=2) < 2)
            away = [math.dist((x + 0.5, y + 0.5), centre) for x, y in zip(xs, ys, strict=True)]
            assert min(np.abs(np.array(away) - (distance - 5))) < 1.5, "the near edge of its dot"
            assert min(np.abs(np.array(away) - (distance + 5))) < 1.5, "and the far edge"
            seen.append((label, distance))
    assert {distance for _, distance in seen} == set(LADDER.distances)


def test_on_the_ladder_the_class_tells_nothing_of_distance_species_or_texture() -> None:
    scenes = many(LADDER, 500)
    labels = np.concatenate([scene.labels for scene in scenes])
    for name in ("distances", "species", "textures"):
        values = np.concatenate([getattr(scene, name) for scene in scenes])
        table = np.array([[np.sum((values == v) & (labels == c)) for v in np.unique(values)] for c in range(1, 5)])
        assert stats.chi2_contingency(table).pvalue > 1e-3, name
    assert len(LADDER.kinds) == 6 and "eel" not in LADDER.kinds


def test_targets_of_the_ladder_hold_the_questions_apart_from_the_class() -> None:
    target = Scenes(LADDER, 0, "train", 3)[1][1]
    assert {"species", "texture", "distance"} <= set(target)
    assert target["species"].dtype == torch.int64 and set(target["texture"].tolist()) <= {1, 2}
    plain = Scenes(replace(LADDER, texture=False), 0, "train", 3)[1][1]
    assert set(plain["texture"].tolist()) == {0}


def test_splits_share_no_scene_and_digests_tell_them_apart() -> None:
    splits = [Scenes(CONFIGS["species"], 0, split, 50) for split in ("train", "search", "test")]
    assert len({i for data in splits for i in data.ids}) == 150
    longer = Scenes(CONFIGS["species"], 0, "train", 51)
    other = Scenes(replace(CONFIGS["species"], occlusion=0.1), 0, "train", 50)
    reseeded = Scenes(CONFIGS["species"], 1, "train", 50)
    assert len({data.digest for data in [*splits, longer, other, reseeded, splits[0].take([0, 1])]}) == 7
    assert Scenes(CONFIGS["species"], 0, "train", 50).digest == splits[0].digest
    with pytest.raises(ValueError, match="split out of train, search, test"):
        Scenes(CONFIGS["species"], 0, "val", 50)


def test_targets_follow_the_detection_contract() -> None:
    data = Scenes(SceneConfig(image_size=96, extras=EXTRAS), 0, "search", 6)
    image, target = data[2]
    count = len(target["labels"])
    assert (image.dtype, image.shape) == (torch.uint8, (3, 96, 96))
    assert (target["boxes"].dtype, target["boxes"].shape) == (torch.float32, (count, 4))
    assert (target["labels"].dtype, target["iscrowd"].dtype) == (torch.int64, torch.int64)
    assert (target["area"].dtype, target["centres"].shape) == (torch.float32, (count, 2))
    assert (target["masks"].dtype, target["masks"].shape) == (torch.uint8, (count, 96, 96))
    assert (target["keypoints"].dtype, target["keypoints"].shape) == (torch.float32, (count, 5, 3))
    assert (target["semantic"].dtype, target["semantic"].shape) == (torch.int64, (96, 96))
    assert target["image_id"] == data.ids[2]
    view = data.take([4, 2])
    assert view.ids == (data.ids[4], data.ids[2]) and len(view) == 2
    assert torch.equal(view[1][0], image)
    assert [row["id"] for row in view.ground_truth()["images"]] == list(view.ids)
    assert view.target(0)["keypoints"].shape[1:] == (5, 3)
    image.zero_()  # what a caller does to a sample must not reach the next one
    assert data[2][0].any()
    assert set(Scenes(SceneConfig(), 0, "train", 1)[0][1]) == {
        "boxes",
        "labels",
        "area",
        "iscrowd",
        "image_id",
        "centres",
    }


def held(scene: Scene) -> int:
    """Bytes of the arrays that a scene keeps alive, whatever it shows of them."""
    arrays = [part for part in vars(scene).values() if isinstance(part, np.ndarray)]
    return sum((part if part.base is None else part.base).nbytes for part in arrays)


def test_drawn_scenes_take_bounded_memory_and_are_drawn_again_alike() -> None:
    config = SceneConfig(objects=(6, 6))
    free = Scenes(config, 0, "train", 12)
    images = [free[index][0] for index in range(12)]
    # Nothing of the masks that nobody asked for stays behind: they are six times a scene's other pixels.
    assert all(held(free.scene(index)) < 1.1 * 128 * 128 * 3 for index in range(12))
    assert free.scene(3) is free.take([3]).scene(0)  # kept, and shared with views
    bound = 4 * 51_000
    tight = Scenes(config, 0, "train", 12)
    tight.memory.limit = bound
    for index in [*range(12), *reversed(range(12))]:
        assert torch.equal(tight[index][0], images[index])
    kept = list(tight.memory._kept)
    assert sum(held(scene) for scene in tight.memory._kept.values()) <= bound and kept == [3, 2, 1, 0]
    crops = SceneCrops(config, 0, "train", 9, side=16)
    crops.memory.limit = 3 * 16 * 16 * 2
    first = [crops[index][0] for index in range(9)]
    assert all(torch.equal(crops[index][0], first[index]) for index in range(9)) and len(crops.memory._kept) == 2


def test_crops_are_balanced_and_labelled_as_their_animal() -> None:
    data = SceneCrops(SceneConfig(classes="eel"), 0, "train", 40, side=48)
    assert [data[i][1] for i in range(40)].count(0) == 20
    for i in range(40):
        image, label = data[i]
        assert (image.dtype, image.shape) == (torch.uint8, (3, 48, 48))
        red, green, blue = image.int()
        cue_red, cue_yellow = (
            ((red > 190) & (green < 90) & (blue < 90)).sum(),
            ((red > 190) & (green > 170) & (blue < 90)).sum(),
        )
        assert (cue_yellow > cue_red) == (label == 1), (i, cue_red, cue_yellow)
    assert torch.equal(data.take([7, 3])[1][0], data[3][0])


def test_the_label_of_a_crop_chooses_its_species() -> None:
    for label, species in enumerate(SPECIES, start=1):
        alone = draw_crop(SceneConfig(species=(species,)), 0, 5, 1, 64)
        assert np.array_equal(draw_crop(SceneConfig(), 0, 5, label, 64), alone)


def test_crops_are_centred() -> None:
    config = SceneConfig(classes="dot", context_distance=27, clutter=0)  # a window of 64 pixels, not resized
    for index in range(20):
        crop = draw_crop(config, 0, index, 1 + index % 2, 64).astype(float)
        ys, xs = np.nonzero(np.abs(crop - np.array(list(CUES.values())[index % 2])).max(axis=2) < 25)
        assert abs(math.dist((xs.mean() + 0.5, ys.mean() + 0.5), (32, 32)) - 27) < 0.5


def test_a_crop_at_the_border_stays_within_the_image() -> None:
    config = SceneConfig(species=("fish", "ray", "starfish", "eel"))
    crop = draw_crop(config, 10, 1725, 2, 64)  # its animal's rounded place is a thousandth of a pixel too far right
    assert crop.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"classes": "colour"}, "Expected classes out of"),
        ({"species": ("whale",)}, "got 'whale'"),
        ({"species": ()}, "at least one species"),
        ({"sizes": "huge"}, "small, mixed, large"),
        ({"sizes": (8.0, 200.0)}, "change sizes or image_size"),
        ({"objects": (3, 1)}, "Expected objects within 0-50"),
        ({"classes": "dot", "context_distance": 70}, "Expected a context_distance"),
        ({"extras": ("depth",)}, "Expected extras out of"),
        ({"classes": "ladder", "distances": (20, 70)}, "Expected distances of"),
        ({"classes": "ladder", "distances": ()}, "Expected distances of"),
        ({"classes": "ladder", "species": ("eel",)}, "at least one species other than eels"),
        ({"classes": "ladder", "colours": 5}, "Expected 2 to 4 colours"),
        ({"classes": "ladder", "dot_radius": 20.0}, "Expected a dot_radius"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SceneConfig(**knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 96, 160, 256])
@pytest.mark.parametrize("name", CONFIGS)
def test_other_image_sizes_work(name: str, size: int) -> None:
    scene = draw_scene(replace(CONFIGS[name], image_size=size, context_distance=20), 0, 0)
    assert scene.image.shape == (size, size, 3)
    assert len(scene.labels) >= 1


def test_a_scene_may_be_empty() -> None:
    data = Scenes(SceneConfig(objects=(0, 0), extras=EXTRAS), 0, "train", 2)
    assert data[0][1]["boxes"].shape == (0, 4) and data[0][1]["masks"].shape == (0, 128, 128)
    assert data.ground_truth()["annotations"] == []
