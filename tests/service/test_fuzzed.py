"""Calls made up from the API's description and against it, and bytes that are none: no answer is a 5xx, the scorer lives."""

import json
import os

import pytest

import service.calls
from loadtest.proofs.fuzz import fuzz, fuzz_rows
from loadtest.proofs.openapi import answers_of, made_calls, openapi_rows
from tests.service.own_store import OwnStore
from tests.service.serving import served
from tests.service.tiny import ITEMS

GOOD = json.dumps({"user_id": "u1", "item_ids": list(ITEMS), "model": "din"}).encode()
EXAMPLES, RAW_S = 1, float(os.environ.get("FUZZ_S", "4"))


@pytest.fixture
def scorer(tiny, tmp_path):
    """Two models, so that one can be unloaded, over a store that a test may fill with anything."""
    tiny.add("din")
    tiny.add("eta")
    store = OwnStore(tmp_path / "store")
    (tmp_path / "store").mkdir()
    store.start()
    tiny.fill(store.url)
    with served(tiny.bundles, store.url, model="din", admin_api_key="admin") as (client, _):
        yield str(client.base_url).rstrip("/"), client.base_url.port
    store.kill()


def test_no_call_made_from_the_description_is_answered_with_a_5xx(scorer):
    url, _ = scorer
    rows = openapi_rows(made_calls(url, "admin", EXAMPLES, "eta"), answers_of(url))
    assert [row.value for row in rows if not row.met] == []
    assert rows[0].n > 300


def test_no_bytes_are_answered_with_a_5xx(scorer):
    _, port = scorer
    seen = fuzz(port, GOOD, RAW_S, "eta")
    assert [row.value for row in fuzz_rows(seen, RAW_S) if not row.met] == []
    assert seen.cases > 50
    assert {"2xx", "4xx"} <= set(seen.kinds)


def test_a_bug_is_found(scorer, monkeypatch):
    """The control: a scorer that breaks on some calls."""
    _, port = scorer

    def broken(request, *arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(service.calls, "score", broken)
    assert not fuzz_rows(fuzz(port, GOOD, 1.0, "eta"), 1.0)[0].met
