"""Keepers: after any stream of events a user's state is that of a rebuild, and a request needs no more than a tail."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import service.keeper
import service.search
import store.clusters
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.keeper import Keeper, ModelStates
from service.loading import Loading
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from store import keys
from store.append import Appender, Arrived, Caps
from store.behaviour_tree import BehaviourTree
from store.clusters import REFRESH_S
from store.connection import connect
from store.snapshot import read_header
from tests.service.serving import until
from tests.service.test_snapshots import KEEPING
from tests.world import ROOT

USER = "kept {1}"
FIRST_TS = 100 * REFRESH_S - 50  # events fall before and after a refresh
CLUSTERED = "twin_v2"


class Kept:
    """One user of one model: events in, the state out."""

    def __init__(self, world, name):
        self.redis = connect(world.store_url, timeout_s=5)
        bundles, self.metrics = Bundles(world.bundles, "", name, Loading("cpu", 1), Metrics()), Metrics()
        self.registry, self.data = world.dataset.registry, bundles.data
        self.features = len(world.dataset.schema.cross_features)
        self.scorer = Scorer(bundles, StoreReader(self.redis, self.metrics))
        self.states = ModelStates(bundles, name, self.redis)
        self.tree = BehaviourTree(self.redis, self.data, self.features)
        self.field = self.states.snapshot_id
        self.name = name

    def append(self, *events, caps=None):
        """Events as (item number, ts)."""
        rows = [2 + item for item, _ in events]
        arrived = [
            Arrived(USER, row, int(self.registry.category[row]), ts, bytes(self.features))
            for row, (_, ts) in zip(rows, events, strict=True)
        ]
        return Appender(self.redis, self.data, self.features, caps or Caps()).append(arrived)

    def keep(self, now=FIRST_TS + 1000):
        return self.states.keep(USER, now)

    def stored(self):
        return self.redis.hget(keys.states(self.data, USER), self.field)

    def forget(self):
        self.redis.delete(keys.states(self.data, USER))

    def score(self, **body):
        ask = {"user_id": USER, "item_ids": self.registry.ids[100:120], "model": self.name, **body}
        return score(ScoreRequest.model_validate(ask), self.scorer, StageTimer())

    def hows(self):
        self.metrics.count()
        counted = self.metrics.states.collect()[0].samples
        return {sample.labels["how"]: sample.value for sample in counted if sample.name.endswith("_total")}

    def delete(self):
        self.tree.delete(USER)


@pytest.fixture(params=KEEPING)
def kept(request, world, monkeypatch):
    """A model that keeps something of its users, with limits so near that short streams reach them."""
    monkeypatch.setattr(service.keeper, "TAIL", 1)
    monkeypatch.setattr(service.keeper, "SHORT", 1)
    kept = Kept(world, request.param)
    monkeypatch.setattr(store.clusters, "APART", 4)  # after the bundle's golden request
    monkeypatch.setattr(service.search, "APART", 4)
    kept.delete()
    yield kept
    kept.delete()
    kept.redis.delete(keys.states_due(kept.data))


def same_state(blob, other):
    """Equal but for the last digits of sums."""
    assert read_header(blob) == read_header(other)
    body, rebuilt = (np.frombuffer(packed[52 : len(packed) // 4 * 4], np.float32) for packed in (blob, other))
    np.testing.assert_allclose(body, rebuilt, rtol=1e-5, atol=1e-6)


_event = st.tuples(st.integers(0, 60), st.integers(FIRST_TS, FIRST_TS + 99))
_calls = st.lists(st.tuples(st.lists(_event, min_size=1, max_size=12), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=_calls)
def test_after_any_stream_the_state_is_that_of_a_rebuild(kept, calls):
    """Late, double, interleaved with keepers, before and after a refresh."""
    kept.delete()
    for events, keeping in calls:
        kept.append(*events)
        if keeping:
            kept.keep(now=max(ts for _, ts in events) + 1)
    now = FIRST_TS + 100
    kept.keep(now)
    followed, with_it = kept.stored(), kept.score(at=now)
    kept.forget()
    kept.keep(now)
    rebuilt = kept.stored()
    if rebuilt is None:  # too few to have clusters
        assert followed is None
    elif kept.name == CLUSTERED:
        assert followed == rebuilt
    else:
        same_state(followed, rebuilt)
    assert with_it.behaviours == len(kept.tree.read_life(USER).behaviours)
    kept.forget()
    assert np.abs(kept.score(at=now).scores - with_it.scores).max() <= 1e-5  # folded, or clustered, for the request


def in_order(count, first=0):
    return [(i % 50, FIRST_TS + first + i) for i in range(count)]


def test_a_request_reads_the_tail_and_not_the_life(kept):
    kept.append(*in_order(150))
    assert kept.keep() == "made"
    kept.append(*in_order(5, first=150))
    answer = kept.score()
    assert (kept.hows(), answer.behaviours, answer.degraded) == ({"tail": 1.0}, 155, [])
    kept.append((3, FIRST_TS))  # late
    assert kept.score().behaviours == 156
    assert kept.hows()["late"] == 1
    assert kept.keep() == "made"
    kept.score()
    assert kept.hows() == {"tail": 2.0, "late": 1.0}


def test_a_tail_longer_than_the_newest_list_is_folded_all_the_same(kept):
    kept.append(*in_order(150))
    kept.keep()
    kept.append(*in_order(130, first=150))
    with_it = kept.score(at=FIRST_TS + 400)
    assert (kept.hows(), with_it.behaviours) == ({"long": 1.0}, 280)
    kept.keep(now=FIRST_TS + 400)
    assert np.abs(kept.score(at=FIRST_TS + 400).scores - with_it.scores).max() <= 1e-5
    assert kept.hows()["tail"] == 1


def test_scores_of_the_tail_are_those_of_the_whole_life(kept):
    kept.append(*in_order(150))
    kept.keep()
    kept.append(*in_order(7, first=150))
    with_tail = kept.score(at=FIRST_TS + 200)
    kept.keep()
    folded = kept.score(at=FIRST_TS + 200)
    assert np.abs(with_tail.scores - folded.scores).max() <= 1e-5


def test_nothing_is_put_beside_a_tree_that_changed_meanwhile(kept, monkeypatch):
    kept.append(*in_order(20))
    read, events = kept.states._states.read, iter(range(20, 30))
    monkeypatch.setattr(kept.states._states, "read", lambda *a, **k: (read(*a, **k), kept.append(*in_order(1, next(events))))[0])
    assert kept.keep() == "changing"
    assert kept.stored() is None


def test_a_user_who_was_removed_meanwhile_leaves_no_state(kept, monkeypatch):
    kept.append(*in_order(20))
    read = kept.states._states.read

    def and_another(*arguments, **named):
        found = read(*arguments, **named)
        kept.delete()
        kept.append(*in_order(20))  # the same events: only the tree's clock tells the two users apart
        return found

    monkeypatch.setattr(kept.states._states, "read", and_another)
    assert kept.keep() == "changing"
    assert kept.stored() is None


def test_above_the_caps_the_state_holds_what_the_tree_has_dropped(kept):
    caps = Caps(per_category=100)
    kept.append(*[(0, FIRST_TS + i) for i in range(90)], caps=caps)
    kept.keep()
    kept.append(*[(0, FIRST_TS + 90 + i) for i in range(30)], caps=caps)
    assert len(kept.tree.read_life(USER).behaviours) == 100
    assert kept.score().behaviours == 120
    assert kept.hows() == {"tail": 1.0}


def test_a_leaf_that_cannot_be_read_is_not_hidden_by_a_state(kept):
    kept.append(*in_order(300))
    key = keys.tree(kept.data, USER)
    leaf = max((field for field in kept.redis.hkeys(key) if field.isdigit()), key=lambda field: kept.redis.hstrlen(key, field))
    good = kept.redis.hget(key, leaf)
    kept.redis.hset(key, leaf, b"\xb4" + good[1:])  # of a later version
    assert kept.keep() == "unreadable"
    assert kept.score().degraded == ["bad_record"]
    kept.redis.hset(key, leaf, good)
    assert kept.keep() == "made"
    answer = kept.score()
    assert (answer.degraded, answer.behaviours) == ([], 300)


def test_items_that_were_unknown_are_folded_again_once_they_are_known(kept, monkeypatch):
    beyond = kept.registry.item_rows + 5
    kept.append(*in_order(60))
    Appender(kept.redis, kept.data, kept.features).append([Arrived(USER, beyond, 2, FIRST_TS + 20, bytes(kept.features))])
    assert kept.keep() == "made"
    kept.score()
    assert kept.hows() == {"tail": 1.0}
    stated = read_header(kept.stored()).known_rows
    grown = replace(read_header(kept.stored()), known_rows=kept.registry.item_rows - 1)  # as if made before the last item
    assert stated in (0, kept.registry.item_rows)  # twin_v2 may have it one by one
    codec = kept.states._states._codec
    whole = codec.decode(kept.stored(), kept.registry.category_of)
    kept.redis.hset(keys.states(kept.data, USER), kept.field, codec.encode(replace(whole, known_rows=grown.known_rows)))
    kept.score()
    assert kept.hows() == {"tail": 1.0, "outdated": 1.0}
    assert kept.keep() == "made"


def test_behaviours_of_the_future_stay_in_the_tail(kept):
    kept.append((3, FIRST_TS + 10**6), *in_order(150))
    assert kept.keep(now=FIRST_TS + 300) == "made"
    for i in range(5):
        kept.append((i, FIRST_TS + 200 + i))
        assert kept.score().behaviours == 152 + i
    assert kept.hows() == {"tail": 5.0}


def test_a_state_lives_as_long_as_its_user(kept):
    kept.append(*in_order(20), caps=Caps(ttl_s=1000))
    kept.keep()
    state, tree = (kept.redis.ttl(name(kept.data, USER)) for name in (keys.states, keys.tree))
    assert 0 < state <= tree <= 1000
    kept.append(*in_order(1, first=20), caps=Caps(ttl_s=5000))
    assert all(kept.redis.ttl(name(kept.data, USER)) > 4000 for name in (keys.states, keys.tree))


def test_what_takes_too_long_is_left_out_and_said(kept, monkeypatch):
    """Folding, or making clusters."""
    kept.append(*in_order(150))
    timer = StageTimer()
    monkeypatch.setattr(timer, "enter", lambda stage: None)  # or the request would end before
    timer.deadline = time.perf_counter() - 1
    ask = {"user_id": USER, "item_ids": kept.registry.ids[100:120], "model": kept.name}
    answer = score(ScoreRequest.model_validate(ask), kept.scorer, timer)
    assert answer.degraded == ["state_missing"]
    assert np.isfinite(answer.scores).all()


# Who is due


def test_every_32nd_event_and_every_late_one_names_the_user(kept):
    due = keys.states_due(kept.data)
    kept.redis.delete(due)
    kept.append(*in_order(40))
    assert kept.redis.xlen(due) == 1
    kept.append((7, FIRST_TS - 1))
    assert [fields[b"user_id"].decode() for _, fields in kept.redis.xrange(due)] == [USER, USER]
    kept.append((7, FIRST_TS - 1))  # a duplicate
    assert kept.redis.xlen(due) == 2


def test_keepers_of_another_version_get_all_names_too(kept):
    kept.redis.delete(keys.states_due(kept.data))
    keeper, other = Keeper([kept.states], kept.redis, kept.data), Keeper([], kept.redis, kept.data)
    kept.append(*in_order(40))
    assert (keeper.take_names("a", 1), other.take_names("a", 1)) == (1, 1)


def test_one_user_who_cannot_be_kept_holds_up_no_other(kept):
    kept.redis.delete(keys.states_due(kept.data))
    bad = "kept bad"
    kept.redis.set(keys.tree(kept.data, bad), "no tree")
    kept.redis.xadd(keys.states_due(kept.data), {"user_id": bad})
    kept.append(*in_order(40))
    keeper = Keeper([kept.states], kept.redis, kept.data)
    assert keeper.take_names("a", 1) == 2
    assert (keeper.did["failed"], kept.stored() is not None) == (1, True)
    kept.redis.delete(keys.tree(kept.data, bad))


def test_keepers_share_the_names(kept):
    kept.redis.delete(keys.states_due(kept.data))
    keeper, other = (Keeper([kept.states], kept.redis, kept.data) for _ in range(2))
    kept.append(*in_order(40))
    assert (keeper.take_names("a", 1), other.take_names("b", 1)) == (1, 0)
    assert kept.stored() is not None
    assert keeper.did == {f"{kept.name} made": 1}


def test_names_that_a_keeper_left_go_to_another(kept, monkeypatch):
    kept.redis.delete(keys.states_due(kept.data))
    keeper, other = (Keeper([kept.states], kept.redis, kept.data) for _ in range(2))
    kept.append(*in_order(40))
    monkeypatch.setattr(keeper, "keep", lambda user_id: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        keeper.take_names("a", 1)
    assert other.take_names("b", 1) == 0
    monkeypatch.setattr(service.keeper, "LEFT_AFTER_MS", 0)
    assert other.take_names("b", 1) == 1
    assert kept.stored() is not None


def test_states_of_another_version_stand_beside_until_they_are_dropped(kept):
    kept.append(*in_order(40))
    key = keys.states(kept.data, USER)
    kept.redis.hset(key, "f" * 16, b"of another version")
    keeper = Keeper([kept.states], kept.redis, kept.data)
    assert USER in keeper.users()
    keeper.keep(USER)
    assert set(kept.redis.hkeys(key)) == {b"f" * 16, kept.field.encode()}
    keeper.drop_others(USER)
    assert (kept.redis.hkeys(key), keeper.did["dropped"]) == ([kept.field.encode()], 1)


# python -m service keep


def service_keep(world, *options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    environment |= {"CTR_REDIS_URL": world.store_url, "CTR_BUNDLES": str(world.bundles)}
    command = [sys.executable, "-m", "service", "keep", *options]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_keeps_who_is_due_and_ends_when_it_is_told(world):
    kept = Kept(world, "sdim")
    kept.delete()
    kept.redis.delete(keys.states_due(kept.data))
    with service_keep(world) as process:
        try:
            kept.append(*in_order(150))
            until(kept.stored, 60)
            kept.score()
            assert kept.hows() == {"tail": 1.0}
        finally:
            process.terminate()
            kept.delete()
        assert process.wait(timeout=20) == 0, process.stderr.read()


def test_without_a_model_that_keeps_states_the_command_says_so(world, tmp_path):
    shutil.copytree(world.bundles / "din", tmp_path / "din")
    environment = {"CTR_REDIS_URL": world.store_url, "CTR_BUNDLES": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-m", "service", "keep"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, "no bundle there keeps a state of its users" in done.stderr) == (1, True)
