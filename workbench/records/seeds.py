"""One seed, many independent named streams of randomness (data, weights, search, evaluation ...)."""

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """The generator of the child named by `names`: equal arguments give equal numbers, other names independent ones.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"Expected a seed of 0 or more, got {seed}; use a non-negative integer.")
    # Python's own hash() changes from process to process, so names are hashed with SHA-256 (two 32-bit words each).
    words: list[int] = []
    for name in names:
        words += np.frombuffer(hashlib.sha256(name.encode("utf-8")).digest(), dtype=">u4", count=2).tolist()
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=tuple(words)))


def integer(seed: int, *names: str) -> int:
    """A 63-bit integer of the child named by `names`: a seed for libraries with generators of their own (torch)."""
    return int(generator(seed, *names).integers(0, 2**63 - 1, endpoint=True))
