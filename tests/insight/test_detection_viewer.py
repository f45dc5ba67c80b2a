"""The viewer shows the boxes of a kind and nothing else in full, and goes on where an image cannot be read."""

import re
import time
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.tasks.test_box_metrics import jittered
from workbench.data.scenes.scene import SceneConfig
from workbench.data.scenes.tasks import Scenes
from workbench.insight.widgets.detection_viewer import ON_A_PAGE, detection_viewer
from workbench.tasks.box_errors import KINDS, box_errors, missed


class OneBroken(Scenes):
    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if index == 1:
            raise ValueError("Expected an image, got <text>; replace it.")
        return super().__getitem__(index)


def test_every_kind_is_counted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HEADLESS", raising=False)
    data = OneBroken(SceneConfig(), 0, "test", 12)
    truth, found = jittered(data.ground_truth(), np.random.default_rng(0), per_image=8)
    row, message, image, _ = detection_viewer(data, found).children[0].children
    kind, score, page = row.children
    assert "got &lt;text&gt;; replace it" in image.value and message.value == ""
    score.value = 0.5
    errors = box_errors(truth, found)
    counts = errors[errors["score"] >= 0.5]["kind"].value_counts().to_dict()
    counts["missed"] = len(missed(truth, errors, 0.5))
    assert all(f"{name} {counts.get(name, 0)}\u2003" in image.value for name in KINDS)
    for name in KINDS:
        start = time.process_time()
        kind.value, page.value = name, 1
        assert time.process_time() - start < 1.0  # measured 10 ms
        words = re.findall(r"</title><text[^>]*>([^<]+)</text>", image.value)
        first = len({*errors["image_id"]}) <= ON_A_PAGE
        assert words and (not first or len(words) == counts[name])
        assert len(re.findall(r"<image ", image.value)) <= ON_A_PAGE
    page.value = 2
    assert "page 2 of 2" in image.value or "page 1 of 1" in image.value
