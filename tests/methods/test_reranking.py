"""The best networks of a search, trained alone for a short while: what they see, what is kept, and the control."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.experiments import experiment_on_scenes
from tests.scores import score_of
from workbench.methods import reranking
from workbench.methods.crnas import method as crnas
from workbench.methods.crnas import presets as crnas_presets
from workbench.methods.detnas import method as detnas
from workbench.methods.detnas.presets import PRESETS, SMOKE
from workbench.methods.plan import shortened
from workbench.spaces.allocation import depths_of, eligible
from workbench.spaces.catalogue import space_named


class Forbidden:
    """A data set that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"a forbidden split was touched: {name}")

    def __len__(self):
        raise AssertionError("a forbidden split was touched")


def closed(experiment):
    """Only the train and the search split are open."""
    shut = {name: Forbidden() for name in ("test", "full_train", "crops_test")}
    return replace(experiment, data=replace(experiment.data, **shut))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Six scored networks of DetNAS's space, the fifth failed, and what re-ranking makes of them."""
    plan = replace(SMOKE, rerank=replace(SMOKE.rerank, networks=3))
    experiment = experiment_on_scenes(tmp_path_factory.mktemp("runs"), plan)
    archs = detnas.draw(experiment, 6, (), "test")
    values = [0.1, 0.5, 0.2, 0.4, 0.9, 0.3]
    scores = [score_of(arch, {"AP": value}, params=1) for arch, value in zip(archs, values, strict=True)]
    scores[4] = replace(scores[4], metrics={}, error="died")
    return experiment, scores, detnas.rerank(closed(experiment), scores)


def test_the_best_few_and_as_many_random_ones_are_trained_alike_without_the_test_split(walked):
    experiment, scores, frame = walked
    assert list(frame["arch"][:3]) == [scores[place].arch for place in (1, 3, 5)]
    known = {score.arch: score.metrics["AP"] for score in scores if not score.error}
    told = [known.get(arch, np.nan) for arch in frame["arch"][3:]]  # the space is small: one may have been scored
    assert frame["by the supernet"].tolist() == pytest.approx([0.5, 0.4, 0.3, *told], nan_ok=True)
    assert len(set(frame["arch"])) == 6 and frame["network"].str.contains("random").tolist() == [False] * 3 + [True] * 3
    space, limit = detnas.space_of(experiment), experiment.plan.macs_limit
    assert all(space.macs(arch, experiment.plan.macs_at) <= limit for arch in frame["arch"])
    entries = {entry.phase: entry for entry in experiment.run.ledger.entries}
    for network in frame["network"]:
        parts = [entries[f"{part} {network.replace(' ', '-')}"].images for part in ("pretrain", "finetune", "measure")]
        assert parts == [1 * 8, 1 * 4, len(experiment.data.search)]  # half of two steps


def test_the_cost_of_the_kept_network_is_that_of_all_found_ones_without_the_control(walked):
    experiment, _, _ = walked
    wanted = {f"{part} re-ranked-{n}" for part in ("pretrain", "finetune", "measure") for n in (1, 2, 3)}
    assert set(reranking.reranking_phases(experiment.run.ledger.entries)) == wanted


def test_it_is_computed_once(walked, capsys):
    experiment, scores, frame = walked
    again = detnas.rerank(closed(experiment), scores)
    assert again.equals(frame) and "steps of" not in capsys.readouterr().out


def table(alone):
    """A table of two found networks and two random ones with these results of training alone."""
    space = space_named(SMOKE.space)
    names = ["re-ranked 1", "re-ranked 2", "re-ranked random 1", "re-ranked random 2"]
    return pd.DataFrame({"network": names, "arch": [space.uniform(n) for n in range(4)], "alone": alone})


def test_a_random_network_is_never_kept_but_becomes_a_control():
    frame = table([0.1, 0.3, 0.2, 0.9])
    arch = list(frame["arch"])
    assert reranking.kept(frame) == arch[1]
    assert reranking.controls(frame) == {"not re-ranked": arch[0], "re-ranked random": arch[3]}
    tied = table([0.3, 0.3, 0.2, 0.1])
    assert reranking.kept(tied) == arch[0] and reranking.controls(tied) == {"re-ranked random": arch[2]}


def test_without_a_part_the_best_by_the_supernet_is_taken_and_nothing_is_trained(walked):
    experiment, scores, _ = walked
    before = experiment.run.ledger.entries
    frame = detnas.rerank(replace(experiment, plan=replace(experiment.plan, rerank=None)), scores)
    assert reranking.kept(frame) == scores[1].arch and frame["kept"].tolist() == [True] and frame["alone"].isna().all()
    assert reranking.controls(frame) == {} and experiment.run.ledger.entries == before


def test_the_control_of_allocations_has_the_budget(tmp_path):
    plan = crnas_presets.SMOKE
    experiment = closed(experiment_on_scenes(tmp_path, plan))
    space = crnas.stage_space(experiment)
    archs = eligible(space, plan.budget)
    scores = [score_of(arch, {"AP": place / 100}) for place, arch in enumerate(archs)]
    frame = crnas.rerank(experiment, scores)
    assert list(frame["arch"][:2]) == archs[:-3:-1] and set(frame["arch"][2:]) < set(archs[:-2])
    assert frame["by the supernet"].notna().all() and frame["alone"].between(0, 1).all()
    assert sum(depths_of(space, reranking.kept(frame))) == plan.budget


def test_no_published_plan_reranks_and_short_trainings_shrink_with_the_plan():
    plans = [plan for presets in (PRESETS, crnas_presets.PRESETS) for plan in presets.items()]
    assert {name for name, plan in plans if plan.rerank} == {"smoke"}
    assert shortened(SMOKE, 1).rerank == SMOKE.rerank  # a share of fewer steps
