"""Published tables in a running scorer: switched at once, refused where they do not fit, lost without a 5xx."""

import json
import logging
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import store.table_values
from service.metrics import StageTimer
from service.pipeline import score
from service.request import ScoreRequest
from store import keys
from store.bundle import GRAPH, ITEM_VECTOR, Bundle, sha256
from store.published import Published, field_of, keys_of
from store.registry import Registry
from tests.service import tiny as tiny_module
from tests.service.own_store import OwnStore
from tests.service.published import counted, other_vectors, published, reading, refreshed
from tests.service.serving import served, until
from tests.service.tiny import ITEMS, USER, VERSION, Tiny, expected, sign_again
from tests.world import scorer_process

NEWER = "20260201T120000Z"


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Three item vectors a block, so that eight items are three blocks."""
    monkeypatch.setattr(store.table_values, "BLOCK_BYTES", 24)


@pytest.fixture
def served_folder(tiny, store_url):
    """One bundle of eta that is served, its data in the store; further versions are made elsewhere."""
    tiny.fill(store_url)
    return tiny.add("eta")


@pytest.fixture
def others(tiny, tmp_path):
    """Refreshed versions of the same installation, in a folder that no scorer reads."""
    return Tiny(tmp_path / "others", tiny.data, tiny.schema, tiny.registry)


def ask(scorer, **fields):
    return score(
        ScoreRequest.model_validate({"user_id": USER, "item_ids": list(ITEMS), "model": "eta"} | fields), scorer, StageTimer()
    )


def by_hand(tiny, bundle, seed):
    """Scores by the formula over one version's vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_module, "VECTORS", other_vectors(seed))
        return expected(tiny, bundle, tiny.call(bundle, list(ITEMS)), tiny.history())


def pointer_of(redis, bundle):
    return json.loads(redis.hget(keys.tables(bundle.manifest.data), field_of(bundle.manifest)))


def set_pointer(redis, bundle, content):
    redis.hset(keys.tables(bundle.manifest.data), field_of(bundle.manifest), json.dumps(content))


def test_scores_are_those_of_the_version_that_was_published(tiny, others, served_folder, store_url):
    with reading(tiny.bundles, store_url) as (scorer, refresher, _):
        before = ask(scorer, at=1000).scores
        for seed, version in ((1, VERSION), (2, NEWER)):
            bundle = refreshed(others, "eta", version, seed)
            published(store_url, bundle)
            refresher.poll()
            scores = ask(scorer, at=1000).scores
            np.testing.assert_allclose(scores, by_hand(tiny, bundle, seed), atol=1e-6)
            assert np.abs(scores - before).max() > 0.01


def test_every_version_that_is_loaded_goes_over_so_a_way_back_does_not_lead_to_old_tables(
    tiny, others, served_folder, store_url
):  # fmt: skip
    tiny.add("eta", NEWER)
    with reading(tiny.bundles, store_url) as (scorer, refresher, _):
        scorer.bundles.load("eta", VERSION)
        for seed, made in ((1, VERSION), (2, NEWER)):
            bundle = refreshed(others, "eta", made, seed)
            published(store_url, bundle)
            refresher.poll()
            for version in (VERSION, NEWER):
                answer = ask(scorer, at=1000, model=f"eta:{version}")
                np.testing.assert_allclose(answer.scores, by_hand(tiny, bundle, seed), atol=1e-6)
        scorer.bundles.load("eta", NEWER)
        np.testing.assert_allclose(ask(scorer, at=1000).scores, by_hand(tiny, bundle, 2), atol=1e-6)


