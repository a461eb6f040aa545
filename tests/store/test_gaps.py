import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.gaps import BUCKETS, EDGES_S, gap_buckets

AT = 1_700_000_000


@pytest.mark.parametrize(("gap_s", "bucket"), [(0, 1), (59, 1), (60, 2), (84, 2), (85, 3), (119, 3), (120, 4), (3600, 13)])
def test_known_gaps_have_known_buckets(gap_s, bucket):
    assert gap_buckets(np.array([AT - gap_s]), AT).tolist() == [bucket]


def test_a_behaviour_after_the_request_counts_as_gap_0():
    assert gap_buckets(np.array([AT + 1, AT + 10**6]), AT).tolist() == [1, 1]


def test_the_longest_gaps_share_the_last_bucket():
    assert gap_buckets(np.array([0, AT - int(EDGES_S[-1])]), AT).tolist() == [BUCKETS - 1, BUCKETS - 1]


def test_bucket_0_is_left_to_padding():
    gaps = np.concatenate([EDGES_S - 1, EDGES_S, [0, AT]])
    buckets = gap_buckets(AT - gaps, AT)
    assert (buckets.min(), buckets.max()) == (1, BUCKETS - 1)


def test_a_longer_gap_never_has_a_lower_bucket():
    buckets = gap_buckets(AT - np.arange(0, 10**7, 997), AT)
    assert (np.diff(buckets) >= 0).all()


def test_edges_ascend_by_half_octaves_from_a_minute_to_years():
    assert EDGES_S[0] == 60
    assert EDGES_S[-1] > 5 * 365 * 86400
    np.testing.assert_allclose(EDGES_S[1:] / EDGES_S[:-1], 2**0.5, rtol=0.01)


def test_no_behaviours_have_no_buckets():
    buckets = gap_buckets(np.zeros(0, np.int64), AT)
    assert (buckets.shape, buckets.dtype) == ((0,), np.int32)


@given(st.lists(st.integers(AT - 3 * 10**8, AT + 100), max_size=60), st.randoms())
def test_in_whatever_order_behaviours_come_each_has_its_own_bucket(times, random):
    ascending = sorted(times)
    shuffled = random.sample(ascending, len(ascending))
    own = {ts: gap_buckets(np.array([ts]), AT)[0] for ts in times}
    for ts in (ascending, shuffled):
        assert gap_buckets(np.array(ts, np.int64), AT).tolist() == [own[one] for one in ts]
