"""Models that keep something of their users: what /score makes of snapshots in the store, on real users."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from export.batches import search_request
from export.bundle import TABLES, precompute, torch_scores
from export.data.histories import APART, ClusteredHistory
from export.models import list_models
from export.models.registry import model_type
from export.models.stateful import StatefulModel
from export.precompute import item_tables
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from store import keys
from store.bundle import ITEM_VECTOR
from store.connection import connect
from store.load import load_snapshots
from store.search import SEARCHES
from store.types import Candidates

KEEPING = [
    name
    for name in list_models()
    if issubclass(model_type(name), StatefulModel) or SEARCHES[model_type(name).search_name].clustered
]
USERS = 4


@pytest.fixture(scope="module")
def scorer(world):
    bundles = Bundles(world.bundles, "", "", "cpu", 1, Metrics())
    return Scorer(bundles, StoreReader(connect(world.store_url, timeout_s=5), bundles.data))


@pytest.fixture(scope="module", params=KEEPING)
def kept(request, world):
    """A model, its users' snapshots as files, and all of them in the store while the tests of this file run."""
    name = request.param
    folder = precompute(world.dataset, world.runs[name])
    path = folder / "snapshots.parquet"
    redis = connect(world.store_url)
    assert load_snapshots(path, world.dataset.schema.data, redis, lambda users: None) == name
    yield name, path
    for user_id in pq.read_table(path)["user_id"].to_pylist():
        redis.delete(keys.states(world.dataset.schema.data, user_id))


@pytest.fixture(scope="module")
def longest(world):
    """The users with the longest lives, who are the hardest to get right."""
    return np.argsort(-np.diff(world.dataset.user_start), kind="stable")[:USERS].tolist()


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


def test_precompute_leaves_one_snapshot_per_user(kept, world):
    _, path = kept
    table = pq.read_table(path)
    assert path.parent.name == TABLES
    having = table["user_id"].to_pylist()
    assert having == sorted(having)
    if SEARCHES[model_type(kept[0]).search_name].clustered:  # the newest behaviours stay one by one
        lives = np.diff(world.dataset.user_start)
        assert len(having) > 100
        assert all(lives[world.dataset.user_ids.index(user)] > APART for user in having)
    else:
        assert having == sorted(world.dataset.user_ids)
    assert table.schema.metadata[b"model"].decode() == kept[0]


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
    snapshot = bundle.snapshots.decode(
        redis.hget(keys.states(world.dataset.schema.data, user_id), name), life, bundle.registry.category_of
    )
    assert len(snapshot.and_newer(life)) < len(life) / 2


def test_a_request_of_the_past_does_not_use_it(kept, world, scorer, longest):
    name, _ = kept
    for user in longest[:2]:
        start, end = world.dataset.user_start[user : user + 2]
        at = int(world.dataset.ts[(start + end) // 2])
        with_it = ask(scorer, world, name, user, at=at)
        redis, key = connect(world.store_url), keys.states(world.dataset.schema.data, world.dataset.user_ids[user])
        taken = redis.hget(key, name)
        redis.hdel(key, name)
        without = ask(scorer, world, name, user, at=at)
        redis.hset(key, name, taken)
        assert (with_it.scores == without.scores).all()


def test_a_damaged_one_is_left_out_and_said(kept, world, scorer, longest):
    name, _ = kept
    user = longest[1]
    redis, key = connect(world.store_url), keys.states(world.dataset.schema.data, world.dataset.user_ids[user])
    taken = redis.hget(key, name)
    try:
        redis.hset(key, name, taken[:-5] + b"\0\1\2\3\4")
        answer = ask(scorer, world, name, user)
        assert answer.degraded == ["bad_record"]
        assert np.isfinite(answer.scores).all()
        redis.hset(key, name, taken[:8] + bytes(8) + taken[16:])  # of other parameters, its checksum wrong too
        assert ask(scorer, world, name, user).degraded == ["bad_record"]
    finally:
        redis.hset(key, name, taken)
    assert ask(scorer, world, name, user).degraded == []
