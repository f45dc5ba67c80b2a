"""From logits to an architecture: the heaviest option, ties by rule, and how decided a search is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.search.limits import Limit
from workbench.search.query import NoFeasibleArchitecture
from workbench.search.relaxation import by_probability, derive, entropy, margin, softmax
from workbench.spaces.catalogue import space_named

SPACE = space_named("channel-dilation-resnet-bottleneck-tiny-n4-C")
ALPHA = arrays(np.float64, (5, 4, 5), elements=st.floats(-5, 5))


@given(alpha=ALPHA)
def test_the_heaviest_option_of_every_decision_is_taken(alpha):
    found = derive(SPACE, list(alpha))
    rows = alpha.reshape(-1, 5)
    assert all(row[choice] == row.max() for row, choice in zip(rows, found.arch.choices, strict=True))
    # T7: neither doubled logits nor a constant for each group change the decision.
    assert derive(SPACE, list(2 * alpha)).arch == found.arch
    assert 0 <= found.entropy <= 1 + 1e-9 and 0 <= found.margin <= 1


def test_ties_take_the_first_option_and_are_counted():
    zeros = [np.zeros((4, 5)) for _ in range(5)]
    found = derive(SPACE, zeros)
    assert found.arch == SPACE.uniform(0) and found.ties == 20
    assert found.entropy == pytest.approx(1) and found.margin == 0
    zeros[0][0] = [0, 0, 1, 1, 0]
    found = derive(SPACE, zeros)
    assert found.arch.choices[0] == 2 and found.ties == 20
    zeros[0][0] = [0, 0, 1, 2, 0]
    assert derive(SPACE, zeros).ties == 19


def test_entropy_and_margin_of_known_weights():
    logits = np.log(np.array([0.5, 0.25, 0.25]))
    assert softmax(logits) == pytest.approx([0.5, 0.25, 0.25])
    assert entropy(logits) == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(4)) / np.log(3))
    assert margin(logits) == pytest.approx(0.25)
    assert entropy(np.array([60.0, 0.0])) == pytest.approx(0, abs=1e-9)
    assert (entropy(np.array([3.0])), margin(np.array([3.0]))) == (0, 1)  # nothing to decide


def test_logits_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"20 decisions with 100 options in all; these logits are those of 19 with 95"):
        derive(SPACE, [np.zeros((4, 5))] * 4 + [np.zeros((3, 5))])
    with pytest.raises(ValueError, match="diverged"):
        derive(SPACE, [np.full((4, 5), np.nan)] * 5)


def test_architectures_come_by_falling_probability_each_once():
    rows = list(np.random.default_rng(0).normal(size=(4, 3)))
    ranked = list(by_probability(rows))
    totals = [sum(row[choice] for row, choice in zip(rows, choices, strict=True)) for choices in ranked]
    assert len({tuple(choices) for choices in ranked}) == 3**4 and totals == sorted(totals, reverse=True)


def test_a_limit_takes_the_most_probable_architecture_that_keeps_it():
    space = space_named("shuffle-tiny")
    alpha = list(np.random.default_rng(1).normal(size=(8, 1, 4)))
    free = derive(space, alpha).arch
    limit = Limit("MACs", space.macs(free, 128) - 1, lambda arch: space.macs(arch, 128))
    found = derive(space, alpha, [limit]).arch
    legal = [arch for arch in space.all() if limit.allows(arch)]
    assert found == max(legal, key=lambda arch: sum(r[0][c] for r, c in zip(alpha, arch.choices, strict=True)))
    with pytest.raises(NoFeasibleArchitecture, match="keeps MACs <= 1; loosen"):
        derive(space, alpha, [Limit("MACs", 1, limit.measure)])
