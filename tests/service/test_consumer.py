"""The stream consumer as a process, against real servers; Kafka by the library's in-memory broker."""

import asyncio
import dataclasses
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import orjson
import pytest
from faststream.kafka import TestKafkaBroker
from faststream.kafka.message import FakeConsumer
from faststream.kafka.testing import build_message
from faststream.redis import RedisBroker
from redis.exceptions import ConnectionError as StoreGone
from redis.exceptions import RedisError

from service import consumer as consumer_module
from service.__main__ import main
from service.consumer import ConsumerStopped, open_source, run, served_data_set
from service.kafka_topic import KafkaTopic
from service.metrics import ConsumerMetrics
from service.redis_stream import RedisStream
from service.settings import Settings
from service.stream_intake import StreamIntake
from store import keys
from store.append import Caps
from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.events import StoreNotLoaded
from tests.service.consuming import Consumer, consumer_process
from tests.service.own_store import OwnStore
from tests.service.serving import served, until
from tests.service.tiny import ITEMS, Tiny
from tests.store.events import events_of

NEW = {"user_id": "u2", "item_id": "i3", "ts": 500, "features": {"price": 1.5}}
PROMPT = {"events_claim_ms": 300}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, store_url):
    """A filled store and a consumer of it, for tests that use users of their own."""
    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"), "t-consumer")
    tiny.add("din")
    tiny.fill(store_url)
    with consumer_process(store_url, data=tiny.data, max_events=50) as consumer:
        yield tiny, consumer


@pytest.fixture
def stream(shared):
    return keys.events(shared[0].data)


@pytest.fixture
def filled(tiny, store_url):
    """A data set of the test's own in the session's store."""
    tiny.fill(store_url)
    return tiny


def event(user="u2", ts=500, **more):
    return orjson.dumps(NEW | {"user_id": user, "ts": ts} | more)


def life(redis, data, user):
    return events_of(BehaviourTree(redis, data, 1).read_life(user).behaviours)


def times(redis, data, user):
    return [ts for _, _, ts, _ in life(redis, data, user)]


def is_taken(redis, stream, group="longtrail"):
    """Whether every entry was delivered and acknowledged."""
    last = redis.xinfo_stream(stream)["last-generated-id"]
    groups = [entry for entry in redis.xinfo_groups(stream) if entry["name"] == group.encode()]
    return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last


def dead_letters(redis, stream):
    return [fields for _, fields in redis.xrange(keys.dead_letters(stream))]


# in


def test_a_plain_xadd_of_an_event_is_in_its_tree(shared, redis, stream):
    tiny, _ = shared
    redis.xadd(stream, {"data": event("plain")})
    until(lambda: life(redis, tiny.data, "plain") == [(4, 3, 500, 2)])
    until(lambda: is_taken(redis, stream))


def test_what_faststream_publishes_is_read_too(shared, store_url, redis, stream):
    async def publish():
        async with RedisBroker(store_url) as broker:
            await broker.publish(NEW | {"user_id": "published"}, stream=stream)
            await broker.publish({"events": [NEW | {"user_id": "published", "ts": ts} for ts in (1, 2)]}, stream=stream)

    asyncio.run(publish())
    until(lambda: times(redis, shared[0].data, "published") == [1, 2, 500])


def test_an_event_acknowledged_is_in_the_next_score_of_a_running_scorer(shared, store_url, redis, stream):
    tiny, _ = shared
    ask = {"user_id": "scored", "item_ids": list(ITEMS)}
    with served(tiny.bundles, store_url) as (client, _):
        for n in range(3):
            assert client.post("/score", json=ask).json()["behaviours"] == n
            redis.xadd(stream, {"data": event("scored", n)})
            until(lambda: is_taken(redis, stream))
        assert client.post("/score", json=ask).json()["behaviours"] == 3


