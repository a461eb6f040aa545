import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest

from store import bundle
from store.bundle import Bundle, BundleInvalid, Manifest, new_version, read_manifest, sha256, versions, write_manifest
from store.registry import Registry
from store.schema import CrossFeature, Schema
from store.search.hamming import HammingSearch
from tests.store.events import events_of
from tests.store.refusals import refusal_of

MODEL, VERSION = "eta", "20260131T120000Z"
REGISTRY = Registry.build("d", ["i2", "i3", "i4"], ["tea", "milk", "tea"])
ITEM_ROWS = REGISTRY.item_rows
SCHEMA = Schema(data="d", cross_features=[CrossFeature(name="price", edges=[1.0])], context=[])
VECTORS = np.linspace(-1, 1, ITEM_ROWS * 4, dtype=np.float32).reshape(ITEM_ROWS, 4)
SIGNATURES = np.arange(ITEM_ROWS, dtype=np.uint64)
TABLES = {
    "item_vector": {"name": "item_vector", "dtype": "float32", "axes": ["N", "D"]},
    "signature": {"name": "signature", "dtype": "uint64", "axes": ["N"]},
}
FIELDS = {
    "model": MODEL, "version": VERSION, "data": "d", "registry_id": REGISTRY.registry_id, "item_rows": ITEM_ROWS,
    "schema": SCHEMA, "search": {"name": "hamming", "k": 2}, "recent": 0,
    "inputs": [{"name": "candidate_row", "dtype": "int32", "axes": ["U", "G", "S"]}],
    "outputs": [{"name": "logit", "dtype": "float32", "axes": ["U", "P"]}],
    "tables": TABLES, "explains": True, "base_rate": 0.25, "calibrated": False,
    "training": {"seed": 1}, "made_with": {"python": "3"},
}  # fmt: skip
FILES = ["golden.npz", "item_vector.npy", "registry.npz", "score.onnx", "signature.npy"]


@pytest.fixture
def folder(tmp_path):
    """A tiny whole bundle of the model eta; nothing reads its graph."""
    folder = tmp_path / MODEL / VERSION
    folder.mkdir(parents=True)
    (folder / "score.onnx").write_bytes(b"any bytes")
    np.save(folder / "item_vector.npy", VECTORS)
    np.save(folder / "signature.npy", SIGNATURES)
    REGISTRY.save(folder / "registry.npz")
    np.savez(
        folder / "golden.npz",
        candidate_row=np.array([2, 4], np.int32), candidate_category=np.array([2, 2], np.int32),
        row=np.array([3], np.int32), category=np.array([3], np.int32), ts=np.array([10]), cross=np.array([[1]], np.uint8),
        at=np.array(20), context=np.zeros(0, np.int32), scores=np.array([0.25, 0.5], np.float32),
    )  # fmt: skip
    write_manifest(folder, FIELDS)
    return folder


def edit(folder, change):
    """Change what the manifest says."""
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def replace(folder, name, content):
    """Put another file in place, made by `content(path)`, and its true digest into the manifest."""
    content(folder / name)
    edit(folder, lambda manifest: manifest["files"].update({name: sha256(folder / name)}))


def refused(folder, match):
    with pytest.raises(BundleInvalid, match=match):
        Bundle(folder)


# A whole bundle


def test_a_whole_bundle_opens(folder):
    opened = Bundle(folder)
    assert opened.name == f"{MODEL}:{VERSION}"
    assert (opened.manifest.item_rows, opened.manifest.base_rate) == (ITEM_ROWS, 0.25)


def test_its_tables_are_what_was_saved(folder):
    tables = Bundle(folder).tables
    np.testing.assert_array_equal(tables["item_vector"], VECTORS)
    np.testing.assert_array_equal(tables["signature"], SIGNATURES)


def test_its_tables_are_mapped_and_cannot_be_written_to(folder):
    table = Bundle(folder).tables["item_vector"]
    assert isinstance(table.base, np.memmap)
    assert not table.flags.writeable


def test_its_search_runs_over_its_tables(folder):
    search = Bundle(folder).search
    assert isinstance(search, HammingSearch)
    assert search.k == 2
    np.testing.assert_array_equal(search.signature, SIGNATURES)


