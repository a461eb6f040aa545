import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import checked_values as faults
from store.checked_values import ANY_BUCKET, CHUNK, HEADER_BYTES, OLDER_BYTES, check_values
from store.codec import encode
from tests.store.events import behaviours_of

BUCKETS = np.array([8], np.int32)
WIDTH = 9  # bytes of a record with one cross feature


def packed(*events, older=0):
    """A value of (row, ts, bucket) events, in the order given."""
    behaviours = behaviours_of(*((row, 2, ts, bucket) for row, ts, bucket in events), cross_features=1)
    return encode(behaviours.row, behaviours.ts, behaviours.cross, older)


def fault(blob, buckets=BUCKETS):
    return check_values([blob], buckets).fault[0]


def altered(blob, at):
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


SECONDS = packed((2, 10, 1), (3, 20, 2), (2, 30, 3), (4, 30, 4))
WITH_OLDER = packed((2, 10, 1), (3, 20, 2), (2, 30, 3), older=3 * CHUNK)


def test_a_good_value_has_no_fault():
    assert check_values([SECONDS, packed()], BUCKETS).readable


@pytest.mark.parametrize(
    ("blob", "number"),
    [
        (b"", faults.TOO_SHORT),
        (SECONDS[:7], faults.TOO_SHORT),
        (b"\xb1" + SECONDS[1:], faults.OTHER_VERSION),
        (SECONDS[:1] + b"\x02" + SECONDS[2:], faults.OTHER_SCHEMA),
        (SECONDS[:-1], faults.OTHER_LENGTH),
        (altered(SECONDS, 2), faults.OTHER_LENGTH),
        (altered(SECONDS, 3), faults.OTHER_LENGTH),
        (altered(SECONDS, 4), faults.OTHER_SUM),
        (altered(SECONDS, HEADER_BYTES + 8), faults.OTHER_SUM),
        (WITH_OLDER[:11], faults.TOO_SHORT),
        (WITH_OLDER[:-1], faults.OTHER_LENGTH),
        (b"\xb2" + WITH_OLDER[1:], faults.OTHER_LENGTH),
        (b"\xb3" + SECONDS[1:], faults.OTHER_LENGTH),
        (altered(WITH_OLDER, 9), faults.OTHER_SUM),
        (altered(WITH_OLDER, 12), faults.OTHER_SUM),
        (packed((2, 10, 1), older=CHUNK + 1), faults.NOT_IN_CHUNKS),
        (b"\xb3" + SECONDS[1:8] + bytes(4) + SECONDS[8:], faults.NOT_IN_CHUNKS),
        (packed((2, 20, 1), (2, 10, 1)), faults.NOT_IN_ORDER),
        (packed((3, 10, 1), (2, 10, 1)), faults.NOT_IN_ORDER),
        (packed((2, 10, 1), (2, 10, 1)), faults.NOT_IN_ORDER),
        (packed((-1, 10, 1)), faults.ROW_TOO_LARGE),
        (packed((2, 10, 8)), faults.UNKNOWN_BUCKET),
    ],
)
def test_every_fault_is_seen(blob, number):
    checked = check_values([blob], BUCKETS)
    assert not checked.readable
    assert fault(blob) == number
    assert (checked.size[0], checked.older[0], checked.taken[0], checked.earlier[0]) == (0, 0, 0, 0)


def test_the_largest_bucket_of_a_byte_is_within_any():
    assert fault(packed((2, 10, 255)), np.array([ANY_BUCKET], np.int32)) == 0


def test_a_value_that_cannot_be_read_does_not_touch_the_others():
    checked = check_values([SECONDS, SECONDS[:-1], packed((9, 5, 0))], BUCKETS)
    assert (checked.fault != 0).tolist() == [False, True, False]
    assert checked.taken.tolist() == [4, 0, 1]
    assert checked.first.tolist() == [HEADER_BYTES, 0, 2 * len(SECONDS) - 1 + HEADER_BYTES]


def test_a_value_says_how_many_records_it_has_and_how_many_are_in_parts():
    checked = check_values([SECONDS, WITH_OLDER, packed(), WITH_OLDER], BUCKETS, before=25, newest=1)
    assert checked.readable
    assert checked.size.tolist() == [4, 3, 0, 3]
    assert checked.older.tolist() == [0, 3 * CHUNK, 0, 3 * CHUNK]
    assert (checked.earlier.tolist(), checked.taken.tolist()) == ([2, 2, 0, 2], [1, 1, 0, 1])
    assert checked.first[1] == len(SECONDS) + HEADER_BYTES + OLDER_BYTES + WIDTH


@pytest.mark.parametrize(("newest", "taken"), [(0, 4), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_the_newest_so_many_are_taken(newest, taken):
    checked = check_values([SECONDS], BUCKETS, newest=newest)
    assert (checked.earlier[0], checked.taken[0]) == (4, taken)
    assert checked.first[0] == HEADER_BYTES + (4 - taken) * WIDTH


@pytest.mark.parametrize("at", range(len(WITH_OLDER)))
def test_any_byte_of_a_value_with_parts_is_looked_at(at):
    assert not check_values([altered(WITH_OLDER, at)], BUCKETS, newest=1).readable


@pytest.mark.parametrize("at", range(HEADER_BYTES, len(SECONDS)))
def test_a_value_of_which_the_newest_is_taken_is_checked_to_its_first_byte(at):
    assert not check_values([altered(SECONDS, at)], BUCKETS, newest=1).readable


@given(st.lists(st.integers(0, 20), max_size=15), st.integers(-1, 22), st.integers(0, 6))
def test_what_is_before_a_moment_is_counted_and_cut(seconds, before, newest):
    blob = packed(*((row, ts, 0) for row, ts in enumerate(sorted(seconds))))
    checked = check_values([blob], BUCKETS, before, newest)
    earlier = sum(ts < before for ts in seconds)
    taken = min(earlier, newest or earlier)
    assert (checked.earlier[0], checked.taken[0]) == (earlier, taken)
    assert checked.first[0] == HEADER_BYTES + (earlier - taken) * WIDTH


def test_the_latest_second_there_is_is_before_no_moment_at_all():
    assert check_values([packed((2, 2**32 - 1, 0))], BUCKETS).taken[0] == 1


def test_the_kernel_is_compiled_once():
    """For every kind of array that it meets it would be compiled again, in a request."""
    check_values([], BUCKETS)
    check_values([SECONDS, b""], BUCKETS, before=3, newest=2)
    check_values([encode(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, 0), np.uint8))], np.zeros(0, np.int32))
    assert len(faults._check.signatures) == 1