def test_a_version_that_is_loaded_again_begins_with_its_own_tables_and_goes_over(tiny, others, served_folder, store_url):
    with reading(tiny.bundles, store_url) as (scorer, refresher, _):
        bundle = refreshed(others, "eta", NEWER, 1)
        published(store_url, bundle)
        refresher.poll()
        scorer.bundles.unload("eta")
        refresher.poll()
        own = scorer.bundles.load("eta")
        assert own.tables.version != scorer.bundles.get("eta").tables.version or own is scorer.bundles.get("eta")
        refresher.poll()
        np.testing.assert_allclose(ask(scorer, at=1000).scores, by_hand(tiny, bundle, 1), atol=1e-6)


def test_without_anything_published_the_bundles_own_tables_are_served(tiny, served_folder, store_url):
    with reading(tiny.bundles, store_url) as (scorer, _, metrics):
        assert ask(scorer).degraded == []
        assert scorer.bundles.get("eta").tables.version == VERSION
        assert counted(metrics, "ctr_table_version_info", model="eta", version=VERSION) == 1


def test_no_answer_mixes_two_versions(tiny, others, served_folder, store_url, tmp_path):
    """Over HTTP, while two versions with other vectors and signatures are published in turns; the cache holds a part."""
    bundles = [refreshed(others, "eta", version, seed) for seed, version in ((1, VERSION), (2, NEWER))]
    bundles[1].tables["signature"] = bundles[1].tables["signature"][::-1].copy()
    body = {"user_id": USER, "item_ids": list(ITEMS) * 20, "at": 1000}
    answers, ended, wanted = [], threading.Event(), []
    np.save(bundles[1].folder / "signature.npy", bundles[1].tables["signature"])
    redo_golden(tiny, bundles[1], 2)
    for bundle in bundles:
        alone = tmp_path / f"only{bundle.manifest.version}" / "eta"
        alone.mkdir(parents=True)
        shutil.copytree(bundle.folder, alone / bundle.manifest.version)
        with served(alone.parent, store_url) as (client, _):
            wanted.append(client.post("/score", json=body).json()["scores"])
    assert wanted[0] != wanted[1]

    def call_again_and_again(client):
        while not ended.is_set():
            answers.append(client.post("/score", json=body))

    published(store_url, bundles[0])
    with (
        served(tiny.bundles, store_url, tables="store", table_poll_s=0.01, table_cache_mb=1, request_threads=3) as (client, app),
        ThreadPoolExecutor(3) as threads,
    ):
        callers = [threads.submit(call_again_and_again, client) for _ in range(3)]
        try:
            for number in range(30):
                version = published(store_url, bundles[number % 2]).published.version
                until(lambda version=version: app.state.service.scorer.bundles.get("eta").tables.version == version)
                seen = len(answers)
                until(lambda seen=seen: len(answers) > seen + 3)
        finally:
            ended.set()
        for caller in callers:
            caller.result()
        refused = counted(app.state.service.metrics, "ctr_table_refresh_total", result="refused")
    assert refused == 0
    assert {answer.status_code for answer in answers} == {200}
    assert {tuple(answer.json()["degraded"]) for answer in answers} == {()}
    counts = [sum(answer.json()["scores"] == scores for answer in answers) for scores in wanted]
    assert sum(counts) == len(answers)
    assert min(counts) > 10


def redo_golden(tiny, bundle, seed):
    """Golden scores for tables that were changed by hand."""
    from store.bundle import GOLDEN

    with np.load(bundle.folder / GOLDEN) as arrays:
        content = dict(arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_module, "VECTORS", other_vectors(seed))
        bundle.search = type(bundle.search)(bundle.manifest.search, bundle.tables)
        content["scores"] = expected(tiny, bundle, tiny.call(bundle, list(ITEMS)), tiny.history())
    np.savez(bundle.folder / GOLDEN, **content)
    sign_again(bundle.folder)