def test_its_registry_is_the_snapshot_it_was_trained_on(folder):
    assert Bundle(folder).registry.row_of == {"i2": 2, "i3": 3, "i4": 4}


def test_its_golden_request_comes_back(folder):
    golden = Bundle(folder).golden
    assert (golden.candidates.row.tolist(), golden.candidates.category.tolist()) == ([2, 4], [2, 2])
    assert events_of(golden.behaviours) == [(3, 3, 10, 1)]
    assert (golden.at, golden.scores.tolist()) == (20, [0.25, 0.5])


def test_its_manifest_comes_back_as_it_was_written(folder):
    assert read_manifest(folder) == Manifest.model_validate({**FIELDS, "files": {name: sha256(folder / name) for name in FILES}})


def test_a_manifest_names_every_other_file(folder):
    assert sorted(read_manifest(folder).files) == FILES


def test_the_manifest_is_written_whole_or_not_at_all(folder, monkeypatch):
    (folder / "manifest.json").unlink()
    monkeypatch.setattr(bundle.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_manifest(folder, FIELDS)
    refused(folder, r"manifest\.json: missing")


def test_a_bundle_without_a_short_branch_or_quality_opens(folder):
    assert Bundle(folder).manifest.quality is None


def test_the_tolerances_are_the_documented_ones(folder):
    tolerance = Bundle(folder).manifest.tolerance
    assert (tolerance.cpu, tolerance.cuda, tolerance.float16) == (1e-5, 1e-4, 5e-3)


# Files that are not what the manifest says


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(folder, name):
    (folder / name).unlink()
    refused(folder, rf"{name}: missing")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_by_name(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    refused(folder, rf"{name}: sha256")


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_changed_byte_is_refused_by_name(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    refused(folder, rf"{name}: sha256")


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_refused_by_name(folder, name):
    (folder / name).write_bytes(b"")
    refused(folder, rf"{name}: sha256")


def test_a_folder_in_place_of_a_file_is_refused(folder):
    (folder / "score.onnx").unlink()
    (folder / "score.onnx").mkdir()
    refused(folder, r"score\.onnx")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_has_no_digest_of_is_refused_by_name(folder, name):
    edit(folder, lambda manifest: manifest["files"].pop(name))
    refused(folder, rf"no sha256 of {name}")


# The manifest


def test_a_folder_without_a_manifest_was_never_finished(folder):
    (folder / "manifest.json").unlink()
    refused(folder, r"manifest\.json: missing, so the bundle was never finished")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"7"])
def test_a_manifest_that_is_no_json_object_is_refused_by_name(folder, content):
    (folder / "manifest.json").write_bytes(content)
    refused(folder, r"manifest\.json: ")


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_manifest_is_refused(folder, length):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:length])
    refused(folder, r"manifest\.json: ")


@pytest.mark.parametrize("number", [0, 1, "2", None])
def test_another_format_is_refused_with_both_numbers(folder, number):
    edit(folder, lambda manifest: manifest.update(format=number))
    refused(folder, rf"manifest\.json: bundle format {number}, this version reads 2")


@pytest.mark.parametrize("field", sorted({*FIELDS, "files"}))
def test_a_missing_field_is_named(folder, field):
    edit(folder, lambda manifest: manifest.pop(field))
    refused(folder, rf"manifest\.json: {field}: ")


def test_an_unknown_field_is_named(folder):
    edit(folder, lambda manifest: manifest.update(colour="red"))
    refused(folder, r"manifest\.json: colour: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("item_rows", "many"), ("item_rows", 5.5), ("search", {"name": "magic", "k": 2}), ("search", {"name": "hamming", "k": 0})],
)
def test_a_field_of_the_wrong_form_is_named(folder, field, value):
    edit(folder, lambda manifest: manifest.update({field: value}))
    refused(folder, rf"manifest\.json: {field}")


@pytest.mark.parametrize(
    "name", ["../score.onnx", "/etc/passwd", "a/b.npy", "..npy", "score.onnx\n", "score.pkl", ".npy", "C:\\a.npy", "a b.npy"]
)
def test_a_file_name_that_could_leave_the_folder_is_refused(folder, name):
    edit(folder, lambda manifest: manifest["files"].update({name: "0" * 64}))
    refused(folder, r"manifest\.json: files")


