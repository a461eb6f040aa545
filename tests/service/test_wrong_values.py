"""Whatever stands in a user's keys: every model answers with finite scores, and the answer says that something is missing."""

import numpy as np
import pytest

from export.models import list_models
from export.snapshots import snapshot_id
from store import keys
from store.connection import connect
from tests.service.serving import served

USER = "wrong values"
NOW = 4_000_000_000
RANDOM = np.random.default_rng(0)
WRONG = {
    "truncated": lambda blob: blob[:-3],
    "header only": lambda blob: blob[:8],
    "one byte": lambda blob: blob[:1],
    "empty": lambda blob: b"",
    "foreign": lambda blob: b'{"row": 7}',
    "future version": lambda blob: bytes([blob[0] + 1]) + blob[1:],
    "an altered byte": lambda blob: blob[:40] + bytes([blob[40] ^ 64]) + blob[41:],
    "another J": lambda blob: blob[:1] + bytes([blob[1] + 1]) + blob[2:],
    "10 MB": lambda blob: RANDOM.bytes(10_000_000),
    "10 MB behind a good header": lambda blob: blob[:8] + RANDOM.bytes(10_000_000),
}


@pytest.fixture(scope="module")
def client(world):
    with served(world.bundles, world.store_url, store_timeout_ms=5000, timeout_ms=30_000, model="din") as (client, _):
        yield client


@pytest.fixture
def tree(world):
    """The tree of a user of the tests' own, a copy of a real one."""
    redis, data = connect(world.store_url, timeout_s=30), world.dataset.schema.data
    redis.copy(keys.tree(data, real_user(world)), keys.tree(data, USER), replace=True)
    yield redis, keys.tree(data, USER), keys.states(data, USER)
    redis.delete(keys.tree(data, USER), keys.states(data, USER))


def real_user(world):
    """One with three hundred behaviours or a few more."""
    lives = np.diff(world.dataset.user_start)
    return world.dataset.user_ids[int(np.argmin(np.where(lives < 300, lives.max(), lives)))]


@pytest.fixture(scope="module")
def good(client, world):
    """Every model's answer about the tree as it should be."""
    return scores_of_all(client, world, user=real_user(world))


def scores_of_all(client, world, user=USER):
    """The answer of every model; each a 200 with finite probabilities."""
    answers = {}
    for model in list_models():
        ask = {"user_id": user, "item_ids": world.dataset.registry.ids[100:105], "model": model, "at": NOW}
        answer = client.post("/score", json=ask)
        assert answer.status_code == 200, answer.text
        answers[model] = answer.json()
        scores = np.array(answers[model]["scores"])
        assert np.isfinite(scores).all()
        assert ((scores >= 0) & (scores <= 1)).all()
    return answers


def reads_life(world, model):
    return world.runs[model].model.search_name in ("hamming", "projection", "clusters", "life")


def largest_leaf(redis, key):
    leaves = {field: redis.hstrlen(key, field) for field in redis.hkeys(key) if field.isdigit()}
    return max(leaves, key=leaves.get)


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_leaf_is_left_out_and_said(client, world, tree, good, kind):
    redis, key, _ = tree
    leaf = largest_leaf(redis, key)
    redis.hset(key, leaf, WRONG[kind](redis.hget(key, leaf)))
    for model, answer in scores_of_all(client, world).items():
        if reads_life(world, model):
            assert answer["degraded"] == ["bad_record"], model
            assert 0 < answer["behaviours"] < good[model]["behaviours"], model


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_newest_list_is_replaced_by_the_tree_and_said(client, world, tree, good, kind):
    redis, key, _ = tree
    redis.hset(key, keys.NEWEST_FIELD, WRONG[kind](redis.hget(key, keys.NEWEST_FIELD)))
    for model, answer in scores_of_all(client, world).items():
        assert answer["degraded"] == ([] if reads_life(world, model) and not keeps(world, model) else ["bad_record"]), model
        assert answer["behaviours"] == good[model]["behaviours"], model


def keeps(world, model):
    return world.runs[model].model.search_name in ("clusters", "life")


@pytest.mark.parametrize(
    "value", [b"", b"x", b"-1", b"9" * 400, b"1e400", b"nan", bytes(10_000_000)], ids=lambda value: value[:5]
)
@pytest.mark.parametrize("field", [keys.TOTAL_FIELD, keys.ARRIVED_FIELD])
def test_counters_that_are_none_change_no_score(client, world, tree, good, field, value):
    redis, key, _ = tree
    redis.hset(key, field, value)
    for model, answer in scores_of_all(client, world).items():
        assert answer["degraded"] == []
        assert answer["behaviours"] == good[model]["behaviours"]
        np.testing.assert_allclose(answer["scores"], good[model]["scores"], atol=1e-6)


@pytest.mark.parametrize("command", ["set", "rpush", "sadd"])
def test_a_key_of_another_type_is_an_error_of_the_store(client, world, tree, command):
    redis, key, states = tree
    for wrong, affected in ((key, list_models()), (states, [name for name in list_models() if keeps(world, name)])):
        redis.delete(wrong)
        getattr(redis, command)(wrong, b"something else")
        for model, answer in scores_of_all(client, world).items():
            assert answer["degraded"] == (["store_error"] if model in affected else []), model
        redis.delete(wrong)


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_snapshot_is_left_out_and_said(client, world, tree, good, kind):
    redis, _, states = tree
    for model in list_models():
        if keeps(world, model):
            field = snapshot_id(world.runs[model].model)
            redis.hset(states, field, WRONG[kind](bytes([0x52]) + RANDOM.bytes(500)))
    for model, answer in scores_of_all(client, world).items():
        assert answer["degraded"] == (["bad_record"] if keeps(world, model) else []), model
        assert answer["behaviours"] == good[model]["behaviours"]


def test_what_was_left_out_is_counted(client, world, tree):
    redis, key, _ = tree
    redis.hset(key, largest_leaf(redis, key), b"garbage")

    def counted():
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('ctr_degraded_total{reason="bad_record"}'))

    before = counted()
    scores_of_all(client, world)
    assert counted() - before == sum(reads_life(world, model) for model in list_models())