def test_an_event_that_came_by_http_as_well_is_put_in_once(shared, store_url, redis, stream):
    tiny, consumer = shared
    before = consumer.sample('ctr_events_total{result="duplicate"}')
    with served(tiny.bundles, store_url) as (client, _):
        client.post("/events", json={"events": [NEW | {"user_id": "twice"}]})
    redis.xadd(stream, {"data": event("twice")})
    redis.xadd(stream, {"data": event("twice")})
    until(lambda: consumer.sample('ctr_events_total{result="duplicate"}') == before + 2)
    assert life(redis, tiny.data, "twice") == [(4, 3, 500, 2)]


def test_a_new_group_begins_with_what_was_sent_before_it(filled, store_url, redis):
    redis.xadd(keys.events(filled.data), {"data": event("early")})
    with consumer_process(store_url, data=filled.data, events_stream="", events_group="late"):
        until(lambda: times(redis, filled.data, "early") == [500])


# poison


def test_poison_goes_to_the_dead_letters_with_its_reason_and_the_rest_is_written(shared, redis, stream):
    tiny, consumer = shared
    redis.hset(keys.tree(tiny.data, "damaged"), "3", b"garbage")
    before, kept = consumer.sample('ctr_events_total{result="dead"}'), len(dead_letters(redis, stream))
    bad = {
        b"{": "malformed JSON",
        b"\xff\xfe": "malformed JSON",
        event("rest", -1): "ts: -1, limit 0",
        event("rest", 1_700_000_000_000): "milliseconds?",
        event("rest", features={"prize": 1}): "features.prize: unknown, known are price",
        event("damaged"): "user damaged: field 3",
        orjson.dumps({"events": [NEW] * 51}): "events: 51, limit 50",
    }
    pipeline = redis.pipeline()
    sources = [pipeline.xadd(stream, {"data": payload}) and None for payload in bad]
    pipeline.xadd(stream, {"data": event("rest", 7)})
    pipeline.xadd(stream, {"what": b"\xff"})
    sources = pipeline.execute()
    until(lambda: is_taken(redis, stream))
    found = {letter[b"source"]: letter for letter in dead_letters(redis, stream)[kept:]}
    for source, (payload, why) in zip(sources, bad.items(), strict=False):
        assert found[source][b"payload"] == payload
        assert why in found[source][b"reason"].decode()
        assert abs(int(found[source][b"at"]) - time.time()) < 60
    assert "`data` is needed" in found[sources[-1]][b"reason"].decode()
    assert len(found) == len(bad) + 1
    assert times(redis, tiny.data, "rest") == [7]
    assert consumer.sample('ctr_events_total{result="dead"}') == before + len(bad) + 1


def test_a_dead_letter_can_be_sent_again(shared, redis, stream):
    tiny, _ = shared
    redis.hset(keys.tree(tiny.data, "healed"), "3", b"garbage")
    redis.xadd(stream, {"data": event("healed")})
    until(lambda: is_taken(redis, stream))
    redis.delete(keys.tree(tiny.data, "healed"))
    letter = dead_letters(redis, stream)[-1]
    redis.xadd(stream, {"data": letter[b"payload"]})
    until(lambda: times(redis, tiny.data, "healed") == [500])


# figures


def test_times_batches_and_what_waits_are_metrics(shared, redis, stream):
    _, consumer = shared
    before = consumer.sample("ctr_event_freshness_seconds_count")
    redis.xadd(stream, {"data": event("timed", int(time.time()) - 5)})
    until(lambda: consumer.sample("ctr_event_freshness_seconds_count") == before + 1)
    assert consumer.sample('ctr_event_lag_seconds_bucket{le="10.0"}') >= 1
    assert consumer.sample("ctr_stream_batch_messages_count") >= 1
    until(lambda: (consumer.sample("ctr_stream_pending"), consumer.sample("ctr_stream_waiting")) == (0, 0))


# several, and killed


