"""Models that keep something of their users: what /score makes of snapshots in the store, on real users."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from export.batches import search_request
from export.bundle import torch_scores
from export.data.histories import ClusteredHistory
from export.models import list_models
from export.models.registry import model_type
from export.models.stateful import StatefulModel
from export.precompute import SNAPSHOTS, TABLES, item_tables, precompute
from export.snapshots import write_snapshots
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from store import keys
from store.bundle import ITEM_VECTOR, Bundle
from store.clusters import APART
from store.connection import connect
from store.load_snapshots import load_snapshots
from store.search import SEARCHES
from store.types import Candidates
from tests.service.published import alone, forget, published, reading

KEEPING = [
    name
    for name in list_models()
    if issubclass(model_type(name), StatefulModel) or SEARCHES[model_type(name).search_name].clustered
]
USERS = 4


@pytest.fixture(scope="module")
def scorer(world):
    bundles = Bundles(world.bundles, "", "", Loading("cpu", 1), Metrics())
    return Scorer(bundles, StoreReader(connect(world.store_url, timeout_s=5), Metrics()))


@pytest.fixture(scope="module")
def users(world):
    """Forty users with long lives, the longest first, and twenty with short ones."""
    lives = np.diff(world.dataset.user_start)
    long = np.flatnonzero((lives > 1200) & (lives < 1500))[:40]
    return [*long[np.argsort(-lives[long], kind="stable")].tolist(), *np.flatnonzero(lives < 300)[:20].tolist()]


@pytest.fixture(scope="module", params=KEEPING)
def kept(request, world, users, tmp_path_factory):
    """A model, its users' snapshots as a file, and all of them in the store while the tests of this file run."""
    name, dataset = request.param, world.dataset
    model, path = world.runs[name].model, tmp_path_factory.mktemp(name) / "snapshots.parquet"
    write_snapshots(dataset, name, model, item_tables(dataset.items, model), path, users)
    redis = connect(world.store_url)
    counts = []
    assert load_snapshots(path, dataset.schema.data, redis, lambda *of: counts.append(of)) == name
    assert counts == [(len(pq.read_table(path)), 0)]
    yield name, path
    for user_id in pq.read_table(path)["user_id"].to_pylist():
        redis.delete(keys.states(dataset.schema.data, user_id))


@pytest.fixture(scope="module")
def longest(users):
    """The users with the longest lives, who are the hardest to get right."""
    return users[:USERS]


def ask(scorer, world, name, user, at=None):
    registry = world.dataset.registry
    body = {"user_id": world.dataset.user_ids[user], "item_ids": registry.ids[100:130], "model": name, "at": at}
    return score(ScoreRequest.model_validate(body), scorer, StageTimer())


def offline(world, name, user, at):
    """The same request without a store: folded, or clustered, from the data."""
    run, dataset = world.runs[name], world.dataset
    tables = item_tables(dataset.items, run.model)
    search = SEARCHES[run.model.search_name](run.model.search_spec, tables)
    row = np.arange(102, 132, dtype=np.int32)
    history = ClusteredHistory(dataset, tables[ITEM_VECTOR], None)
    snapshot = history.snapshot(user, int(dataset.ts.max()) + 1) if search.clustered else None
    request = search_request(
        search, run.model.config.recent, Candidates(row, dataset.registry.category[row]), history.behaviours(user, at), at,
        dataset.schema.encode_context({}, at), snapshot,
    )  # fmt: skip
    return torch_scores(run, request, tables)


def test_there_are_such_models():
    assert {"mimn", "sdim", "twin_v2"} <= set(KEEPING)


def test_a_file_has_one_snapshot_per_user_who_needs_one(kept, world, users):
    name, path = kept
    table, lives = pq.read_table(path), np.diff(world.dataset.user_start)
    clustered = SEARCHES[model_type(name).search_name].clustered  # there the newest behaviours stay one by one
    needing = [user for user in users if lives[user] > APART or not clustered]
    assert table["user_id"].to_pylist() == sorted(world.dataset.user_ids[user] for user in needing)
    assert table.schema.metadata[b"model"].decode() == name


