"""What a rehearsal says of the real thing: its ledger scaled, by counting, from a few images to those of the paper."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from workbench.data.splits import MINIVAL, TRAINABLE, VALMINUSMINIVAL
from workbench.insight.tables import paper_table
from workbench.lessons.detnas import COSTS
from workbench.methods.crnas import presets as crnas
from workbench.methods.crnas.presets import CRNASPlan
from workbench.methods.detnas import presets as detnas
from workbench.methods.detnas.presets import DetNASPlan
from workbench.methods.experiment import as_plain
from workbench.methods.fna import paper as fna
from workbench.methods.nats import presets as nats
from workbench.methods.presets import IMAGENET_IMAGES
from workbench.methods.rehearsal import REHEARSAL, rehearsed
from workbench.records.files import digest, read_json, write_text
from workbench.records.ledger import Entry
from workbench.records.run_folder import RunFolder
from workbench.search.beam import BeamSearch
from workbench.spaces.allocation import PREFIX, eligible
from workbench.spaces.catalogue import space_named
from workbench.spaces.dilation import dilation_space_name
from workbench.training.recipe import AlternatingRecipe, Recipe

RATE = 5.0  # TFLOP/s of a GPU; a GTX 1080 Ti, on which two of the papers were computed, has 11.3 at its best
GPUS = 8  # in all four papers
PRESETS: dict[str, Mapping[str, Any]] = {
    "10_detnas": detnas.PRESETS,
    "20_nats": nats.PRESETS,
    "31_fna_detection": fna.PRESETS,
    "32_fna_segmentation_and_pose": fna.PRESETS,
    "40_crnas": crnas.PRESETS,
}
DRAWN = ("data", "pretrain_data", "mask_data", "pose_data")  # parameters that a rehearsal leaves at scenes
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2, "rmsprop": 2}  # numbers that an optimiser keeps for each weight
# Bytes of an image in a file, from the sizes of the official archives.
IMAGENET_BYTES, COCO_BYTES, CITYSCAPES_BYTES = 147_897_477_120 / IMAGENET_IMAGES, 19.3e9 / 118_287, 11.6e9 / 5_000
# Images that a candidate is scored on, by the split of a plan.
SEARCHED = {"nats": VALMINUSMINIVAL, "fna": TRAINABLE // 2, "fna-cityscapes": 595}
BY_ACCURACY = ("ClsNAS", "stages by accuracy")  # phases that score classifiers, on a hundredth of ImageNet


class Estimate(NamedTuple):
    """A phase as it was rehearsed, and at the paper's length: images, MACs, and bytes on each of its GPUs."""

    phase: str
    seconds: float  # of the rehearsal
    peak: int  # bytes, of the rehearsal
    images: int
    macs: float
    memory: float | None  # weights, gradients, optimiser and activations at the real batch; None: nothing is trained
    file_bytes: float  # of an image

    @property
    def gpu_days(self) -> float:
        return 2 * self.macs / (RATE * 1e12) / 86_400

    @property
    def read(self) -> float:
        """Bytes a second that keep `GPUS` busy."""
        return self.file_bytes * self.images / (self.gpu_days * 86_400 / GPUS) if self.macs else 0.0


