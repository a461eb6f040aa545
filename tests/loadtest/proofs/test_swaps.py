"""What is concluded from versions that changed."""

from collections import Counter

import pytest

from loadtest.proofs.swaps import GROWTH, Swapped, growth_mb, swap_rows


@pytest.mark.parametrize(
    ("memory_mb", "grown"),
    [
        ([100.0] * 8, 0),
        ([100.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0], 0),  # before the middle does not count
        ([100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 300.0, 300.0], 100),
        ([100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 900.0], 0),  # two versions for a moment
        ([100.0], 0),
    ],
)
def test_growth_a_swap_is_from_the_middle_to_the_end(memory_mb, grown):
    assert growth_mb(memory_mb) == grown


VERSIONS = Counter({"1": 8, "2": 8, "3": 8})


def missed(**changes):
    seen = {"took_s": [0.1] * 20, "memory_mb": [300.0] * 20, "answered": VERSIONS, "damaged": 4, "seconds": 12.0, "n": 400}
    return [
        i for i, row in enumerate(swap_rows(Swapped(**{"bundle_mb": 10.0, "outlasted": True} | seen | changes))) if not row.met
    ]


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"wrong": 1}, 0),
        ({"outlasted": False}, 1),
        ({"failed": 1}, 2),
        ({"not_refused": 1}, 3),
        ({"strange": 1}, 4),
        ({"answered": Counter({"1": 12, "2": 12})}, 4),
        ({"memory_mb": [300.0 + 1.1 * GROWTH * 10 * i for i in range(20)]}, 8),
    ],
)
def test_what_is_missed_is_said(changes, row):
    assert missed() == []
    assert missed(**changes) == [row]


def test_less_than_a_bundle_a_swap_is_not_flat():
    """What a bundle leaves behind once a swap must not pass."""
    assert missed(memory_mb=[300.0 + 3.0 * i for i in range(20)]) == [8]
    assert missed(memory_mb=[300.0 + 0.5 * i for i in range(20)]) == []
