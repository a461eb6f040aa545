"""Attention alone: both forms give the same, or nothing is timed; no figure is asserted."""

import numpy as np
import pytest

from loadtest.kernels import attention
from loadtest.served.bench_world import BenchWorld, Sizes

WORLD = BenchWorld(Sizes(items=2_000, categories=40, life_categories=20))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small = {"CANDIDATES": 12, "K": 9, "LIFE": 300, "LISTS": {12: 4.5, 5: 2.5}}
    for name, value in small.items():
        monkeypatch.setattr(attention, name, value)


def test_own_lists_and_shared_ones_are_measured_beside_torchs():
    own, shared = attention.attend_rows(WORLD, 2)
    assert [(row["lists"], row["wanted_ms"]) for row in (own, shared)] == [(12, 4.5), (5, 2.5)]
    assert all(0 < row["apart"] < 1e-4 for row in (own, shared))
    assert all(row["ours_ms"] > 0 and row["times"] > 0 and row["library"].startswith("onnxruntime") for row in (own, shared))


def test_other_answers_are_an_error(monkeypatch):
    def another(*arguments):
        pooled, pooled_item, weight = attend(*arguments)
        return pooled + np.float32(0.1), pooled_item, weight

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", another)
    with pytest.raises(ValueError, match="attention in 12 lists differs from torch's by"):
        attention.attend_rows(WORLD, 1)
