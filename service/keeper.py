"""Keeps users' states close behind their trees: python -m service keep.

Whoever appends events names the users who are due (`store/append.py`); a keeper takes the names, folds what
came after a user's snapshot into it, or makes it again from the tree where it no longer agrees, and puts it
back if the tree did not change meanwhile. Keepers share the names among them; one that is killed leaves its
names to the others. Scores never depend on a keeper: without one the tails grow, and requests fold them.

A new version of a model has snapshots of its own, beside the old ones. `--all` makes them for every user
before a scorer switches to it; `--drop` removes those of parameters that no bundle here has.
"""

import hashlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from redis import Redis
from redis.exceptions import ConnectionError as StoreGone
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as StoreLate

from service.bundles import Bundles
from service.loading import LoadedBundle, Loading
from service.metrics import Metrics
from service.settings import Settings
from service.table_refresh import open_refresher
from service.tables import RequestTables
from store import keys
from store.behaviour_tree import BehaviourTree
from store.clusters import refresh_before
from store.connection import connect, text
from store.snapshot import Snapshot
from store.states import StateRead, UserStates
from store.states_due import EVERY
from store.types import Behaviours, Candidates

log = logging.getLogger("longtrail")

TAIL = EVERY  # behaviours after a snapshot that are left to the request; half of what a tail may be
SHORT = 64  # a life that is shorter needs no snapshot
TRIES = 3  # to put a snapshot beside a tree that is being appended to
NAMES_AT_ONCE = 100
LEFT_AFTER_MS = 60_000  # names that a keeper took and did not finish go to another

WAIT_MS, RETRY_S, SAY_EVERY_S = 1000, 0.5, 60.0

Did = Literal["left", "folded", "made", "changing", "unreadable"]


@dataclass(frozen=True, slots=True)
class _Made:
    """A snapshot to put, and what the arrivals clock showed when its tree was read; None = there is none to put."""

    snapshot: Snapshot | None
    did: Did
    read_at: int


class ModelStates:
    """The states of one model's users, by the bundle and the item tables that are served."""

    def __init__(self, bundles: Bundles, model: str, redis: Redis) -> None:
        self.model, self._bundles = model, bundles
        bundle = bundles.get(model).bundle
        schema = bundle.manifest.schema_
        if bundle.snapshots is None:
            raise ValueError(f"{bundle.name} keeps nothing of its users")
        self.snapshot_id = bundle.snapshots.snapshot_id
        self._tree = BehaviourTree(
            redis, schema.data, len(schema.cross_features), [feature.buckets for feature in schema.cross_features]
        )
        self._states = UserStates(redis, schema.data, self._tree, bundle.snapshots, bundle.registry)

    def keep(self, user_id: str, now: int) -> Did:
        """Bring one user's snapshot up to the tree.

        Returns:
            `left`: it is near enough, or the life is too short to need one; `folded`: the tail was added; `made`: from
            the whole tree; `changing`: the tree changed as often as it was read, somebody will be due again;
            `unreadable`: a value of the tree cannot be read, and no state is to hide that.

        Cost: one round trip where nothing is to do, two or three else, and the folding.

        Raises:
            redis.exceptions.RedisError: the store failed.
        """
        for _ in range(TRIES):
            read = self._states.read(user_id, recent=0)
            if read.tail < (SHORT if read.how == "short" else TAIL) and read.how in ("tail", "short"):
                return "left"
            if read.bad_records:
                return "unreadable"
            loaded = self._bundles.get(self.model)
            has_state = loaded.bundle.manifest.state
            made = self._of_state(loaded, read, now) if has_state else self._of_clusters(loaded, user_id, read, now)
            if made is None:
                return "left"
            if made.snapshot is None or self._states.put(user_id, made.snapshot, made.read_at):
                return made.did
        return "changing"

    def _of_state(self, loaded: LoadedBundle, read: StateRead, now: int) -> _Made | None:
        """The tail folded into the state there is, or all into the empty one; what is of the future stays in the tail."""
        life, arrived = _until(now, read.behaviours, read.arrived)
        before = read.snapshot or Snapshot.of(life.select(slice(0)))
        if len(life) <= before.covers:
            return None
        tail = life.select(slice(before.covers, None))
        within, tables = _within_tables(loaded, tail)
        state = loaded.graph.fold(before.state or None, within.row, tables=tables.tables)
        grown = before.grown(life, arrived, _known_rows(loaded, tail), state=state)
        return _Made(grown, "folded" if read.snapshot else "made", read.arrived)

    def _of_clusters(self, loaded: LoadedBundle, user_id: str, read: StateRead, now: int) -> _Made | None:
        """The tail one by one beside the clusters there are; all anew where a refresh has fallen since."""
        refresh, snapshot = refresh_before(now), read.snapshot
        life, arrived = _until(now, read.behaviours, read.arrived)
        if snapshot is not None and snapshot.refreshed == refresh and (life.ts[snapshot.covers :] >= refresh).all():
            if len(life) <= snapshot.covers:
                return None
            grown = snapshot.grown(life, arrived, clusters=snapshot.and_newer(life))
            return _Made(grown, "folded", read.arrived)
        read_at = read.arrived
        if read.how == "tail":
            whole = self._tree.read_life(user_id)
            if whole.bad_records:
                return _Made(None, "unreadable", 0)
            life, arrived = _until(now, whole.behaviours, whole.arrived)
            read_at = whole.arrived
        within, tables = _within_tables(loaded, life)
        snapshot = tables.clustered(within, now, loaded.bundle)
        if not snapshot.folded:
            return None  # too short a life to have clusters
        snapshot = tables.as_stored(snapshot)
        known_rows = _known_rows(loaded, life.select(slice(0, snapshot.folded)))
        grown = snapshot.grown(life, arrived, known_rows, clusters=snapshot.and_newer(life))
        return _Made(grown, "made", read_at)


