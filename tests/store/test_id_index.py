"""Ids -> rows, against a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.id_index import IdIndex, hash_of
from store.types import FIRST_KNOWN, UNKNOWN

IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(IDS, unique=True, max_size=60), st.lists(IDS, max_size=40), st.randoms())
def test_every_id_has_its_row_and_no_other_has_one(ids, others, random):
    row_of = {item_id: row for row, item_id in enumerate(ids, FIRST_KNOWN)}
    asked = [*others, *ids, *ids[:3]]
    random.shuffle(asked)
    found = IdIndex.of(ids).rows(asked)
    assert found.dtype == np.int32
    assert found.tolist() == [row_of.get(item_id, UNKNOWN) for item_id in asked]


def test_nothing_asked_is_nothing_found():
    assert len(IdIndex.of(["a"]).rows([])) == 0


def test_an_index_of_nothing_knows_nothing():
    assert IdIndex.of([]).rows(["a", "b"]).tolist() == [UNKNOWN, UNKNOWN]


def test_ids_that_begin_alike_are_different():
    index = IdIndex.of(["7", "77", "777"])
    assert index.rows(["777", "7", "77", "7777", ""]).tolist() == [4, 2, 3, UNKNOWN, UNKNOWN]


def test_text_that_is_no_utf8_is_unknown():
    assert IdIndex.of(["a"]).rows(["\ud800", "a"]).tolist() == [UNKNOWN, 2]


def test_ids_whose_hashes_share_a_slot_are_all_found():
    """Of 3,000 ids in 8,192 slots many stand in one another's way; so do those at its end, whose next slot is the first."""
    ids = [f"item {i}" for i in range(3_000)]
    index = IdIndex.of(ids)
    text = np.frombuffer(b"".join(item_id.encode() for item_id in ids), np.uint8)
    ends = np.cumsum([len(item_id) for item_id in ids])
    places = [int(hash_of(text, end - len(item_id), end)) % len(index.slots) for item_id, end in zip(ids, ends, strict=True)]
    assert len(set(places)) < len(places)
    assert index.rows(ids).tolist() == list(range(FIRST_KNOWN, FIRST_KNOWN + 3_000))
    assert (index.rows([f"item {i}" for i in range(3_000, 6_000)]) == UNKNOWN).all()


def test_a_full_row_of_slots_goes_on_at_the_first():
    """One slot beyond the last holds what found no place before it."""
    for count in range(1, 200):
        ids = [f"{count} {i}" for i in range(count)]
        assert IdIndex.of(ids).rows(ids).tolist() == list(range(FIRST_KNOWN, FIRST_KNOWN + count))
