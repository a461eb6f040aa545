"""What every search must do, on one real-looking request each."""

import typing

import numpy as np
import pytest
from pydantic import ValidationError

from store.search import SEARCHES, SearchSpec
from store.search.spec import nothing, one_by_one
from store.types import Candidates
from tests.store.search.kept import kept, life_of, make

ITEMS, HEADS, WIDTH, BUCKETS, CATEGORIES = 60, 3, 7, 5, 6


@pytest.fixture(scope="module")
def tables():
    numbers = np.random.default_rng(11)
    return {
        "signature": numbers.integers(0, 2**64, ITEMS, dtype=np.uint64) & np.uint64(0xF0F),  # few bits: many ties
        "query_projection": numbers.standard_normal((ITEMS, HEADS, WIDTH), dtype=np.float32),
        "key_projection": numbers.standard_normal((ITEMS, HEADS, WIDTH), dtype=np.float32),
        "cross_bias": numbers.standard_normal((2, BUCKETS, HEADS), dtype=np.float32),
    }


@pytest.fixture
def request_of():
    """A request of C candidates over L behaviours: unknown items among both, candidates more than once."""

    def draw(count, length):
        numbers = np.random.default_rng(1000 * count + length)
        category = np.concatenate([[0, 1], numbers.integers(2, CATEGORIES, ITEMS - 2)])
        candidates = numbers.integers(1, ITEMS, count).astype(np.int32)
        rows = numbers.integers(1, ITEMS, length)
        cross = numbers.integers(0, BUCKETS, (length, 2)).astype(np.int32)
        return Candidates(candidates, category[candidates].astype(np.int32)), life_of(rows, category[rows], 1), cross

    return draw


def part(candidates, index):
    return Candidates(candidates.row[index], candidates.category[index])


every_search = pytest.mark.parametrize("name", list(SEARCHES))
every_length = pytest.mark.parametrize("length", [0, 1, 2, 9, 10, 11, 300])


@every_search
@every_length
def test_every_candidate_stands_at_one_place_and_every_rule_of_the_answer_holds(name, length, tables, request_of):
    candidates, life, cross = request_of(33, length)
    answer = kept(make(name, 10, **tables)(candidates, life, cross))
    assert len(answer) == 33
    most = length if name == "life" else min(10, length)
    assert all(len(index) <= most and all(i < length for i in index) for index in answer)


@every_search
@every_length
def test_candidates_together_get_what_each_gets_alone(name, length, tables, request_of):
    candidates, life, cross = request_of(33, length)
    search = make(name, 10, **tables)
    alone = [kept(search(part(candidates, [c]), life, cross))[0] for c in range(33)]
    assert kept(search(candidates, life, cross)) == alone


@every_search
def test_the_order_of_the_candidates_does_not_matter(name, tables, request_of):
    candidates, life, cross = request_of(33, 300)
    search = make(name, 10, **tables)
    order = np.random.default_rng(2).permutation(33)
    answer = kept(search(candidates, life, cross))
    assert kept(search(part(candidates, order), life, cross)) == [answer[c] for c in order]


@every_search
def test_a_candidate_asked_twice_gets_the_same_twice(name, tables, request_of):
    candidates, life, cross = request_of(5, 300)
    answer = kept(make(name, 10, **tables)(part(candidates, [0, 1, 2, 3, 4, 4, 0]), life, cross))
    assert answer[5:] == [answer[4], answer[0]]


@every_search
@pytest.mark.parametrize("k", [1, 299, 300, 301, 1024])
def test_k_may_be_anything_beside_the_length_of_the_life(name, k, tables, request_of):
    candidates, life, cross = request_of(9, 300)
    answer = kept(make(name, k, **tables)(candidates, life, cross))
    most = 300 if name == "life" else min(k, 300)
    if name not in ("category", "sessions"):
        assert all(len(index) == most for index in answer)
    assert all(len(index) <= most for index in answer)


@every_search
def test_a_larger_k_never_loses_a_behaviour(name, tables, request_of):
    candidates, life, cross = request_of(9, 300)
    smaller = kept(make(name, 20, **tables)(candidates, life, cross))
    larger = kept(make(name, 21, **tables)(candidates, life, cross))
    assert all(set(few) <= set(more) for few, more in zip(smaller, larger, strict=True))


@every_search
def test_a_single_candidate_is_enough(name, tables, request_of):
    candidates, life, cross = request_of(1, 300)
    assert len(kept(make(name, 10, **tables)(candidates, life, cross))) == 1


@every_search
def test_the_request_and_the_tables_are_not_written_to(name, tables, request_of):
    candidates, life, cross = request_of(9, 300)
    arrays = [candidates.row, candidates.category, life.row, life.category, life.ts, life.cross, cross, *tables.values()]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    make(name, 10, **tables)(candidates, life, cross)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


@every_search
def test_a_search_says_what_it_reads(name):
    assert SEARCHES[name].reads in ("newest", "categories", "life")


def test_the_registry_of_searches_is_what_a_manifest_may_name():
    assert set(SEARCHES) == set(typing.get_args(SearchSpec.model_fields["name"].annotation))


@pytest.mark.parametrize("k", [0, -1, 1025])
def test_a_k_that_no_search_can_keep_is_refused(k):
    with pytest.raises(ValidationError, match="k"):
        SearchSpec(name="hamming", k=k)


@pytest.mark.parametrize("fields", [{"name": "magic", "k": 1}, {"name": "hamming"}, {"name": "hamming", "k": 1, "bits": 64}])
def test_a_search_of_unknown_form_is_refused(fields):
    with pytest.raises(ValidationError):
        SearchSpec.model_validate(fields)


def test_a_missing_table_is_named():
    with pytest.raises(KeyError, match="signature"):
        make("hamming", 1)


def test_one_by_one_gives_each_candidate_its_row():
    retrieved = one_by_one(np.array([[0, 4], [1, 2]], np.int32), 2, 9)
    assert (kept(retrieved), retrieved.searched) == ([[0, 4], [1, 2]], 9)


def test_nothing_is_one_masked_entry_a_candidate():
    retrieved = nothing(3)
    assert (kept(retrieved), retrieved.searched) == ([[], [], []], 0)
    assert retrieved.index.shape == (3, 1)