@pytest.mark.parametrize("name", ["../other", "/tmp/table", "a/b"])
def test_a_table_name_that_could_leave_the_folder_is_refused(folder, name):
    edit(folder, lambda manifest: manifest["tables"].update({name: TABLES["signature"]}))
    refused(folder, r"manifest\.json: no sha256 of")


def test_a_changed_schema_is_refused(folder):
    edit(folder, lambda manifest: manifest["schema"]["cross_features"][0]["edges"].__setitem__(0, 2.0))
    refused(folder, r"manifest\.json: schema: .*does not match its content")


@pytest.mark.parametrize("new", ["20260131T120001Z", "eta2/20260131T120000Z"])
def test_a_bundle_in_another_folder_than_its_own_is_refused(folder, tmp_path, new):
    target = (tmp_path / MODEL / new) if "/" not in new else tmp_path / new
    shutil.copytree(folder, target)
    refused(target, rf"says {MODEL}/{VERSION}, the folder is {target.parent.name}/{target.name}")


def test_a_manifest_whose_schema_is_of_another_data_set_is_refused(folder):
    edit(
        folder,
        lambda manifest: manifest.update(
            schema=json.loads(SCHEMA.model_copy(update={"data": "e", "version": ""}).model_dump_json())
        ),
    )
    refused(folder, r"manifest\.json")


def test_a_manifest_of_another_data_set_than_its_registry_is_refused(folder):
    edit(folder, lambda manifest: manifest.update(data="e"))
    refused(folder, r"manifest\.json|registry\.npz")


@pytest.mark.parametrize("rate", [float("nan"), -0.1, 1.5])
def test_a_base_rate_that_is_no_probability_is_refused(folder, rate):
    edit(folder, lambda manifest: manifest.update(base_rate=rate))
    refused(folder, r"manifest\.json: base_rate")


# Tables


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_table_with_a_value_that_is_no_number_is_refused_by_name(folder, value):
    table = VECTORS.copy()
    table[-1, -1] = value
    replace(folder, "item_vector.npy", lambda path: np.save(path, table))
    refused(folder, r"item_vector\.npy: holds NaN or infinity")


@pytest.mark.parametrize("rows", [0, ITEM_ROWS - 1, ITEM_ROWS + 1])
def test_a_table_of_another_number_of_rows_is_refused_with_both_numbers(folder, rows):
    replace(folder, "signature.npy", lambda path: np.save(path, np.zeros(rows, np.uint64)))
    refused(folder, rf"signature\.npy: {rows} rows, the manifest says item_rows {ITEM_ROWS}")


@pytest.mark.parametrize("table", [VECTORS.astype(np.float64), VECTORS.astype(np.float16), VECTORS[:, 0], VECTORS[None]])
def test_a_table_of_another_form_is_refused_by_name(folder, table):
    replace(folder, "item_vector.npy", lambda path: np.save(path, table))
    refused(folder, r"item_vector\.npy: .*the manifest says float32")


def test_a_table_of_the_wrong_byte_order_is_refused(folder):
    replace(folder, "signature.npy", lambda path: np.save(path, SIGNATURES.astype(">u8")))
    refused(folder, r"signature\.npy")


def test_a_pickled_table_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: np.save(path, np.array([{}] * ITEM_ROWS), allow_pickle=True))
    refused(folder, r"signature\.npy")


def test_a_table_that_is_no_array_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: path.write_bytes(b"not an array"))
    refused(folder, r"signature\.npy")


def test_a_table_shorter_than_its_header_says_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: path.write_bytes(path.read_bytes()[:-8]))
    refused(folder, r"signature\.npy")


def test_an_empty_table_with_its_true_digest_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: path.write_bytes(b""))
    refused(folder, r"signature\.npy")


def test_an_archive_in_place_of_a_table_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: shutil.copy(folder / "golden.npz", path))
    kind, text = refusal_of(Bundle, folder)
    assert kind is BundleInvalid, text
    assert "signature.npy" in text


def test_a_table_without_axes_is_refused_by_name(folder):
    replace(folder, "signature.npy", lambda path: np.save(path, np.uint64(7)))
    edit(folder, lambda manifest: manifest["tables"]["signature"].update(axes=[]))
    refused(folder, r"signature")


