import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.checked_values import CHUNK, HEADER_BYTES, OLDER_FACTOR, VERSION
from store.codec import BadRecord, decode, encode, record_dtype, sum_of

OLDER = st.sampled_from([0, CHUNK, 7 * CHUNK, 2**32 - CHUNK])


@st.composite
def packed_arrays(draw, min_size=0):
    """row, ts and cross of 0..12 behaviours with 0..4 cross features, in order and each (ts, row) once."""
    cross_features = draw(st.integers(0, 4))
    pairs = sorted(draw(st.sets(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1)), min_size=min_size, max_size=12)))
    length = len(pairs)
    ts, row = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    cross = draw(st.binary(min_size=length * cross_features, max_size=length * cross_features))
    return (
        np.array(row, np.int32),
        np.array(ts, np.int64),
        np.frombuffer(cross, np.uint8).reshape(length, cross_features),
    )


def three_behaviours():
    return np.array([2, 3, 2], np.int32), np.array([10, 20, 30], np.int64), np.array([[1, 9], [0, 8], [255, 7]], np.uint8)


def header(cross_features, count, body):
    width = 8 + cross_features
    whole = np.frombuffer(body[: len(body) // width * width], record_dtype(cross_features))
    return bytes((VERSION, cross_features)) + count.to_bytes(2, "little") + sum_of(whole).to_bytes(4, "little")


def test_one_behaviour_has_the_documented_bytes():
    blob = encode(np.array([2], np.int32), np.array([256], np.int64), np.array([[7]], np.uint8))
    body = b"\x02\0\0\0" + b"\0\x01\0\0" + b"\x07"
    total = 2 * 1_999_993 + 256 * 1_299_709 + 7 * 1_000_003
    assert blob == b"\xb2\x01" + b"\x01\0" + (total % 2**32).to_bytes(4, "little") + body


def test_the_newest_of_a_category_in_parts_say_how_many_are_older():
    one = np.array([2], np.int32), np.array([256], np.int64), np.array([[7]], np.uint8)
    blob, alone = encode(*one, older=3 * CHUNK), encode(*one)
    total = (int.from_bytes(alone[4:8], "little") + 3 * CHUNK * OLDER_FACTOR) % 2**32
    assert blob == b"\xb3" + alone[1:4] + total.to_bytes(4, "little") + (384).to_bytes(4, "little") + alone[8:]


def test_no_behaviours_are_a_header_alone():
    blob = encode(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, 3), np.uint8))
    assert blob == b"\xb2\x03\0\0\0\0\0\0"
    row, ts, cross = decode(blob, 3)
    assert (len(row), len(ts), cross.shape) == (0, 0, (0, 3))


@given(packed_arrays(), OLDER)
def test_what_is_packed_comes_back(arrays, older):
    row, ts, cross = decode(encode(*arrays, older), arrays[2].shape[1])
    assert (row.dtype, ts.dtype, cross.dtype) == (np.int32, np.int64, np.uint8)
    np.testing.assert_array_equal(row, arrays[0])
    np.testing.assert_array_equal(ts, arrays[1])
    np.testing.assert_array_equal(cross, arrays[2])


def test_the_largest_times_and_rows_come_back():
    row, ts, _ = decode(encode(np.array([2**31 - 1], np.int32), np.array([2**32 - 1]), np.zeros((1, 0), np.uint8)), 0)
    assert (row[0], ts[0]) == (2**31 - 1, 2**32 - 1)


def test_255_cross_features_come_back():
    cross = np.arange(255, dtype=np.uint8)[None]
    np.testing.assert_array_equal(decode(encode(np.array([2], np.int32), np.array([1]), cross), 255)[2], cross)


@pytest.mark.parametrize("length", [65535, 65536, 65537])
def test_a_life_longer_than_the_count_field_comes_back(length):
    row = np.arange(length, dtype=np.int32)  # all at one time, the last there is: sums of products are beyond 64 bits
    blob = encode(row, np.full(length, 2**32 - 1), np.zeros((length, 0), np.uint8))
    assert int.from_bytes(blob[2:4], "little") == length % 65536
    np.testing.assert_array_equal(decode(blob, 0)[0], row)


def test_a_long_life_cut_back_to_its_header_is_refused():
    """Its count is 0 modulo 65536 again: the sum has to tell."""
    blob = encode(np.arange(65536, dtype=np.int32), np.ones(65536, np.int64), np.zeros((65536, 0), np.uint8))
    with pytest.raises(BadRecord, match="sum of the records"):
        decode(blob[:HEADER_BYTES], 0)


