import pytest

from workbench.records.seeds import generator, integer


def test_named_children_are_stable_and_different() -> None:
    assert integer(1, "a") == 4767465005687714311  # the same on every machine and in every process
    streams = [(0,), (1,), (0, "data"), (0, "search"), (0, "data", "search"), (0, "datasearch"), (2**32, "data")]
    assert len({integer(*stream) for stream in streams}) == len(streams)
    assert generator(3, "data").random() == generator(3, "data").random()


def test_integers_fit_torch() -> None:
    assert all(0 <= integer(seed) < 2**63 for seed in range(100))


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed of 0 or more"):
        generator(-1)
