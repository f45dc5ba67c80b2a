"""The engine that is Ray. Nothing else knows Ray.

A worker has as many threads as this process, so on the CPU its numbers are the same. Workers read and write the folders
of a run by their paths: the machines of a cluster share them, as Ray Train asks anyway.
"""

import importlib
import logging
import math
import os
import shutil
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.methods.engine import Call, Judge, Local
from workbench.records.progress import Progress, silent

TRIES = 3  # of a candidate whose worker dies
SETTINGS = {  # Ray's own: no telemetry, workers not nicer than this process, no changed folder, no advice on stderr
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def join(name: str, workers: int, device: str) -> "Ray":
    """See `open_engine`."""
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.train.torch")
    except ImportError as error:
        raise ValueError(f"The engine {name!r} needs Ray ({error}); pip install -e '.[cluster]' adds it.") from error
    if not ray.is_initialized():
        options: dict[str, Any] = {"address": name, "log_to_driver": False, "logging_level": logging.ERROR}
        if name == "ray":
            options |= {"address": "local", "include_dashboard": False}
        try:
            if ":" in name:
                host, port = name.split(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            ended = signal.getsignal(signal.SIGTERM)
            ray.init(**options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ended)  # Ray's own prints its stack when a kernel is told to end
        except Exception as error:  # Ray has no error of its own for this
            told = f"No Ray cluster can be joined at {name!r} ({error})"
            raise ValueError(f"{told}; begin one with ray start --head, or use engine ray.") from error
    return Ray(name, workers, device)


class Ray:
    """Workers of a Ray cluster, each with a share of its GPUs and CPUs."""

    remote = True

    def __init__(self, address: str, workers: int, device: str) -> None:
        import ray
        import torch

        self.address, room = address, ray.cluster_resources()
        cpus, self.gpus = int(room.get("CPU", 0)), int(room.get("GPU", 0)) if device != "cpu" else 0
        if device == "cuda" and not self.gpus:
            raise ValueError("device is cuda, but the Ray cluster has no GPU; use auto or cpu.")
        threads = torch.get_num_threads()
        self.workers = workers or self.gpus or max(1, cpus // threads)
        self.threads = max(1, cpus // self.workers) if self.gpus else threads
        if (needed := self.workers * self.threads) > cpus:
            raise ValueError(
                f"{self.workers} workers of {self.threads} threads need {needed} CPUs, but the Ray cluster has {cpus};"
                " ask for fewer workers, or for fewer threads with OMP_NUM_THREADS=1."
            )
        self.share: dict[str, float] = {"num_cpus": self.threads}
        if self.gpus:  # all of it on one GPU
            self.share["num_gpus"] = 1 / math.ceil(self.workers / self.gpus)
        self.judge: Judge | None = None
        self.copied: Any = None  # in Ray's store
        self.actors: list[Any] = []  # each holds a copy of the judge

    @property
    def name(self) -> str:
        return f"{self.address}, {self.workers} workers"

    def __reduce__(self) -> tuple[type[Local], tuple[()]]:
        return Local, ()  # what runs on a worker stays there

    def processes(self, batch: int) -> int:
        """As many as divide the batch, and no two on a GPU."""
        most = min(self.workers, self.gpus or self.workers)
        return max(count for count in range(1, most + 1) if batch % count == 0)

    def train(self, work: Callable[..., Any], folder: Path, batch: int, progress: Progress) -> Any:
        """Ray Train runs `work` in several processes; `work` here then takes up what they left in `folder`.

        Raises the error of the first process that failed.
        """
        import ray
        from ray import train
        from ray.train.torch import TorchTrainer
        from ray.util.queue import Queue

        self._dismiss()  # their memory is wanted
        states: Any = Queue(actor_options={"num_cpus": 0})
        prepare = _preparation(self.threads)

        def on_worker() -> None:
            import torch.distributed as dist

            prepare()
            first = dist.get_rank() == 0
            work(progress=(lambda *state: states.actor.put_nowait.remote(state)) if first else silent)

        def show() -> None:
            for state in iter(states.get, None):
                progress(*state)

        notes, interrupt = folder.absolute() / "ray", signal.getsignal(signal.SIGINT)
        shutil.rmtree(notes, ignore_errors=True)  # of a killed one, which Ray Train would try to continue
        resources = {"CPU": self.threads} | ({"GPU": 1} if self.gpus else {})
        trainer = TorchTrainer(
            on_worker,
            scaling_config=train.ScalingConfig(
                num_workers=self.processes(batch), use_gpu=bool(self.gpus), resources_per_worker=resources
            ),
            run_config=train.RunConfig(name="train", storage_path=str(notes)),
        )
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        shown = threading.Thread(target=show, daemon=True)
        shown.start()
        try:
            trainer.fit()
        except train.TrainingFailedError as error:
            failed = getattr(error, "worker_failures", {})
            cause = failed[min(failed)] if failed else getattr(error, "controller_failure", error)
            raise _told(cause) from error
        except ray.exceptions.RayError as error:
            raise _told(error) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)  # Ray Train keeps it
            states.put(None)
            shown.join()
            states.shutdown()
            shutil.rmtree(notes, ignore_errors=True)
        return work(progress=silent)

    def each(self, judge: Judge, calls: Iterable[Call]) -> Iterator[Any]:
        """The next free worker takes the next call. Where a worker dies another one tries again, three times in all.

        What a judge raises is raised here, and so is that a worker was ended because memory was short.
        """
        import ray

        known = list(calls)
        idle = self._hold(judge, len(known)).copy()
        waiting, done = deque(range(len(known))), dict[int, Any]()
        running: dict[Any, tuple[int, Any]] = {}
        for number in range(len(known)):
            while number not in done:
                while idle and waiting:
                    place, actor = waiting.popleft(), idle.pop()
                    running[actor.judge.remote([self.copied], known[place])] = place, actor
                ended = ray.wait([*running])[0][0]
                place, actor = running.pop(ended)
                idle.append(actor)
                try:
                    done[place] = ray.get(ended)
                except ray.exceptions.RayError as error:
                    if not isinstance(error, ray.exceptions.RayActorError) or "low on memory" in str(error):
                        raise _told(error) from error
                    done[place] = judge.lost(f"its worker died, {TRIES} times in a row", **known[place])
            yield done.pop(number)

    def _hold(self, judge: Judge, calls: int) -> list[Any]:
        """Actors for so many calls of `judge`, a copy of which lies in Ray's store for them."""
        import ray

        if self.judge is not judge:
            self.judge, self.copied = judge, ray.put(judge)
        wanted = min(self.workers, calls) - len(self.actors)
        if wanted > 0:
            options = {**self.share, "max_restarts": -1, "max_task_retries": TRIES - 1}
            holder, prepare = ray.remote(_Holder).options(**options), _preparation(self.threads)
            self.actors += [holder.remote(prepare) for _ in range(wanted)]
            try:
                ray.get([actor.ready.remote() for actor in self.actors])
            except ray.exceptions.RayError as error:
                self._dismiss()
                raise _told(error) from error
        return self.actors

    def _dismiss(self) -> None:
        """Ends the actors, so that others can have their memory and their processors."""
        import ray

        for actor in self.actors:
            ray.kill(actor)
        self.judge, self.copied, self.actors = None, None, []

    def runs(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        import ray

        self._dismiss()
        prepare = _preparation(self.threads)

        def task(*job: Any) -> Any:
            prepare()
            return function(*job)

        remote = ray.remote(task).options(**self.share, max_retries=0)
        running = {remote.remote(*job): number for number, job in enumerate(jobs)}
        while running:
            ended = ray.wait([*running])[0][0]
            try:
                result = ray.get(ended)
            except ray.exceptions.RayError as error:
                result = _told(error)
            yield running.pop(ended), result


class _Holder:
    """An actor with its own copy of a judge; one that begins again asks for it again."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        prepare()
        self.known: list[Any] = []
        self.held: Any = None

    def ready(self) -> None: ...
    def judge(self, judges: list[Any], call: Call) -> Any:
        if judges != self.known:
            import ray

            self.held = None  # two would need twice the memory
            self.known, (self.held,) = judges, ray.get(judges)
        return self.held(**call)


def _preparation(threads: int) -> Callable[[], None]:
    """What a worker does first: it takes the folder and the number of threads of the process that sent its work."""
    home = os.getcwd()

    def prepare() -> None:
        import torch

        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of kernels that it starts
        try:
            os.chdir(home)
        except OSError as error:
            told = f"{socket.gethostname()} has no folder {home}; start the command in one that all machines share."
            raise ValueError(told) from error

    return prepare


def _told(error: Exception) -> Exception:
    """What a worker raised; or one sentence about a worker that Ray lost."""
    from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

    if isinstance(error, RayTaskError):
        cause: Exception = error.cause
        return cause
    if isinstance(error, OutOfMemoryError) or "low on memory" in str(error):
        return RuntimeError("A worker of Ray ran out of memory; ask for fewer workers, the same command continues.")
    if isinstance(error, RayError):
        return RuntimeError(f"Ray lost a worker or was interrupted ({error!s:.300}); the same command continues.")
    return error
