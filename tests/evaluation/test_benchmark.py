"""What a table of trainings tells, on tables whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.evaluation import benchmark
from workbench.spaces.catalogue import space_named

SPACE = space_named("shuffle-81")
TEXTS = ["".join(map(str, arch.choices)) for arch in SPACE.all()]


def table(spread=0.1, noise=0.05, seeds=3, shift=0.0, draw=0):
    """True means normal around 0.6 with deviation `spread`; `shift` times the seed is added to all of a seed."""
    rng = np.random.default_rng(draw)
    truth = 0.6 + spread * rng.standard_normal(len(TEXTS))
    rows = [
        {"choices": text, "seed": seed, "accuracy": mean + shift * seed + noise * rng.standard_normal(),
         "accuracy_error": 0.01, "macs": 10, "params": 5, "seconds": 60.0}
        for seed in range(seeds)
        for text, mean in zip(TEXTS, truth, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.Series(truth, TEXTS)


def test_q_is_that_of_the_truth_whatever_the_levels_of_seeds():
    """Mean of 40 tables; the naive ratio, with what seeds add to the spread of means, would be 2.08."""
    found = []
    for draw in range(40):
        scores = benchmark.scores_by_seed(table(shift=0.2, draw=draw)[0])
        found.append(benchmark.noise_of(scores, np.random.default_rng(0), 10))
    assert np.mean([noise.q.value for noise in found]) == pytest.approx(2.0, abs=0.06)
    assert np.mean([noise.seeds for noise in found]) == pytest.approx(0.05, rel=0.02)
    assert np.mean([noise.networks for noise in found]) == pytest.approx(0.1, rel=0.03)


def test_the_interval_of_q_covers():
    hits = []
    for draw in range(60):
        noise = benchmark.noise_of(benchmark.scores_by_seed(table(draw=draw)[0]), np.random.default_rng(1), 400)
        hits.append(noise.q.low < 2.0 < noise.q.high)
    assert np.mean(hits) > 0.85


def test_networks_that_do_not_differ_have_q_near_0():
    noise = benchmark.noise_of(benchmark.scores_by_seed(table(spread=0.0)[0]), np.random.default_rng(0))
    assert noise.q.value < 0.4 and noise.q.low == 0.0


def test_gaps_do_not_move_means():
    """Half of the networks lack seed 2, which lies 0.4 above seed 0."""
    rows, truth = table(noise=0.01, shift=0.2)
    rows = rows[(rows["seed"] < 2) | rows["choices"].str.startswith("0")]
    scores = benchmark.scores_by_seed(rows)
    assert scores.isna().sum().sum() == 54
    moved = scores.mean(axis=1) - truth
    assert float(moved.max() - moved.min()) < 0.06
    assert benchmark.noise_of(scores, np.random.default_rng(0)).q.value == pytest.approx(10, rel=0.3)


def test_few_rows_give_nan_and_no_error():
    rows, _ = table()
    rng = np.random.default_rng(0)
    for some in (rows[:1], rows[:5], rows[[text in TEXTS[:2] for text in rows["choices"]]]):
        scores = benchmark.scores_by_seed(some)
        noise = benchmark.noise_of(scores, rng, 20)
        assert noise.q.n == len(scores) and (np.isnan(noise.q.value) or noise.q.value >= 0)
        assert np.isnan(benchmark.tau_between_seeds(scores, rng).value)
        assert np.isnan(benchmark.ridge_tau(scores, 3, rng)[""].value)  # too few are left to rank


def test_the_ceiling_formula_is_what_two_seeds_show():
    """For normal values; one single seed against the means of three, and against the truth."""
    taus = {(1, 1): [], (1, 3): [], (1, np.inf): []}
    for draw in range(60):
        rows, truth = table(draw=draw, seeds=4)
        scores = benchmark.scores_by_seed(rows)
        taus[1, 1].append(benchmark.tau_between_seeds(scores, np.random.default_rng(0), 2).value)
        taus[1, 3].append(stats.kendalltau(scores[0], scores[[1, 2, 3]].mean(axis=1)).statistic)
        taus[1, np.inf].append(stats.kendalltau(scores[0], truth[scores.index]).statistic)
    for (first, second), found in taus.items():
        assert benchmark.expected_tau(2.0, first, second) == pytest.approx(np.mean(found), abs=0.02)
    assert benchmark.expected_tau(2.0) == pytest.approx(2 / np.pi * np.arcsin(4 / 5))


def test_predictors_are_ranked_on_networks_that_both_know():
    means = table()[1]
    known = dict(list(means.items())[:40])
    frame = benchmark.predictor_table({"truth": known, "against": {text: -means[text] for text in TEXTS}}, means)
    assert frame["tau"].tolist() == [1.0, -1.0] and frame["n"].tolist() == [40, 81]
    assert frame["n, top quarter"].tolist()[1] == 20


def test_ridge_finds_an_additive_truth():
    effects = np.random.default_rng(0).standard_normal((4, 3))
    truth = pd.Series([sum(effects[i][int(c)] for i, c in enumerate(text)) for text in TEXTS], TEXTS)
    known = list(np.random.default_rng(1).permutation(TEXTS)[:30])
    predicted = benchmark.ridge(known, list(truth[known]), TEXTS, strength=1e-6)
    np.testing.assert_allclose(predicted, truth, atol=1e-4)
    scores = pd.DataFrame({0: truth, 1: truth})
    taus = {count: benchmark.ridge_tau(scores, count, np.random.default_rng(0), 40)[""] for count in (2, 30)}
    assert taus[30].value > 0.9 > taus[2].value + 0.3 and taus[30].n == 51


def test_seeds_needed_give_their_power():
    """A paired t-test on simulated seeds; one seed fewer does not reach 80 %."""
    count = benchmark.seeds_needed(0.05, 0.05)
    assert count == 18  # 16 by the normal approximation
    rng = np.random.default_rng(0)

    def power(seeds):
        drawn = 0.05 + 0.05 * np.sqrt(2) * rng.standard_normal((40_000, seeds))
        t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / np.sqrt(seeds))
        return np.mean(np.abs(t) > {17: 2.1199, 18: 2.1098}[seeds])

    assert power(18) > 0.8 > power(17) - 0.005
    assert [benchmark.seeds_needed(d, 0.05) for d in (0.2, 0.02)] == [4, 101]
    with pytest.raises(ValueError, match="above 0"):
        benchmark.seeds_needed(0.0, 0.05)


def test_tables_are_read_back_or_refused_in_a_sentence(tmp_path):
    rows, _ = table(seeds=2)
    assert len(benchmark.read_tables(tmp_path, SPACE)) == 0
    for seed, part in rows.groupby("seed"):
        part.to_csv(tmp_path / f"shuffle-81-seed{seed}.csv", index=False)
    read = benchmark.read_tables(tmp_path, SPACE)
    assert read["choices"].tolist() == rows["choices"].tolist()  # "0000" is no number
    broken = {
        "lacks macs": rows.drop(columns="macs"),
        "twice": pd.concat([rows[rows["seed"] == 1], rows[:1].assign(seed=0)]),
        "not one of shuffle-81": rows[:1].assign(choices="0193"),
        "outside 0-1": rows[:1].assign(accuracy=1.2),
        "a number that is none": rows[:1].assign(accuracy=np.nan),
    }
    for message, frame in broken.items():
        frame.to_csv(tmp_path / "shuffle-81-seed1.csv", index=False)
        with pytest.raises(ValueError, match=message):
            benchmark.read_tables(tmp_path, SPACE)