def test_new_items_get_their_rows_without_a_restart(tiny, others, served_folder, store_url):
    vectors = np.concatenate([tiny_module.VECTORS, [[0.3, 0.3], [0.6, -0.2]]]).astype(np.float32)
    registry = Registry(
        tiny.data, [*ITEMS, "i7", "i8"], np.append(tiny.registry.category, [2, 4]).astype(np.int32), tiny.registry.category_names,
        tiny.registry.registry_id,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_module, "VECTORS", vectors)
        bundle = Bundle(Tiny(others.bundles, tiny.data, tiny.schema, registry).add("eta", NEWER))
    with reading(tiny.bundles, store_url) as (scorer, refresher, _):
        before = ask(scorer, item_ids=["i7", "i8", "i1"])
        published(store_url, bundle)
        refresher.poll()
        after = ask(scorer, item_ids=["i7", "i8", "i1"])
        assert (before.unknown_items, after.unknown_items) == (2, 0)
        assert (before.degraded, after.degraded) == ([], [])
        assert before.scores[0] == before.scores[1] != after.scores[0] != after.scores[1]
        assert before.scores[2] == pytest.approx(after.scores[2], abs=1e-6)
        assert ask(scorer, item_ids=["i1"], explain=2).explanations[0][0]["item_id"] in ITEMS


# what does not fit is refused, once, and the old version stays


def damaged(redis, bundle, version):
    found = Published.model_validate(version)
    (key,) = [key for key in keys_of(redis, bundle.manifest.data, "eta", found) if f":{ITEM_VECTOR}:1:" in key]
    redis.setrange(key, 20, b"\x01\x02")


def altered(**changes):
    return lambda redis, bundle, version: set_pointer(redis, bundle, version | changes)


def with_form(**changes):
    def alter(redis, bundle, version):
        version["tables"][ITEM_VECTOR]["form"] |= changes
        set_pointer(redis, bundle, version)

    return alter


def without_a_table(redis, bundle, version):
    del version["tables"]["signature"]
    set_pointer(redis, bundle, version)


def with_registry_of(ids, categories):
    def alter(redis, bundle, version):
        from store.publish import _Values

        made = Registry.build(bundle.manifest.data, ids, categories)
        other = Registry(made.data, made.ids, made.category, made.category_names, bundle.registry.registry_id)
        path = bundle.folder / "other.npz"
        other.save(path)
        values = _Values(bundle.manifest.data, "eta")
        file = values.file("registry.npz", path.read_bytes())
        for key, make in values.made.items():
            redis.set(key, make())
        set_pointer(redis, bundle, version | {"registry": file.model_dump()})

    return alter


