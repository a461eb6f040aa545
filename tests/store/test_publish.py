"""Item tables into the store: read back as they were, sent once, switched at once, whole after a kill -9 at any point."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from redis.crc import key_slot

from store import keys
from store.bundle import GOLDEN, ITEM_VECTOR, REGISTRY, Bundle
from store.connection import connect
from store.publish import GRAPHS_KEPT, LEFTOVERS_S, PublishedMeanwhile, publish, read_pointers
from store.published import BadPointer, Published, block_key, field_of, keys_of, read_digests, read_file
from store.table_values import BadBlock, decode_block
from tests.service.tiny import VECTORS

ROOT = Path(__file__).parents[2]
ROWS = 1000  # of a table of four blocks


@pytest.fixture
def bundle(tiny):
    return long_bundle(tiny, 1)


@pytest.fixture
def tiny(tmp_path, data_name):
    from tests.service.tiny import Tiny

    return Tiny.at(tmp_path / "bundles", data_name)


def long_bundle(tiny, seed, version="20260131T120000Z"):
    """A tiny bundle whose table has four blocks: publishing looks at names, forms and values only."""
    folder = tiny.bundles / "din" / version
    bundle = Bundle(folder if folder.exists() else tiny.add("din", version))
    bundle.tables[ITEM_VECTOR] = np.random.default_rng(seed).normal(size=(ROWS, 16)).astype(np.float32)
    return bundle


def pointer(redis, bundle):
    content = redis.hget(keys.tables(bundle.manifest.data), field_of(bundle.manifest))
    return None if content is None else Published.read(content)


def read_back(redis, data, model, table):
    """A published table, block by block, by way of its digests."""
    form, digests = table.form, read_digests(redis, data, model, table).tolist()
    blocks = [
        decode_block(form, i, digest, redis.get(block_key(data, model, form, i, digest))) for i, digest in enumerate(digests)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, *form.row), form.dtype)


def whole(redis, bundle, published, expected):
    """Whether a version can be read back, for ever."""
    data = bundle.manifest.data
    found = read_back(redis, data, "din", published.tables[ITEM_VECTOR])
    ends = [redis.ttl(key) for key in keys_of(redis, data, "din", published)]
    return (found == expected).all() and set(ends) == {-1}


@settings(max_examples=25)
@given(
    st.one_of(
        arrays("<f4", st.tuples(st.integers(1, 500), st.integers(1, 70)), elements=st.floats(-10, 10, width=32)),
        arrays("<u8", st.integers(1, 5000), elements=st.integers(0, 2**64 - 1)),
        arrays("<i4", st.tuples(st.integers(1, 200), st.integers(1, 3), st.integers(1, 9)), elements=st.integers(-9, 9)),
    )
)
def test_a_published_table_is_read_back_as_it_was(store_url, shared_long, table):
    redis = connect(store_url)
    shared_long.tables[ITEM_VECTOR] = table
    published = publish(shared_long, redis).published
    found = read_back(redis, shared_long.manifest.data, "din", published.tables[ITEM_VECTOR])
    assert found.dtype == table.dtype
    assert (found == table).all()
    assert pointer(redis, shared_long) == published
    redis.close()


@pytest.fixture(scope="module")
def shared_long(tmp_path_factory):
    from tests.service.tiny import Tiny

    return long_bundle(Tiny.at(tmp_path_factory.mktemp("bundles"), "t-published"), 1)


def test_registry_and_golden_request_are_published_with_it(redis, bundle):
    published, data = publish(bundle, redis).published, bundle.manifest.data
    for name, file in ((REGISTRY, published.registry), (GOLDEN, published.golden)):
        assert read_file(redis, data, "din", name, file) == (bundle.folder / name).read_bytes()


def test_publishing_again_sends_nothing_and_makes_it_young_again(redis, bundle, monkeypatch):
    monkeypatch.setattr("store.publish.time.time", lambda: 1000)
    first = publish(bundle, redis)
    monkeypatch.setattr("store.publish.time.time", lambda: 2000)
    again = publish(bundle, redis)
    assert (first.there, again.values, again.there) == (0, 0, first.values)
    assert (first.published.published_at, again.published.published_at) == (1000, 2000)
    assert again.published.version == first.published.version
    assert whole(redis, bundle, again.published, bundle.tables[ITEM_VECTOR])


def test_a_refresh_sends_the_blocks_that_differ(redis, bundle):
    publish(bundle, redis)
    bundle.tables[ITEM_VECTOR] = np.concatenate([bundle.tables[ITEM_VECTOR], np.ones((1, 16), np.float32)])
    sent = publish(bundle, redis)
    assert sent.values == 2  # the last block and the list of digests
    assert whole(redis, bundle, sent.published, bundle.tables[ITEM_VECTOR])


def test_what_is_missing_of_the_current_version_is_put_back(redis, bundle):
    published = publish(bundle, redis).published
    gone = sorted(keys_of(redis, bundle.manifest.data, "din", published))[0]
    redis.delete(gone)
    assert publish(bundle, redis).values == 1
    assert redis.ttl(gone) == -1


def test_what_is_replaced_stays_for_the_grace_time_and_what_is_shared_for_ever(redis, bundle):
    first = publish(bundle, redis).published
    old = keys_of(redis, bundle.manifest.data, "din", first)
    bundle.tables[ITEM_VECTOR] = bundle.tables[ITEM_VECTOR].copy()
    bundle.tables[ITEM_VECTOR][0] += 1
    second = publish(bundle, redis, grace_s=77).published
    new = keys_of(redis, bundle.manifest.data, "din", second)
    assert {redis.ttl(key) for key in new} == {-1}
    assert len(old - new) == 2
    assert all(0 < redis.ttl(key) <= 77 for key in old - new)


def test_going_back_to_a_replaced_version_keeps_its_values(redis, tiny, bundle):
    first = publish(bundle, redis).published
    publish(long_bundle(tiny, 2), redis)
    assert publish(bundle, redis).values == 0
    assert whole(redis, bundle, first, bundle.tables[ITEM_VECTOR])


def test_another_graph_has_a_pointer_of_its_own_and_the_oldest_goes(redis, tiny):
    """Scorers with the old graph keep their tables while a new bundle is rolled out."""
    bundles = []
    for number in range(GRAPHS_KEPT + 1):
        bundle = long_bundle(tiny, number)
        bundle.manifest = bundle.manifest.model_copy(update={"files": bundle.manifest.files | {"score.onnx": f"{number:064x}"}})
        bundles.append(bundle)
    versions = [publish(bundle, redis).published for bundle in bundles[:2]]
    assert all(whole(redis, b, v, b.tables[ITEM_VECTOR]) for b, v in zip(bundles[:2], versions, strict=True))
    content = redis.hget(keys.tables(tiny.data), field_of(bundles[0].manifest))
    older = Published.read(content).model_copy(update={"published_at": 1})
    redis.hset(keys.tables(tiny.data), field_of(bundles[0].manifest), older.model_dump_json())
    publish(bundles[2], redis)
    assert sorted(read_pointers(redis, tiny.data, "din")) == sorted(field_of(b.manifest) for b in bundles[1:])
    assert redis.ttl(block_key(tiny.data, "din", older.tables[ITEM_VECTOR].form, 0, first_digest(redis, tiny.data, older))) > 0
    assert whole(redis, bundles[1], versions[1], bundles[1].tables[ITEM_VECTOR])


def first_digest(redis, data, published):
    return int(read_digests(redis, data, "din", published.tables[ITEM_VECTOR])[0])


def test_of_two_at_the_same_time_one_is_told_so(redis, tiny, bundle):
    """The other one ended in between: its version stands, whole."""
    other, done = long_bundle(tiny, 2), []

    def in_between(*_):
        if not done:
            done.append(publish(other, redis).published)

    with pytest.raises(PublishedMeanwhile, match="run it again"):
        publish(bundle, redis, progress=in_between)
    assert pointer(redis, bundle) == done[0]
    assert whole(redis, other, done[0], other.tables[ITEM_VECTOR])


KILLED = """
import os, signal, sys
from redis.connection import AbstractConnection
from store.bundle import ITEM_VECTOR, Bundle
from store.connection import connect
from store.publish import publish
import numpy as np