@given(packed_arrays(min_size=1), st.data())
def test_a_record_put_in_anywhere_carries_the_header_forward(arrays, data):
    """What the server-side script does: the sum of the others is not made again."""
    at = data.draw(st.integers(0, len(arrays[0]) - 1))
    others = encode(*(np.delete(array, at, axis=0) for array in arrays))
    one = encode(*(array[at : at + 1] for array in arrays))
    total = (int.from_bytes(others[4:8], "little") + int.from_bytes(one[4:8], "little")) % 2**32
    assert int.from_bytes(encode(*arrays)[4:8], "little") == total


@pytest.mark.parametrize("older", [0, CHUNK])
@pytest.mark.parametrize("length", range(len(encode(*three_behaviours()))))
def test_a_blob_truncated_at_any_length_is_refused(length, older):
    with pytest.raises(BadRecord):
        decode(encode(*three_behaviours(), older)[: length + 4 * (older > 0)], 2)


@pytest.mark.parametrize("length", range(8, 12))
def test_a_header_without_all_of_what_is_older_is_refused_by_its_length(length):
    with pytest.raises(BadRecord, match=f"{length} bytes, a header has 12"):
        decode(encode(*three_behaviours(), CHUNK)[:length], 2)


@pytest.mark.parametrize("older", [1, CHUNK - 1, CHUNK + 1, 2**32 - 1])
def test_older_records_that_fill_no_parts_are_refused_by_their_number(older):
    with pytest.raises(BadRecord, match=f"{older} older records"):
        decode(encode(*three_behaviours(), older), 2)


def test_parts_without_a_record_are_refused():
    """The sum is right: nothing times its factor."""
    blob = encode(*three_behaviours())
    with pytest.raises(BadRecord, match="0 older records"):
        decode(b"\xb3" + blob[1:8] + bytes(4) + blob[8:], 2)


@pytest.mark.parametrize("length", range(HEADER_BYTES))
def test_a_part_of_an_empty_header_is_refused(length):
    """Its count and sum are zeros, as missing bytes would be."""
    with pytest.raises(BadRecord, match=f"{length} bytes"):
        decode(b"\xb2\x00\0\0\0\0\0\0"[:length], 0)


@given(st.binary(min_size=1, max_size=40))
def test_bytes_behind_the_records_are_refused(tail):
    with pytest.raises(BadRecord):
        decode(encode(*three_behaviours()) + tail, 2)


@given(packed_arrays(), st.data(), OLDER)
def test_any_single_flipped_byte_is_refused(arrays, data, older):
    blob = bytearray(encode(*arrays, older))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadRecord):
        decode(bytes(blob), arrays[2].shape[1])


def test_two_records_changed_places_are_refused():
    blob = encode(*three_behaviours())
    size = 10
    first, second = blob[HEADER_BYTES : HEADER_BYTES + size], blob[HEADER_BYTES + size : HEADER_BYTES + 2 * size]
    with pytest.raises(BadRecord, match="order"):
        decode(blob[:HEADER_BYTES] + second + first + blob[HEADER_BYTES + 2 * size :], 2)


@given(st.binary(max_size=64), st.integers(0, 4))
def test_random_bytes_are_refused_and_nothing_else(blob, cross_features):
    with pytest.raises(BadRecord):
        decode(b"\0" + blob, cross_features)
    with pytest.raises(BadRecord):
        decode(b"\xb3" + bytes(7) + b"\1" + blob, cross_features)
    try:
        row, ts, cross = decode(blob, cross_features)
    except BadRecord:
        return
    assert len(row) == len(ts) == len(cross)


@given(st.binary(max_size=64), st.integers(0, 4), st.integers(0, 65535))
def test_random_records_under_a_true_sum_are_refused_or_whole(body, cross_features, count):
    try:
        row, ts, cross = decode(header(cross_features, count, body) + body, cross_features)
    except BadRecord:
        return
    assert len(row) == len(ts) == len(cross) == count
    assert len(body) == count * (8 + cross_features)


@pytest.mark.parametrize("version", [0x00, 0xB1, 0xB4])
def test_another_format_version_is_refused_by_its_number(version):
    blob = bytearray(encode(*three_behaviours()))
    blob[0] = version
    with pytest.raises(BadRecord, match=hex(version)):
        decode(bytes(blob), 2)


@pytest.mark.parametrize("cross_features", [0, 1, 3])
def test_records_of_another_schema_are_refused_with_both_numbers(cross_features):
    with pytest.raises(BadRecord, match=rf"2 cross features.*{cross_features}"):
        decode(encode(*three_behaviours()), cross_features)


@pytest.mark.parametrize("row", [2**31, 2**32 - 1])
def test_a_row_that_int32_cannot_hold_is_refused(row):
    body = row.to_bytes(4, "little") + (10).to_bytes(4, "little")
    with pytest.raises(BadRecord):
        decode(header(0, 1, body) + body, 0)
