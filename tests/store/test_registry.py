import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import keys, registry
from store.registry import Registry, RegistryMismatch, StoredRegistry
from tests.store.refusals import refusal_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def three_items():
    return Registry.build("d", ["i7", "i9", "i3"], ["tea", "milk", "tea"])


@pytest.fixture
def stored(redis, data_name):
    return StoredRegistry(redis, data_name)


@pytest.fixture
def contents(redis, data_name):
    """What the store holds of the registry, to be compared before and after."""
    names = (keys.registry_meta, keys.item_rows, keys.item_ids, keys.categories)
    return lambda: [redis.hgetall(name(data_name)) for name in names]


# The snapshot


def test_rows_and_categories_count_from_2_in_the_order_given():
    built = three_items()
    assert built.row_of == {"i7": 2, "i9": 3, "i3": 4}
    assert built.category_row_of == {"tea": 2, "milk": 3}
    assert built.category.tolist() == [0, 1, 2, 3, 2]
    assert built.item_rows == 5


def test_candidates_keep_their_order_and_duplicates():
    candidates = three_items().candidates(["i3", "i9", "i3"])
    assert candidates.row.tolist() == [4, 3, 4]
    assert candidates.category.tolist() == [2, 3, 2]
    assert (candidates.row.dtype, candidates.category.dtype) == (np.int32, np.int32)


def test_an_unknown_item_is_row_1_of_category_1():
    candidates = three_items().candidates(["nobody"])
    assert (candidates.row.tolist(), candidates.category.tolist()) == ([1], [1])


def test_a_row_beyond_the_snapshot_is_read_as_the_unknown_one():
    built = three_items()
    rows = np.array([0, 1, 4, 5, 10**6], np.int32)
    assert built.known(rows).tolist() == [0, 1, 4, 1, 1]
    assert built.category_of(rows).tolist() == [0, 1, 2, 1, 1]
    assert built.known(rows).dtype == np.int32


def test_a_registry_without_items_has_padding_and_unknown():
    built = Registry.build("d", [], [])
    assert (built.item_rows, built.category.tolist()) == (2, [0, 1])
    assert built.candidates(["a"]).row.tolist() == [1]


@pytest.mark.parametrize(
    "other",
    [
        Registry.build("e", ["i7", "i9", "i3"], ["tea", "milk", "tea"]),
        Registry.build("d", ["i9", "i7", "i3"], ["tea", "milk", "tea"]),
        Registry.build("d", ["i7", "i9", "i3"], ["tea", "milk", "milk"]),
        Registry.build("d", ["i7", "i9"], ["tea", "milk"]),
    ],
)
def test_another_registry_has_another_id(other):
    assert three_items().registry_id == three_items().registry_id != other.registry_id


# Its file


def test_a_snapshot_comes_back_from_its_file(tmp_path):
    three_items().save(tmp_path / "registry.npz")
    loaded = Registry.load(tmp_path / "registry.npz")
    assert (loaded.data, loaded.ids, loaded.category_names) == ("d", ["i7", "i9", "i3"], ["tea", "milk"])
    assert loaded.registry_id == three_items().registry_id
    assert loaded.category.dtype == np.int32
    np.testing.assert_array_equal(loaded.category, three_items().category)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=20, unique_by=lambda item: item[0]))
