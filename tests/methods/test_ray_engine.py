"""Two workers of Ray give what one process gives: the same records in the same order, the same losses and weights."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.batch.test_run import OPEN, notebook
from tests.training.test_parallel import _Model, _Task
from workbench.batch.run import run_notebooks
from workbench.methods import candidates
from workbench.methods.engine import open_engine
from workbench.methods.experiment import body_of, new_model
from workbench.methods.gradient import gradient_search
from workbench.methods.phases import train_phase
from workbench.methods.ray_engine import SETTINGS
from workbench.networks.supernet import Supernet
from workbench.records.files import read_json
from workbench.records.run_folder import RunFolder
from workbench.search.evolution import Evolution, EvolutionConfig
from workbench.spaces.catalogue import space_named
from workbench.training.parallel import agree, world
from workbench.training.recipe import AlternatingRecipe, Recipe
from workbench.training.side import NonFiniteLoss

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")
pytest.importorskip("ray.train.torch", reason="parts of Ray are missing", exc_type=ImportError)
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its log files and sockets open
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # Ray sets its own old settings
]

SPACE = space_named("shuffle-tiny")
RECIPE = Recipe(steps=4, batch_size=4, lr=0.1, weight_decay=0.01)
SEARCH = {"phase": "search", "evaluations": 8, "generation": 4}


@pytest.fixture(scope="module")
def engine():
    """Two workers of one thread, of the cluster that RAY_ADDRESS names or of a small one that ends with these tests."""
    threads, home = torch.get_num_threads(), tempfile.mkdtemp(prefix="r", dir="/tmp")  # sockets want short paths
    torch.set_num_threads(1)
    os.environ |= SETTINGS
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" not in os.environ:
        options |= {"address": "local", "num_cpus": 2, "object_store_memory": 100 * 2**20}
        options |= {"include_dashboard": False, "_temp_dir": home}
    ray.init(**options)
    yield open_engine("ray", 2, "cpu")
    ray.shutdown()
    shutil.rmtree(home)
    torch.set_num_threads(threads)


@pytest.fixture
def anew(experiment, tmp_path):
    """The experiment with a run folder of that name."""
    return lambda name, **changes: replace(
        experiment, run=RunFolder.open(tmp_path, name, {}, seed=0, data_digest="toy"), **changes
    )


class KeptSupernet:
    """An untrained supernet in a detector."""

    key = "untrained"

    def __init__(self, experiment):
        self.model = new_model(lambda: experiment.task.build(Supernet(SPACE)), 0, "supernet")
        self.supernet = body_of(self.model)


def evolution():
    config = EvolutionConfig(population=4, parents=2, mutants=2, crossings=1)
    return Evolution(SPACE, config, seed=0, metric="AP")


def rows(run, but=()):
    """Everything in the record of a run, without seconds."""
    return [replace(score, seconds=0.0) for score in run.scores() if score.arch not in but]


def searched(experiment):
    judge = candidates.scorer(experiment, KeptSupernet(experiment), experiment.task)
    return candidates.search(experiment, evolution(), judge, **SEARCH)


class Stopped(Exception):
    """What ends a search here, in place of a kill."""


def test_a_search_on_workers_has_the_record_of_one_process_also_after_a_kill(engine, anew, monkeypatch):
    alone, spread = anew("alone"), anew("spread", engine=engine)
    searched(alone)

    def append(run, score):
        if len(run.scores()) == 5:
            raise Stopped
        write(run, score)

    write = RunFolder.append
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", append)
        with pytest.raises(Stopped):
            searched(spread)
    assert len(spread.run.scores()) == 5
    searched(spread)
    assert rows(spread.run) == rows(alone.run) and len(rows(alone.run)) == 8
    assert {score.step for score in alone.run.scores()} == {0, 1}
    costs = [[(e.phase, e.images, e.forward_macs) for e in each.run.ledger.entries] for each in (alone, spread)]
    assert costs[0] == costs[1]


class Deadly:
    """A judge that kills its worker at one candidate as often as it is told; others take the longer the earlier."""

    def __init__(self, folder, place, deaths):
        self.folder, self.place, self.deaths = folder, place, deaths

    def __call__(self, number):
        died = len([*self.folder.iterdir()])
        if number == self.place and died < self.deaths:
            (self.folder / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number, torch.get_num_threads()

    def lost(self, error, number):
        return number, error


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_candidate_whose_worker_dies_is_tried_three_times_and_the_others_keep_their_order(engine, tmp_path, deaths):
    found = list(engine.each(Deadly(tmp_path, 2, deaths), [{"number": number} for number in range(6)]))
    told = (2, 1) if deaths == 1 else (2, "its worker died, 3 times in a row")
    assert found == [(0, 1), (1, 1), told, (3, 1), (4, 1), (5, 1)]
    assert len([*tmp_path.iterdir()]) == deaths


class Raising:
    def __call__(self, number):
        raise MemoryError(f"no room for {number}")


def test_what_hits_every_candidate_alike_is_raised_here(engine):
    with pytest.raises(MemoryError, match="no room for 0"):
        list(engine.each(Raising(), [{"number": 0}]))


class Images:
    """Numbers, of which the task makes images."""

    digest, name = "numbers", "numbers"

    def __len__(self):
        return 8


@dataclass(frozen=True)
class Task(_Task):
    """Its identity is its name."""


def trained(experiment, recipe=RECIPE):
    model = new_model(_Model, 0, "model")

    def before_step(trained, turn, rng):
        trained.supernet.activate(SPACE.sample(rng))

    options = {"origin": {}, "before_step": before_step, "prices": (1, 1)}
    return model, train_phase(experiment, "train", model, Task(), Images(), recipe, **options)


def test_a_training_in_two_processes_has_the_losses_and_weights_of_one(engine, anew):
    """Without batch statistics, which on CPUs each process has of its own share."""
    (model, alone), (twin, spread) = trained(anew("alone")), trained(anew("spread", engine=engine))
    assert alone.key == spread.key and alone.entry.images == spread.entry.images == 16
    torch.testing.assert_close(spread.losses, alone.losses, rtol=1e-4, atol=1e-6)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    again, kept = trained(anew("spread", engine=engine))
    assert kept == spread and not list(anew("spread").run.path.rglob("ray"))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in twin.state_dict().items())


def test_an_error_of_a_training_process_arrives_as_it_was(engine, anew):
    with pytest.raises(NonFiniteLoss, match="not finite at step"):
        trained(anew("hot", engine=engine), replace(RECIPE, lr=1e30))


def test_a_gradient_search_in_two_processes_records_each_epoch_once(engine, anew):
    experiment = anew("gradient", engine=engine)
    part = Recipe(steps=4, batch_size=4, lr=1e-3, optimizer="adamw")
    recipe = AlternatingRecipe(weights=part, alpha=replace(part, batch_size=2), epochs=2, warm_epochs=1)
    options = {"stream": "gradient", "origin": {}, "weights_on": "mixture"}
    search = gradient_search(experiment, lambda: Supernet(SPACE), recipe, phase="search", **options)
    scores = experiment.run.scores("search")
    assert [score.step for score in scores] == [0, 1] and "AP" in scores[1].metrics
    assert search.derived().arch == scores[1].arch
    assert len(search.trained.losses) == 4 and len(search.trained.alphas) == 2


def test_processes_that_do_not_know_the_same_stop_with_a_sentence(engine, tmp_path):
    def work(progress):
        agree(**{"the recipe": world()[0]})

    with pytest.raises(ValueError, match="of the recipe process 0 says 0 and process 1 says 1; give their machines"):
        engine.train(work, tmp_path, 4, lambda done, total, text: None)


def test_a_sweep_runs_on_workers_and_one_failure_does_not_stop_the_others(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = notebook(tmp_path / "lesson.ipynb", OPEN, "import os\nassert seed != 1\nrun.finish()")
    done = list(run_notebooks([source], parameters={"runs": "out"}, sweep={"seed": [0, 1]}, engine="ray", workers=2))
    ended = {read_json(each.run / "command.json")["parameters"]["seed"]: each.error for each in done if each.run}
    assert ended == {0: None, 1: "cell In [4]: AssertionError: "} and len(done) == 2
    assert {each.run.parent for each in done} == {Path("out/lesson")}


def test_a_run_whose_worker_dies_says_so_and_the_others_go_on(engine):
    def work(number):
        return number if number else os.kill(os.getpid(), signal.SIGKILL)

    found = dict(engine.runs(work, [(number,) for number in range(3)]))
    assert found[1] == 1 and found[2] == 2
    assert isinstance(found[0], RuntimeError) and "the same command continues" in str(found[0])


def test_what_cannot_be_is_said_before_any_work(engine, monkeypatch):
    with pytest.raises(ValueError, match=r"999 workers of 1 threads need 999 CPUs, but the Ray cluster has \d+; ask"):
        open_engine("ray", 999, "cpu")
    with pytest.raises(ValueError, match="the Ray cluster has no GPU"):
        open_engine("ray", 1, "cuda")
    with pytest.raises(ValueError, match="Over ray:// nothing can be trained"):
        open_engine("ray://head:10001")
    with monkeypatch.context() as patch:
        patch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(ValueError, match=r"No Ray cluster can be joined at '127.0.0.1:1' .*ray start --head"):
            open_engine("127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs Ray .*cluster"):
        open_engine("ray")


def test_a_process_that_is_told_to_end_says_nothing_of_the_inside_of_ray():
    code = (
        "import os, signal, time; from workbench.methods.ray_engine import join; join('ray', 1, 'cpu');"
        " print('joined', flush=True); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    )
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=alone, timeout=300)
    assert (done.stdout, done.returncode) == ("joined\n", -signal.SIGTERM)
    assert "SIGTERM" not in done.stderr


def test_a_batch_is_shared_by_as_many_processes_as_divide_it(engine):
    assert [engine.processes(batch) for batch in (1, 2, 3, 4)] == [1, 2, 1, 2]
    engine.gpus = 1
    assert engine.processes(4) == 1  # NCCL takes no two on one GPU
    engine.gpus = 0