url, folder, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
bundle = Bundle(__import__("pathlib").Path(folder))
bundle.tables[ITEM_VECTOR] = np.load(sys.argv[4])
send = AbstractConnection.send_packed_command

def counted(self, command, check_health=True):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return send(self, command, check_health)

redis = connect(url)
redis.ping()
AbstractConnection.send_packed_command = counted
publish(bundle, redis)
print(sys.argv[3], "was enough")
"""


def test_a_kill_at_any_point_leaves_one_version_whole_and_nothing_for_ever(store_url, redis, tiny, tmp_path):
    """kill -9 before the n-th message to the store, for n over the whole publish."""
    old, new = long_bundle(tiny, 1), np.random.default_rng(2).normal(size=(ROWS, 16)).astype(np.float32)
    np.save(tmp_path / "new.npy", new)
    first = publish(old, redis).published
    before = keys_of(redis, tiny.data, "din", first)
    points, ended = 0, False
    while not ended:
        arguments = [store_url, str(old.folder), str(points * 2), str(tmp_path / "new.npy")]
        child = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        ended, points = "was enough" in child.stdout, points + 1
        assert ended or child.returncode == -9, child.stderr
        current = pointer(redis, old)
        if current.version == first.version:
            assert whole(redis, old, current, old.tables[ITEM_VECTOR])
            named = redis.hget(keys.unfinished_tables(tiny.data), field_of(old.manifest))
            left = {key.decode() for key in redis.scan_iter(match=f"{tiny.data}:table:*", count=1000)} - before
            for_ever = {key for key in left if redis.ttl(key) == -1}
            assert all(redis.ttl(key) <= LEFTOVERS_S for key in left)
            assert for_ever <= (keys_of(redis, tiny.data, "din", Published.read(named)) if named else set())
        else:
            assert whole(redis, old, current, new)
            publish(old, redis)  # and back
    assert points >= 5
    second = publish(replace_table(old, new), redis).published
    assert not redis.exists(keys.unfinished_tables(tiny.data))
    kept = keys_of(redis, tiny.data, "din", second)
    others = {key.decode() for key in redis.scan_iter(match=f"{tiny.data}:table:*", count=1000)} - kept
    assert others
    assert all(redis.ttl(key) > 0 for key in others)


def replace_table(bundle, table):
    bundle.tables[ITEM_VECTOR] = table
    return bundle


def test_the_pointers_of_a_data_set_are_on_one_node_and_its_blocks_on_many(bundle, redis):
    assert key_slot(keys.tables("d").encode()) == key_slot(keys.unfinished_tables("d").encode())
    published = publish(bundle, redis).published
    assert len({key_slot(key.encode()) for key in keys_of(redis, bundle.manifest.data, "din", published)}) > 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b"\xff"])
def test_a_foreign_pointer_is_refused(content):
    with pytest.raises(BadPointer):
        Published.read(content)


def test_a_missing_file_of_a_version_is_noticed(redis, bundle):
    published, data = publish(bundle, redis).published, bundle.manifest.data
    with pytest.raises(BadBlock, match="missing"):
        read_file(redis, data, "din", REGISTRY, published.golden)


def test_a_tables_form_is_that_of_its_bundle(redis, tiny):
    bundle = Bundle(tiny.add("din"))
    form = publish(bundle, redis).published.tables[ITEM_VECTOR].form
    assert (form.dtype, form.row, form.rows) == ("<f4", (VECTORS.shape[1],), len(VECTORS))