def test_ids_of_any_script_come_back_from_the_file(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("registry") / "registry.npz"
    built = Registry.build("d", [item for item, _ in items], [category for _, category in items])
    built.save(path)
    loaded = Registry.load(path)
    assert (loaded.ids, loaded.category_names) == (built.ids, built.category_names)
    np.testing.assert_array_equal(loaded.category, built.category)


def test_a_registry_without_items_comes_back_from_its_file(tmp_path):
    Registry.build("d", [], []).save(tmp_path / "registry.npz")
    assert Registry.load(tmp_path / "registry.npz").ids == []


def test_no_array_of_the_file_is_pickled(tmp_path):
    three_items().save(tmp_path / "registry.npz")
    with np.load(tmp_path / "registry.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays.files} <= {"i", "u"}


def altered(path, **changes):
    """A snapshot file with some of its arrays replaced (None = left out)."""
    three_items().save(path)
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files} | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


@pytest.mark.parametrize("content", [b"", b"not a registry", bytes(200)])
def test_a_file_that_is_no_snapshot_is_refused(tmp_path, content):
    path = tmp_path / "registry.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        Registry.load(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"registry\.npz"):
        Registry.load(tmp_path / "registry.npz")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # np.load leaves a path it was given open when the zip is broken
@pytest.mark.parametrize("cut", [1, 30, 500])
def test_a_truncated_snapshot_is_refused_by_name(tmp_path, cut):
    path = tmp_path / "registry.npz"
    three_items().save(path)
    path.write_bytes(path.read_bytes()[:-cut])
    kind, text = refusal_of(Registry.load, path)
    assert issubclass(kind, ValueError)
    assert "registry.npz" in text


def test_a_snapshot_with_a_flipped_byte_is_refused_by_name(tmp_path):
    path = tmp_path / "registry.npz"
    three_items().save(path)
    path.write_bytes(path.read_bytes().replace(b"i7i9i3", b"i7i8i3"))
    with pytest.raises(ValueError, match=r"registry\.npz"):
        Registry.load(path)


def test_a_single_array_is_no_snapshot(tmp_path):
    with (tmp_path / "registry.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(ValueError, match=r"registry\.npz"):
        Registry.load(tmp_path / "registry.npz")


def test_another_format_is_refused_with_both_numbers(tmp_path):
    altered(tmp_path / "registry.npz", format=np.array(2))
    with pytest.raises(ValueError, match=r"format 2.*reads 1"):
        Registry.load(tmp_path / "registry.npz")


@pytest.mark.parametrize("name", ["format", "data", "registry_id", "id_bytes", "id_ends", "category", "name_bytes", "name_ends"])
def test_a_snapshot_that_lacks_an_array_is_refused_by_its_name(tmp_path, name):
    altered(tmp_path / "registry.npz", **{name: None})
    with pytest.raises(ValueError, match=name):
        Registry.load(tmp_path / "registry.npz")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"category": np.array([0, 1, 2, 3])}, id="a category short"),
        pytest.param({"category": np.array([0, 1, 2, 3, 4])}, id="a category without a name"),
        pytest.param({"id_ends": np.array([2, 4])}, id="an id short"),
        pytest.param({"id_bytes": np.full(6, 0xFF, np.uint8)}, id="ids that are no UTF-8"),
        pytest.param(
            {"category": np.array([0, 1, 2, -3, 2])},
            id="a negative category",
        ),
        pytest.param(
            {"id_ends": np.array([2, 4, 600])},
            id="an id beyond the bytes",
        ),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, changes):
    altered(tmp_path / "registry.npz", **changes)
    with pytest.raises(ValueError):
        Registry.load(tmp_path / "registry.npz")


# The registry in the store


def rows_of(stored, ids, categories):
    row, category = stored.register(ids, categories)
    assert (row.dtype, category.dtype) == (np.int32, np.int32)
    return list(zip(row.tolist(), category.tolist(), strict=True))


def test_a_store_without_a_registry_has_padding_and_unknown_only(stored):
    assert (stored.registry_id(), stored.rows()) == (None, 2)


def test_registered_items_get_rows_from_2(stored):
    assert rows_of(stored, ["i7", "i9", "i3"], ["tea", "milk", "tea"]) == [(2, 2), (3, 3), (4, 2)]
    assert stored.rows() == 5


def test_registering_again_gives_the_same_rows_and_writes_nothing(stored, contents):
    first = rows_of(stored, ["i7", "i9"], ["tea", "milk"])
    before = contents()
    assert rows_of(stored, ["i7", "i9"], ["tea", "milk"]) == first
    assert contents() == before


def test_a_new_item_takes_the_next_row_and_moves_no_other(stored):
    first = rows_of(stored, ["i7", "i9"], ["tea", "milk"])
    assert rows_of(stored, ["i9", "new", "i7"], ["milk", "bread", "tea"]) == [first[1], (4, 4), first[0]]


def test_a_known_item_keeps_its_category(stored):
    rows_of(stored, ["i7"], ["tea"])
    assert rows_of(stored, ["i7"], ["milk"]) == [(2, 2)]


def test_an_id_twice_in_one_call_gets_one_row(stored):
    assert rows_of(stored, ["i7", "i7", "i9"], ["tea", "milk", "tea"]) == [(2, 2), (2, 2), (3, 2)]
    assert stored.rows() == 4


def test_registering_nothing_gives_nothing(stored):
    assert rows_of(stored, [], []) == []
    assert stored.rows() == 2


def test_rows_go_on_across_calls_of_the_script(stored, monkeypatch):
    monkeypatch.setattr(registry, "BATCH", 3)
    ids = [f"i{i}" for i in range(10)]
    assert [row for row, _ in rows_of(stored, ids, ["tea"] * 10)] == list(range(2, 12))


