"""Keys and passwords are in no line of a log, in no answer and in no metric, whatever goes wrong."""

import os
import signal
import subprocess
import sys
import tempfile

import httpx
import pytest

from service.__main__ import main
from store.connection import connect
from store.embedded import embedded_store
from tests.service.tiny import ITEMS
from tests.world import ROOT, free_port, wait_until_live

PASSWORD, KEY, ADMIN_KEY, TRIED = "pass-w0rd-of-the-store", "the-sc0ring-key", "the-adm1n-key", "a-key-that-is-tr1ed"
SECRETS = (PASSWORD, KEY, ADMIN_KEY)


@pytest.fixture(scope="module")
def store(tmp_path_factory, shared_tiny):
    """A store of its own with a user and a password, filled."""
    with embedded_store(tmp_path_factory.mktemp("locked-store"), borrow=False) as url:
        shared_tiny.fill(url)
        client = connect(url)
        client.execute_command("ACL", "SETUSER", "scorer", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        client.close()
        yield url.removeprefix("unix://")


def ran(bundles, url, **settings):
    """What a scorer answers, and what it has logged when it has ended."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    environment |= {
        "CTR_BUNDLES": str(bundles), "CTR_PORT": str(port), "CTR_REDIS_URL": url, "CTR_API_KEY": KEY, "CTR_DRAIN_MS": "0",
        "CTR_ADMIN_API_KEY": ADMIN_KEY, "CTR_MODEL": "din", "PYTHONFAULTHANDLER": "1", **settings,
    }  # fmt: skip
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=log, stdout=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as client:
                wait_until_live(client, process, log)
                answers = "\n".join(f"{answer.status_code} {answer.headers} {answer.text}" for answer in calls(client))
        finally:
            process.terminate()
            process.wait(30)
        log.seek(0)
        return answers, log.read()


def calls(client):
    """Good ones, and as many bad ones as there are ways to be refused."""
    score = {"user_id": "u1", "item_ids": list(ITEMS)}
    event = {"events": [{"user_id": "u2", "item_id": "i1", "ts": 5}]}
    for headers in (
        {},
        {"authorization": f"Bearer {TRIED}"},
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"Bearer {ADMIN_KEY}"},
    ):
        yield client.post("/score", json=score, headers=headers)
        yield client.post("/score", json=score | {"at": -1}, headers=headers)
        yield client.post("/score", content=b"{", headers=headers | {"content-type": "application/json"})
        yield client.post("/events", json=event, headers=headers)
        yield client.get("/users/u1/behaviours", headers=headers)
        yield client.delete("/users/nobody", headers=headers)
        yield client.post("/v2/models/din/infer", json={}, headers=headers)
        yield client.post("/v2/repository/index", headers=headers)
        yield client.post("/v2/repository/models/nobody/load", headers=headers)
        for path in ("/v2", "/metrics", "/openapi.json", "/docs", "/nowhere", "/admin/models/din/labels"):
            yield client.get(path, headers=headers)


@pytest.mark.parametrize("fault", ["none", "wrong password", "nobody there"])
def test_no_secret_is_logged_or_answered(shared_tiny, store, fault):
    url = {
        "none": f"unix://scorer:{PASSWORD}@{store}",
        "wrong password": f"unix://scorer:{PASSWORD}-wrong@{store}",
        "nobody there": f"redis://scorer:{PASSWORD}@127.0.0.1:1/0",
    }[fault]
    answers, logged = ran(shared_tiny.bundles, url)
    degraded = {"none": "[]", "wrong password": '["store_error"]', "nobody there": '["store_down"]'}[fault]
    assert f'"degraded":{degraded}' in answers  # the test sees what it should
    assert "serving din:" in logged
    assert [secret for secret in (*SECRETS, TRIED) if secret in answers or secret in logged] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"CTR_REDIS_URL": f"redis://x:{PASSWORD}@host:not-a-port"},
        {"CTR_REDIS_URL": f"http://x:{PASSWORD}@host"},
        {"CTR_REDIS_READ_URL": f"redis://x:{PASSWORD}@host/what"},
        {"CTR_EVENTS_URL": f"http://x:{PASSWORD}@host"},
        {"CTR_ADMIN_API_KEY": KEY},
        {"CTR_PORT": "none"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_refused_start_names_the_setting_and_no_secret(settings, monkeypatch, capsys, caplog):
    for name, value in ({"CTR_API_KEY": KEY} | settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["service"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    said = f"{ended.value.code} {capsys.readouterr()} {caplog.text}"
    assert next(iter(settings)) in said
    assert [secret for secret in SECRETS if secret in said] == []
