"""What a request may know of its user: the past, cut or clustered."""

import numpy as np
import pytest

import store.clusters
from export.data.histories import ClusteredHistory, History, occurrences
from export.data.prepare import prepare
from store.clusters import DAY_S, REFRESH_S
from tests.export.data.own import write


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("histories")
    write(folder / "shop")
    return prepare(str(folder / "shop"), into=folder / "data")


@pytest.fixture
def clustered(shop, monkeypatch):
    monkeypatch.setattr(store.clusters, "APART", 10)
    vectors = np.random.default_rng(0).standard_normal((shop.registry.item_rows, 8)).astype(np.float32)
    return ClusteredHistory(shop, vectors, None)


def end_of(shop, user):
    return int(shop.ts[shop.user_start[user + 1] - 1]) + 1


def test_a_history_is_cut_to_its_newest(shop):
    at = end_of(shop, 0)
    whole, cut = History(shop, None).behaviours(0, at), History(shop, 7).behaviours(0, at)
    assert cut.row.tolist() == whole.row[-7:].tolist()
    assert History(shop, None).snapshot(0, at) is None
    assert (whole.ts < at).all()


def test_all_but_the_newest_before_the_last_refresh_are_clustered(shop, clustered):
    at = end_of(shop, 0)
    refresh = at - at % REFRESH_S
    before = int((shop.history(0, at).ts < refresh).sum())
    snapshot = clustered.snapshot(0, at)
    assert snapshot.folded == before - 10 > 10
    assert int(snapshot.clusters.size.sum()) == snapshot.folded
    searched = snapshot.and_newer(clustered.behaviours(0, at))
    assert int(searched.size.sum()) == len(shop.history(0, at))
    assert (searched.size[-10:] == 1).all()


def test_clusters_of_a_refresh_serve_all_requests_until_the_next(shop, clustered):
    refresh = end_of(shop, 0) // REFRESH_S * REFRESH_S
    assert clustered.snapshot(0, refresh) is clustered.snapshot(0, refresh + 5 * DAY_S)
    assert clustered.snapshot(0, refresh - 1) is not clustered.snapshot(0, refresh)


def test_a_snapshot_knows_nothing_from_the_request_on(shop, clustered):
    at = end_of(shop, 0) - 40 * DAY_S
    assert clustered.snapshot(0, at).folded <= len(shop.history(0, at))


def test_a_young_user_has_an_empty_one(shop, clustered):
    first = int(shop.ts[shop.user_start[0]])
    snapshot = clustered.snapshot(0, first)
    assert (snapshot.folded, len(snapshot.clusters)) == (0, 0)
    assert len(snapshot.and_newer(clustered.behaviours(0, first))) == 0


def test_a_cut_history_is_clustered_as_if_it_were_all(shop, clustered):
    clustered.newest = 60
    at = end_of(shop, 0)
    snapshot = clustered.snapshot(0, at)
    assert len(clustered.behaviours(0, at)) == 60
    assert int(snapshot.and_newer(clustered.behaviours(0, at)).size.sum()) == 60


def test_occurrences_count_training_behaviours_by_the_values_of_each_feature(shop):
    counts = occurrences(shop)
    training = shop.row[shop.ts < shop.facts["train_end_ts"]]
    assert [len(count) for count in counts] == shop.items.sizes
    assert all(int(count.sum()) == len(training) for count in counts)
    value = int(shop.items.value[training[0], 1])
    assert counts[1][value] == (shop.items.value[training, 1] == value).sum()