def test_two_consumers_share_a_stream(filled, store_url, redis):
    stream, n = keys.events(filled.data), 3000
    with consumer_process(store_url, data=filled.data) as one, consumer_process(store_url, data=filled.data) as other:
        for start in range(0, n, 100):
            pipeline = redis.pipeline(transaction=False)
            for ts in range(start, start + 100):
                pipeline.xadd(stream, {"data": event(f"s{ts % 7}", ts)})
            pipeline.execute()
        until(lambda: is_taken(redis, stream))
        accepted = [process.sample('ctr_events_total{result="accepted"}') for process in (one, other)]
    assert min(accepted) > 0
    assert sum(accepted) == n
    assert sum(len(life(redis, filled.data, f"s{user}")) for user in range(7)) == n


def test_a_consumer_killed_at_random_points_under_load_loses_nothing(filled, store_url, redis):
    chance, stream = random.Random(4), keys.events(filled.data)
    sent, poison, ended = defaultdict(set), set(), threading.Event()

    def produce():
        client, ts = connect(store_url), 0
        while not ended.is_set():
            ts += 1
            user = f"k{ts % 5}"
            client.xadd(stream, {"data": event(user, ts)})
            sent[user].add(ts)
            if ts % 50 == 0:
                payload = b"poison %d" % ts
                client.xadd(stream, {"data": payload})
                poison.add(payload)
            if ts % 20 == 0:
                client.xadd(stream, {"data": event(user, chance.choice(sorted(sent[user])))})
                time.sleep(0.005)
        client.close()

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        killed_busy = 0
        for _ in range(3):
            killed = Consumer(store_url, data=filled.data, **PROMPT)
            until(killed.ready)
            until(lambda killed=killed: killed.sample("ctr_stream_batch_messages_count") > 0)
            time.sleep(chance.uniform(0, 0.3))
            killed.kill()
            killed_busy += redis.xpending(stream, "longtrail")["pending"] > 0
    finally:
        ended.set()
        producer.join()
    assert killed_busy > 0  # or nothing was tested
    with consumer_process(store_url, data=filled.data, **PROMPT) as last:
        until(lambda: is_taken(redis, stream))
        assert last.end() == 0
    assert {user: times(redis, filled.data, user) for user in sent} == {user: sorted(ts) for user, ts in sent.items()}
    assert {letter[b"payload"] for letter in dead_letters(redis, stream)} == poison


def test_a_store_killed_under_load_loses_nothing_that_it_acknowledged(tiny):
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        store.start()
        tiny.fill(store.url)
        stream, acknowledged, ended = keys.events(tiny.data), defaultdict(set), threading.Event()

        def produce():
            client, ts = connect(store.url, timeout_s=2), 0
            while not ended.is_set():
                ts += 1
                try:
                    client.xadd(stream, {"data": event(f"k{ts % 5}", ts)})
                    acknowledged[f"k{ts % 5}"].add(ts)
                except RedisError:
                    time.sleep(0.02)
            client.close()

        producer = threading.Thread(target=produce)
        with consumer_process(store.url, data=tiny.data, **PROMPT) as consumer:
            producer.start()
            try:
                for _ in range(2):
                    n = consumer.sample('ctr_events_total{result="accepted"}')
                    until(lambda n=n: consumer.sample('ctr_events_total{result="accepted"}') > n + 100)
                    store.kill()
                    time.sleep(0.3)
                    store.start()
            finally:
                ended.set()
                producer.join()
            redis = connect(store.url)
            until(lambda: is_taken(redis, stream))
            for user, ts in acknowledged.items():
                assert ts <= set(times(redis, tiny.data, user))
                assert len(set(times(redis, tiny.data, user))) == len(life(redis, tiny.data, user))
            assert consumer.process.poll() is None
        redis.close()
        store.kill()


# start and end


def test_a_consumer_waits_for_a_store_that_comes_later(tiny):
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        consumer = Consumer(store.url)
        until(lambda: "the store does not answer" in consumer.log)
        store.start()
        tiny.fill(store.url)  # the only data set: it need not be named
        redis = connect(store.url)
        redis.xadd(keys.events(tiny.data), {"data": event()})
        until(lambda: times(redis, tiny.data, "u2") == [500])
        assert consumer.end() == 0
        redis.close()
        store.kill()


