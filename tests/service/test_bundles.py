import json
import shutil

import numpy as np
import onnx
import pytest

from service.attend import attend
from service.bundles import Bundles
from service.errors import NoModel, UnknownModel
from service.labels import Labels
from service.loading import Loading
from service.metrics import Metrics
from store.bundle import GOLDEN, GRAPH, ITEM_VECTOR, MANIFEST, REGISTRY, BundleInvalid
from tests.service.serving import served
from tests.service.tiny import HISTORY, ITEMS, VERSION, Tiny, sign_again

OLDER, NEWER = "20250131T120000Z", "20270131T120000Z"


@pytest.fixture
def two(tiny):
    """An installation with two models."""
    tiny.add("din")
    tiny.add("sim_hard")
    return tiny


def opened(folder, data="", default="", metrics=None):
    return Bundles(folder, data, default, Loading("cpu", 1), metrics or Metrics())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def rewrite_manifest(folder, change):
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_arrays(path, **changes):
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **{**content, **{name: change(content[name]) for name, change in changes.items()}})


FILES = [GRAPH, f"{ITEM_VECTOR}.npy", REGISTRY, GOLDEN]
DAMAGES = {
    **{f"truncated {name}": (lambda folder, name=name: truncate(folder / name), f"{name}: sha256") for name in FILES},
    **{f"altered {name}": (lambda folder, name=name: alter(folder / name), f"{name}: sha256") for name in FILES},
    **{f"without {name}": (lambda folder, name=name: (folder / name).unlink(), f"{name}: missing") for name in FILES},
    "without a manifest": (lambda folder: (folder / MANIFEST).unlink(), "never finished"),
    "truncated manifest": (lambda folder: truncate(folder / MANIFEST), MANIFEST),
    "another format": (
        lambda folder: rewrite_manifest(folder, lambda content: content.update(format=1)),
        "bundle format 1, this version reads 2",
    ),
    "no format": (lambda folder: rewrite_manifest(folder, lambda content: content.pop("format")), "bundle format None"),
    "another schema version": (
        lambda folder: rewrite_manifest(folder, lambda content: content["schema"].update(version="0" * 16)),
        "schema version 0000",
    ),
    "a field too few": (lambda folder: rewrite_manifest(folder, lambda content: content.pop("base_rate")), "base_rate"),
    "a field too many": (lambda folder: rewrite_manifest(folder, lambda content: content.update(extra=1)), "extra"),
    "an unknown search": (
        lambda folder: rewrite_manifest(folder, lambda content: content["search"].update(name="guess")), "search.name",
    ),
    "a file outside the folder": (
        lambda folder: rewrite_manifest(folder, lambda content: content["files"].update({"../secret.npy": "0"})), "files",
    ),
    "another version's manifest": (
        lambda folder: rewrite_manifest(folder, lambda content: content.update(version=OLDER)), f"says sim_hard/{OLDER}",
    ),
    "golden scores off by 0.01": (
        lambda folder: (rewrite_arrays(folder / GOLDEN, scores=lambda scores: scores + np.float32(0.01)), sign_again(folder)),
        "golden scores differ by 0.01, tolerance 1e-05",
    ),
    "one golden score off": (
        lambda folder: (
            rewrite_arrays(folder / GOLDEN, scores=lambda scores: scores + np.eye(1, 6, 4, dtype=np.float32)[0] * 2e-5),
            sign_again(folder),
        ),
        "golden scores differ by 2e-05",
    ),
    "a golden score of NaN": (
        lambda folder: (rewrite_arrays(folder / GOLDEN, scores=lambda scores: scores * np.float32(np.nan)), sign_again(folder)),
        "golden scores differ by nan",
    ),
    "a table of NaN": (
        lambda folder: (np.save(folder / f"{ITEM_VECTOR}.npy", np.full((8, 2), np.nan, np.float32)), sign_again(folder)),
        "NaN or infinity",
    ),
    "a table with a row too few": (
        lambda folder: (np.save(folder / f"{ITEM_VECTOR}.npy", np.zeros((7, 2), np.float32)), sign_again(folder)),
        "7 rows, the manifest says item_rows 8",
    ),
    "a table too wide for the graph": (
        lambda folder: (np.save(folder / f"{ITEM_VECTOR}.npy", np.zeros((8, 3), np.float32)), sign_again(folder)),
        "the golden request fails",
    ),
    "a table of another type": (
        lambda folder: (np.save(folder / f"{ITEM_VECTOR}.npy", np.zeros((8, 2))), sign_again(folder)), "float64 with 2 axes",
    ),
    "golden behaviours without a time each": (
        lambda folder: (rewrite_arrays(folder / GOLDEN, ts=lambda ts: ts[1:]), sign_again(folder)),
        "behaviours or context do not fit the schema",
    ),
    "a golden row beyond the graph's table": (
        lambda folder: (rewrite_arrays(folder / GOLDEN, candidate_row=lambda row: row + 99), sign_again(folder)),
        "a row beyond item_rows 8",
    ),
    "another registry": (lambda folder: sign_again(folder, registry_id="0123456789abcdef"), "the manifest says 0123456789abcdef"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_bundle_is_refused_with_the_reason_and_the_others_are_served(two, damage):
    make, text = DAMAGES[damage]
    make(two.bundles / "sim_hard" / VERSION)
    bundles = opened(two.bundles)
    assert bundles.names == ["din"]
    assert list(bundles.admission.refused) == [f"sim_hard:{VERSION}"]
    assert text in bundles.admission.refused[f"sim_hard:{VERSION}"]


def flip(path, content):
    """Change one bit of a known piece of content: the archive's own checksum no longer fits."""
    whole = path.read_bytes()
    path.write_bytes(whole.replace(content, content[:-1] + bytes([content[-1] ^ 1])))
    assert path.read_bytes() != whole


def twice(model):
    """A graph that answers every logit two times."""
    last = next(node for node in model.graph.node if "logit" in node.output)
    last.output[0] = "once"
    model.graph.node.append(onnx.helper.make_node("Concat", ["once", "once"], ["logit"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "C2"
    return model


# their digests fit, and yet they cannot be served
CONTRADICTIONS = {
    "an unreadable registry": ("sim_hard", lambda folder: flip(folder / REGISTRY, b"i1i2i3i4i5i6")),
    "an unreadable golden request": (
        "sim_hard", lambda folder: flip(folder / GOLDEN, np.array([ts for _, ts, _ in HISTORY], np.int64).tobytes()),
    ),
    "a golden row beyond the search's tables": (
        "eta", lambda folder: rewrite_arrays(folder / GOLDEN, candidate_row=lambda row: row + 99),
    ),
    "more golden candidates than scores": (
        "sim_hard", lambda folder: rewrite_arrays(folder / GOLDEN, scores=lambda scores: scores[:-1]),
    ),
    "one golden score for all candidates": (
        "sim_hard", lambda folder: rewrite_arrays(folder / GOLDEN, scores=lambda scores: scores[:1]),
    ),
    "no golden candidates": (
        "sim_hard", lambda folder: rewrite_arrays(
            folder / GOLDEN, **dict.fromkeys(("candidate_row", "candidate_category", "scores"), lambda array: array[:0])
        ),
    ),
    "logits of another shape": ("sim_hard", lambda folder: onnx.save(twice(onnx.load(folder / GRAPH)), folder / GRAPH)),
}  # fmt: skip


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_a_bundle_that_contradicts_itself_is_refused_and_the_others_are_served(tiny, contradiction):
    model, make = CONTRADICTIONS[contradiction]
    tiny.add("din")
    folder = tiny.add(model)
    make(folder)
    sign_again(folder)
    assert opened(tiny.bundles).names == ["din"]


def test_a_whole_installation_refuses_nothing(two):
    bundles = opened(two.bundles)
    assert bundles.names == ["din", "sim_hard"]
    assert (bundles.admission.refused, bundles.admission.skipped) == ({}, {})


def test_a_refusal_names_the_file(two):
    path = two.bundles / "sim_hard" / VERSION / GRAPH
    alter(path)
    with pytest.raises(BundleInvalid, match=str(path)):
        Loading("cpu", 1).load(path.parent)


def test_a_refusal_is_logged(two, caplog):
    alter(two.bundles / "sim_hard" / VERSION / GRAPH)
    opened(two.bundles)
    assert "bundle refused" in caplog.text
    assert "sha256" in caplog.text


def test_loads_and_refusals_are_counted(two):
    alter(two.bundles / "sim_hard" / VERSION / GRAPH)
    metrics = Metrics()
    opened(two.bundles, metrics=metrics)
    count = metrics.registry.get_sample_value
    assert count("ctr_model_load_total", {"result": "ok"}) == 1
    assert count("ctr_model_load_total", {"result": "refused"}) == 1
    assert count("ctr_model_info", {"model": "din", "version": VERSION, "provider": "cpu"}) == 1


def test_the_newest_version_is_served(two):
    two.add("din", NEWER)
    two.add("din", OLDER)
    assert opened(two.bundles).get("din").bundle.manifest.version == NEWER


def test_an_older_good_version_is_served_when_the_newest_is_bad(two):
    alter(two.add("din", NEWER) / GRAPH)
    bundles = opened(two.bundles)
    assert bundles.get("din").bundle.manifest.version == VERSION
    assert list(bundles.admission.refused) == [f"din:{NEWER}"]


def test_a_version_without_a_manifest_is_not_served(two):
    two.add("din", NEWER, finished=False)
    assert opened(two.bundles).get("din").bundle.manifest.version == VERSION


def test_what_is_no_version_is_not_looked_at(two):
    (two.bundles / "README.md").write_text("not a model")
    (two.bundles / "din" / "latest").mkdir()
    (two.bundles / "empty").mkdir()
    bundles = opened(two.bundles)
    assert (bundles.names, bundles.admission.refused) == (["din", "sim_hard"], {})


def test_bundles_of_another_data_set_are_skipped_with_the_reason(two):
    Tiny.at(two.bundles, "other").add("eta", OLDER)
    bundles = opened(two.bundles)
    assert bundles.names == ["din", "sim_hard"]
    assert bundles.admission.skipped == {f"eta:{OLDER}": f"data set other, this scorer serves {two.data}"}
    assert bundles.admission.refused == {}


def test_the_data_set_is_the_newest_bundles(two):
    Tiny.at(two.bundles, "other").add("eta", NEWER)
    bundles = opened(two.bundles)
    assert (bundles.data, bundles.names) == ("other", ["eta"])


def test_the_data_set_can_be_chosen(two):
    Tiny.at(two.bundles, "other").add("eta", NEWER)
    bundles = opened(two.bundles, data=two.data)
    assert (bundles.data, bundles.names) == (two.data, ["din", "sim_hard"])


def test_a_newer_version_for_another_data_set_does_not_hide_the_own_one(two):
    Tiny.at(two.bundles, "other").add("din", NEWER)
    assert opened(two.bundles, data=two.data).get("din").bundle.manifest.version == VERSION


def test_a_bad_newest_bundle_of_another_data_set_takes_nothing_away(two):
    alter(Tiny.at(two.bundles, "other").add("eta", NEWER) / GRAPH)
    assert opened(two.bundles).names == ["din", "sim_hard"]


def test_a_loaded_bundle_is_warm(two):
    assert "index" in opened(two.bundles).get("din").bundle.registry.__dict__


# which bundle a request asks for


def test_a_model_is_asked_for_by_name_or_by_name_and_version(two):
    bundles = opened(two.bundles)
    assert bundles.get("din") is bundles.get(f"din:{VERSION}")


@pytest.mark.parametrize("asked", ["twin", f"din:{OLDER}", "din:latest", f"sim:{VERSION}", ":", "DIN", "../din"])
def test_an_unknown_model_or_version_lists_the_known_ones(two, asked):
    with pytest.raises(UnknownModel) as caught:
        opened(two.bundles).get(asked)
    assert asked in caught.value.detail
    assert f"din:{VERSION}, sim_hard:{VERSION}" in caught.value.detail


def test_the_only_model_is_the_default(tiny):
    tiny.add("sim_hard")
    assert opened(tiny.bundles).get(None).bundle.manifest.model == "sim_hard"


def test_the_default_can_be_set(two):
    assert opened(two.bundles, default="din").get(None).bundle.manifest.model == "din"


def test_the_default_can_be_set_to_a_version(two):
    assert opened(two.bundles, default=f"din:{VERSION}").get(None).bundle.manifest.model == "din"


def test_twin_is_the_default_of_several(two):
    shutil.copytree(two.bundles / "din", two.bundles / "twin")
    rewrite_manifest(two.bundles / "twin" / VERSION, lambda content: content.update(model="twin"))
    assert opened(two.bundles).get(None).bundle.manifest.model == "twin"


def test_several_without_twin_and_without_a_default_are_told(two):
    with pytest.raises(UnknownModel, match="known are din"):
        opened(two.bundles).get(None)


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_a_folder_without_bundles_loads_nothing(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    bundles = opened(tmp_path / folder)
    assert bundles.names == []
    with pytest.raises(NoModel):
        bundles.get(None)


def test_when_nothing_is_loaded_the_refusals_say_why(tiny):
    alter(tiny.add("din") / GRAPH)
    with pytest.raises(NoModel, match="sha256"):
        opened(tiny.bundles).get("din")


# over HTTP


def test_with_every_bundle_refused_the_service_lives_and_is_not_ready(tiny):
    alter(tiny.add("din") / GRAPH)
    with served(tiny.bundles) as (client, _):
        assert client.get("/v2/health/live").status_code == 200
        ready = client.get("/v2/health/ready")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
        response = client.post("/score", json={"user_id": "u1", "item_ids": list(ITEMS)})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["title"] == "no model is loaded"


def test_with_one_bundle_refused_the_others_are_ready_and_score(two):
    alter(two.bundles / "sim_hard" / VERSION / GRAPH)
    with served(two.bundles) as (client, _):
        assert client.get("/v2/health/ready").json() == {"ready": True, "models": ["din"]}
        assert client.post("/score", json={"user_id": "u1", "item_ids": ["i1"], "model": "din"}).status_code == 200
        missing = client.post("/score", json={"user_id": "u1", "item_ids": ["i1"], "model": "sim_hard"})
        assert missing.status_code == 404
        assert f"din:{VERSION}" in missing.json()["detail"]


def labelled(metrics):
    """Model, label and version of what the metrics say has a label."""
    (family,) = [family for family in metrics.registry.collect() if family.name == "ctr_model_label_info"]
    return {tuple(one.labels[name] for name in ("model", "label", "version")) for one in family.samples if one.value == 1}


def test_the_metrics_say_which_version_has_which_label(two):
    two.add("din", OLDER)
    metrics = Metrics()
    bundles = opened(two.bundles, metrics=metrics)
    others = {("sim_hard", "stable", VERSION)}
    assert labelled(metrics) == {("din", "stable", VERSION)} | others
    bundles.label("din", Labels(stable=OLDER, shadow=VERSION))
    assert labelled(metrics) == {("din", "stable", OLDER), ("din", "shadow", VERSION)} | others
    bundles.load("din", VERSION)  # which is then no shadow of itself
    assert labelled(metrics) == {("din", "stable", VERSION)} | others
    bundles.unload("din")
    assert labelled(metrics) == others


def test_a_model_is_ready_for_a_usual_request_before_the_first_one(two, monkeypatch):
    """onnxruntime asks for memory when it first runs with so many candidates, 20 ms of the first request otherwise."""
    seen = []

    def counted(graph, searched, *rest):
        seen.append(searched.inputs["candidate_row"].size)
        return attend(graph, searched, *rest)

    monkeypatch.setattr("service.loading.attend", counted)
    Loading("cpu", 1).load(two.bundles / "sim_hard" / VERSION)
    assert max(seen) >= 500
