"""Clusters of a lifelong history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.clusters import GROUPS, LARGEST, Completion, clusters, completion_of
from store.schema import CrossFeature, Schema
from store.snapshot import Snapshot
from store.types import Behaviours

ITEMS, WIDTH = 60, 8
VECTORS = np.random.default_rng(0).standard_normal((ITEMS, WIDTH)).astype(np.float32)


def life(rows, cross=None):
    rows = np.asarray(rows, np.int32)
    cross = np.ones((len(rows), 1), np.uint8) if cross is None else np.asarray(cross, np.uint8)[:, None]
    return Behaviours(rows, rows % 5, np.arange(len(rows), dtype=np.int64) * 100, cross)


@given(st.lists(st.integers(0, ITEMS - 1), max_size=400), st.integers(0, 5))
def test_every_behaviour_is_in_one_cluster_of_at_most_gamma(rows, seed):
    buckets = np.random.default_rng(seed).integers(0, 6, len(rows))
    made = clusters(life(rows, buckets), VECTORS, Completion(0, 6) if seed else None)
    assert int(made.size.sum()) == len(rows)
    assert made.size.max(initial=1) <= LARGEST
    assert made.size.min(initial=1) >= 1
    assert set(made.row.tolist()) <= set(rows)  # a member's own item stands for the cluster
    assert (np.diff(made.ts) >= 0).all()
    assert (made.category == made.row % 5).all()


def test_the_empty_life_has_none():
    assert len(clusters(life([]), VECTORS, None)) == 0


def test_up_to_gamma_behaviours_are_one_cluster():
    made = clusters(life(range(LARGEST)), VECTORS, None)
    assert made.size.tolist() == [LARGEST]
    assert len(clusters(life(range(LARGEST + 1)), VECTORS, None)) == 2  # floor(21^0.3) = 2


def test_behaviours_that_cannot_be_told_apart_are_cut_into_runs_of_gamma():
    made = clusters(life([7] * 50), VECTORS, None)
    assert sorted(made.size.tolist()) == [10, 20, 20]
    assert set(made.row.tolist()) == {7}


def test_a_long_life_shrinks_to_about_a_tenth():
    """delta = floor(n^0.3), gamma = 20, split again and again: about 11 a cluster (20,000 behaviours: some 1,700)."""
    vectors = np.random.default_rng(1).standard_normal((5000, 16)).astype(np.float32)
    rows = np.random.default_rng(2).integers(0, 5000, 20_000).astype(np.int32)
    made = clusters(Behaviours(rows, rows, np.arange(20_000), np.zeros((20_000, 0), np.uint8)), vectors, None)
    assert 1400 < len(made) < 2200


def test_near_behaviours_fall_together_and_far_ones_apart():
    vectors = np.zeros((40, WIDTH), np.float32)
    vectors[20:] = 10
    made = clusters(life(np.random.default_rng(3).permutation(40)), vectors, None)
    assert sorted(made.size.tolist()) == [20, 20]
    assert sorted((made.row < 20).tolist()) == [False, True]


def test_a_cluster_is_the_mean_of_its_numbers_and_the_item_nearest_to_the_centre():
    vectors = np.zeros((5, 1), np.float32)
    vectors[:4, 0] = [0, 1, 2, 9]
    made = clusters(life([0, 1, 2, 3], cross=[0, 3, 4, 8]), vectors, None)
    assert made.row.tolist() == [2]  # the centre is 3
    assert made.ts.tolist() == [150]
    assert made.cross.tolist() == [[5]]  # mean of 3, 4, 8: a missing one does not count
    assert clusters(life([0, 1], cross=[0, 0]), vectors, None).cross.tolist() == [[0]]


def test_equally_near_members_the_newer_stands_for_the_cluster():
    vectors = np.array([[0.0], [2.0]], np.float32)
    assert clusters(life([0, 1]), vectors, None).row.tolist() == [1]


def test_groups_of_completion_are_never_mixed():
    cross = [1, 5] * 8
    made = clusters(life(range(16), cross), VECTORS, Completion(0, 6))
    assert sorted(made.size.tolist()) == [8, 8]
    assert sorted(made.cross[:, 0].tolist()) == [1, 5]


def test_completion_buckets_spread_over_five_groups():
    groups = Completion(0, 18).groups(life(range(18), cross=range(18)))
    assert groups[0] == 0
    assert groups[-1] == GROUPS - 1
    assert set(groups.tolist()) == set(range(GROUPS))


def test_the_schema_says_whether_there_is_a_completion_feature():
    features = [CrossFeature(name=name, edges=[1.0, 2.0]) for name in ("price", "completion")]
    assert completion_of(Schema(data="d", cross_features=features, context=[])) == Completion(1, 4)
    assert completion_of(Schema(data="d", cross_features=features[:1], context=[])) is None


def test_two_runs_give_the_same_clusters():
    rows = np.random.default_rng(5).integers(0, ITEMS, 300)
    first, second = (clusters(life(rows), VECTORS, None) for _ in range(2))
    assert first.row.tobytes() == second.row.tobytes()
    assert first.size.tobytes() == second.size.tobytes()


@pytest.mark.parametrize("older", [0, 30, 50])
def test_newer_behaviours_follow_as_clusters_of_one(older):
    whole = life(np.random.default_rng(6).integers(0, ITEMS, 50))
    oldest = whole.select(slice(0, older))
    made = Snapshot.of(oldest, clusters=clusters(oldest, VECTORS, None))
    joined = made.and_newer(whole)
    tail = len(joined) - len(made.clusters)
    assert tail == 50 - older
    assert (joined.row[len(joined) - tail :] == whole.row[older:]).all()
    assert (joined.size[len(joined) - tail :] == 1).all()
    assert int(joined.size.sum()) == 50
