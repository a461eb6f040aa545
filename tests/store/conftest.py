"""Fixtures of the store's own tests: a prepared data set on disk."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import keys
from store.append import Appender
from store.behaviour_tree import BehaviourTree
from store.load import BEHAVIOURS_FILE, REGISTRY_FILE, SCHEMA_FILE, Prepared
from store.registry import Registry
from store.schema import ContextFeature, CrossFeature, Schema
from tests.store.long_categories import NO_CAPS, arrived
from tests.store.servers import KINDS, NO_REDIS, Server

ITEMS = [("i2", "tea"), ("i3", "milk"), ("i4", "tea"), ("i5", "bread")]  # rows 2..5, categories 2 3 2 4

ON_EVERY_SERVER = (  # test modules that run on all kinds
    "append", "behaviour_tree", "parts", "parts_appended", "registry", "load", "events_into_trees",
)  # fmt: skip


def pytest_generate_tests(metafunc):
    """Valkey 9 and, where it is installed, Redis 7.0."""
    if "store_url" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".test_")[2] in ON_EVERY_SERVER:
        metafunc.parametrize("server_kind", KINDS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_kind(request):
    """The kind that the test asks for. Were it asked of `store_url`, the session's own server would end with each change of
    kind, and all that is loaded into it be built anew."""
    return getattr(request, "param", "valkey")


@pytest.fixture(scope="session")
def store_url(server_kind, store_url, tmp_path_factory):
    """The session's own server, or one of another kind."""
    if KINDS[server_kind] is None:
        pytest.skip(NO_REDIS)
    if server_kind == "valkey":
        yield store_url
        return
    server = Server(KINDS[server_kind], tmp_path_factory.mktemp(server_kind))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
def prepare(tmp_path, data_name):
    """Make a prepared folder: `prepare(events, row_group)`; an event is (user, row, ts, price bucket)."""

    def make(events, row_group=3, price_edges=(1.0, 2.0), items=ITEMS, name=data_name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        schema = Schema(
            data=name,
            cross_features=[CrossFeature(name="price", edges=list(price_edges))],
            context=[ContextFeature(name="hour", values=[str(hour) for hour in range(24)])],
        )
        (folder / SCHEMA_FILE).write_text(schema.model_dump_json())
        Registry.build(name, [item for item, _ in items], [category for _, category in items]).save(folder / REGISTRY_FILE)
        columns = {
            "user_id": pa.array([event[0] for event in events], pa.string()),
            "row": pa.array([event[1] for event in events], pa.int32()),
            "ts": pa.array([event[2] for event in events], pa.int64()),
            "price": pa.array(np.array([event[3] for event in events], np.uint8)),
        }
        pq.write_table(pa.table(columns), folder / BEHAVIOURS_FILE, row_group_size=row_group)
        return Prepared.open(folder)

    return make


@pytest.fixture
def tree(redis, data_name):
    """Trees of behaviours with one cross feature."""
    return BehaviourTree(redis, data_name, 1)


@pytest.fixture
def key(data_name):
    """Of the tree of user u."""
    return keys.tree(data_name, "u")


@pytest.fixture
def append(redis, data_name):
    """Puts events of user u in; for each, whether it is new."""
    return lambda events, caps=NO_CAPS: Appender(redis, data_name, 1, caps).append(arrived(*events))