def test_an_unknown_data_set_is_one_clear_line(store_url):
    consumer = Consumer(store_url, data="nowhere")
    assert consumer.process.wait(60) == 1
    assert consumer.log.strip() == "error: the store holds no data set nowhere: python -m store load --data nowhere"
    consumer.kill()


def test_a_store_of_several_data_sets_asks_for_a_name(filled, redis, shared):
    with pytest.raises(StoreNotLoaded, match=rf"(?s){filled.data}.*CTR_DATA"):
        served_data_set(redis, "")
    assert served_data_set(redis, filled.data) == filled.data


def test_an_unknown_command_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["service", "consmue"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "consmue" in capsys.readouterr().err


@pytest.fixture
def in_process(filled, store_url):
    """A source as the process opens it, its metrics and its intake: in_process(events_keep_s=0)."""
    clients = []

    def open_it(**settings):
        metrics = ConsumerMetrics()
        clients.append(connect(store_url))
        intake = StreamIntake(clients[-1], filled.data, Caps(), 50, 4000, metrics.events)
        return open_source(Settings(**settings), store_url, filled.data, intake, metrics), metrics, intake

    yield open_it
    for client in clients:
        client.close()


@pytest.fixture
def signals():
    """What asyncio takes over is given back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def test_a_stream_that_is_deleted_ends_the_consumer_instead_of_leaving_it_idle(in_process, filled, redis, signals):
    source, metrics, _ = in_process()
    threading.Timer(1, lambda: redis.delete(source.name)).start()
    with pytest.raises(ConsumerStopped, match=source.name):
        asyncio.run(run(source, metrics))


def test_a_key_that_is_no_stream_is_refused_at_start(in_process, filled, redis, signals):
    redis.set(keys.events(filled.data), "taken")
    source, metrics, _ = in_process()
    with pytest.raises(RedisError, match="WRONGTYPE"):
        asyncio.run(run(source, metrics))


def test_what_fails_for_an_unknown_reason_is_not_acknowledged(in_process, filled, redis, signals, monkeypatch):
    source, metrics, intake = in_process(events_claim_ms=100)
    take, calls = intake.take, []

    def fail_once(messages):
        calls.append(len(messages))
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return take(messages)

    monkeypatch.setattr(intake, "take", fail_once)
    redis.xadd(source.name, {"data": event()})

    def stop():
        until(lambda: is_taken(redis, source.name))
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=stop).start()
    asyncio.run(run(source, metrics))
    assert len(calls) == 2
    assert times(redis, filled.data, "u2") == [500]


# trimming


def test_only_what_every_group_has_acknowledged_and_is_old_enough_is_dropped(in_process, filled, redis):
    async def tend(keep_s):
        source, metrics, _ = in_process(events_keep_s=keep_s)
        await source.broker.connect()
        await source.tend(metrics)
        await source.broker.stop()
        return metrics.registry.get_sample_value("ctr_stream_pending"), metrics.registry.get_sample_value("ctr_stream_waiting")

    stream, block = keys.events(filled.data), 200  # entries are dropped in blocks of a hundred
    redis.xgroup_create(stream, "longtrail", id="0", mkstream=True)
    ids = [redis.xadd(stream, {"data": event(ts=ts)}) for ts in range(3 * block)]
    length = lambda: redis.xlen(stream)  # noqa: E731
    assert asyncio.run(tend(0)) == (0, 3 * block)
    assert length() == 3 * block  # not delivered
    redis.xreadgroup("longtrail", "c", {stream: ">"}, count=2 * block)
    redis.xgroup_create(stream, "audit", id=ids[-1])
    assert asyncio.run(tend(0)) == (2 * block, block)
    assert length() == 3 * block  # delivered, not acknowledged
    redis.xack(stream, "longtrail", *ids[:block])
    assert asyncio.run(tend(600)) == (block, block)
    assert length() == 3 * block  # acknowledged, and too young
    asyncio.run(tend(0))
    assert 2 * block <= length() < 2 * block + 100
    redis.xgroup_setid(stream, "audit", ids[block // 2])  # another group is not as far
    redis.xack(stream, "longtrail", *ids[block:])
    asyncio.run(tend(0))
    assert length() >= 2 * block
    redis.xgroup_setid(stream, "audit", ids[-1])
    asyncio.run(tend(0))
    assert block <= length() < block + 100


# Kafka, by the in-memory broker of the library


def test_a_stream_in_a_cluster_is_refused_by_name(filled):
    with pytest.raises(ValueError, match="CTR_EVENTS_URL: a stream is read from one server"):
        open_source(Settings(), "redis+cluster://127.0.0.1:1", filled.data, None, None)


def test_one_setting_makes_it_kafka(in_process, filled):
    source, _, _ = in_process(events_url="kafka://one:9092,two:9092")
    assert isinstance(source, KafkaTopic)
    assert source.name == f"{filled.data}.events"
    source, _, _ = in_process()
    assert isinstance(source, RedisStream)


def test_kafka_records_are_in_their_trees_and_poison_in_the_dead_topic(in_process, filled, redis, monkeypatch):
    source, metrics, intake = in_process(events_url="kafka://nowhere:9092", events_stream="clicks")
    dead, order = [], []
    take, commit = intake.take, FakeConsumer.commit
    monkeypatch.setattr(intake, "take", lambda messages: order.append("written") or take(messages))
    monkeypatch.setattr(FakeConsumer, "commit", lambda self: order.append("committed") or commit(self))

    async def whole(message):
        return message

    @source.broker.subscriber("clicks.dead", decoder=whole)
    async def keep(message):
        dead.append((message.body, message.headers["reason"], message.headers["source"]))

    async def publish():
        async with TestKafkaBroker(source.broker, connect_only=False) as broker:
            await broker.publish(event("kafka", 1), topic="clicks")
            await broker.publish(event("kafka", 1), topic="clicks")
            await broker.publish_batch(event("kafka", 2), b"{", event("kafka", -1), topic="clicks")
            await broker.publish(None, key=b"tombstone", topic="clicks")
            record = await build_message(event("kafka", 3), "clicks", serializer=None)
            clicks = next(subscriber for subscriber in broker.subscribers if "clicks" in subscriber.topic_names)
            await clicks.process_message((dataclasses.replace(record, headers=[("odd", b"\xff")]),))

    asyncio.run(publish())
    assert times(redis, filled.data, "kafka") == [1, 2, 3]
    assert order == ["written", "committed"] * 5
    assert [body for body, *_ in dead] == [b"{", event("kafka", -1), b""]
    assert "ts: -1, limit 0" in dead[1][1]
    assert dead[0][2] == "clicks/0/0"
    assert metrics.registry.get_sample_value("ctr_events_total", {"result": "dead"}) == 3


def test_a_store_that_is_gone_is_tried_again_before_a_kafka_commit(in_process, filled, redis, monkeypatch):
    monkeypatch.setattr(consumer_module, "RETRY_S", 0.01)
    source, metrics, intake = in_process(events_url="kafka://nowhere:9092")
    take, calls = intake.take, []

    def fail_twice(messages):
        calls.append(len(messages))
        if len(calls) < 3:
            raise StoreGone("gone")
        return take(messages)

    monkeypatch.setattr(intake, "take", fail_twice)

    async def publish():
        async with TestKafkaBroker(source.broker, connect_only=False) as broker:
            await broker.publish(event("again"), topic=source.name)

    asyncio.run(publish())
    assert len(calls) == 3
    assert times(redis, filled.data, "again") == [500]
    assert metrics.registry.get_sample_value("ctr_stream_retries_total") == 2
