"""Processes that end at any moment, or meet on one command: what they leave is whole, and the same as ever."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # ipykernel needs it, too

from tests.traces import differences, trace
from workbench.batch.run import sweep_hidden
from workbench.records.files import sweep
from workbench.records.run_folder import RunFolder

PROJECT = Path(__file__).resolve().parents[2]
METHODS = ("10_detnas", "20_nats", "31_fna_detection", "40_crnas")
EXPECTED = {"params.json", "env.json", "status", "evaluations.jsonl", "ledger.json", "phases", "weights.safetensors"}

WRITER = """
import sys
from pathlib import Path
from workbench.records.files import lock, write_bytes, write_json
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder
from workbench.records.score import Score
from workbench.spaces.arch import Arch

run = RunFolder(sys.argv[1])
lock(run.path / ".lock")
step = len(run.scores())
print("ready", flush=True)
while True:
    step += 1
    of_step = {"arch": Arch("s", (step,)), "macs": step, "step": step}
    run.append(Score(metrics={"AP": 0.5}, params=1, seconds=0.1, seed=0, phase="p", **of_step))
    run.ledger.add(Entry(phase=f"phase {step % 50}", seconds=1.0, images=step, forward_macs=step))
    run.store("probe", "k", {"step": step})
    write_bytes(run.path / "weights.safetensors", step.to_bytes(8, "big") * 40_000)
    print(step, flush=True)
"""


def kill_a_writer(run: RunFolder, seconds: float) -> list[str]:
    """Kills a process `seconds` after it began to write into `run`; what is wrong with what it left."""
    words = [sys.executable, "-c", WRITER, str(run.path)]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True, env=environment()) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(seconds)
        writer.kill()
        said = [int(line) for line in writer.stdout.read().splitlines() if line.strip().isdecimal()]
    sweep(run.path)
    again = RunFolder(run.path)  # reads the ledger, too
    last, stored = again.scores()[-1].step, again.load("probe", "k")
    weights = (run.path / "weights.safetensors").read_bytes()
    wrong = [] if [row.step for row in again.scores()] == list(range(1, last + 1)) else ["rows are missing"]
    if said and not (stored and said[-1] <= stored["step"] <= last):
        wrong.append(f"{stored} was kept of step {said[-1]}")
    if len(set(weights[place : place + 8] for place in range(0, len(weights), 8))) != 1 or len(weights) != 320_000:
        wrong.append("weights are half-written")
    if strange := {path.name for path in run.path.iterdir()} - EXPECTED - {".lock"}:
        wrong.append(f"{sorted(strange)} was left")
    return wrong


def environment() -> dict[str, str]:
    often = {"WORKBENCH_CHECKPOINT_SECONDS": "1"}  # so that a kill finds some
    return {**os.environ, **often, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}


def start(notebook: Path, runs: Path, parameters: Mapping[str, Any]) -> "subprocess.Popen[str]":
    """`python -m workbench run` of a notebook, in a process of its own."""
    words = [sys.executable, "-m", "workbench", "run", str(notebook), "-p", "runs", str(runs)]
    for name, value in parameters.items():
        words += ["-p", name, str(value)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(words, cwd=PROJECT, env=environment(), **pipes)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills a command and its kernel, which has a session of its own."""
    family = psutil.Process(process.pid)
    for member in (*family.children(recursive=True), family):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.communicate()


def run_with_kills(
    notebook: Path, runs: Path, parameters: Mapping[str, Any], kills: int, rng: np.random.Generator, longest: float
) -> tuple[Path, int]:
    """The finished run of a command that was killed up to `kills` times, and how often it was."""
    done = 0
    while done < kills and not finished(runs, notebook):  # it may be killed after its run has finished
        process = start(notebook, runs, parameters)
        try:
            process.communicate(timeout=rng.uniform(1, longest))
            break  # it was faster
        except subprocess.TimeoutExpired:
            kill(process)
            done += 1
    if not (found := finished(runs, notebook)):
        process = start(notebook, runs, parameters)
        text, _ = process.communicate()
        assert process.returncode == 0, text
        found = finished(runs, notebook)
    (run,) = found
    sweep_hidden(runs)  # as the next command does: a kill may come when the run has finished
    return run, done


def finished(runs: Path, notebook: Path) -> list[Path]:
    folders = [path.parent for path in (runs / notebook.stem).glob("*/params.json")]
    return [folder for folder in folders if RunFolder(folder).status == "finished"]


def compare(ours: Path, theirs: Path) -> list[str]:
    """Where two runs differ, clocks apart; and what is left of a killed one."""
    hidden = [path.name for path in ours.parents[1].rglob(".*") if path.name != ".lock"]
    return differences(trace(ours), trace(theirs)) + [f"{name} was left" for name in hidden]
