"""Checkpoints at chosen steps, for tests that interrupt a training."""

from itertools import count

from workbench.training import checkpoint


def every(steps, patch):
    """From now on checkpoints are due after so many steps: the clock that says so ticks when it is asked."""
    patch.setattr(checkpoint, "FIRST_SECONDS", float(steps))
    patch.setattr(checkpoint, "USUAL_SECONDS", float(steps))
    patch.setattr(checkpoint, "monotonic", count().__next__)
