"""Snapshots at rest: what is read is what was written, of these parameters; and whether one agrees with a tree."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.snapshot import BadSnapshot, Snapshot, SnapshotCodec, read_header, stamped
from store.types import Behaviours

EMPTY = {"memory": np.zeros((1, 2, 3), np.float32), "usage": np.zeros((1, 2), np.float32)}
MADE_BY = "00112233445566ff"
CLOCK = 1_795_350_944_678_046


def life(length, first_ts=100):
    row = np.arange(2, length + 2, dtype=np.int32)
    return Behaviours(row, row % 3 + 2, first_ts + np.arange(length, dtype=np.int64), np.ones((length, 2), np.uint8))


def category(row):
    return (row % 3 + 2).astype(np.int32)


STATES = SnapshotCodec(MADE_BY, EMPTY, 2)
CLUSTERS = SnapshotCodec(MADE_BY, {}, 2)


def a_state(folded):
    numbers = np.random.default_rng(folded)
    state = {name: numbers.random(like.shape, np.float32) for name, like in EMPTY.items()}
    return Snapshot.of(life(folded), state=state, arrived=CLOCK, known_rows=folded % 2 * 77)


def some_clusters():
    made = Behaviours(
        np.array([3, 5], np.int32), category(np.array([3, 5])), np.array([101, 104]), np.array([[1, 0], [7, 255]], np.uint8),
        np.array([2, 4], np.int32),
    )  # fmt: skip
    return Snapshot.of(life(6), clusters=made, refreshed=1_700_000_000, arrived=CLOCK)


@given(st.integers(1, 40))
def test_a_state_comes_back_as_it_was(folded):
    read = STATES.decode(STATES.encode(a_state(folded)), category)
    assert replace(read, state={}) == replace(a_state(folded), state={})
    for name, value in a_state(folded).state.items():
        np.testing.assert_array_equal(read.state[name], value)


def test_clusters_come_back_as_they_were_with_their_categories():
    read = CLUSTERS.decode(CLUSTERS.encode(some_clusters()), category)
    assert replace(read, clusters=None) == replace(some_clusters(), clusters=None)
    for name in ("row", "category", "ts", "cross", "size"):
        np.testing.assert_array_equal(getattr(read.clusters, name), getattr(some_clusters().clusters, name))
    joined = read.and_newer(life(9))
    assert joined.row.tolist() == [3, 5, 8, 9, 10]
    assert joined.size.tolist() == [2, 4, 1, 1, 1]


def test_of_a_state_only_the_tail_is_left_to_fold():
    assert a_state(4).and_newer(life(6)).row.tolist() == [6, 7]


def test_of_the_newest_behaviours_only_those_after_it_are_left():
    newest, snapshot = life(6).select(slice(2, None)), a_state(4)
    covering = replace(snapshot, covers=snapshot.first_newer(newest))
    assert covering.and_newer(newest).row.tolist() == [6, 7]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(2, 9)), min_size=1, max_size=30), st.data())
def test_the_first_newer_behaviour_is_the_one_after_its_newest(events, data):
    events = sorted(set(events))
    ts, row = np.array(events).T
    behaviours = Behaviours(row.astype(np.int32), row.astype(np.int32), ts.astype(np.int64), np.zeros((len(ts), 0), np.uint8))
    folded = data.draw(st.integers(0, len(events)))
    assert Snapshot.of(behaviours.select(slice(0, folded))).first_newer(behaviours) == folded


def test_a_grown_one_stands_for_the_tail_too():
    newest, snapshot = life(9).select(slice(5, None)), some_clusters()
    covering = replace(snapshot, covers=snapshot.first_newer(newest))
    grown = covering.grown(newest, CLOCK + 3, clusters=covering.and_newer(newest))
    assert (grown.folded, grown.row, grown.ts, grown.arrived, grown.refreshed) == (9, 10, 108, CLOCK + 3, 1_700_000_000)
    assert int(grown.clusters.size.sum()) == 9


def test_it_agrees_while_only_newer_behaviours_arrive():
    snapshot = a_state(4)
    assert snapshot.agrees(life(4), CLOCK)
    assert snapshot.agrees(life(7), CLOCK + 3)
    assert not snapshot.agrees(life(7), CLOCK + 4)  # one of the four that arrived is not after its newest
    assert not snapshot.agrees(life(4), CLOCK + 10**7)  # another tree of that user


def test_other_parameters_are_never_used():
    other = SnapshotCodec("f" * 16, EMPTY, 2)
    with pytest.raises(BadSnapshot, match=f"made with parameters {MADE_BY}, ffffffffffffffff are needed"):
        other.decode(STATES.encode(a_state(4)), category)


def test_a_stamp_changes_the_clock_and_nothing_else():
    blob = stamped(STATES.encode(a_state(4)), 77)
    assert read_header(blob).arrived == 77
    assert replace(STATES.decode(blob, category), state={}) == replace(a_state(4), state={}, arrived=77)


@pytest.mark.parametrize("codec", [STATES, CLUSTERS])
def test_any_byte_that_is_not_as_written_is_noticed(codec):
    blob = codec.encode(a_state(6) if codec is STATES else some_clusters())
    for at in range(len(blob)):
        if 1 <= at < 4:
            continue  # unused
        altered = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        with pytest.raises(BadSnapshot):
            codec.decode(altered, category)


@pytest.mark.parametrize("codec", [STATES, CLUSTERS])
@given(st.binary(max_size=90))
def test_foreign_bytes_are_refused(codec, blob):
    with pytest.raises(BadSnapshot):
        codec.decode(blob, category)


def test_a_state_of_another_shape_is_refused_with_both_sizes():
    blob = SnapshotCodec(MADE_BY, {"memory": np.zeros((1, 5), np.float32)}, 2).encode(
        Snapshot.of(life(3), state={"memory": np.zeros((1, 5), np.float32)})
    )
    with pytest.raises(BadSnapshot, match="20 bytes of state, the model's has 32"):
        STATES.decode(blob, category)


def test_a_state_that_is_no_number_is_refused():
    broken = replace(a_state(3), state=a_state(3).state | {"usage": np.array([[0, np.nan]], np.float32)})
    with pytest.raises(BadSnapshot, match="usage holds NaN or infinity"):
        STATES.decode(STATES.encode(broken), category)


def test_clusters_that_do_not_add_up_are_refused():
    wrong = replace(some_clusters(), folded=7)
    with pytest.raises(BadSnapshot, match="clusters of 6 behaviours, 7 were folded"):
        CLUSTERS.decode(CLUSTERS.encode(wrong), category)
