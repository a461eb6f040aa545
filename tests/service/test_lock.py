"""What nobody gets in by: long, deep and packed bodies, names that are paths, pickles, keys in the wrong place."""

import ast
import gzip
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import service.bundles
from service import access
from service.bundles import Bundles
from service.errors import UnknownModel
from service.labels import Labels
from service.loading import Loading
from service.metrics import Metrics
from store.bundle import GOLDEN, REGISTRY
from tests.service.serving import served
from tests.service.tiny import ITEMS, VERSION, sign_again
from tests.test_layout import imported, modules

SCORE = {"user_id": "u1", "item_ids": list(ITEMS), "model": "din"}
ADMIN = {"authorization": "Bearer admin-secret"}
INFER = "/v2/models/din/infer"


@pytest.fixture(scope="module")
def running(shared_tiny):
    with served(shared_tiny.bundles, max_body_bytes=20_000, api_key="scoring-secret", admin_api_key="admin-secret") as (
        client,
        _,
    ):
        client.headers["authorization"] = "Bearer scoring-secret"
        yield client


# bodies


@pytest.mark.parametrize("path", ["/score", "/events", INFER])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"item_ids":', b"}")])
@pytest.mark.parametrize(("depth", "status"), [(1_000, 422), (1_100, 400)])
def test_a_deep_body_is_a_400(running, path, opening, closing, depth, status):
    """Whole documents: only their depth is at fault."""
    answer = running.post(path, content=opening * depth + b"1" + closing * depth, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert ("depth limit" in answer.text) == (status == 400)


@pytest.mark.parametrize("path", ["/score", "/events", INFER, "/v2/repository/models/din/load"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_beyond_the_limit_is_a_413(running, path, streamed):
    """Stated in content-length, or found while it comes."""
    body = json.dumps(SCORE).encode() + b" " * 20_000
    content = iter([body[:100], body[100:]]) if streamed else body
    answer = running.post(path, content=content, headers={"content-type": "application/json"} | _key_of(path))
    assert answer.status_code == 413
    assert "limit 20000" in answer.text
    assert ("more than" in answer.text) == streamed  # what is stated is refused unread


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress, lambda body: body], ids=["gzip", "deflate", "br"])
@pytest.mark.parametrize("path", ["/score", "/events", INFER, "/v2/repository/models/din/load"])
def test_a_packed_body_is_not_unpacked(running, path, packed, request):
    """10 MB in 10 KB: never inflated, so never too large."""
    how = request.node.callspec.id.split("-")[-1]
    headers = {"content-type": "application/json", "content-encoding": how} | _key_of(path)
    answer = running.post(path, content=packed(b" " * 10_000_000)[:15_000], headers=headers)
    assert answer.status_code == 415
    assert f"content-encoding: {how}" in answer.text


def _key_of(path):
    return ADMIN if "repository" in path else {}


# keys


@pytest.mark.parametrize("given", ["scoring-secre", "scoring-secret2", "x", "Scoring-secret", "admin-secret", "scöring"])
def test_only_the_scoring_key_scores(running, given):
    headers = {"authorization": f"Bearer {given}".encode()}
    assert running.post("/score", json=SCORE, headers=headers).status_code == 401
    assert running.post("/score", json=SCORE).status_code == 200


def test_a_key_need_not_be_ascii(shared_tiny):
    with served(shared_tiny.bundles, api_key="schlüssel") as (client, _):
        assert client.get("/v2", headers={"authorization": "Bearer schlüssel".encode()}).status_code == 200
        assert client.get("/v2", headers={"authorization": b"Bearer schl\xfcssel"}).status_code == 401


def test_keys_are_compared_in_constant_time_and_nowhere_else(running, monkeypatch):
    compared = []
    digest = access.hmac.compare_digest
    monkeypatch.setattr(access.hmac, "compare_digest", lambda *both: compared.append(both) or digest(*both))
    running.post("/score", json=SCORE)
    running.post("/v2/repository/index")
    assert [both[1] for both in compared] == [b"scoring-secret", b"admin-secret", b"scoring-secret"]
    reads = {path.name for path in modules("service") if "api_key.get_secret_value()" in path.read_text()}
    assert reads == {"access.py", "settings.py"}


# names


@pytest.fixture(scope="module")
def inside(tmp_path_factory, shared_tiny):
    """A folder of bundles with links that lead out of it, to bundles that could be served."""
    folder = tmp_path_factory.mktemp("inside") / "bundles"
    (folder / "eta").mkdir(parents=True)
    (folder / "din").symlink_to(shared_tiny.bundles / "din")
    (folder / "eta" / VERSION).symlink_to(shared_tiny.bundles / "eta" / VERSION)
    shutil.copytree(shared_tiny.bundles / "sim_hard", folder / "sim_hard", copy_function=os.link)
    return Bundles(folder, "", "", Loading("cpu", 1), Metrics())


def test_links_that_lead_out_of_the_folder_are_not_there(inside, caplog):
    Bundles(inside._folder, "", "", Loading("cpu", 1), Metrics())
    assert [name in caplog.text for name in ("din is left out", f"eta/{VERSION} is left out")] == [True, True]
    assert inside.names == ["sim_hard"]
    assert [one["name"] for one in inside.states()] == ["sim_hard"]
    for model in ("din", "eta"):
        with pytest.raises(UnknownModel):
            inside.load(model)
    with pytest.raises(UnknownModel):
        inside.load("eta", VERSION)


PIECES = ["..", ".", "/", "\\", "%2f", "%2e%2e", "\0", "din", "eta", "sim_hard", "bundles", VERSION, "~", ":", "*", " ", "ü"]
names = st.lists(st.sampled_from(PIECES), max_size=7).map("".join) | st.text(max_size=12)
of_versions = names | st.just(VERSION) | st.none()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, of_versions)
def test_no_name_leaves_the_folder(inside, monkeypatch, model, version):
    """Whatever is asked for: what is not there is unknown, and nothing is opened."""
    asked = model if version is None else f"{model}:{version}"
    assume(asked not in ("", "sim_hard", f"sim_hard:{VERSION}", "sim_hard:stable"))
    monkeypatch.setattr(Loading, "load", lambda _, folder: pytest.fail(f"opened {folder}"))
    monkeypatch.setattr(service.bundles, "write_labels", lambda folder, _: pytest.fail(f"wrote to {folder}"))
    with pytest.raises(UnknownModel):
        inside.load(model, version)
    with pytest.raises(UnknownModel):
        inside.get(asked)
    if model != "sim_hard":
        with pytest.raises(UnknownModel):
            inside.label(model, Labels(stable=VERSION))
        with pytest.raises(UnknownModel):
            inside.unload(model)


