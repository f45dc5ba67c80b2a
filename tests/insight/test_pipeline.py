"""The diagram of a method draws every step, and says the same in words."""

import matplotlib.pyplot as plt

from workbench.insight.pipeline import Step, pipeline_text, plot_pipelines, seconds_of
from workbench.insight.teaching import answer
from workbench.records.ledger import Entry

STEPS = [
    Step(name="supernet", role="trained", facts=("600 steps",), hands_on="shared weights"),
    Step(name="evolution", role="searched", hands_on="one architecture", dropped="all weights"),
    Step(name="test", role="measured"),
]


def test_every_name_fact_and_arrow_is_on_the_figure_and_in_the_words() -> None:
    pipelines = {"DetNAS": STEPS, "random": STEPS[1:]}
    ax = plot_pipelines(pipelines)
    shown = " ".join(" ".join(text.get_text().split()) for text in ax.texts)
    told = pipeline_text(pipelines)
    plt.close("all")
    for word in ("supernet", "evolution", "test", "600 steps", "shared weights", "one architecture", "all weights"):
        assert word in shown and word in told
    assert "random" in shown and told.index("DetNAS") < told.index("random")


def test_seconds_are_those_of_the_phases_and_nothing_before_they_ran() -> None:
    seconds = {"train": 61.0, "train b": 30.0, "c": 5.0}
    entries = [Entry(phase=name, seconds=spent, images=0, forward_macs=0) for name, spent in seconds.items()]
    assert seconds_of(entries, "train", "train b") == ("1 min 30 s",)
    assert seconds_of(entries, "other") == ()


def test_an_answer_is_folded_and_shows_names_as_they_are() -> None:
    told = answer("a < b & c")
    assert "<details>" in told._repr_html_() and "a &lt; b &amp; c" in told._repr_html_()
    assert "a < b & c" in repr(told)