@pytest.mark.parametrize("item_id", ["a b", "用户", "{x}", "7", "\u2028", "é" * 64])
def test_ids_of_any_form_can_be_registered_and_found_again(stored, item_id):
    assert rows_of(stored, [item_id], ["tea and more"]) == [(2, 2)]
    assert stored.ids_of([2]) == {2: item_id}


def test_rows_lead_back_to_their_ids(stored):
    rows_of(stored, ["i7", "i9"], ["tea", "milk"])
    assert stored.ids_of([3, 2]) == {3: "i9", 2: "i7"}


def test_rows_without_an_item_are_left_out_on_the_way_back(stored):
    rows_of(stored, ["i7"], ["tea"])
    assert stored.ids_of([0, 1, 2, 99]) == {2: "i7"}
    assert stored.ids_of([]) == {}


def test_two_data_sets_count_apart(stored, redis, data_name):
    rows_of(stored, ["i7", "i9"], ["tea", "milk"])
    assert rows_of(StoredRegistry(redis, f"{data_name}.b"), ["i9"], ["milk"]) == [(2, 2)]


def test_eight_threads_registering_the_same_items_get_one_row_per_id(stored, monkeypatch):
    monkeypatch.setattr(registry, "BATCH", 16)  # many script calls, so that threads interleave
    ids = [f"i{i}" for i in range(200)]
    category_of = {item_id: f"c{i % 7}" for i, item_id in enumerate(ids)}
    start = threading.Barrier(8)

    def register(seed):
        order = np.random.default_rng(seed).permutation(ids).tolist()
        start.wait()
        return dict(zip(order, rows_of(stored, order, [category_of[item_id] for item_id in order]), strict=True))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(register, range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert sorted(row for row, _ in answers[0].values()) == list(range(2, 202))
    assert {category for _, category in answers[0].values()} == set(range(2, 9))
    assert stored.ids_of(list(range(2, 202))) == {row: item_id for item_id, (row, _) in answers[0].items()}
    assert stored.rows() == 202


# Loading a snapshot


def test_a_loaded_snapshot_has_the_same_rows_in_the_store(stored):
    stored.load(three_items())
    assert stored.registry_id() == three_items().registry_id
    assert rows_of(stored, ["i7", "i9", "i3"], ["?", "?", "?"]) == [(2, 2), (3, 3), (4, 2)]


def test_loading_twice_changes_nothing(stored, contents):
    stored.load(three_items())
    before = contents()
    stored.load(three_items())
    assert contents() == before


def test_a_snapshot_loads_again_after_the_store_has_grown(stored, contents):
    stored.load(three_items())
    rows_of(stored, ["new"], ["bread"])
    before = contents()
    stored.load(three_items())
    assert contents() == before


def test_a_grown_snapshot_of_the_same_line_adds_its_rows(stored):
    first = three_items()
    stored.load(first)
    grown = Registry.build("d", [*first.ids, "new"], ["tea", "milk", "tea", "bread"])
    stored.load(dataclasses.replace(grown, registry_id=first.registry_id))
    assert stored.rows() == 6
    assert stored.ids_of([5]) == {5: "new"}


def test_a_snapshot_of_another_line_is_refused_and_leaves_the_store_alone(stored, contents):
    stored.load(three_items())
    before = contents()
    other = Registry.build("d", ["i1"], ["tea"])
    with pytest.raises(RegistryMismatch, match=other.registry_id):
        stored.load(other)
    assert contents() == before


def test_rows_given_out_before_any_load_are_not_taken_for_the_snapshots(stored, contents):
    rows_of(stored, ["i3"], ["tea"])
    before = contents()
    with pytest.raises(RegistryMismatch, match="no registry_id"):
        stored.load(three_items())
    assert contents() == before


def test_an_item_at_another_row_is_refused_and_named_with_both_rows(stored):
    stored.load(three_items())
    moved = Registry.build("d", ["i9", "i7", "i3"], ["milk", "tea", "tea"])
    with pytest.raises(RegistryMismatch, match=r"'i9': row 3 in the store, 2 in the snapshot"):
        stored.load(dataclasses.replace(moved, registry_id=three_items().registry_id))


def test_an_item_of_another_category_is_refused(stored):
    stored.load(three_items())
    moved = Registry.build("d", ["i7", "i9", "i3"], ["tea", "milk", "milk"])
    with pytest.raises(RegistryMismatch, match="i3"):
        stored.load(dataclasses.replace(moved, registry_id=three_items().registry_id))
