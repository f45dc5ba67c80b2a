"""What the lesson on DetNAS asks about the method: is recalibration needed?"""

from collections.abc import Sequence

import pandas as pd

from workbench.methods.candidates import detection_scorer
from workbench.methods.one_shot import TrainedSupernet
from workbench.methods.phases import Study
from workbench.records.score import Score


def recalibration_check(study: Study, supernet: TrainedSupernet, scores: Sequence[Score]) -> pd.DataFrame:
    """The first few recorded architectures scored again without recalibration.

    Columns `key`, `with`, `without` (AP).
    """
    scorer = detection_scorer(study, supernet, recalibrated=False)
    rows = [score for score in scores if score.error is None][: study.plan.recalibration_check]
    known = {score.arch: score for score in study.run.scores("without recalibration")}
    table = []
    for row in rows:
        stale = known.get(row.arch)
        if stale is None:
            stale = scorer(row.arch, phase="without recalibration", step=0)
            study.run.append(stale)
        table.append({"key": row.arch.key, "with": row.metrics["AP"], "without": stale.metrics.get("AP", float("nan"))})
    return pd.DataFrame(table)
