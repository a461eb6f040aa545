"""Step 2, behaviours: what the search needs of the user's tree, or nothing and the reason why."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from redis import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as StoreUnreachable
from redis.exceptions import TimeoutError as StoreTooSlow

from service.metrics import Metrics
from service.request import Call
from store import keys
from store.behaviour_tree import BehaviourTree
from store.breaker import Breaker
from store.bundle import Bundle
from store.cluster import OfOneNode
from store.connection import text
from store.leaf_order import compile_kernels
from store.registry import StoredRegistry, stored_versions
from store.snapshot import Snapshot
from store.states import How, StateRead, UserStates
from store.types import FIRST_KNOWN, Behaviours, Rows

log = logging.getLogger("longtrail")

NO_CATEGORIES = np.zeros(0, np.int32)
LATE = 5  # times the limit of one reply: a store that sends a little now and then keeps below that limit for ever
CHECK_EVERY_S = 1.0  # whether the store still holds the registry that the bundles were made for


@dataclass(frozen=True, slots=True)
class Fetched:
    """Behaviours of the user, and what is missing from them."""

    behaviours: Behaviours
    snapshot: Snapshot | None = None  # stands for the oldest of them
    bad_records: int = 0
    older: int = 0  # behaviours that the search would have looked at and could not have kept: left out
    degraded: tuple[str, ...] = ()
    store_failed: bool = False
    late: bool = False  # the store took too long for all of it, which is not the caller's fault
    item_ids: dict[int, str] = field(default_factory=dict)  # of rows beyond the bundle's registry, for explanations


@dataclass(frozen=True, slots=True)
class Checked:
    """What the store held when a bundle was last compared with it; "" = nothing."""

    at: float  # monotonic seconds
    registry_id: str
    schema_version: str
    last_item: str  # id in the bundle's last row


class StoreMismatch(RedisError):
    """The store's rows or records mean something else than the bundle's."""


class StoreReader:
    """The store as the scorer sees it: reads bounded in time, never an exception."""

    def __init__(self, redis: Redis, metrics: Metrics, limit_s: float = float("inf")) -> None:
        self._redis, self._metrics, self._late_s = redis, metrics, LATE * limit_s
        self._checked: dict[str, Checked] = {}  # by the name of a bundle
        self._lock = threading.Lock()
        self._breaker = Breaker()
        metrics.follow(metrics.breaker, lambda: self._breaker.open)
        self._mismatched: set[str] = set()  # names of bundles whose mismatch has been said
        compile_kernels()

    def fetch(self, call: Call, bundle: Bundle) -> Fetched:
        """Read the user's behaviours; on any fault of the store none, with the reason."""
        schema = bundle.manifest.schema_
        cross_features = len(schema.cross_features)
        tree = BehaviourTree(self._redis, schema.data, cross_features, [feature.buckets for feature in schema.cross_features])
        search = bundle.search
        recent = max(bundle.manifest.recent, search.newest)
        if not self._breaker.allows():
            return Fetched(Behaviours.empty(cross_features), degraded=("store_down",), store_failed=True)
        started = time.monotonic()
        try:
            with reported(self._breaker, self._late_s):
                self._check(bundle)
                if bundle.snapshots is None:
                    wanted = _known_categories(call) if search.reads == "categories" else NO_CATEGORIES
                    read = tree.read(call.user_id, search.reads, wanted, recent, bundle.registry, call.before, search.k)
                    fetched = Fetched(read.behaviours, bad_records=read.bad_records, older=read.older)
                else:
                    states = UserStates(self._redis, schema.data, tree, bundle.snapshots, bundle.registry)
                    fetched = self._counted(states.read(call.user_id, recent, call.before))
                if call.explain or call.looked_at:
                    fetched = replace(fetched, item_ids=self._ids_beyond(fetched, bundle))
        except RedisError as error:
            self._metrics.store_errors.labels(reason(error)).inc()
            return Fetched(Behaviours.empty(cross_features), degraded=(reason(error),), store_failed=True)
        finally:
            self._metrics.later(self._metrics.store_roundtrip.observe, time.monotonic() - started)
        late = time.monotonic() - started > self._late_s
        if not late and not fetched.bad_records:  # nearly always
            return fetched
        return replace(fetched, late=late, degraded=("bad_record",) if fetched.bad_records else ())

    def _counted(self, read: StateRead) -> Fetched:
        self._metrics.later(self._count_state, read.how, read.tail)
        return Fetched(read.behaviours, read.snapshot, bad_records=read.bad_records + read.bad_snapshot)

    def _count_state(self, how: How, tail: int) -> None:
        self._metrics.states.labels(how).inc()
        self._metrics.tail.observe(tail)

    def _check(self, bundle: Bundle) -> None:
        """Compare what rows and records mean: the line of rows, the schema, and which item has the bundle's last row."""
        manifest = bundle.manifest
        checked = self._checked.get(bundle.name)
        if checked is None or time.monotonic() - checked.at > CHECK_EVERY_S:
            with self._lock:
                if self._checked.get(bundle.name) is checked:  # no other thread was faster
                    self._checked[bundle.name] = self._ask(bundle, checked)
        checked = self._checked[bundle.name]
        own = (manifest.registry_id, manifest.schema_.version, bundle.registry.ids[-1] if bundle.registry.ids else "")
        has = (checked.registry_id, checked.schema_version, checked.last_item or own[2])  # a store may not know the row yet
        if checked.registry_id and has != own:
            log.log(
                logging.DEBUG if bundle.name in self._mismatched else logging.ERROR,  # said once, not with every request
                "%s: made for registry %s, schema %s and row %d of item %s, the store holds %s, %s and %s: its behaviours are "
                "not used", bundle.name, own[0], own[1], manifest.item_rows - 1, own[2], *has,
            )  # fmt: skip
            self._mismatched.add(bundle.name)
            raise StoreMismatch("registry or schema differs")
        self._mismatched.discard(bundle.name)

    def _ask(self, bundle: Bundle, before: Checked | None) -> Checked:
        """What the store holds now; what it held before, where the one node that knows does not answer."""
        last_row = bundle.manifest.item_rows - 1
        try:
            registry_id, version = stored_versions(self._redis, bundle.manifest.data)
            last = self._redis.hget(keys.item_ids(bundle.manifest.data), str(last_row))
        except OfOneNode:
            if before is None:
                raise
            return replace(before, at=time.monotonic())
        return Checked(time.monotonic(), registry_id, version, text(last or b""))

    def _ids_beyond(self, fetched: Fetched, bundle: Bundle) -> dict[int, str]:
        clusters = fetched.snapshot.clusters if fetched.snapshot else None
        row = np.concatenate([fetched.behaviours.row, clusters.row]) if clusters else fetched.behaviours.row
        beyond = np.unique(row[row >= bundle.manifest.item_rows])
        return StoredRegistry(self._redis, bundle.manifest.data).ids_of(beyond.tolist())


