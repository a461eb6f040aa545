"""Snapshots at rest: what is read is what was written, of these parameters, and stands for this tree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.snapshot import BadSnapshot, Snapshot, SnapshotCodec
from store.types import Behaviours

EMPTY = {"memory": np.zeros((1, 2, 3), np.float32), "usage": np.zeros((1, 2), np.float32)}
MADE_BY = "00112233445566ff"


def life(length, first_ts=100):
    row = np.arange(2, length + 2, dtype=np.int32)
    return Behaviours(row, row % 3 + 2, first_ts + np.arange(length, dtype=np.int64), np.ones((length, 2), np.uint8))


def category(row):
    return (row % 3 + 2).astype(np.int32)


STATES = SnapshotCodec(MADE_BY, EMPTY, 2)
CLUSTERS = SnapshotCodec(MADE_BY, {}, 2)


def a_state(folded):
    numbers = np.random.default_rng(folded)
    return Snapshot(folded, state={name: numbers.random(like.shape, np.float32) for name, like in EMPTY.items()})


def some_clusters():
    made = Behaviours(
        np.array([3, 5], np.int32), category(np.array([3, 5])), np.array([101, 104]), np.array([[1, 0], [7, 255]], np.uint8),
        np.array([2, 4], np.int32),
    )  # fmt: skip
    return Snapshot(6, made)


@given(st.integers(1, 40), st.integers(0, 5))
def test_a_state_comes_back_as_it_was(folded, tail):
    blob = STATES.encode(a_state(folded), life(folded + tail))
    read = STATES.decode(blob, life(folded + tail), category)
    assert read.folded == folded
    for name, value in a_state(folded).state.items():
        np.testing.assert_array_equal(read.state[name], value)


def test_clusters_come_back_as_they_were_with_their_categories():
    read = CLUSTERS.decode(CLUSTERS.encode(some_clusters(), life(9)), life(9), category)
    for name in ("row", "category", "ts", "cross", "size"):
        np.testing.assert_array_equal(getattr(read.clusters, name), getattr(some_clusters().clusters, name))
    joined = read.and_newer(life(9))
    assert joined.row.tolist() == [3, 5, 8, 9, 10]
    assert joined.size.tolist() == [2, 4, 1, 1, 1]


def test_of_a_state_only_the_tail_is_left_to_fold():
    assert a_state(4).and_newer(life(6)).row.tolist() == [6, 7]


def test_other_parameters_are_never_used():
    other = SnapshotCodec("f" * 16, EMPTY, 2)
    assert other.decode(STATES.encode(a_state(4), life(4)), life(4), category) is None


@pytest.mark.parametrize(
    "now",
    [
        life(3),  # the request is of a time before the snapshot
        life(5, first_ts=99),  # a late behaviour was sorted in before its newest
        Behaviours.empty(2),
    ],
    ids=["replayed", "late event", "gone"],
)
def test_a_snapshot_that_no_longer_stands_for_the_tree_is_not_used(now):
    blob = STATES.encode(a_state(4), life(4))
    assert STATES.decode(blob, life(4), category) is not None
    assert STATES.decode(blob, now, category) is None


@pytest.mark.parametrize("codec", [STATES, CLUSTERS])
def test_any_byte_that_is_not_as_written_is_noticed(codec):
    blob = codec.encode(a_state(6) if codec is STATES else some_clusters(), life(6))
    for at in range(len(blob)):
        if 1 <= at < 4:
            continue  # unused
        altered = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        with pytest.raises(BadSnapshot):
            codec.decode(altered, life(6), category)


@pytest.mark.parametrize("codec", [STATES, CLUSTERS])
@given(st.binary(max_size=90))
def test_foreign_bytes_are_refused(codec, blob):
    with pytest.raises(BadSnapshot):
        codec.decode(blob, life(6), category)


def test_a_state_of_another_shape_is_refused_with_both_sizes():
    blob = SnapshotCodec(MADE_BY, {"memory": np.zeros((1, 5), np.float32)}, 2).encode(
        Snapshot(3, state={"memory": np.zeros((1, 5), np.float32)}), life(3)
    )
    with pytest.raises(BadSnapshot, match="20 bytes of state, the model's has 32"):
        STATES.decode(blob, life(3), category)


def test_clusters_that_do_not_add_up_are_refused():
    wrong = Snapshot(7, some_clusters().clusters)
    with pytest.raises(BadSnapshot, match="clusters of 6 behaviours, 7 were folded"):
        CLUSTERS.decode(CLUSTERS.encode(wrong, life(7)), life(7), category)
