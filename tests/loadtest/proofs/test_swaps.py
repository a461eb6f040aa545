"""What is concluded from versions that changed."""

import pytest

from loadtest.proofs.swaps import GROWTH_MB, growth_mb, swap_rows


@pytest.mark.parametrize(
    ("memory_mb", "grown"),
    [
        ([100.0] * 8, 0),
        ([100.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0, 500.0], 0),  # before the middle does not count
        ([100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 300.0, 300.0], 200),
        ([100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 900.0], 0),  # two versions for a moment
        ([100.0], 0),
    ],
)
def test_growth_is_from_the_middle_to_the_end(memory_mb, grown):
    assert growth_mb(memory_mb) == grown


def met(wrong=0, refused=0, memory_mb=(300.0,) * 20):
    rows = swap_rows(20, 12.0, 400, wrong, refused, [0.1] * 20, list(memory_mb), (10.0, 20.0), (5.0, 50.0))
    return [row.met for row in rows]


def test_a_failed_request_a_failed_call_and_growth_are_each_missed():
    assert met() == [True] * 6
    assert met(wrong=1) == [False, *[True] * 5]
    assert met(refused=1) == [True, False, *[True] * 4]
    assert met(memory_mb=[300.0] * 15 + [301.0 + GROWTH_MB] * 5) == [*[True] * 5, False]