def _known_categories(call: Call) -> Rows:
    """Category rows of the candidates, each once."""
    categories = np.unique(call.candidates.category)
    return categories[categories >= FIRST_KNOWN]


@contextmanager
def reported(breaker: Breaker, late_s: float = float("inf")) -> Iterator[None]:
    """Tells the breaker that let the caller in how its reads of the store end; faults go on to the caller. Reads that took longer
    than `late_s` together have failed."""
    started = time.monotonic()
    try:
        yield
    except RedisError as error:
        if isinstance(error, OfOneNode) or not isinstance(error, StoreUnreachable | StoreTooSlow):
            breaker.succeeded()  # a node has a breaker of its own; an error on a connection that stays is an answer
        else:
            breaker.failed(unreachable="connecting" in str(error))  # the client's word for it
        raise
    except BaseException:
        breaker.succeeded()  # a fault of ours says nothing of the store
        raise
    if time.monotonic() - started > late_s:
        breaker.failed(unreachable=False)
    else:
        breaker.succeeded()


def reason(error: RedisError) -> str:
    """The word for a fault of the store, as `degraded` has it."""
    if isinstance(error, StoreTooSlow):
        return "store_timeout"
    answered = isinstance(error, AuthenticationError | BusyLoadingError) or "max number of clients" in str(error)
    return "store_down" if isinstance(error, StoreUnreachable) and not answered else "store_error"
