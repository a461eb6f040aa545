import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import keys
from store.load import Prepared, load
from store.load_job import Loaded
from store.parquet_behaviours import BadBehaviours

ROWS = [("ann", 2, 10, 1), ("ann", 3, 20, 2), ("bob", 4, 30, 0), ("bob", 5, 40, 3)]
TYPES = {"user_id": pa.string(), "row": pa.int32(), "ts": pa.int64(), "price": pa.uint8()}


@pytest.fixture
def folder(tmp_path):
    """A folder of files of behaviours: `folder(name, rows, row_group, **types)` writes one and gives the folder."""
    made = tmp_path / "in [put]"

    def write(name="a.parquet", rows=ROWS, row_group=2, **types):
        kinds = TYPES | types
        columns = {column: pa.array([row[i] for row in rows], kinds[column]) for i, column in enumerate(TYPES) if kinds[column]}
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), made / name, row_group_size=row_group)
        return made

    return write


@pytest.fixture
def load_from(prepare, store_url):
    """Load behaviours that stand elsewhere; the schema has four buckets, the registry rows 2 to 5."""
    prepared = Prepared.open(prepare([]).folder, with_behaviours=False)
    return lambda behaviours: load(prepared, store_url, lambda one: None, str(behaviours))


@pytest.fixture
def stored(redis, data_name):
    """Each user's number of behaviours in the store."""

    def read():
        found = [key.decode() for key in redis.scan_iter(f"{data_name}:tree:*")]
        return {keys.user_id_of(key): int(redis.hget(key, "t")) for key in found}

    return read


# What is found


def test_a_file_a_folder_and_a_glob_are_found(folder, load_from, stored):
    here = folder()
    folder("deep/b.parquet", [("eve", 2, 5, 1)])
    (here / "_SUCCESS").touch()
    assert load_from(here / "a.parquet") == Loaded(4, 4)
    assert load_from(here) == Loaded(5, 1)
    assert load_from(str(here).replace("[put]", "*") + "/*.parquet") == Loaded(4, 0)
    assert load_from(f"file://{str(here).replace('[', '[[]')}") == Loaded(5, 0)
    assert stored() == {"ann": 2, "bob": 2, "eve": 1}


def test_a_user_may_stand_in_many_files_in_any_order(folder, load_from, stored):
    for i in range(5):
        folder(f"{i}.parquet", [(user, 2 + (i + j) % 4, 100 - i, 1) for j in range(4) for user in ("ann", "bob")])
    assert load_from(folder("5.parquet")).behaviours == 44
    assert stored() == {"ann": 22, "bob": 22}


def test_ids_may_be_integers_in_one_file_and_texts_in_another(folder, load_from, stored):
    folder("a.parquet", [(7, 2, 10, 1)], user_id=pa.int64())
    load_from(folder("b.parquet", [("7", 3, 10, 1)]))
    assert stored() == {"7": 2}


def test_integers_may_be_of_any_width(folder, load_from, stored):
    load_from(folder("a.parquet", row=pa.uint64(), ts=pa.uint32()))
    assert stored() == {"ann": 2, "bob": 2}


@pytest.mark.parametrize("user_id", [pa.string(), pa.null()])
def test_an_empty_file_among_others_is_nothing(folder, load_from, stored, user_id):
    folder("a.parquet", [], user_id=user_id)
    assert load_from(folder("b.parquet")) == Loaded(4, 4)
    assert stored() == {"ann": 2, "bob": 2}


# What is refused


def refused(load_from, behaviours, *named):
    with pytest.raises(BadBehaviours) as error:
        load_from(behaviours)
    for part in named:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nowhere.parquet", "nowhere", "no*where", "file:///nowhere/*.parquet"])
def test_a_path_without_files_is_refused_by_its_name(load_from, tmp_path, name):
    refused(load_from, name if "://" in name else tmp_path / name, "nowhere" if "*where" not in name else "no*where")


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1 no parquet either PAR1"])
def test_a_file_that_is_no_parquet_is_refused_and_nothing_is_written(folder, load_from, stored, content):
    here = folder()
    (here / "b.parquet").write_bytes(content)
    refused(load_from, here, "b.parquet")
    assert stored() == {}


@pytest.mark.parametrize("column", TYPES)
def test_a_missing_column_is_named_with_its_file(folder, load_from, stored, column):
    folder()
    refused(load_from, folder("b.parquet", **{column: None}), "[put]/b.parquet", f"column {column} is missing")
    assert stored() == {}


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("user_id", pa.float64()), ("user_id", pa.bool_()), ("user_id", pa.binary()), ("row", pa.float64()), ("row", pa.string()),
        ("ts", pa.string()), ("ts", pa.float32()), ("ts", pa.timestamp("s")), ("price", pa.int64()), ("price", pa.float32()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.parquet", "c.parquet"])
def test_a_column_of_another_type_is_named_with_its_file(folder, load_from, stored, name, column, kind):
    folder("b.parquet")
    row = list(ROWS[0])
    row[list(TYPES).index(column)] = {"user_id": True, "row": 2, "ts": 10, "price": 1}[column]
    if kind in (pa.string(), pa.binary()):
        row[list(TYPES).index(column)] = "2" if kind == pa.string() else b"2"
    here = folder(name, [row], **{column: kind})
    refused(load_from, here, f"[put]/{name}", f"column {column} is")
    assert stored() == {}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("user_id", None, "null"), ("user_id", "", "''"), ("user_id", "a\0b", "NUL"), ("user_id", "é" * 65, "128 bytes"),
        ("row", None, "null"), ("row", 0, "1 to 5"), ("row", -1, "-1"), ("row", 6, "6, 1 to 5"),
        ("ts", None, "null"), ("ts", -1, "-1"), ("ts", 4_102_444_801, "4102444801, 0 to 4102444800"),
        ("price", None, "null"), ("price", 4, "4, 0 to 3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_file_column_and_row(folder, load_from, stored, column, value, said):
    folder("a.parquet")
    bad = list(ROWS[1])
    bad[list(TYPES).index(column)] = value
    here = folder("b.parquet", [*ROWS, ROWS[0], bad, ROWS[3]])
    refused(load_from, here, "[put]/b.parquet", f"column {column}, row 5", said)
    assert stored() == {}


def test_the_first_of_many_wrong_values_is_named_in_a_long_file(folder, load_from):
    rows = [("u", 2, second, 0) for second in range(300_000)]
    rows[250_001] = ("u", 2, -5, 0)
    rows[270_000] = ("u", 99, 1, 0)
    refused(load_from, folder(rows=rows, row_group=10_000), "column ts, row 250001: -5")


def test_an_integer_beyond_int64_is_refused(folder, load_from):
    refused(load_from, folder(rows=[("ann", 2, 2**63, 1)], ts=pa.uint64()), "column ts, row 0")


def test_nothing_is_told_to_other_hosts(folder, load_from):
    load_from(folder())
    assert os.environ["DAFT_ANALYTICS_ENABLED"] == "0"
