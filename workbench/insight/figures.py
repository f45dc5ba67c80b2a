"""Shows a figure in the notebook and keeps it in the run folder, with a text for readers who cannot see it."""

from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from workbench.records.run_folder import RunFolder


def show(run: RunFolder, ax: Axes, name: str, alt: str) -> None:
    """Saves the figure that `ax` belongs to as `figures/<name>.png` of the run and displays it with its alt text."""
    figure = ax.figure.get_figure(root=True)
    assert figure is not None
    run.save_figure(figure, name, alt)
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)