ORDER = list(ITEMS)
FAULTS = {
    "a damaged block": (damaged, "golden scores differ|cannot be read|not the one"),
    "no JSON": (
        lambda redis, bundle, _: redis.hset(keys.tables(bundle.manifest.data), field_of(bundle.manifest), b"{"),
        "pointer",
    ),
    "another format": (altered(format=2), "format"),
    "a missing table": (without_a_table, "tables item_vector, the bundle reads item_vector, signature"),
    "another width": (with_form(row=[3]), r"item_vector: <f4 \[3\], the bundle has <f4 \[2\]"),
    "another dtype": (with_form(dtype="<i4"), "item_vector: <i4"),
    "too few rows": (with_form(rows=7), "7 rows, the version has 8"),
    "blocks too long": (with_form(block_rows=100_000), "blocks of 800000 bytes"),
    "rows that changed places": (with_registry_of([*ORDER[1:2], *ORDER[:1], *ORDER[2:]], list(ITEMS.values())), "another item"),
    "a category that changed": (with_registry_of(ORDER, ["c1", "c2", "c2", "c2", "c3", "c3"]), "another item or category"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_version_that_does_not_fit_is_refused_and_the_old_one_stays(
    tiny, others, served_folder, store_url, redis, caplog, fault
):
    first, second = (refreshed(others, "eta", version, seed) for seed, version in ((1, VERSION), (2, NEWER)))
    published(store_url, first)
    spoil, reason = FAULTS[fault]
    with reading(tiny.bundles, store_url) as (scorer, refresher, metrics), caplog.at_level(logging.ERROR):
        scores = ask(scorer, at=1000).scores
        published(store_url, second)
        spoil(redis, second, pointer_of(redis, second))
        for _ in range(3):
            refresher.poll()
            assert (ask(scorer, at=1000).scores == scores).all()
        assert counted(metrics, "ctr_table_refresh_total", result="refused") == 1
        said = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
        assert len(said) == 1
        assert __import__("re").search(reason, said[0]), said

        published(store_url, second, again=True)  # once it is right it is taken
        refresher.poll()
        assert (ask(scorer, at=1000).scores != scores).all()


def test_tables_of_another_graph_are_not_even_looked_at(tiny, others, served_folder, store_url):
    other = refreshed(others, "eta", NEWER, 2)
    (other.folder / GRAPH).write_bytes((other.folder / GRAPH).read_bytes() + b"\x12\x00")
    other.manifest = other.manifest.model_copy(update={"files": other.manifest.files | {GRAPH: sha256(other.folder / GRAPH)}})
    published(store_url, other)
    with reading(tiny.bundles, store_url) as (scorer, _, metrics):
        assert scorer.bundles.get("eta").tables.version == VERSION
        assert counted(metrics, "ctr_table_refresh_total", result="refused") == 0


def test_tables_that_the_graph_scores_otherwise_than_their_golden_request_are_refused(tiny, others, served_folder, store_url):
    bundle = refreshed(others, "eta", NEWER, 2)
    bundle.tables[ITEM_VECTOR] = other_vectors(3)
    published(store_url, bundle)
    with reading(tiny.bundles, store_url) as (scorer, _, metrics):
        assert scorer.bundles.get("eta").tables.version == VERSION
        assert counted(metrics, "ctr_table_refresh_total", result="refused") == 1


# faults of the store


def test_blocks_that_are_gone_make_their_items_unknown(tiny, others, served_folder, store_url, redis):
    """The cache holds one block: every request reads the others."""
    bundle = refreshed(others, "eta", NEWER, 2)
    version = published(store_url, bundle).published
    form = version.tables[ITEM_VECTOR].form
    with reading(tiny.bundles, store_url, cache_bytes=1) as (scorer, refresher, _):
        whole = ask(scorer, item_ids=["i1", "i2", "i6"], user_id="nobody", at=1000)
        assert whole.degraded == []
        (last,) = [key for key in keys_of(redis, tiny.data, "eta", version) if f":{form.name}:2:" in key]
        value = redis.get(last)
        for damage in (lambda: redis.delete(last), lambda: redis.set(last, value[:-1]), lambda: redis.hset(last, "a", "b")):
            redis.delete(last)
            damage()
            ask(scorer, item_ids=["i1"], user_id="nobody")  # what the cache held is pushed out
            answer = ask(scorer, item_ids=["i1", "i2", "i6"], user_id="nobody", at=1000)
            unknown = ask(scorer, item_ids=["no such item"], user_id="nobody", at=1000)
            assert answer.degraded == ["bad_record"]
            assert answer.scores[:1] == whole.scores[:1]
            assert answer.scores[2] == unknown.scores[0]
        redis.delete(last)
        redis.set(last, value)
        assert (ask(scorer, item_ids=["i1", "i2", "i6"], user_id="nobody", at=1000).scores == whole.scores).all()
        refresher.poll()


def test_too_much_to_read_in_time_is_store_timeout(tiny, others, served_folder, store_url, monkeypatch):
    monkeypatch.setattr("service.table_blocks.AT_ONCE", 1)
    bundle = refreshed(others, "eta", NEWER, 2)
    published(store_url, bundle)
    with reading(tiny.bundles, store_url, cache_bytes=1, limit_s=0) as (scorer, *_):
        answer = ask(scorer)
        assert answer.degraded == ["store_timeout"]
        assert np.isfinite(answer.scores).all()


def test_a_scorer_starts_without_its_store_goes_over_and_loses_it_again(shared_tiny, tmp_path):
    """A real process: first the bundle's tables, then the published ones; every answer is a 200."""
    others = Tiny(tmp_path, shared_tiny.data, shared_tiny.schema, shared_tiny.registry)
    bundle = refreshed(others, "eta", NEWER, 2)
    body = {"user_id": "nobody", "item_ids": list(ITEMS), "model": "eta", "at": 1000}
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        settings = {"tables": "store", "table_poll_s": 0.1, "store_timeout_ms": 300}
        with scorer_process(shared_tiny.bundles, store.url, **settings) as client:
            own = client.post("/score", json=body)
            assert (own.status_code, own.json()["degraded"]) == (200, ["store_down"])
            store.start()
            shared_tiny.fill(store.url)
            published(store.url, bundle)
            until(lambda: client.post("/score", json=body).json()["scores"] != own.json()["scores"])
            new = until(lambda: (a := client.post("/score", json=body).json())["degraded"] == [] and a)
            store.kill()
            down = client.post("/score", json=body)
            assert (down.status_code, down.json()["degraded"]) == (200, ["store_down"])
            assert down.json()["scores"] == new["scores"]  # of blocks that are cached
            text = client.get("/metrics").text
            assert 'ctr_table_refresh_total{result="ok"} 1.0' in text
            assert 'ctr_table_refresh_total{result="failed"}' in text
        store.kill()


# age


@pytest.mark.parametrize("form", ["bundle", "store"])
def test_old_tables_are_stale_and_the_answer_says_so(tiny, served_folder, store_url, monkeypatch, form):
    """Both forms: the bundle's are as old as its version."""
    now = 2_000_000_000
    monkeypatch.setattr("store.publish.time.time", lambda: now - 100)
    if form == "store":
        published(store_url, Bundle(served_folder))
    monkeypatch.setattr("service.bundles.time.time", lambda: now)
    age = 100 if form == "store" else now - 1_769_860_800  # 2026-01-31T12:00:00Z
    for limit, words in ((age - 1, ["table_stale"]), (age + 1, []), (0, [])):
        with reading(tiny.bundles, store_url, table_max_age_s=limit) as (scorer, _, metrics):
            assert ask(scorer).degraded == words
            assert counted(metrics, "ctr_table_age_seconds", model="eta") == age


def test_publishing_the_same_again_makes_the_tables_young_again(tiny, served_folder, store_url, monkeypatch):
    monkeypatch.setattr("store.publish.time.time", lambda: 1000)
    published(store_url, Bundle(served_folder))
    with reading(tiny.bundles, store_url) as (scorer, refresher, metrics):
        assert scorer.bundles.get("eta").tables.made_at == 1000
        monkeypatch.setattr("store.publish.time.time", lambda: 2000)
        published(store_url, Bundle(served_folder))
        refresher.poll()
        assert scorer.bundles.get("eta").tables.made_at == 2000
        assert counted(metrics, "ctr_table_refresh_total", result="ok") == 2


def test_hits_and_misses_are_counted(tiny, served_folder, store_url):
    version = published(store_url, Bundle(served_folder)).published.version
    with reading(tiny.bundles, store_url) as (scorer, _, metrics):
        start = [counted(metrics, f"ctr_table_cache_{name}_total") for name in ("hits", "misses")]
        ask(scorer)
        ask(scorer)
        hits, misses = (
            counted(metrics, f"ctr_table_cache_{name}_total") - was for name, was in zip(("hits", "misses"), start, strict=True)
        )
        assert (hits, misses) == (2 * (3 + 3), 0)  # three blocks of each table: all were made ready
        assert counted(metrics, "ctr_table_cache_bytes") == 8 * 8 + 8 * 8
        assert counted(metrics, "ctr_table_version_info", model="eta", version=version) == 1
        assert counted(metrics, "ctr_table_version_info", model="eta", version=VERSION) == 0
