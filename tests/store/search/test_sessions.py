"""Sessions: cut by gaps of more than half an hour, the newest five, the newest of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.types import Behaviours
from tests.store.search.kept import candidates_of, kept, life_of, make

MINUTE = 60


def life_at(ts):
    """Behaviours at these seconds."""
    return Behaviours(*(np.full(len(ts), 2, np.int32),) * 2, np.array(ts, np.int64), np.zeros((len(ts), 0), np.uint8))


def sessions_of(ts, k=15, candidates=1):
    """What stands at the places of each of the five sessions, real ones only; they are filled from the first place."""
    life = life_at(ts)
    retrieved = make("sessions", k)(candidates_of([2] * candidates), life, life.cross.astype(np.int32))
    kept(retrieved)
    index, mask = retrieved.index.reshape(5, -1), retrieved.mask.reshape(5, -1)
    assert (mask == (np.arange(mask.shape[1]) < mask.sum(axis=1, keepdims=True))).all()
    return [index[s][mask[s]].tolist() for s in range(5)]


@pytest.mark.parametrize(("gap", "sessions"), [(30 * MINUTE, [[0, 1]]), (30 * MINUTE + 1, [[0], [1]])])
def test_only_more_than_thirty_minutes_part_two_sessions(gap, sessions):
    assert [session for session in sessions_of([1000, 1000 + gap]) if session] == sessions


def test_a_session_may_last_for_hours():
    """Eight behaviours 29 minutes apart: nearly four hours, one session."""
    assert sessions_of([29 * MINUTE * i for i in range(8)], k=50)[-1] == list(range(8))


def test_the_newest_session_stands_last_and_empty_ones_first():
    assert sessions_of([0, 1, 9000, 9001, 9002, 20000]) == [[], [], [0, 1], [2, 3, 4], [5]]


def test_of_each_session_the_newest_are_kept_oldest_first():
    assert sessions_of([0, 1, 2, 3, 4, 9000, 9001, 9002, 9003], k=10)[-2:] == [[3, 4], [7, 8]]


def test_of_more_sessions_the_newest_five_are_kept():
    assert sessions_of([9000 * i for i in range(7)]) == [[2], [3], [4], [5], [6]]


def test_the_empty_user_has_k_masked_entries():
    life = life_of([])
    retrieved = make("sessions", 50)(candidates_of([2, 3]), life, life.cross.astype(np.int32))
    assert (retrieved.index.shape, retrieved.index.any(), retrieved.mask.any(), retrieved.searched) == ((1, 50), False, False, 0)
    assert kept(retrieved) == [[], []]


def test_it_looks_at_the_newest_two_k_only():
    """An old session beyond them is not seen, one across their edge has lost its beginning."""
    ts = [0, *range(9000, 9019), *range(20000, 20012)]
    assert sessions_of(ts, k=15)[-3:] == [[], [17, 18, 19], [29, 30, 31]]
    life = life_at(ts)
    retrieved = make("sessions", 5)(candidates_of([2]), life, life.cross.astype(np.int32))
    assert retrieved.searched == make("sessions", 5).newest == 10
    assert kept(retrieved) == [[31]], "ten behaviours back there is but one session"


@pytest.mark.parametrize("k", [1, 4, 5, 9, 50])
def test_the_list_is_always_k_long_and_what_five_does_not_divide_is_padding(k):
    life = life_at([9000 * i for i in range(7)])
    retrieved = make("sessions", k)(candidates_of([2]), life, life.cross.astype(np.int32))
    assert retrieved.index.shape == retrieved.mask.shape == (1, k)
    assert kept(retrieved) == [[2, 3, 4, 5, 6] if k >= 5 else []]


def test_all_candidates_share_one_list():
    assert sessions_of([0, 1, 9000], candidates=7) == sessions_of([0, 1, 9000])


@given(st.lists(st.one_of(st.integers(0, 3000), st.sampled_from([1799, 1800, 1801])), max_size=60), st.integers(1, 6))
def test_any_life_is_cut_as_going_through_it_one_by_one_cuts_it(gaps, length):
    ts = np.cumsum(gaps).tolist()
    first = max(len(ts) - 10 * length, 0)
    sessions = []
    for i in range(first, len(ts)):
        if not sessions or ts[i] - ts[i - 1] > 1800:
            sessions.append([])
        sessions[-1].append(i)
    expected = [session[-length:] for session in sessions[-5:]]
    assert sessions_of(ts, k=5 * length) == [[]] * (5 - len(expected)) + expected
