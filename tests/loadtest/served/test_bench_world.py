"""The made-up data set: sizes as stated, the same at every call, Zipf laws."""

import numpy as np
import pytest

from loadtest.served.bench_world import LAST_TS, BenchWorld, Sizes

SMALL = Sizes(items=3_000, categories=60, life_categories=20)


@pytest.fixture(scope="module")
def small():
    return BenchWorld(SMALL)


@pytest.mark.parametrize("behaviours", [10, 50, 1_000])
def test_a_life_has_the_stated_size_in_its_own_categories(small, behaviours):
    life = small.life(3, behaviours)
    assert len(life) == behaviours
    assert set(life.category.tolist()) == set(small.categories_of(3)[:behaviours].tolist())
    assert (small.registry.category[life.row] == life.category).all()
    assert (np.diff(life.ts) >= 0).all()
    assert 0 <= life.ts[0] <= life.ts[-1] <= LAST_TS
    assert 1 <= life.cross.min() <= life.cross.max() < small.schema.cross_features[0].buckets


def test_behaviours_come_in_sessions(small):
    apart = np.diff(small.life(0, 1_000).ts)
    assert 60 < (apart > 1_800).sum() < 160  # about ten behaviours a session


def test_frequent_categories_and_items_are_frequent(small):
    sizes = np.bincount(small.registry.category)[2:]
    assert sizes[0] > 4 * sizes[20] > 0
    life = small.life(1, 1_000)
    counts = np.sort(np.bincount(life.row))[::-1]
    assert counts[0] > 20 * np.median(counts[counts > 0])


@pytest.mark.parametrize("categories", [2, 15])
def test_candidates_are_different_items_of_so_many_of_the_users_categories(small, categories):
    ids = small.candidates(5, 90, categories, seed=1)
    assert len(set(ids)) == 90
    of = {small.registry.category[small.registry.row_of[item]] for item in ids}
    assert len(of) == categories
    assert of <= set(small.categories_of(5).tolist())


def test_everything_is_the_same_again_and_other_users_are_others(small):
    again = BenchWorld(SMALL)
    assert again.registry.registry_id == small.registry.registry_id
    assert (again.life(7, 200).row == small.life(7, 200).row).all()
    assert again.candidates(7, 50, 10, 3) == small.candidates(7, 50, 10, 3) != small.candidates(7, 50, 10, 4)
    assert not np.array_equal(small.life(7, 200).row, small.life(8, 200).row)


def test_item_features_have_the_sizes_they_state(small):
    items = small.items
    assert items.value.shape == (small.registry.item_rows, len(items.names))
    assert (items.value.max(axis=0) < np.array(items.sizes)).all()
    assert (items.value[0] == 0).all()
    assert (items.value[1] == 1).all()
