"""Which paths see a batch: fair ones hold every option once, the sandwich teaches two paths what the largest says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.methods.conftest import STEP
from tests.training import checkpoints
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import SceneCrops
from workbench.methods import one_shot
from workbench.methods.paths import fair_paths, option_counts, path_wise, step_paths
from workbench.networks.supernet import Supernet
from workbench.records.files import read_json
from workbench.spaces.catalogue import space_named
from workbench.tasks.classification import Classification
from workbench.training.fit import fit

SPACE = space_named("shuffle-tiny")
CROPS = SceneCrops(SceneConfig(), 0, "train", 16, side=32)
TASK = Classification(categories=CROPS.categories, hidden=8, dropout=0.0, label_smoothing=0.1)


def new():
    torch.manual_seed(0)
    return TASK.build(Supernet(SPACE))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["shuffle-tiny", "allocation-resnet50", "layers-efficientnet-lite0-1.3.3.3.3.1"])
def test_fair_paths_hold_every_option_equally_often(name):
    """In spaces of decisions with unlike numbers of options, give or take one."""
    space, rng = space_named(name), np.random.default_rng(0)
    steps = [fair_paths(space, rng) for _ in range(50)]
    for paths in steps:
        for decision, chosen in zip(space.decisions, zip(*(arch.choices for arch in paths), strict=True), strict=True):
            counts = np.bincount(chosen, minlength=len(decision.options))
            assert counts.max() - counts.min() <= (len(paths) % len(decision.options) > 0)
    first = {arch.choices for paths in steps for arch in paths[:1]}
    assert len(first) > 40  # decisions are permuted apart from each other


def test_fair_step_is_the_sum_of_the_gradients_of_its_paths():
    model, images_targets = new().train(), TASK.batch(CROPS, range(8), torch.device("cpu"))
    paths = step_paths(SPACE, "fair")
    for forward in path_wise(paths, "fair", TASK)(model, "weights", np.random.default_rng(3)):
        sum(forward(*images_targets).values()).backward()
    together = gradients(model)
    options = {name for name, _ in model.named_parameters() if ".options." in name}
    assert options <= together.keys()  # every option of every decision learns in every step
    model.zero_grad()
    total: dict[str, torch.Tensor] = {}
    for arch in paths(np.random.default_rng(3)):
        model.zero_grad()
        model.backbone.activate(arch)
        sum(model(*images_targets).values()).backward()
        for name, gradient in gradients(model).items():
            total[name] = total.get(name, 0) + gradient
    assert total.keys() == together.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, total[name], rtol=1e-4, atol=1e-6)


def test_the_sandwich_teaches_the_smallest_what_the_largest_says():
    model = new().train()
    images, targets = TASK.batch(CROPS, range(8), torch.device("cpu"))
    passes = path_wise(step_paths(SPACE, "sandwich"), "sandwich", TASK)(model, "weights", np.random.default_rng(0))
    macs = [SPACE.macs(arch, 128) for arch in SPACE.all()]
    seen = []
    for forward in passes:
        chosen = SPACE.arch([choice.chosen[0] for choice in model.backbone.choices()])
        seen.append(SPACE.macs(chosen, 128))
        logits = model.logits(images)
        if len(seen) == 1:
            answers = logits.detach().softmax(dim=1)
            wanted = sum(model(images, targets).values())
        else:
            wanted = F.cross_entropy(logits, answers)
        torch.testing.assert_close(sum(forward(images, targets).values()), wanted, rtol=1e-4, atol=1e-6)
    assert len(seen) == 3 and seen[:2] == [max(macs), min(macs)]


def test_what_has_no_meaning_is_refused(experiment):
    with pytest.raises(ValueError, match="Detection has none of one softmax"):
        path_wise(step_paths(SPACE, "sandwich"), "sandwich", experiment.task)
    with pytest.raises(ValueError, match="cannot follow another sampler"):
        step_paths(SPACE, "fair", SPACE.sample)
    with pytest.raises(ValueError, match="equal"):  # which network is the largest?
        step_paths(space_named("dilation-resnet-bottleneck-tiny-2.2.2"), "sandwich")


def test_each_part_of_a_batch_is_taught_what_the_teacher_says_of_it():
    """With one path as teacher and student, what is distilled is the entropy of its own answers."""
    model, arch = new().eval(), SPACE.uniform(0)
    parts = [TASK.batch(CROPS, indices, torch.device("cpu")) for indices in (range(4), range(4, 8))]
    passes = path_wise(lambda rng: [arch, arch], "sandwich", TASK)(model, "weights", np.random.default_rng(0))
    model.training = True  # losses, while the statistics of batch norm stand still
    teacher = next(passes)
    for part in parts:
        teacher(*part)
    student = next(passes)
    for images, targets in parts:
        answers = model.logits(images).softmax(dim=1)
        entropy = -(answers * answers.log()).sum(dim=1).mean()
        torch.testing.assert_close(student(images, targets)["distillation"], entropy)


@pytest.mark.parametrize("rule", ["uniform", "fair", "sandwich"])
def test_counted_updates_are_those_of_the_training(rule):
    """A hook on every option counts the passes that reach it in training."""
    model, paths = new(), step_paths(SPACE, rule)
    counted = [[0] * len(decision.options) for decision in SPACE.decisions]
    for row, choice in zip(counted, model.backbone.choices(), strict=True):
        for place, option in enumerate(choice.options):
            option.register_forward_hook(lambda *_, row=row, place=place: row.__setitem__(place, row[place] + 1))
    history = fit(model, TASK, CROPS, replace(STEP, steps=5), seed=7, before_step=path_wise(paths, rule, TASK))
    assert option_counts(SPACE, paths, 7, 5) == counted
    assert history.images == 5 * STEP.batch_size * len(paths(np.random.default_rng(0)))
    if rule == "fair":
        assert counted == [[5] * 4] * len(SPACE.decisions)


def test_a_trained_supernet_says_how_often_each_option_was_updated(experiment):
    kept = one_shot.train_supernet(
        experiment, "train fair", lambda: Supernet(SPACE), experiment.task, experiment.data.train, STEP,
        stream="fair", origin={}, aligned=True, paths="fair", averaged=2,
    )  # fmt: skip
    record = read_json(experiment.run.path / "phases" / kept.key / "phase.json")
    assert kept.updates == [[STEP.steps] * 4] * len(SPACE.decisions)
    assert kept.trained.entry.images == STEP.steps * STEP.batch_size * 4
    assert kept.trained.entry.forward_macs > 0 and record["identity"]["averaged"] == 2


@pytest.mark.parametrize("rule", ["fair", "sandwich"])
def test_resumed_training_with_several_paths_and_an_average_is_bit_identical(rule, tmp_path, monkeypatch):
    """Interrupted after step 8 of 12, while the last quarter is not done; the average is of the last three steps."""
    checkpoints.every(5, monkeypatch)
    before, recipe = path_wise(step_paths(SPACE, rule), rule, TASK), replace(STEP, steps=12)

    def run(path, stop=0):
        def progress(done, total, text):
            if done == stop:
                raise KeyboardInterrupt

        model = new()
        options = {"checkpoint": tmp_path / path, "averaged": 3, "progress": progress}
        history = fit(model, TASK, CROPS, recipe, seed=0, before_step=before, **options)
        return history, model.state_dict()

    with pytest.raises(KeyboardInterrupt):
        run("killed", stop=11)
    history, weights = run("killed")
    whole_history, whole = run("whole")
    assert history == whole_history
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


def test_averaged_weights_are_the_mean_of_the_last_quarter():
    """Of 8 steps the last two; and nothing else of the training changes."""
    taken = []

    def run(averaged, steps=8):
        model = new()

        def progress(done, total, text):
            if done in (7, 8):
                taken.append({name: p.detach().clone() for name, p in model.named_parameters()})

        recipe = replace(STEP, steps=steps, schedule="constant")
        before = path_wise(step_paths(SPACE), "uniform", TASK)
        history = fit(model, TASK, CROPS, recipe, seed=0, before_step=before, averaged=averaged, progress=progress)
        return model, history

    mean, history = run(2)
    plain, plain_history = run(0)
    assert history == plain_history
    for name, p in mean.named_parameters():
        torch.testing.assert_close(p.detach(), (taken[0][name] + taken[1][name]) / 2)
    assert all(torch.equal(p, taken[1][name]) for name, p in plain.named_parameters())
    with pytest.raises(ValueError, match=r"0 \(not at all\) or more"):
        run(-1)