def test_precompute_writes_it_for_all_users_beside_the_tables(world):
    folder = precompute(world.dataset, world.runs["sdim"])
    assert folder.name == TABLES
    assert pq.read_metadata(folder / SNAPSHOTS).num_rows == len(world.dataset.user_ids)
    assert precompute(world.dataset, world.runs["din"]).joinpath(SNAPSHOTS).exists() is False


def test_scores_with_a_snapshot_are_those_of_training(kept, world, scorer, longest):
    name, _ = kept
    now = int(world.dataset.ts.max()) + 3600
    for user in longest:
        answer = ask(scorer, world, name, user, at=now)
        assert answer.degraded == []
        assert answer.behaviours == len(world.dataset.history(user, now))
        assert np.abs(answer.scores - offline(world, name, user, now)).max() <= 1e-5


def test_a_snapshot_spares_the_folding(kept, world, scorer, longest):
    """With it only the tail is folded, or searched one by one."""
    name, _ = kept
    bundle = scorer.bundles.get(name).bundle
    user_id = world.dataset.user_ids[longest[0]]
    redis = connect(world.store_url)
    life = world.dataset.history(longest[0], int(world.dataset.ts.max()) + 1)
    blob = redis.hget(keys.states(world.dataset.schema.data, user_id), bundle.manifest.snapshot_id)
    snapshot = bundle.snapshots.decode(blob, bundle.registry.category_of)
    assert len(snapshot.and_newer(life)) < len(life) - 100


def test_a_request_of_the_past_does_not_use_it(kept, world, scorer, longest):
    name, _ = kept
    for user in longest[:2]:
        start = world.dataset.user_start[user]
        at = int(world.dataset.ts[start + 50])  # long before the newest behaviour that is folded
        with_it = ask(scorer, world, name, user, at=at)
        redis, key = connect(world.store_url), keys.states(world.dataset.schema.data, world.dataset.user_ids[user])
        field = scorer.bundles.get(name).bundle.manifest.snapshot_id
        taken = redis.hget(key, field)
        redis.hdel(key, field)
        without = ask(scorer, world, name, user, at=at)
        redis.hset(key, field, taken)
        assert (with_it.scores == without.scores).all()


def test_a_damaged_one_is_left_out_and_said(kept, world, scorer, longest):
    name, _ = kept
    user = longest[1]
    redis, key = connect(world.store_url), keys.states(world.dataset.schema.data, world.dataset.user_ids[user])
    field = scorer.bundles.get(name).bundle.manifest.snapshot_id
    taken = redis.hget(key, field)
    try:
        redis.hset(key, field, taken[:-5] + b"\0\1\2\3\4")
        answer = ask(scorer, world, name, user)
        assert answer.degraded == ["bad_record"]
        assert np.isfinite(answer.scores).all()
        redis.hset(key, field, taken[:8] + bytes(8) + taken[16:])  # of other parameters, its checksum wrong too
        assert ask(scorer, world, name, user).degraded == ["bad_record"]
    finally:
        redis.hset(key, field, taken)
    assert ask(scorer, world, name, user).degraded == []


def test_published_tables_give_the_same_scores_beside_a_snapshot(kept, world, scorer, longest, redis, tmp_path):
    """Rows of clusters are gathered as those of behaviours are; what a state holds needs none."""
    name, _ = kept
    bundles, folder = alone(world, name, tmp_path)
    published(world.store_url, Bundle(folder))
    now = int(world.dataset.ts.max()) + 3600
    with reading(bundles, world.store_url) as (stored, *_):
        for user in longest:
            one, other = (ask(which, world, name, user, at=now) for which in (scorer, stored))
            assert other.degraded == []
            assert one.behaviours == other.behaviours
            assert np.abs(one.scores - other.scores).max() <= 1e-6
    forget(redis, world.dataset.schema.data)