def parameters(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook's parameters for the rehearsal of the preset that is `given`; ValueError for what cannot be rehearsed.

    Where a search starts from a published network, its weights are random unless they are given.
    """
    preset = str(given.get("preset", ""))
    if notebook.stem not in PRESETS or preset not in PRESETS[notebook.stem] or not preset.startswith("paper"):
        raise ValueError(
            f"--rehearse is for the papers' presets of {', '.join(PRESETS)}, with -p preset paper; got {notebook} with"
            f" preset {preset!r}."
        )
    if named := [name for name in DRAWN if given.get(name, "scenes") != "scenes"]:
        raise ValueError(f"A rehearsal draws its own images, as large as the paper's; leave out -p {named[0]}.")
    weights = {"seed_weights": "random"} if PRESETS[notebook.stem] is fna.PRESETS else {}
    return {**weights, **given, "preset": preset + REHEARSAL}


def estimates(run: RunFolder) -> list[Estimate]:
    """Of the phases of the run in order, without what a lesson adds, measures on the test split or had in the cache."""
    plans = paper_plans(run)
    real = {digest(as_plain(cut)): recipe for plan in plans for recipe, cut in _recipes(plan, rehearsed(plan))}
    records = {digest(record["entry"]): (path.parent, record) for path, record in _records(run)}
    rows = []
    for entry in run.ledger.entries:
        folder, record = records.get(digest(asdict(entry)), (None, {}))
        plan = plans[-1] if "pose" in entry.phase else plans[0]
        cut = record.get("identity", {}).get("recipe")
        crops = entry.phase.startswith("pretrain") or entry.phase in BY_ACCURACY
        coco = CITYSCAPES_BYTES if plan.data.split == "fna-cityscapes" else COCO_BYTES
        memory = None
        if cut is not None:
            if (recipe := real.get(digest(cut))) is None:
                continue  # a lesson's own, such as a training of half the length
            images, macs = _trained(entry, recipe)
            weights = recipe if isinstance(recipe, Recipe) else recipe.weights
            assert folder is not None
            kept = (2 + SLOTS[weights.optimizer]) * (folder / "weights.safetensors").stat().st_size
            memory = kept + record["activation_bytes"] * weights.batch_size / GPUS
        elif entry.phase.startswith("refresh "):
            images = plan.refresh_images
            macs = entry.forward_macs / entry.images * images
        elif entry.cached or entry.phase.startswith("measure "):
            continue
        else:
            images = _scored(plan, entry.phase)
            macs = entry.forward_macs / max(1, entry.images) * images
        read = IMAGENET_BYTES if crops else coco
        rows.append(Estimate(entry.phase, entry.seconds, entry.peak_memory, images, macs, memory, read))
    return rows


def paper_plans(run: RunFolder) -> list[Any]:
    """The whole plans that the run rehearses; ValueError when it rehearses none."""
    preset = str(run.params.get("preset", "")).removesuffix(REHEARSAL)
    tasks = run.params.get("tasks", ["detection"])
    plan = PRESETS.get(run.notebook, {}).get(preset)
    if plan is None or not str(run.params["preset"]).endswith(REHEARSAL):
        raise ValueError(f"{run.path} rehearses no paper's plan; run it with -p preset paper --rehearse.")
    return [plan[task] for task in tasks] if isinstance(plan, dict) else [plan]


def _recipes(plan: Any, cut: Any) -> Iterator[tuple[Any, Any]]:
    """Every recipe of a plan with what its rehearsal makes of it."""
    for field in fields(plan):
        one, other = getattr(plan, field.name), getattr(cut, field.name)
        if isinstance(one, Recipe | AlternatingRecipe):
            yield one, other
        elif is_dataclass(one):
            yield from _recipes(one, other)


def _records(run: RunFolder) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in (run.path / "phases", run.path.parent.parent / "cache"):
        for path in sorted(folder.glob("*/phase.json")):
            yield path, read_json(path)


def _trained(entry: Entry, recipe: Recipe | AlternatingRecipe) -> tuple[int, float]:
    """Images and MACs, both ways, of the real training: those of an image on either side are in the entry.

    A step of the weights costs two more forward passes, a step of alpha one (`train_phase`).
    """
    if isinstance(recipe, Recipe):
        images = recipe.steps * recipe.batch_size
        return images, (entry.forward_macs + entry.backward_macs) / entry.images * images
    on_weights, on_alpha = entry.backward_macs - entry.forward_macs, 2 * entry.forward_macs - entry.backward_macs
    steps = sum("alpha" in recipe.turns(step) for step in range(recipe.weights.steps))
    many, few = recipe.weights.steps * recipe.weights.batch_size, steps * recipe.alpha.batch_size
    # The rehearsal has two steps of the weights and one of alpha, with the same batch.
    batch = entry.images / 3
    return many + few, 3 * on_weights / (2 * batch) * many + 2 * on_alpha / batch * few


def _scored(plan: Any, phase: str) -> int:
    """Images that all candidates of the real phase see, recalibration and scoring together."""
    searched = IMAGENET_IMAGES // 100 if phase in BY_ACCURACY else SEARCHED.get(plan.data.split, MINIVAL)
    calibrated = 0 if phase == "without recalibration" else plan.scoring.calibration_images
    if isinstance(plan, DetNASPlan):
        count = plan.recalibration_check if phase == "without recalibration" else plan.evaluations
    elif isinstance(plan, CRNASPlan) and phase.startswith("stages"):
        count = len(eligible(space_named(PREFIX + plan.supernet_backbone), plan.budget))
    elif isinstance(plan, CRNASPlan):
        space = space_named(dilation_space_name(plan.supernet_backbone, plan.deeper))
        count = BeamSearch(space, width=plan.beam.width, completions=1, seed=0, metric="").evaluations
    else:
        count = plan.search.epochs - plan.search.warm_epochs
    return count * (calibrated + searched)


def printed_days(run: RunFolder) -> dict[str, tuple[str, Sequence[str]]]:
    """What the paper prints, in GPU-days, by part, and the phases that the part has here; {} where nothing is known."""
    preset = str(run.params["preset"]).removesuffix(REHEARSAL)
    if run.notebook == "10_detnas" and preset == "paper":
        days = paper_table("detnas_cost").set_index("stage")["GPU-days"]
        return {part: (days[part], phases) for part, (phases, _) in COSTS.items()}
    if run.notebook == "20_nats" and preset == "paper":
        row = paper_table("nats_cost").set_index("method").loc["NATS-det"]
        return {"search": (row["GPU-days"], ("search n16", "score search n16"))}
    if run.notebook == "31_fna_detection" and preset in ("paper", "paper-ssdlite"):
        name = "FNA SSDLite" if preset.endswith("ssdlite") else "FNA RetinaNet"
        row = paper_table("fna_detection_cost").set_index("method").loc[name]
        phases = {"search": ("search", "score search"), "target fine-tuning": ("finetune fna",)}
        return {part: (row[part], named) for part, named in phases.items()}
    if run.notebook == "32_fna_segmentation_and_pose" and "segmentation" in run.params["tasks"] and preset == "paper":
        row = paper_table("fna_segmentation_cost").set_index("method").loc["FNA"]
        phases = {"search": ("search segmentation",), "training": ("finetune fna-segmentation",)}
        return {part: (f"{float(row[part]) / 24:.2g}", named) for part, named in phases.items()}
    return {}


def as_markdown(run: RunFolder) -> str:
    """The ledger of a rehearsal next to its full size, the paper's own GPU-days, and where the plan deviates."""
    rows, total = estimates(run), run.ledger.total()
    lines = [
        f"## {run.notebook}, preset {run.params['preset']}",
        "",
        f"Rehearsed in {total.seconds:.0f} s of phases, at most {total.peak_memory / 2**30:.1f} GiB. At full size: MACs"
        f" forward and backward, counted; GPU-days at {RATE:g} TFLOP/s; memory on each of {GPUS} GPUs in single"
        " precision (weights, gradients, optimiser, activations), counted; and what a loader reads so that"
        f" {GPUS} such GPUs are busy. Controls are rows, too.",
        "",
        "| phase | rehearsed, s | peak, GiB | images | MACs | GPU-days | memory, GiB | MB/s read |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        memory = "–" if row.memory is None else f"{row.memory / 2**30:.1f}"
        cells = [row.phase, f"{row.seconds:.1f}", f"{row.peak / 2**30:.1f}", f"{row.images:,}", f"{row.macs:.2e}"]
        lines.append(f"| {' | '.join([*cells, f'{row.gpu_days:.2f}', memory, f'{row.read / 1e6:.1f}'])} |")
    days = {row.phase: row.gpu_days for row in rows}
    left = [entry.phase for entry in run.ledger.entries if entry.phase not in days]
    lines += ["", f"Not estimated: {', '.join(left)}."]
    if parts := printed_days(run):
        lines += ["", "| part | GPU-days printed | here |", "|---|---:|---:|"]
        for part, (told, phases) in parts.items():
            here = sum(days.get(phase, 0.0) for phase in phases)
            lines.append(f"| {part} | {told} | {here:.2f} |")
    else:
        lines += ["", "The paper's cost in GPU-days is not known from a readable source."]
    lines += ["", "The plan deviates from the paper:", ""]
    sentences = dict.fromkeys(text for plan in paper_plans(run) for text in plan.deviations)
    return "\n".join([*lines, *(f"- {sentence}" for sentence in sentences)]) + "\n"


def write(path: Path) -> str:
    """The same text, also kept as `rehearsal.md` in the run folder."""
    text = as_markdown(RunFolder(path))
    write_text(path / "rehearsal.md", text)
    return text
