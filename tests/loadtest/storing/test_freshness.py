"""The freshness of events on a small scale: both ways are measured, nothing is lost; no time is asserted."""

import queue

from loadtest.storing import freshness
from loadtest.storing.freshness import LIFE, PROBE, _watch, measure
from store import keys
from store.behaviour_tree import BehaviourTree
from tests.service.tiny import Tiny
from tests.store.events import behaviours_of
from tests.store.long_categories import LONG, events


def test_both_ways_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(freshness, "LOG", tmp_path / "log")
    monkeypatch.setattr(freshness, "USERS", 20)
    made = measure(rate=200, seconds=1, bundle=Tiny.at(tmp_path / "bundles").add("din"))
    assert (made["offered_per_s"], made["seconds"]) == (200, 1)
    stream, http = made["stream"], made["http"]
    assert (stream["n"], stream["errors"]) == (20, 0)
    assert http["errors"] == 0
    assert 10 <= http["n"] <= 200  # calls of 1 to 20 events
    for row in (stream, http):
        assert 0 <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert {"achieved_per_s", "generator_cpu", "server_cpu", "store_cpu"} <= set(row)


def test_trees_are_there_before_the_events(redis, monkeypatch):
    monkeypatch.setattr(freshness, "USERS", 2)
    data, item = freshness._fill(redis, None)
    assert item == "i0"
    life = BehaviourTree(redis, data, 4).read_life("u1")
    assert (len(life.behaviours), life.bad_records) == (LIFE, 0)


def test_every_behaviour_is_seen_however_many_a_category_has(redis, store_url, data_name):
    BehaviourTree(redis, data_name, 1).write(PROBE, behaviours_of(*events(LONG)))
    seen = queue.SimpleQueue()
    _watch(store_url, keys.tree(data_name, PROBE), LONG, 5, seen)
    assert len(seen.get()) == LONG
