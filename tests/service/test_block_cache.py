"""The cache of blocks, against a dictionary that never forgets."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block_cache import BlockCache, CachedTable
from store.table_values import BLOCK_BYTES, TableForm, digest_of, payload_of

ROWS, WIDTH, BLOCK_ROWS = 100, 3, 7


def table_of(seed, name="t", dtype=np.float32):
    values = np.random.default_rng(seed).integers(0, 1000, (ROWS, WIDTH)).astype(dtype)
    form = TableForm.of(name, values).model_copy(update={"block_rows": BLOCK_ROWS})
    digests = np.array([digest_of(form, i, payload_of(form, values, i)) for i in range(form.blocks)], np.uint64)
    return values, form, digests


def put(cache, table, values, blocks):
    cache.put(table, blocks, [values[b * BLOCK_ROWS : (b + 1) * BLOCK_ROWS] for b in blocks])


def take(cache, table, rows):
    out = np.full((len(rows), WIDTH), -1, table.form.dtype)
    missing, of = cache.take(table, np.array(rows, np.int32), out)
    assert of == len({row // BLOCK_ROWS for row in rows})
    return missing.tolist(), out


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 2), st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=20)),
    max_size=30,
)


@given(OPERATIONS, st.integers(1, 12))
def test_rows_are_the_tables_own_or_missing(operations, slots):
    """Three tables, one of another dtype and one a later version of the first: never a row of another."""
    cache = BlockCache(slots * BLOCK_BYTES)
    known = [table_of(1), table_of(2, "other", np.int32), table_of(3)]
    tables = [CachedTable(form, digests) for _, form, digests in known]
    tables[2] = CachedTable(*known[2][1:], before=tables[0])
    for name, which, rows in operations:
        values, table = known[which][0], tables[which]
        if name == "put":
            put(cache, table, values, sorted({row // BLOCK_ROWS for row in rows}))
        else:
            missing, out = take(cache, table, sorted(rows))
            for row, found in zip(sorted(rows), out, strict=True):
                assert (found == (-1 if row // BLOCK_ROWS in missing else values[row])).all()
        assert cache.bytes_held <= slots * BLOCK_BYTES


def test_what_was_put_last_is_there():
    cache, (values, form, digests) = BlockCache(3 * BLOCK_BYTES), table_of(1)
    table = CachedTable(form, digests)
    put(cache, table, values, [0, 1, 2])
    assert take(cache, table, [0, 7, 14])[0] == []
    assert cache.bytes_held == 3 * BLOCK_ROWS * WIDTH * 4


def test_the_block_read_longest_ago_goes_first():
    cache, (values, form, digests) = BlockCache(3 * BLOCK_BYTES), table_of(1)
    table = CachedTable(form, digests)
    put(cache, table, values, [0, 1, 2])
    take(cache, table, [7])
    take(cache, table, [0])
    put(cache, table, values, [5])
    assert cache.held(table)[[0, 1, 2, 5]].tolist() == [True, True, False, True]


def test_a_new_version_keeps_the_blocks_that_did_not_change():
    cache, (values, form, digests) = BlockCache(20 * BLOCK_BYTES), table_of(1)
    before = CachedTable(form, digests)
    put(cache, before, values, list(range(form.blocks)))
    changed = values.copy()
    changed[10] += 1
    after = CachedTable(
        form, np.array([digest_of(form, i, payload_of(form, changed, i)) for i in range(form.blocks)], np.uint64), before
    )
    assert np.flatnonzero(~cache.held(after)).tolist() == [1]
    put(cache, after, changed, [1])
    for table, wanted in ((before, values), (after, changed)):
        missing, out = take(cache, table, list(range(ROWS)))
        assert missing == []
        assert (out == wanted).all()


def test_more_blocks_than_slots_are_kept_as_far_as_there_is_room():
    cache, (values, form, digests) = BlockCache(1), table_of(1)
    table = CachedTable(form, digests)
    put(cache, table, values, list(range(form.blocks)))
    assert cache.slots == 1
    assert cache.held(table).sum() == 1


def test_the_tail_of_a_table_is_a_shorter_block():
    cache, (values, form, digests) = BlockCache(20 * BLOCK_BYTES), table_of(1)
    table = CachedTable(form, digests)
    put(cache, table, values, [form.blocks - 1])
    missing, out = take(cache, table, [ROWS - 1])
    assert (missing, out[0].tolist()) == ([], values[-1].tolist())


@pytest.mark.parametrize("threads", [4])
def test_threads_never_read_each_others_rows(threads):
    """Every block is put and taken again and again where only two fit."""
    cache, (values, form, digests) = BlockCache(2 * BLOCK_BYTES), table_of(1)
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        table = CachedTable(form, digests)
        for _ in range(1500):
            rows = np.sort(random.choice(ROWS, 5, replace=False)).astype(np.int32)
            out = np.full((5, WIDTH), -1, np.float32)
            missing, _ = cache.take(table, rows, out)
            there = ~np.isin(rows // BLOCK_ROWS, missing)
            if (out[there] != values[rows[there]]).any():
                wrong.append(rows)
            put(cache, table, values, missing.tolist()[:2])

    running = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert wrong == []
