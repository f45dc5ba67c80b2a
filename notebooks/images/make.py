"""The README's images, from figures of runs: `python notebooks/images/make.py RUN...` writes them next to this file.

Each RUN is a run folder or the folder of a notebook, as for `python -m workbench report`. For every image the script
prints the line that the README needs: its alt text is the figure's own.
"""

import sys
from pathlib import Path

from workbench.batch.report import captions_of, find_runs
from workbench.batch.site import thumbnail
from workbench.records.files import write_bytes

# The image's name, and the notebook and the figure that it is.
IMAGES = {
    "detections": ("10_detnas", "detections"),
    "known_answers": ("41_known_answers", "by_distance"),
    "fields": ("50_receptive_fields", "nats_fields"),
    "architectures": ("10_detnas", "published"),
}
MOST_BYTES = 150_000


def main(words: list[str]) -> None:
    """ValueError when a run that an image needs is not among those given."""
    runs = {run.notebook: run for run in find_runs(words) if run.status == "finished"}
    if missing := sorted({notebook for notebook, _ in IMAGES.values()} - runs.keys()):
        raise ValueError(f"Expected a finished run of {', '.join(missing)}; name its folder too.")
    for name, (notebook, figure) in IMAGES.items():
        source = runs[notebook].path / "figures" / f"{figure}.png"
        sizes = (thumbnail(source, width) for width in range(1200, 400, -100))
        image = next(data for data in sizes if len(data) <= MOST_BYTES)
        write_bytes(Path(__file__).with_name(f"{name}.webp"), image)
        print(f"![{captions_of(runs[notebook])[source.name]}](notebooks/images/{name}.webp)")


if __name__ == "__main__":
    main(sys.argv[1:])