@pytest.mark.parametrize("name", ["item_vector", "signature"])
def test_a_table_that_the_search_or_the_graph_needs_is_missed_by_name(folder, name):
    edit(folder, lambda manifest: manifest["tables"].pop(name))
    refused(folder, rf"tables {name} are missing")


def test_a_search_that_needs_other_tables_is_refused_with_their_names(folder):
    edit(folder, lambda manifest: manifest["search"].update(name="projection"))
    refused(folder, "tables cross_bias, key_projection, query_projection are missing")


# Registry and golden request


def test_the_registry_of_another_line_is_refused_by_name(folder):
    other = Registry.build("d", ["i2", "i3", "x"], ["tea", "milk", "tea"])
    replace(folder, "registry.npz", other.save)
    refused(folder, rf"registry\.npz: registry {other.registry_id}")


def test_a_registry_of_another_length_is_refused_with_both_numbers(folder):
    edit(folder, lambda manifest: manifest.update(item_rows=ITEM_ROWS + 1))
    for name, table in (
        ("item_vector.npy", np.zeros((ITEM_ROWS + 1, 4), np.float32)),
        ("signature.npy", np.zeros(ITEM_ROWS + 1, np.uint64)),
    ):
        replace(folder, name, lambda path, table=table: np.save(path, table))
    refused(folder, rf"registry\.npz: .* with {ITEM_ROWS} rows, the manifest says .* with {ITEM_ROWS + 1}")


def test_a_file_that_is_no_registry_is_refused_by_name(folder):
    replace(folder, "registry.npz", lambda path: shutil.copy(folder / "golden.npz", path))
    refused(folder, r"registry\.npz")


def test_bytes_that_are_no_registry_are_refused_by_name(folder):
    replace(folder, "registry.npz", lambda path: path.write_bytes(b"not an archive"))
    refused(folder, r"registry\.npz")


def golden_refused(folder, content):
    replace(folder, "golden.npz", content)
    kind, text = refusal_of(lambda: Bundle(folder).golden)
    assert kind is BundleInvalid, text
    assert "golden.npz" in text


@pytest.mark.parametrize("name", ["candidate_row", "cross", "at", "context", "scores"])
def test_a_golden_request_that_lacks_an_array_is_refused_by_name(folder, name):
    with np.load(folder / "golden.npz") as arrays:
        content = {key: arrays[key] for key in arrays.files if key != name}
    golden_refused(folder, lambda path: np.savez(path, **content))


def test_a_golden_request_without_candidates_is_refused_by_name(folder):
    with np.load(folder / "golden.npz") as arrays:
        content = dict(arrays)
    none = {key: content[key][:0] for key in ("candidate_row", "candidate_category", "scores")}
    golden_refused(folder, lambda path: np.savez(path, **content | none))


def test_a_golden_request_that_is_no_archive_is_refused_by_name(folder):
    golden_refused(folder, lambda path: path.write_bytes(b"not an archive"))


def test_an_empty_golden_request_is_refused_by_name(folder):
    golden_refused(folder, lambda path: path.write_bytes(b""))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # np.load leaves a path it was given open when the zip is broken
def test_a_golden_request_with_a_broken_archive_is_refused_by_name(folder):
    golden_refused(folder, lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x09\x09")))


# Versions


def test_versions_are_listed_oldest_first_finished_or_not(tmp_path):
    for name in ("20260201T000000Z", "20260131T120000Z", "labels.json", ".20260131T120000Z", "20260131"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == ["20260131T120000Z", "20260201T000000Z"]


def test_a_model_without_a_folder_has_no_versions(tmp_path):
    assert versions(tmp_path / "none") == []


def test_a_first_version_is_the_time_now(tmp_path):
    before = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    version = new_version(tmp_path)
    assert before <= version <= datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize(
    ("newest", "following"), [("20990131T120000Z", "20990131T120001Z"), ("20991231T235959Z", "21000101T000000Z")]
)
def test_a_new_version_comes_after_every_other_whatever_the_clock_says(tmp_path, newest, following):
    (tmp_path / newest).mkdir()
    (tmp_path / "20260131T120000Z").mkdir()
    assert new_version(tmp_path) == following


def test_two_versions_of_one_second_differ(tmp_path):
    made = []
    for _ in range(3):
        made.append(new_version(tmp_path))
        (tmp_path / made[-1]).mkdir()
    assert made == sorted(set(made))
