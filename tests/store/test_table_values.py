"""Blocks of item tables: what was put in comes out, and nothing else does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from store.table_values import (
    BLOCK_BYTES,
    HEADER_BYTES,
    BadBlock,
    TableForm,
    decode_block,
    digest_of,
    encode_block,
    payload_of,
)

SHAPES = array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40)
TABLES = st.one_of(
    arrays("<f4", SHAPES, elements=st.floats(-1e6, 1e6, width=32)),
    arrays("<u8", SHAPES, elements=st.integers(0, 2**64 - 1)),
    arrays("<i4", SHAPES, elements=st.integers(-(2**31), 2**31 - 1)),
)


def values_of(form, table):
    payloads = [payload_of(form, table, block) for block in range(form.blocks)]
    digests = [digest_of(form, block, payload) for block, payload in enumerate(payloads)]
    return digests, [encode_block(form, digest, payload) for digest, payload in zip(digests, payloads, strict=True)]


@given(TABLES, st.integers(1, 50))
def test_a_table_comes_back_out_of_its_blocks(table, block_rows):
    form = TableForm.of("t", table).model_copy(update={"block_rows": block_rows})
    digests, values = values_of(form, table)
    blocks = [decode_block(form, i, digest, value) for i, (digest, value) in enumerate(zip(digests, values, strict=True))]
    whole = np.concatenate(blocks)
    assert whole.dtype == table.dtype
    assert (whole == table).all()
    assert [len(block) for block in blocks] == [form.rows_of(i) for i in range(form.blocks)]


@given(st.integers(1, 3000))
def test_a_block_is_never_longer_than_the_cache_holds(width):
    form = TableForm.of("t", np.zeros((5, width), np.float32))
    assert 0 < form.block_rows * form.row_bytes <= BLOCK_BYTES


@pytest.fixture(scope="module")
def one():
    table = np.arange(60, dtype=np.float32).reshape(10, 6)
    form = TableForm.of("vector", table).model_copy(update={"block_rows": 4})
    return form, *values_of(form, table)


@given(st.data())
def test_any_changed_byte_is_noticed(one, data):
    form, digests, values = one
    block = data.draw(st.integers(0, form.blocks - 1))
    value = bytearray(values[block])
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadBlock):
        decode_block(form, block, digests[block], bytes(value))


@given(st.data())
def test_a_truncated_or_longer_value_is_noticed(one, data):
    form, digests, values = one
    cut = data.draw(st.integers(0, len(values[0]) - 1))
    for value in (values[0][:cut], values[0] + b"\0" * (1 + cut)):
        with pytest.raises(BadBlock, match="bytes"):
            decode_block(form, 0, digests[0], value)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_block(one, value):
    with pytest.raises(BadBlock):
        decode_block(one[0], 0, one[1][0], value)


def test_the_block_of_another_place_is_noticed():
    """Even one with the same rows."""
    table = np.ones((8, 6), np.float32)
    form = TableForm.of("vector", table).model_copy(update={"block_rows": 4})
    digests, values = values_of(form, table)
    with pytest.raises(BadBlock, match="not the one"):
        decode_block(form, 0, digests[0], values[1])
    other = form.model_copy(update={"name": "other"})
    with pytest.raises(BadBlock, match="not the one"):
        decode_block(form, 0, digests[0], values_of(other, table)[1][0])


def test_a_missing_block_is_noticed(one):
    with pytest.raises(BadBlock, match="block 2 is missing"):
        decode_block(one[0], 2, one[1][2], None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_block_that_is_not_finite_is_refused(bad):
    table = np.full((2, 2), bad, np.float32)
    form = TableForm.of("vector", table)
    digests, values = values_of(form, table)
    with pytest.raises(BadBlock, match="NaN or infinity"):
        decode_block(form, 0, digests[0], values[0])


def test_another_format_version_is_refused(one):
    form, digests, values = one
    with pytest.raises(BadBlock, match="format 0x72"):
        decode_block(form, 0, digests[0], b"\x72" + values[0][1:])


def test_a_row_longer_than_a_block_is_refused():
    with pytest.raises(ValueError, match="rows of 16388 bytes, a block has 16384"):
        TableForm.of("t", np.zeros((2, 4097), np.float32))


def test_a_header_keeps_numbers_on_their_boundaries(one):
    assert HEADER_BYTES % 8 == 0
    assert len(one[2][0]) == HEADER_BYTES + 4 * 6 * 4
