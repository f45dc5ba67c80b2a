"""The DetNAS run that FNA's whole cost is compared with: found, checked, and summed up."""

from pathlib import Path

from workbench.evaluation.whole_cost import WholeCost, whole_cost
from workbench.methods.phases import Study
from workbench.records.files import base_folder, read_json
from workbench.records.run_folder import RunFolder

# Its phases by the column of FNA's cost table.
PHASES = {
    "supernet pre-training": ("pretrain supernet",),
    "supernet fine-tuning": ("finetune supernet",),
    "search": ("evolution",),
    "target pre-training": ("pretrain detnas",),
    "target fine-tuning": ("finetune detnas",),
}


def find_detnas_run(study: Study, given: str, preset: str, data: str, runs: str) -> RunFolder | None:
    """The DetNAS run to compare with: `given`, or the newest finished one of this preset, data and seed; None if none.

    ValueError when the given folder is no finished run of DetNAS, or of other data.
    """
    wanted = (preset, data, study.seed, 0)
    if given:
        run = RunFolder(base_folder() / Path(given).expanduser())
        if run.notebook != "10_detnas" or run.status != "finished":
            raise ValueError(f"{given} is no finished run of 10_detnas, but one of {run.notebook} ({run.status}).")
        if (theirs := _comparable(run)) != wanted:
            raise ValueError(
                f"{given} has preset, data, seed and max_steps {theirs}, this run needs {wanted}: compare whole runs on"
                " the same pictures."
            )
        return run
    folders = sorted((base_folder() / runs / "10_detnas").glob("*-*"), key=lambda path: path.stat().st_mtime)
    known = (RunFolder(folder) for folder in reversed(folders) if (folder / "params.json").is_file())
    return next((run for run in known if run.status == "finished" and _comparable(run) == wanted), None)


def _comparable(run: RunFolder) -> tuple[object, ...]:
    return (run.params.get("preset"), run.params.get("data"), run.seed, run.params.get("max_steps", 0))


def detnas_cost(run: RunFolder) -> WholeCost:
    """What DetNAS's detector of that run cost, and its AP on the test split."""
    rows = read_json(run.path / "tables" / "comparison.json")["rows"]
    ap = next(float(row["AP"]) for row in rows if row["network"] == "DetNAS")
    return whole_cost("DetNAS", run.ledger.entries, PHASES, ap)