PATHS = [
    "..%2f..%2fetc", "%2e%2e", "..", "din%2f..%2fdin", "%00", "din%00", "%2fetc%2fpasswd", "~root", "din:stable", "a" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("model", PATHS)
@pytest.mark.parametrize("path", ["/v2/models/{}/infer", "/v2/repository/models/{}/load", "/v2/repository/models/{}/unload"])
def test_no_path_of_a_call_leaves_the_folder(running, model, path):
    answer = running.post(path.format(model), json={}, headers=_key_of(path))
    assert answer.status_code in (404, 405, 422)
    assert "root:" not in answer.text


@pytest.mark.parametrize("model", ["..", "../../etc", "/etc", "\0", "din/../eta", "%2e%2e"])
def test_no_model_of_a_body_leaves_the_folder(running, model):
    assert running.post("/score", json=SCORE | {"model": model}).status_code == 404


# pickles

UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}


@pytest.mark.parametrize("path", [path for package in ("service", "store") for path in modules(package)], ids=lambda p: p.name)
def test_nothing_is_loaded_by_pickle(path):
    assert imported(path) & UNPICKLING == set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            allowed = [word.value for word in node.keywords if word.arg == "allow_pickle"]
            assert all(isinstance(value, ast.Constant) and value.value is False for value in allowed), path
            assert not any(word.arg is None and "pickle" in ast.dump(word.value) for word in node.keywords)


class Harm:
    """What a pickle would run."""

    def __reduce__(self):
        return Path.touch, (Path("/tmp/was-unpickled"),)


@pytest.mark.parametrize("name", [GOLDEN, REGISTRY, "item_vector.npy"])
def test_a_table_that_is_a_pickle_is_refused(tiny, tmp_path, monkeypatch, name):
    marker = tmp_path / "unpickled"
    monkeypatch.setattr(Harm, "__reduce__", lambda _: (Path.touch, (marker,)))
    folder = tiny.add("din")
    path, harmful = folder / name, np.array([Harm()], object)
    if name.endswith(".npz"):
        with np.load(path) as arrays:
            content = dict(arrays)
        np.savez(path, **content | {next(iter(content)): harmful})
    else:
        np.save(path, harmful, allow_pickle=True)
    sign_again(folder)
    bundles = Bundles(tiny.bundles, "", "", Loading("cpu", 1), Metrics())
    assert bundles.names == []
    assert not marker.exists()