def _until(now: int, life: Behaviours, arrived: int) -> tuple[Behaviours, int]:
    """The behaviours that are not of the future, and the clock as it would stand without those that are."""
    count = int(np.searchsorted(life.ts, now, side="right"))
    return life.select(slice(0, count)), arrived - (len(life) - count)


def _known_rows(loaded: LoadedBundle, behaviours: Behaviours) -> int:
    """As a snapshot of these behaviours has it."""
    rows = loaded.bundle.registry.item_rows
    return rows if int(behaviours.row.max(initial=0)) >= rows else 0


def _within_tables(loaded: LoadedBundle, behaviours: Behaviours) -> tuple[Behaviours, RequestTables]:
    """Behaviours with rows of the item tables in use, and those tables.

    Raises:
        redis.exceptions.RedisError: published tables that cannot be read whole: no state is made of a part.
    """
    none = Candidates(np.zeros(0, np.int32), np.zeros(0, np.int32))
    tables = loaded.tables.of_request(loaded.bundle, none, behaviours, None, store_failed=False)
    if tables.degraded:
        raise RedisError(f"item tables of {loaded.bundle.name}: {', '.join(tables.degraded)}")
    known = replace(behaviours, row=loaded.bundle.registry.known(behaviours.row))
    return tables.renumbered(none, known, None)[1], tables


class Keeper:
    """Keeps the states of every model that has such."""

    def __init__(self, models: list[ModelStates], redis: Redis, data: str) -> None:
        self.models, self._redis, self._data = models, redis, data
        self._ids = {model.snapshot_id for model in models}
        # keepers of the same states share the names, those of another version get all of them too
        self._group = "keepers:" + hashlib.sha256(" ".join(sorted(self._ids)).encode()).hexdigest()[:16]
        self.did: Counter[str] = Counter()

    def keep(self, user_id: str) -> None:
        """Bring one user's snapshots up to the tree, of all models."""
        now = int(time.time())
        for model in self.models:
            self.did[f"{model.model} {model.keep(user_id, now)}"] += 1

    def take_names(self, name: str, wait_ms: int) -> int:
        """Do the users who are due, as keeper `name`; how many. Waits for the first one up to `wait_ms`.

        Raises:
            redis.exceptions.RedisError: the store failed; what was not finished comes again.
        """
        stream = keys.states_due(self._data)
        try:
            self._redis.xgroup_create(stream, self._group, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        left: Any = self._redis.xautoclaim(stream, self._group, name, LEFT_AFTER_MS, count=NAMES_AT_ONCE)[1]
        if not left:
            taken: Any = self._redis.xreadgroup(self._group, name, {stream: ">"}, NAMES_AT_ONCE, block=wait_ms)
            left = [entry for _, entries in taken or () for entry in entries]
        for user_id in dict.fromkeys(text(fields[b"user_id"]) for _, fields in left if fields and b"user_id" in fields):
            try:
                self.keep(user_id)
            except (StoreGone, StoreLate):
                raise  # nobody's fault: these names come again
            except Exception:
                log.exception("user %s: states not kept", user_id)
                self.did["failed"] += 1
        if left:
            self._redis.xack(stream, self._group, *[entry for entry, _ in left])
        return len(left)

    def run(self) -> None:
        """Do whoever is due until the process is stopped. A store that fails is waited for."""
        name, said = socket.gethostname(), time.monotonic()  # one for all of a host: one that is never used again would stay
        log.info("keeping states of %s", ", ".join(model.model for model in self.models))
        while True:
            try:
                self.take_names(name, WAIT_MS)
            except RedisError as error:
                log.error("states: %s; trying again", error)
                time.sleep(RETRY_S)
            if self.did and time.monotonic() - said > SAY_EVERY_S:
                log.info("states: %s", self.summary)
                said = time.monotonic()
                self.did.clear()

    @property
    def summary(self) -> str:
        """How many states of each model were left, folded, made or dropped."""
        return ", ".join(f"{what}: {count:,}" for what, count in sorted(self.did.items())) or "nothing to do"

    def users(self) -> Iterator[str]:
        """Ids of all users with a tree, in no order."""
        return BehaviourTree(self._redis, self._data, 0).users()

    def drop_others(self, user_id: str) -> None:
        """Remove a user's snapshots of parameters that no bundle here has."""
        key = keys.states(self._data, user_id)
        if others := [field for field in self._redis.hkeys(key) if text(field) not in self._ids]:
            self.did["dropped"] += self._redis.hdel(key, *others)


def open_keeper(settings: Settings, redis_url: str) -> Keeper:
    """A keeper of the models that the settings' bundles have.

    Raises:
        ValueError: no bundle there keeps anything of its users.
    """
    metrics = Metrics()
    bundles = Bundles(settings.bundles, settings.data, settings.model, Loading("cpu", settings.intra_op_threads), metrics)
    redis = connect(redis_url, settings.events_timeout_ms / 1000 + WAIT_MS / 1000)
    keeping = [entry.bundle.manifest.model for entry in bundles.all if entry.bundle.snapshots is not None]
    if not keeping:
        raise ValueError(f"{settings.bundles}: no bundle there keeps a state of its users (sdim, mimn, twin_v2 do)")
    refresher = open_refresher(settings, bundles, redis, redis_url, metrics)
    if refresher is not None:
        refresher.start(settings.table_poll_s)
    return Keeper([ModelStates(bundles, model, redis) for model in keeping], redis, bundles.data)
