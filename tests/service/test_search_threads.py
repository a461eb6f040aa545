import numpy as np
import pytest

from service import search_threads
from service.search_threads import SearchThreads
from store.search.life import LifeSearch
from store.search.spec import SearchSpec
from store.types import Behaviours, Candidates
from tests.store.search.kept import candidates_of, kept, life_of, make

ITEMS = 400


@pytest.fixture(autouse=True)
def worth_it(monkeypatch):
    monkeypatch.setattr(search_threads, "WORTH", 1)


def tables(numbers, heads=2):
    return {
        "signature": numbers.integers(0, 2**64, ITEMS, dtype=np.uint64),
        "key_projection": numbers.standard_normal((ITEMS, heads, 8), dtype=np.float32),
        "query_projection": numbers.standard_normal((ITEMS, heads, 8), dtype=np.float32),
        "cross_bias": numbers.standard_normal((1, 46, heads), dtype=np.float32),
    }


@pytest.mark.parametrize("name", ["hamming", "projection", "clusters"])
@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("candidates", [1, 5, 64])
def test_answers_are_those_of_one_thread(name, threads, candidates):
    numbers = np.random.default_rng(threads)
    search = make(name, 20, **tables(numbers))
    rows = numbers.integers(2, ITEMS, 900)
    life = life_of(rows)
    if name == "clusters":
        life = Behaviours(life.row, life.category, life.ts, life.cross, numbers.integers(1, 9, 900).astype(np.int32))
    asked, cross = candidates_of(numbers.integers(2, ITEMS, candidates)), numbers.integers(0, 46, (900, 1)).astype(np.int32)
    alone, together = search(asked, life, cross), SearchThreads(threads, 1).of(search)(asked, life, cross)
    assert kept(together) == kept(alone)
    assert together.searched == alone.searched


def test_the_candidates_are_dealt_to_so_many_threads():
    parts = []

    class Noted(type(make("hamming", 2, **tables(np.random.default_rng(0))))):
        def __call__(self, candidates, behaviours, cross):
            parts.append(len(candidates.row))
            return super().__call__(candidates, behaviours, cross)

    search = Noted(SearchSpec(name="hamming", k=2), tables(np.random.default_rng(0)))
    SearchThreads(3, 1).of(search)(candidates_of(range(2, 12)), life_of(range(2, 50)), np.zeros((48, 1), np.int32))
    assert sorted(parts) == [3, 3, 4]


def test_little_work_stays_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(search_threads, "WORTH", 10_000)
    threads = SearchThreads(2, 1)
    monkeypatch.setattr(threads._pool, "submit", lambda *_: pytest.fail("another thread was asked"))
    search = make("hamming", 2, **tables(np.random.default_rng(0)))
    assert len(kept(threads.of(search)(candidates_of([2, 3]), life_of(range(2, 50)), np.zeros((48, 1), np.int32)))) == 2


def test_a_search_whose_candidates_share_a_list_is_not_split():
    search = LifeSearch(SearchSpec(name="life", k=2), {})
    assert SearchThreads(2, 1).of(search) is search


def test_an_error_in_another_thread_is_the_callers():
    search = make("hamming", 2, **tables(np.random.default_rng(0)))
    beyond = Candidates(np.array([2, 3, 2 * ITEMS], np.int32), np.array([2, 2, 2], np.int32))
    with pytest.raises(IndexError):
        SearchThreads(3, 1).of(search)(beyond, life_of(range(2, 50)), np.zeros((48, 1), np.int32))
