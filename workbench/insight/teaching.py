"""What a lesson says of its own run: the folded answer to a question, and what was learned in the end."""

import html
from collections.abc import Sequence
from typing import NamedTuple


class Told(NamedTuple):
    """Sentences that a notebook computes; a page shows them folded under `summary`, or as a list without one."""

    sentences: Sequence[str]
    summary: str = ""

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        text = f"<ul>{items}</ul>" if len(self.sentences) > 1 else f"<p>{html.escape(self.sentences[0])}</p>"
        return f"<details><summary>{html.escape(self.summary)}</summary>{text}</details>" if self.summary else text

    def __repr__(self) -> str:
        return "\n".join([*([self.summary] if self.summary else []), *self.sentences])


def answer(*sentences: str) -> Told:
    """The computed answer to a question that was asked before a figure; folded, so that a reader predicts first."""
    return Told(sentences, "Answer, computed from this run")


def learned(*sentences: str) -> Told:
    """What this run showed, in computed sentences, for the end of a lesson."""
    return Told(sentences)
